"""What the operator manages under `/-/`: accounts, access keys, owners of buckets, webhooks. Pool threads of the server; or the
command line's own process, when no server runs.

Nothing here knows HTTP: a request is a method, a path below `/-/` and a JSON document, and so is an answer.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from runomics.domain.event import SECRET_PREFIX, Topic, Webhook
from runomics.domain.policy import PolicyError, compiled, managed_name
from runomics.domain.webhook_url import BadUrl, checked_url
from runomics.store import accounts, buckets, webhooks
from runomics.store.accounts import AccessKeyRow
from runomics.store.buckets import EVERYONE, BucketRow
from runomics.store.database import Duplicate, Store, Tx

PREFIXES = ("accounts", "keys", "buckets", "webhooks")

_ACCOUNT = re.compile(r"[0-9]{12}")
_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Refused(Exception):
    """The request is wrong, or names what there is not. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Folders:
    """The buckets that are folders of this server: their names, and the making of one."""

    names: Callable[[], Sequence[str]]
    make: Callable[[str], None]


def folders_below(root: Path) -> Folders:
    """The buckets of a folder store."""
    return Folders(
        names=lambda: [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")],
        make=lambda bucket: (root / bucket).mkdir(exist_ok=True),
    )


@dataclass(frozen=True, slots=True)
class Management:
    """`operator_key_id` is the key that may never be disabled. `keep(account, key)` keeps an account's first key for
    `runomics env`; `changed()` is called when a key was added or disabled. `folders` is None where buckets are an S3 service's.
    """

    store: Store
    now_ms: Callable[[], int]
    operator_key_id: str | None
    keep: Callable[[str, Mapping[str, str]], bool]
    changed: Callable[[], None]
    folders: Folders | None

    def answer(self, method: str, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one request, such as POST keys/AKIA…/disable.

        Raises:
            Refused: it cannot be.
        """
        for wanted, pattern, act, members in _ROUTES:
            matched = re.fullmatch(pattern, path)
            if wanted == method and matched is not None:
                return act(self, *matched.groups(), **_texts(document, members))
        raise Refused(f"there is no {method} /-/{path[:128]}")

    # ---- accounts ------------------------------------------------------------------------------------------------

    def list_accounts(self) -> dict[str, Any]:
        rows = self.store.read(accounts.list_accounts)
        return {"accounts": [{"account": row.account, "name": row.name, "created_ms": row.created_ms} for row in rows]}

    def add_account(self, *, account: str = "", name: str = "") -> dict[str, Any]:
        if _ACCOUNT.fullmatch(account) is None:
            raise Refused(f"{account!r} is no account: an account is 12 digits")
        if len(name) > 128:
            raise Refused("the name has more than 128 letters")
        now_ms = self.now_ms()
        try:
            self.store.write(lambda tx: accounts.add_account(tx, account, name or account, now_ms))
        except Duplicate:
            raise Refused(f"account {account} is there already") from None
        return {"account": account}

    # ---- keys ----------------------------------------------------------------------------------------------------

    def list_keys(self) -> dict[str, Any]:
        return {
            "keys": [
                {
                    "access_key_id": row.key_id,
                    "account": row.account,
                    "principal_arn": row.principal_arn,
                    "status": row.status,
                    "policy": _policy_name(row.policy),
                    "created_ms": row.created_ms,
                }
                for row in self.store.read(accounts.list_keys)
            ]
        }

    def create_key(self, *, account: str = "", name: str = "", policy: str = "") -> dict[str, Any]:
        """The new key, with its secret: this is the only time that it is told."""
        if name and _NAME.fullmatch(name) is None:
            raise Refused(f"{name!r} is no user name: 1-64 of letters, digits and +=,.@_-")
        if policy:
            try:
                compiled(policy)
            except PolicyError as error:
                raise Refused(str(error)) from None
        row = AccessKeyRow(
            key_id="AKIA" + secrets.token_hex(8).upper(),
            account=account,
            secret=secrets.token_urlsafe(30),
            principal_arn=f"arn:aws:iam::{account}:{f'user/{name}' if name else 'root'}",
            created_ms=self.now_ms(),
            policy=managed_name(policy) or policy or None,
        )

        def unit(tx: Tx) -> None:
            if accounts.find_account(tx, account) is None:
                raise Refused(f"there is no account {account}; add it with: runomics accounts add {account}")
            accounts.add_key(tx, row)

        self.store.write(unit)
        key = {"account": account, "access_key_id": row.key_id, "secret_access_key": row.secret}
        is_kept = self.keep(account, key)
        self.changed()
        return {**key, "principal_arn": row.principal_arn, "policy": _policy_name(row.policy), "kept": is_kept}

    def disable_key(self, key_id: str) -> dict[str, Any]:
        if key_id == self.operator_key_id:
            raise Refused(f"{key_id} is the operator's own key (DATA/credentials): it cannot be disabled")
        if not self.store.write(lambda tx: accounts.disable_key(tx, key_id)):
            raise Refused(f"there is no access key {key_id[:128]}; runomics keys list shows them")
        self.changed()
        return {"access_key_id": key_id, "status": "DISABLED"}

    # ---- buckets -------------------------------------------------------------------------------------------------

    def list_buckets(self) -> dict[str, Any]:
        """Every folder; those that nobody has used yet have no account."""
        owners = {row.bucket: row.account for row in self.store.read(buckets.list_buckets)}
        readers = self.store.read(buckets.list_readers)
        names = sorted({*self._folders().names(), *owners})
        return {
            "buckets": [
                {"bucket": name, "account": owners.get(name), "readers": readers.get(name, [])} for name in names
            ]
        }

    def make_bucket(self, *, bucket: str = "", account: str = "") -> dict[str, Any]:
        folders = self._folders()
        if _BUCKET.fullmatch(bucket) is None or ".." in bucket:
            raise Refused(f"{bucket!r} is no valid bucket name: 3-63 of a-z, 0-9, '.' and '-'")
        now_ms = self.now_ms()

        def unit(tx: Tx) -> BucketRow | None:
            if accounts.find_account(tx, account) is None:
                raise Refused(f"there is no account {account}; add it with: runomics accounts add {account}")
            buckets.claim_bucket(tx, BucketRow(bucket, account, now_ms))
            return buckets.find_bucket(tx, bucket)

        owner = self.store.write(unit)
        if owner is not None and owner.account != account:
            raise Refused(f"bucket {bucket} belongs to account {owner.account}")
        folders.make(bucket)
        return {"bucket": bucket, "account": account}

    def open_bucket(self, bucket: str, *, account: str = EVERYONE) -> dict[str, Any]:
        now_ms = self.now_ms()

        def unit(tx: Tx) -> None:
            if buckets.find_bucket(tx, bucket) is None:
                raise Refused(f"bucket {bucket[:64]} belongs to nobody; make it somebody's with: runomics buckets make")
            if account != EVERYONE and accounts.find_account(tx, account) is None:
                raise Refused(f"there is no account {account}; add it with: runomics accounts add {account}")
            buckets.open_bucket(tx, bucket, account, now_ms)

        self.store.write(unit)
        return {"bucket": bucket, "readers": self.store.read(buckets.list_readers)[bucket]}

    # ---- webhooks ------------------------------------------------------------------------------------------------

    def list_webhooks(self) -> dict[str, Any]:
        """Every webhook without its secret, with what waits for it and how the last attempt went."""
        return {"webhooks": [self._shown(webhook) for webhook in self.store.read(webhooks.list_webhooks)]}

    def add_webhook(self, *, url: str = "", account: str = "", kinds: str = "") -> dict[str, Any]:
        """The new webhook, with its secret: this is the only time that it is told. `kinds` are separated by commas."""
        try:
            checked_url(url)
            topics = frozenset(Topic(kind.strip()) for kind in kinds.split(",")) if kinds else frozenset(Topic)
        except ValueError as error:
            known = "" if isinstance(error, BadUrl) else f"; kinds are {', '.join(Topic)}"
            raise Refused(f"{error}{known}") from None
        secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()

        def unit(tx: Tx) -> Webhook:
            if account and accounts.find_account(tx, account) is None:
                raise Refused(f"there is no account {account}; runomics accounts list shows them")
            return webhooks.add_webhook(
                tx, url=url, account=account or None, topics=topics, secret=secret, now_ms=self.now_ms()
            )

        return {**self._shown(self.store.write(unit)), "secret": secret}

    def remove_webhook(self, webhook_id: str) -> dict[str, Any]:
        """What waits for it is dropped."""
        if not self.store.write(lambda tx: webhooks.remove_webhook(tx, int(webhook_id))):
            raise Refused(f"there is no webhook {webhook_id}; runomics events list shows them")
        return {"id": int(webhook_id)}

    def _shown(self, webhook: Webhook) -> dict[str, Any]:
        waiting, oldest_ms = self.store.read(lambda tx: webhooks.count_waiting(tx, webhook.id))
        return {
            "id": webhook.id,
            "url": webhook.url,
            "account": webhook.account,
            "kinds": sorted(webhook.topics),
            "created_ms": webhook.created_ms,
            "waiting": waiting,
            "oldest_ms": oldest_ms,
            "failure": webhook.failure,
            "failing_since_ms": webhook.failing_since_ms,
        }

    def _folders(self) -> Folders:
        if self.folders is None:
            raise Refused("the buckets of this server are those of its S3 service: make and open them there")
        return self.folders


_ROUTES: tuple[tuple[str, str, Callable[..., dict[str, Any]], tuple[str, ...]], ...] = (
    ("GET", "accounts", Management.list_accounts, ()),
    ("POST", "accounts", Management.add_account, ("account", "name")),
    ("GET", "keys", Management.list_keys, ()),
    ("POST", "keys", Management.create_key, ("account", "name", "policy")),
    ("POST", "keys/([^/]+)/disable", Management.disable_key, ()),
    ("GET", "buckets", Management.list_buckets, ()),
    ("POST", "buckets", Management.make_bucket, ("bucket", "account")),
    ("POST", "buckets/([^/]+)/open", Management.open_bucket, ("account",)),
    ("GET", "webhooks", Management.list_webhooks, ()),
    ("POST", "webhooks", Management.add_webhook, ("url", "account", "kinds")),
    ("POST", "webhooks/([0-9]{1,18})/remove", Management.remove_webhook, ()),
)
"""Method and path below `/-/` → what answers, and the members of the document that it takes as arguments."""


def _texts(document: Mapping[str, Any], members: tuple[str, ...]) -> dict[str, str]:
    wrong = sorted(
        name for name, value in document.items() if name not in members or not isinstance(value, str) or "\0" in value
    )
    if wrong:
        raise Refused(f"{', '.join(wrong)[:128]}: not a text that is known here")
    return {name: value for name, value in document.items() if value}


def _policy_name(policy: str | None) -> str:
    """What a policy is called: its name, or the Id of a document, or its first Sid."""
    if policy is None:
        return "everything"
    if managed_name(policy) is not None:
        return policy
    document = orjson.loads(policy)
    return str(document.get("Id") or "document")
