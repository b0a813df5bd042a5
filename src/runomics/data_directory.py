"""The server's own files in DATA: format, keys, first credentials, where it listens. Server process, at start and stop.

Nothing here is a default secret: every key is made on first start and lies in a file that nobody else may read.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from runomics.store import accounts, buckets
from runomics.store.accounts import AccessKeyRow
from runomics.store.buckets import BucketRow
from runomics.store.database import Store
from runomics.store.transaction import Tx

FORMAT = 1
DEFAULT_BUCKET = "runomics"
ROOMS = ("definitions", "objects", "logs", "cache", "runs", "volumes", "sandbox")


class CannotStart(Exception):
    """The service cannot run on this DATA. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What signs page tokens and export URLs: DATA/keys."""

    page_key: bytes
    export_key: bytes


def make(data: Path) -> None:
    """The directory, mode 0700, and its rooms.

    Raises:
        CannotStart: it cannot be made, or belongs to a newer program.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.chmod(0o700)
        for name in ROOMS:
            (data / name).mkdir(exist_ok=True)
    except OSError as error:
        raise CannotStart(f"{data} cannot be used ({error.strerror}): give --data a directory of your own") from error
    _check_format(data)


def _check_format(data: Path) -> None:
    file = data / "format"
    try:
        found = int(file.read_text())
    except FileNotFoundError:
        file.write_text(f"{FORMAT}\n")
        return
    except ValueError:
        raise CannotStart(f"{file} is not a number: {data} is not a directory of runomics") from None
    if found > FORMAT:
        raise CannotStart(f"{data} has format {found}; this program knows {FORMAT}: use a newer runomics")


def load_secrets(data: Path, *, is_used: bool) -> Secrets:
    """The signing keys, made when there are none. `is_used`: the database, which is elsewhere, has rows.

    Raises:
        CannotStart: the database has been used, and not with this directory: definitions, logs and keys would be missing.
    """
    file = data / "keys"
    try:
        document = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        if is_used:
            raise CannotStart(
                f"the database was used with another data directory than {data}: give --data that one, or --database an empty one"
            ) from None
        document = {"page_key": secrets.token_hex(32), "export_key": secrets.token_hex(32)}
        write_private(file, document)
    return Secrets(bytes.fromhex(document["page_key"]), bytes.fromhex(document["export_key"]))


def keys(store: Store, data: Path, *, account: str, now_ms: int) -> list[AccessKeyRow]:
    """All access keys; on first start an account, its key (also in DATA/credentials) and the default bucket are made."""
    rows = store.read(accounts.list_keys)
    if rows:
        return rows
    row = AccessKeyRow(
        key_id="AKIA" + secrets.token_hex(8).upper(),
        account=account,
        secret=secrets.token_urlsafe(30),
        principal_arn=f"arn:aws:iam::{account}:root",
        created_ms=now_ms,
    )
    write_private(
        data / "credentials",
        {"account": row.account, "access_key_id": row.key_id, "secret_access_key": row.secret},
    )
    (data / "objects" / DEFAULT_BUCKET).mkdir(parents=True, exist_ok=True)

    def unit(tx: Tx) -> None:
        accounts.add_account(tx, row.account, "default", now_ms)
        accounts.add_key(tx, row)
        buckets.claim_bucket(tx, BucketRow(DEFAULT_BUCKET, row.account, now_ms))

    store.write(unit)
    return [row]


def operator_key_id(data: Path) -> str | None:
    """The key that may manage this server, the one in DATA/credentials; None when that file is gone."""
    try:
        found: str = orjson.loads((data / "credentials").read_bytes())["access_key_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def keep_key(data: Path, account: str, key: Mapping[str, str], usable: Container[str]) -> bool:
    """Keep an account's key for `runomics env`, unless one that is still `usable` is kept; whether it was."""
    path = data / "credentials.d" / f"{account}.json"
    try:
        if orjson.loads(path.read_bytes())["access_key_id"] in usable:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        pass
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, key)
    return True


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a small JSON file that nobody else may read."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(document) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
