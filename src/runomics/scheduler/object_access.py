"""Which objects an account's runs may touch: the one place where roles and owners of buckets count. Runs in the server.

Whatever reads or writes objects for an account does it through a view made here. A view asks before each call whether the bucket
may be used so; what it refuses is ObjectForbidden, in S3's words. In the folder store the first account that uses a bucket owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from runomics.domain.failures import Failure
from runomics.domain.inputs import split_s3
from runomics.domain.policy import Decision, Policy, compiled_once
from runomics.domain.roles import Credentials, Role, account_of
from runomics.ports import Clock, ObjectForbidden, ObjectInfo, ObjectStore
from runomics.store import buckets
from runomics.store.buckets import BucketRow
from runomics.store.database import Store

Refusal = str | None
"""Why not, None when nothing stands in the way."""


@dataclass(frozen=True, slots=True)
class ScopedObjects:
    """ports.ObjectStore, narrowed: `reads(bucket)` and `writes(bucket)` say why a bucket may not be used so."""

    store: ObjectStore
    reads: Callable[[str], Refusal]
    writes: Callable[[str], Refusal]

    def head(self, uri: str) -> ObjectInfo:
        self._ask(self.reads, uri)
        return self.store.head(uri)

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        self._ask(self.reads, prefix_uri)
        return self.store.list(prefix_uri)

    def bucket_exists(self, bucket: str) -> bool:
        """Whether there is such a bucket to write to. Raises: ObjectForbidden: it may not be written."""
        why_not = self.writes(bucket)
        if why_not is not None:
            raise ObjectForbidden(f"S3 access denied for s3://{bucket}/: {why_not}")
        return self.store.bucket_exists(bucket)

    def download(self, info: ObjectInfo, descriptor: int, on_bytes: Callable[[int], None] | None = None) -> str:
        self._ask(self.reads, info.uri)
        return self.store.download(info, descriptor, on_bytes)

    def upload(self, descriptor: int, uri: str, on_bytes: Callable[[int], None] | None = None) -> ObjectInfo:
        self._ask(self.writes, uri)
        return self.store.upload(descriptor, uri, on_bytes)

    def upload_bytes(self, data: bytes, uri: str) -> ObjectInfo:
        self._ask(self.writes, uri)
        return self.store.upload_bytes(data, uri)

    def read_bytes(self, uri: str, limit_bytes: int) -> bytes:
        self._ask(self.reads, uri)
        return self.store.read_bytes(uri, limit_bytes)

    def _ask(self, may: Callable[[str], Refusal], uri: str) -> None:
        why_not = may(split_s3(uri)[0])
        if why_not is not None:
            raise ObjectForbidden(f"S3 access denied for {uri}: {why_not}")


@dataclass(frozen=True, slots=True)
class NarrowedObjects:
    """ports.ObjectStore, narrowed to the objects that an IAM policy allows. Source: guide, IAM session policies (both have to allow)."""

    store: ObjectStore
    policy: Policy

    def head(self, uri: str) -> ObjectInfo:
        self._ask("s3:GetObject", uri)
        return self.store.head(uri)

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        self._ask("s3:ListBucket", f"s3://{split_s3(prefix_uri)[0]}")
        return self.store.list(prefix_uri)

    def bucket_exists(self, bucket: str) -> bool:
        """Whether there is such a bucket; what may be written into it is asked of each object."""
        return self.store.bucket_exists(bucket)

    def download(self, info: ObjectInfo, descriptor: int, on_bytes: Callable[[int], None] | None = None) -> str:
        self._ask("s3:GetObject", info.uri)
        return self.store.download(info, descriptor, on_bytes)

    def upload(self, descriptor: int, uri: str, on_bytes: Callable[[int], None] | None = None) -> ObjectInfo:
        self._ask("s3:PutObject", uri)
        return self.store.upload(descriptor, uri, on_bytes)

    def upload_bytes(self, data: bytes, uri: str) -> ObjectInfo:
        self._ask("s3:PutObject", uri)
        return self.store.upload_bytes(data, uri)

    def read_bytes(self, uri: str, limit_bytes: int) -> bytes:
        self._ask("s3:GetObject", uri)
        return self.store.read_bytes(uri, limit_bytes)

    def _ask(self, action: str, uri: str) -> None:
        if self.policy.decide(action, f"arn:aws:s3:::{uri.removeprefix('s3://')}", {}) is not Decision.ALLOWED:
            raise ObjectForbidden(f"S3 access denied for {uri}: the run's sessionPolicy does not allow {action}")


class ObjectAccess:
    """Makes views of the server's object store.

    `roles` is None without a roles file: then any role of an account stands for the server's own rights. `objects_as` gives the
    store as another S3 key sees it. `owners_count`: buckets are folders of this server and belong to accounts.
    """

    def __init__(
        self,
        *,
        store: Store,
        objects: ObjectStore,
        roles: Mapping[str, Role] | None,
        objects_as: Callable[[Credentials], ObjectStore],
        owners_count: bool,
        clock: Clock,
    ) -> None:
        self._store = store
        self._objects = objects
        self._roles = roles
        self._owners_count = owners_count
        self._clock = clock
        self._objects_of = {
            role.arn: objects_as(role.credentials) for role in (roles or {}).values() if role.credentials is not None
        }

    def role_failure(self, account: str, role_arn: str) -> Failure | None:
        """Why a run of `account` cannot take this role.

        Source: observed (a wrong or foreign role fails the run with these words); guide (the reason's name).
        """
        owner = account_of(role_arn)
        if owner is None:
            why = "it is not the ARN of a role (arn:aws:iam::ACCOUNT:role/NAME)"
        elif owner != account:
            why = f"it is not a role of account {account}"
        elif self._roles is not None and role_arn not in self._roles:
            why = "the operator of this server has not listed it among its roles"
        else:
            return None
        return Failure("ASSUME_ROLE_FAILED", f"IAM role is invalid or inaccessible: {role_arn[:200]}: {why}.")

    def of_run(self, account: str, role_arn: str, session_policy: str | None = None) -> ObjectStore:
        """What a run of `account` with this role may touch: nothing when it cannot take the role.

        With a session policy (an IAM policy document) only what that allows as well.
        """
        whole = self._of_role(account, role_arn)
        return whole if session_policy is None else NarrowedObjects(whole, compiled_once(session_policy))

    def _of_role(self, account: str, role_arn: str) -> ObjectStore:
        failure = self.role_failure(account, role_arn)
        if failure is not None:
            return ScopedObjects(self._objects, lambda _: failure.message, lambda _: failure.message)
        role = None if self._roles is None else self._roles[role_arn]
        if role is None:
            return self.of_account(account)

        def reads(bucket: str) -> Refusal:
            if not role.may_read(bucket):
                return f"role {role_arn} may not read bucket {bucket}"
            return self._reads(account, bucket)

        def writes(bucket: str) -> Refusal:
            if not role.may_write(bucket):
                return f"role {role_arn} may not write to bucket {bucket}"
            return self._writes(account, bucket)

        return ScopedObjects(self._objects_of.get(role_arn, self._objects), reads, writes)

    def of_account(self, account: str) -> ObjectStore:
        """What `account` itself may touch: where no role is named, as for the definition of a workflow."""
        return ScopedObjects(
            self._objects,
            lambda bucket: self._reads(account, bucket),
            lambda bucket: self._writes(account, bucket),
        )

    def nothing(self) -> ObjectStore:
        """A view that refuses everything: what a transfer uses that was not told for whom."""
        return ScopedObjects(self._objects, lambda _: "no account was named", lambda _: "no account was named")

    # ---- owners --------------------------------------------------------------------------------------------------

    def _writes(self, account: str, bucket: str) -> Refusal:
        owner = self._owner(account, bucket)
        return None if owner in (None, account) else f"bucket {bucket} belongs to another account"

    def _reads(self, account: str, bucket: str) -> Refusal:
        owner = self._owner(account, bucket)
        if owner in (None, account) or self._store.read(lambda tx: buckets.is_open_to(tx, bucket, account)):
            return None
        return f"bucket {bucket} belongs to another account and is not open to account {account}"

    def _owner(self, account: str, bucket: str) -> str | None:
        """Whose bucket it is now that `account` uses it; None where that does not count, and for a bucket that is not there."""
        if not self._owners_count:
            return None
        row = self._store.read(lambda tx: buckets.find_bucket(tx, bucket))
        if row is None and self._objects.bucket_exists(bucket):
            claim = BucketRow(bucket, account, self._clock.now_ms())
            self._store.write(lambda tx: buckets.claim_bucket(tx, claim))
            row = self._store.read(lambda tx: buckets.find_bucket(tx, bucket))
        return None if row is None else row.account
