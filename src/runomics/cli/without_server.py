"""The operator's management done on DATA itself, under its lock, while no server runs. Runs in the user's process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runomics import data_directory
from runomics.cli.connection import NoServer, RequestFailed
from runomics.settings import load
from runomics.store import accounts
from runomics.store.database import SqliteStore, StoreUnavailable
from runomics.store.lock import acquire_scheduler_lock
from runomics.store.migrate import NewerDatabase
from runomics.web.management import Management, Refused, folders_below


def manage(data: Path, method: str, path: str, document: Mapping[str, str]) -> Any:
    """What the server would answer.

    Raises:
        RequestFailed: it was refused. NoServer: DATA cannot be used.
    """
    if not (data / "database.sqlite").is_file():
        raise NoServer(f"no server has run on {data} yet; start one with: runomics serve --data {data}")
    try:
        lock = acquire_scheduler_lock(data / "lock")
    except OSError as error:
        raise NoServer(f"{data} cannot be used ({error.strerror}): run as the user of the server") from None
    if lock is None:
        raise NoServer(f"a server on {data} is starting or stopping; try again in a moment")
    try:
        store = SqliteStore(data / "database.sqlite")
        try:
            return _management(store, data).answer(method, path, document)
        finally:
            store.close()
    except Refused as error:
        raise RequestFailed(str(error)) from None
    except (NewerDatabase, StoreUnavailable) as error:
        raise NoServer(str(error)) from None
    finally:
        lock.release()


def _management(store: SqliteStore, data: Path) -> Management:
    usable = {row.key_id for row in store.read(accounts.list_keys) if row.status == "ACTIVE"}
    is_folder_store = load({"data": data}).s3_endpoint is None
    return Management(
        store=store,
        now_ms=lambda: time.time_ns() // 1_000_000,
        operator_key_id=data_directory.operator_key_id(data),
        keep=lambda account, key: data_directory.keep_key(data, account, key, usable),
        changed=lambda: None,
        folders=folders_below(data / "objects") if is_folder_store else None,
    )
