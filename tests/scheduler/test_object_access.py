"""What an account's runs may touch: roles with and without a file, owners of buckets, and every call of the object store."""

from __future__ import annotations

import json
import os
import queue
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runomics.domain.inputs import parse_input
from runomics.domain.roles import Credentials, Role, parse_roles
from runomics.objects.directory import DirectoryObjects
from runomics.ports import ObjectForbidden, ObjectInfo, ObjectMissing, ObjectStore
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.object_access import ObjectAccess
from runomics.scheduler.transfer import Exported, ExportJob, Imported, Transfers
from runomics.store import buckets
from runomics.store.buckets import EVERYONE, BucketRow
from runomics.store.database import SqliteStore

ACCOUNT = "123456789012"
OTHER = "210987654321"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lab"
OTHERS_ROLE = f"arn:aws:iam::{OTHER}:role/lab"
NOW_MS = 1_764_000_000_000


class StoppedClock:
    def now_ms(self) -> int:
        return NOW_MS


class World:
    """A store, buckets `genomes` and `results` with an object in each, and views of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = SqliteStore(root / "database.sqlite")
        self.objects = DirectoryObjects(root / "objects")
        for bucket in ("genomes", "results"):
            self.objects.make_bucket(bucket)
            self.objects.upload_bytes(b"content", f"s3://{bucket}/key")

    def access(
        self,
        roles: Mapping[str, Role] | None = None,
        *,
        owners_count: bool = True,
        objects_as: Callable[[Credentials], ObjectStore] | None = None,
    ) -> ObjectAccess:
        return ObjectAccess(
            store=self.store,
            objects=self.objects,
            roles=roles,
            objects_as=objects_as or (lambda credentials: pytest.fail("no credentials are listed")),
            owners_count=owners_count,
            clock=StoppedClock(),
        )

    def owners(self) -> list[BucketRow]:
        return self.store.read(buckets.list_buckets)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


def roles(**members: Any) -> Mapping[str, Role]:
    lines = [f'arn = "{ROLE}"', *(f"{name} = {value!r}" for name, value in members.items())]
    return parse_roles("[[role]]\n" + "\n".join(lines), is_json=False)


def denied(act: Callable[[], Any]) -> str | None:
    """What the store says no with, None when it does not."""
    try:
        act()
    except ObjectForbidden as error:
        return str(error)
    return None


# ---- session policies --------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_a_session_policy_narrows_what_the_role_allows(world: World) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "s3:GetObject",
                "Resource": ["arn:aws:s3:::genomes/*", "arn:aws:s3:::secret/*"],
            },
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::results/mine/*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::genomes"},
            {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::genomes/private/*"},
        ],
    }
    world.objects.upload_bytes(b"p", "s3://genomes/private/key")
    view = world.access(roles(read=["genomes"], write=["results"])).of_run(ACCOUNT, ROLE, json.dumps(policy))
    no = "the run's sessionPolicy does not allow"
    assert denied(lambda: view.head("s3://genomes/key")) is None
    assert denied(lambda: view.read_bytes("s3://genomes/key", 100)) is None
    assert denied(lambda: list(view.list("s3://genomes/"))) is None
    assert denied(lambda: view.upload_bytes(b"x", "s3://results/mine/a")) is None
    assert denied(lambda: view.bucket_exists("results")) is None
    assert (
        denied(lambda: view.head("s3://genomes/private/key"))
        == f"S3 access denied for s3://genomes/private/key: {no} s3:GetObject"
    )
    assert (
        denied(lambda: view.read_bytes("s3://results/key", 9))
        == f"S3 access denied for s3://results/key: {no} s3:GetObject"
    )
    assert denied(lambda: view.list("s3://results/")) == f"S3 access denied for s3://results: {no} s3:ListBucket"
    assert (
        denied(lambda: view.upload_bytes(b"x", "s3://results/yours"))
        == f"S3 access denied for s3://results/yours: {no} s3:PutObject"
    )
    with Path(world.root / "x").open("w+b") as file:
        assert denied(lambda: view.upload(file.fileno(), "s3://results/yours")) is not None
        info = ObjectInfo("s3://results/key", 7, "etag")
        assert denied(lambda: view.download(info, file.fileno())) is not None
    assert "may not read bucket secret" in (denied(lambda: view.head("s3://secret/key")) or "")


def test_a_session_policy_gives_nothing_that_the_role_has_not(world: World) -> None:
    everything = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
    view = world.access(roles(read=["genomes"])).of_run(ACCOUNT, ROLE, everything)
    assert denied(lambda: view.head("s3://genomes/key")) is None
    assert "may not read bucket results" in (denied(lambda: view.head("s3://results/key")) or "")
    foreign = world.access().of_run(ACCOUNT, OTHERS_ROLE, everything)
    assert "is not a role of account" in (denied(lambda: foreign.head("s3://genomes/key")) or "")


# ---- roles -------------------------------------------------------------------------------------------------------


@pytest.mark.source("observed")
@pytest.mark.parametrize(
    ("role_arn", "why"),
    [
        (OTHERS_ROLE, f"it is not a role of account {ACCOUNT}"),
        (f"arn:aws:iam::{ACCOUNT}:user/x", "it is not the ARN of a role (arn:aws:iam::ACCOUNT:role/NAME)"),
        (ROLE + "-2", "the operator of this server has not listed it among its roles"),
        (ROLE, None),
    ],
)
def test_a_role_must_be_the_accounts_and_listed(world: World, role_arn: str, why: str | None) -> None:
    failure = world.access(roles()).role_failure(ACCOUNT, role_arn)
    expected = None
    if why is not None:
        expected = ("ASSUME_ROLE_FAILED", f"IAM role is invalid or inaccessible: {role_arn}: {why}.")
    assert (None if failure is None else (failure.reason, failure.message)) == expected


def test_without_a_roles_file_any_role_of_the_account_will_do(world: World) -> None:
    access = world.access()
    assert access.role_failure(ACCOUNT, ROLE + "-whatever") is None
    assert access.role_failure(ACCOUNT, OTHERS_ROLE) is not None


def test_a_role_that_cannot_be_taken_opens_nothing(world: World) -> None:
    for view in (world.access().of_run(ACCOUNT, OTHERS_ROLE), world.access(roles()).of_run(ACCOUNT, ROLE + "-2")):
        assert "IAM role is invalid" in (denied(lambda view=view: view.head("s3://genomes/key")) or "")
    assert world.owners() == []


def test_every_call_of_the_store_asks_the_role(world: World, tmp_path: Path) -> None:
    view = world.access(roles(read=["genomes"], write=["results"])).of_run(ACCOUNT, ROLE)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    found = view.head("s3://genomes/key")
    reads = [
        lambda: view.head("s3://other/key"),
        lambda: view.list("s3://other/"),
        lambda: view.download(ObjectInfo("s3://other/key", 7, found.etag), file),
        lambda: view.read_bytes("s3://other/key", 10),
    ]
    writes = [
        lambda: view.upload(file, "s3://genomes/new"),
        lambda: view.upload_bytes(b"", "s3://genomes/new"),
    ]
    assert [denied(act) for act in reads] == [
        f"S3 access denied for s3://other/{key}: role {ROLE} may not read bucket other"
        for key in ("key", "", "key", "key")
    ]
    assert [denied(act) for act in writes] == [
        f"S3 access denied for s3://genomes/new: role {ROLE} may not write to bucket genomes"
    ] * 2
    assert denied(lambda: view.bucket_exists("genomes")) == (
        f"S3 access denied for s3://genomes/: role {ROLE} may not write to bucket genomes"
    )
    assert view.read_bytes("s3://genomes/key", 10) == b"content"
    assert view.download(found, file) == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert view.upload(file, "s3://results/new") == world.objects.head("s3://results/new")
    assert view.upload_bytes(b"x", "s3://results/x") == world.objects.head("s3://results/x")
    assert [info.uri for info in view.list("s3://results/")] == [f"s3://results/{key}" for key in ("key", "new", "x")]
    assert view.bucket_exists("results") is True
    assert not (world.root / "objects" / "genomes" / "new").exists()
    os.close(file)


def test_a_role_with_keys_of_its_own_works_with_them(world: World, tmp_path: Path) -> None:
    own = DirectoryObjects(tmp_path / "own")
    own.make_bucket("genomes")
    asked: list[Credentials] = []

    def objects_as(credentials: Credentials) -> ObjectStore:
        asked.append(credentials)
        return own

    listed = roles(read=["genomes"], s3_access_key_id="AKIAROLE", s3_secret_access_key="it is secret")
    view = world.access(listed, owners_count=False, objects_as=objects_as).of_run(ACCOUNT, ROLE)
    with pytest.raises(ObjectMissing):
        view.head("s3://genomes/key")
    own.upload_bytes(b"mine", "s3://genomes/key")
    assert (view.read_bytes("s3://genomes/key", 10), asked) == (b"mine", [Credentials("AKIAROLE", "it is secret")])


# ---- owners ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda view: view.head("s3://genomes/key"),
        lambda view: list(view.list("s3://genomes/")),
        lambda view: view.upload_bytes(b"", "s3://genomes/new"),
        lambda view: view.bucket_exists("genomes"),
    ],
)
def test_who_first_uses_a_bucket_owns_it(world: World, use: Callable[[ObjectStore], Any]) -> None:
    access = world.access()
    use(access.of_run(ACCOUNT, ROLE))
    other = access.of_run(OTHER, OTHERS_ROLE)
    assert world.owners() == [BucketRow("genomes", ACCOUNT, NOW_MS)]
    assert denied(lambda: other.head("s3://genomes/key")) == (
        f"S3 access denied for s3://genomes/key: bucket genomes belongs to another account and is not open to account {OTHER}"
    )
    assert denied(lambda: other.upload_bytes(b"", "s3://genomes/mine")) == (
        "S3 access denied for s3://genomes/mine: bucket genomes belongs to another account"
    )
    assert other.read_bytes("s3://results/key", 10) == b"content"


def test_a_bucket_that_is_not_there_belongs_to_nobody(world: World) -> None:
    view = world.access().of_run(ACCOUNT, ROLE)
    with pytest.raises(ObjectMissing):
        view.head("s3://missing/key")
    assert (view.bucket_exists("missing"), world.owners()) == (False, [])


@pytest.mark.parametrize("reader", [OTHER, EVERYONE])
def test_an_open_bucket_is_read_by_others_and_written_by_its_owner_alone(world: World, reader: str) -> None:
    world.store.write(lambda tx: buckets.add_bucket(tx, BucketRow("genomes", ACCOUNT, NOW_MS)))
    world.store.write(lambda tx: buckets.open_bucket(tx, "genomes", reader, NOW_MS))
    view = world.access().of_account(OTHER)
    assert view.read_bytes("s3://genomes/key", 10) == b"content"
    assert denied(lambda: view.bucket_exists("genomes")) is not None
    assert (denied(lambda: world.access().of_account("000000000001").head("s3://genomes/key")) is None) is (
        reader == EVERYONE
    )


def test_a_role_does_not_open_a_bucket_of_another_account(world: World) -> None:
    world.store.write(lambda tx: buckets.add_bucket(tx, BucketRow("genomes", OTHER, NOW_MS)))
    view = world.access(roles(read=["*"], write=["*"])).of_run(ACCOUNT, ROLE)
    assert "belongs to another account" in (denied(lambda: view.head("s3://genomes/key")) or "")
    assert "belongs to another account" in (denied(lambda: view.upload_bytes(b"", "s3://genomes/new")) or "")


def test_on_an_s3_service_its_own_rights_count(world: World) -> None:
    access = world.access(owners_count=False)
    assert access.of_account(ACCOUNT).read_bytes("s3://genomes/key", 10) == b"content"
    assert access.of_account(OTHER).read_bytes("s3://genomes/key", 10) == b"content"
    assert world.owners() == []


def test_what_is_done_for_nobody_is_refused(world: World) -> None:
    view = world.access().nothing()
    assert (
        denied(lambda: view.head("s3://genomes/key")) == "S3 access denied for s3://genomes/key: no account was named"
    )
    assert denied(lambda: view.upload_bytes(b"", "s3://genomes/key")) is not None
    assert denied(lambda: view.bucket_exists("genomes")) is not None


# ---- what a run hears --------------------------------------------------------------------------------------------


class Bound:
    """Transfers as the server has them: with nothing to touch but what a call brings along."""

    def __init__(self, world: World) -> None:
        self.access = world.access(roles(read=["genomes"], write=["results"]))
        self.transfers = Transfers(
            objects=self.access.nothing(),
            cache=InputCache(world.root / "cache", self.access.nothing()),
            open_export=lambda volume, inputs, path: os.open(volume / path, os.O_RDONLY),
        )
        self.run = world.root / "run"
        for folder in ("volume", "inputs"):
            (self.run / folder).mkdir(parents=True)

    def imported(self, uri: str, **more: Any) -> Imported:
        wanted = [parse_input(uri)]
        result: Imported = heard(lambda done: self.transfers.import_inputs(self.run, wanted, done, **more))
        return result

    def exported(self, uri: str, **more: Any) -> Exported:
        (self.run / "volume" / "out").write_bytes(b"result")
        job = ExportJob(self.run, uri, exports=[{"source": "out", "target": "out"}])
        result: Exported = heard(lambda done: self.transfers.export(job, done, **more))
        return result


def heard(start: Callable[[Callable[[Any], None]], None]) -> Any:
    """What something that calls back once calls back with."""
    results: queue.Queue[Any] = queue.Queue()
    start(results.put)
    return results.get(timeout=10)


def test_a_run_is_told_why_its_input_cannot_be_read(world: World) -> None:
    bound = Bound(world)
    objects = bound.access.of_run(ACCOUNT, ROLE)
    world.objects.make_bucket("secret")
    world.objects.upload_bytes(b"x", "s3://secret/key")
    assert bound.imported("s3://secret/key", objects=objects).failure == (
        "IMPORT_FAILED",
        f"Input s3://secret/key cannot be read: S3 access denied for s3://secret/key: role {ROLE} may not read bucket secret.",
    )


def test_what_the_cache_has_is_not_given_to_who_may_not_read_it(world: World) -> None:
    bound = Bound(world)
    uri = "s3://genomes/key"
    assert bound.imported(uri, objects=bound.access.of_run(ACCOUNT, ROLE)).failure is None
    refused = bound.imported(uri, objects=bound.access.of_account(OTHER)).failure
    assert refused is not None
    assert re.match(r"Input s3://genomes/key cannot be read: S3 access denied", refused[1])


def test_a_run_is_told_why_its_output_cannot_be_stored(world: World) -> None:
    bound = Bound(world)
    objects = bound.access.of_run(ACCOUNT, ROLE)
    failure = bound.exported("s3://genomes/out", objects=objects).failure
    assert failure is not None
    assert failure[0] == "EXPORT_FAILED"
    assert f"S3 access denied for s3://genomes/: role {ROLE} may not write to bucket genomes" in failure[1]
    assert bound.exported("s3://results/out", objects=objects).failure is None


def test_a_transfer_that_was_not_told_for_whom_touches_nothing(world: World) -> None:
    bound = Bound(world)
    assert (bound.imported("s3://genomes/key").failure or ("",))[0] == "IMPORT_FAILED"
    assert (bound.exported("s3://results/out").failure or ("",))[0] == "EXPORT_FAILED"
