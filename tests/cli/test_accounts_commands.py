"""Accounts, keys and buckets without a server: the commands work on DATA itself, under its lock."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from runomics import data_directory
from runomics.__main__ import main
from runomics.store import accounts, buckets
from runomics.store.buckets import BucketRow
from runomics.store.database import SqliteStore
from runomics.store.lock import acquire_scheduler_lock

ACCOUNT, OTHER = "123456789012", "210987654321"
POLICY = {
    "Version": "2012-10-17",
    "Id": "runs-of-ana",
    "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"},
}


def run(data: Path, *arguments: str) -> int:
    return main([*arguments, "--data", str(data)])


def test_an_account_gets_a_key_that_env_would_print(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(data, "accounts", "add", OTHER, "--name", "lab") == 0
    assert run(data, "keys", "create", "--account", OTHER) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("export")]
    shown = subprocess.run(
        ["bash", "-c", "\n".join(lines) + '\necho "$AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY"'],
        env={},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    kept = data / "credentials.d" / f"{OTHER}.json"
    assert json.loads(kept.read_text()) == {
        "account": OTHER,
        "access_key_id": shown[0],
        "secret_access_key": shown[1],
    }
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept, kept.parent)] == [0o600, 0o700]


def test_the_first_key_stays_the_one_of_env_until_it_is_disabled(data: Path) -> None:
    def kept() -> str:
        found: str = json.loads((data / "credentials.d" / f"{OTHER}.json").read_text())["access_key_id"]
        return found

    run(data, "accounts", "add", OTHER)
    run(data, "keys", "create", "--account", OTHER)
    first = kept()
    run(data, "keys", "create", "--account", OTHER, "--name", "ana")
    assert kept() == first
    assert run(data, "keys", "disable", first) == 0
    run(data, "keys", "create", "--account", OTHER, "--name", "ben")
    assert kept() != first


def test_a_policy_is_a_file_or_a_name(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    assert (
        run(data, "keys", "create", "--account", ACCOUNT, "--policy", str(tmp_path / "policy.json"), "--name", "a") == 0
    )
    assert (
        run(data, "keys", "create", "--account", ACCOUNT, "--policy", "AmazonOmicsReadOnlyAccess", "--name", "b") == 0
    )
    capfd.readouterr()
    assert run(data, "keys", "list") == 0
    rows = [line.split() for line in capfd.readouterr().out.splitlines()[1:]]
    assert sorted((row[2].rpartition(":")[2], row[3], row[4]) for row in rows) == [
        ("root", "everything", "ACTIVE"),
        ("user/a", "runs-of-ana", "ACTIVE"),
        ("user/b", "AmazonOmicsReadOnlyAccess", "ACTIVE"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "The policy: it is not JSON"),
        ('{"Statement": {"Effect": "Permit", "Sid": "S"}}', 'Statement 1 (S): Effect "Permit" is not Allow or Deny'),
        (None, "is neither a managed policy nor a file that can be read"),
    ],
)
def test_a_wrong_policy_is_refused_before_there_is_a_key(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    file = tmp_path / "policy.json"
    if content is not None:
        file.write_text(content)
    assert run(data, "keys", "create", "--account", ACCOUNT, "--policy", str(file)) == 1
    assert message in capfd.readouterr().err
    store = SqliteStore(data / "database.sqlite")
    assert len(store.read(accounts.list_keys)) == 1
    store.close()


def test_the_operators_key_cannot_be_disabled(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key_id = data_directory.operator_key_id(data)
    assert run(data, "keys", "disable", str(key_id)) == 1
    assert "is the operator's own key" in capfd.readouterr().err


def test_buckets_are_listed_made_and_opened(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (data / "objects" / "unused").mkdir()
    run(data, "accounts", "add", OTHER)
    assert run(data, "buckets", "make", "refs") == 0
    assert run(data, "buckets", "make", "theirs", "--account", OTHER) == 0
    assert run(data, "buckets", "open", "refs") == 0
    assert run(data, "buckets", "open", "theirs", "--account", ACCOUNT) == 0
    capfd.readouterr()
    assert run(data, "buckets", "list") == 0
    assert [line.split(maxsplit=2) for line in capfd.readouterr().out.splitlines()] == [
        ["BUCKET", "OWNER", "READERS"],
        ["refs", ACCOUNT, "everyone"],
        ["runomics", ACCOUNT],
        ["theirs", OTHER, ACCOUNT],
        ["unused", "nobody", "yet"],
    ]
    assert (data / "objects" / "theirs").is_dir()


def test_buckets_of_an_s3_service_are_not_managed_here(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNOMICS_S3_ENDPOINT", "http://127.0.0.1:1")
    assert run(data, "buckets", "list") == 1
    assert "the buckets of this server are those of its S3 service" in capfd.readouterr().err


def test_the_first_start_gives_the_default_bucket_to_its_account(data: Path) -> None:
    store = SqliteStore(data / "database.sqlite")
    assert store.read(buckets.list_buckets) == [BucketRow("runomics", ACCOUNT, 1)]
    store.close()


def test_while_a_server_comes_or_goes_nothing_is_touched(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lock = acquire_scheduler_lock(data / "lock")
    assert lock is not None
    assert run(data, "accounts", "add", OTHER) == 1
    lock.release()
    assert f"a server on {data} is starting or stopping" in capfd.readouterr().err
    assert run(data, "accounts", "add", OTHER) == 0


def test_a_directory_that_no_server_has_used_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none", "accounts", "add", OTHER) == 1
    assert "no server has run on" in capfd.readouterr().err
    assert not os.path.exists(tmp_path / "none")
