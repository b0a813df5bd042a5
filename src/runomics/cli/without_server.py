"""The operator's management done on DATA and its database themselves, under their locks, while no server runs. In the user's process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from runomics import data_directory
from runomics.cli.connection import NoServer, RequestFailed
from runomics.settings import Settings, load
from runomics.store import accounts
from runomics.store.choice import FILE_NAME, lock_database, open_store
from runomics.store.database import Store, StoreUnavailable
from runomics.store.lock import acquire_scheduler_lock
from runomics.store.migrate import NewerDatabase
from runomics.web.management import Management, Refused, folders_below

CONNECTIONS = 4


def manage(data: Path, method: str, path: str, document: Mapping[str, str]) -> Any:
    """What the server would answer.

    Raises:
        RequestFailed: it was refused. NoServer: DATA or the database cannot be used.
    """
    settings = load({"data": data})
    if not (data / ("credentials" if settings.database_url else FILE_NAME)).is_file():
        raise NoServer(f"no server has run on {data} yet; start one with: runomics serve --data {data}")
    with ExitStack() as held:
        _lock(data, settings, held)
        try:
            store = open_store(data, settings.database_url, connections=CONNECTIONS)
            held.callback(store.close)
            return _management(store, settings).answer(method, path, document)
        except Refused as error:
            raise RequestFailed(str(error)) from None
        except (NewerDatabase, StoreUnavailable) as error:
            raise NoServer(str(error)) from None


def _lock(data: Path, settings: Settings, held: ExitStack) -> None:
    busy = NoServer(f"a server on {data} is starting or stopping; try again in a moment")
    try:
        lock = acquire_scheduler_lock(data / "lock")
    except OSError as error:
        raise NoServer(f"{data} cannot be used ({error.strerror}): run as the user of the server") from None
    if lock is None:
        raise busy
    held.callback(lock.release)
    if settings.database_url is None:
        return
    try:
        # What takes a moment is not worth watching: the lock is lost with the connection, and so is the work.
        database_lock = lock_database(settings.database_url, lost=lambda: None)
    except StoreUnavailable as error:
        raise NoServer(str(error)) from None
    if database_lock is None:
        raise NoServer("a server with another data directory uses the same database")
    held.callback(database_lock.release)


def _management(store: Store, settings: Settings) -> Management:
    data = settings.data
    usable = {row.key_id for row in store.read(accounts.list_keys) if row.status == "ACTIVE"}
    return Management(
        store=store,
        now_ms=lambda: time.time_ns() // 1_000_000,
        operator_key_id=data_directory.operator_key_id(data),
        keep=lambda account, key: data_directory.keep_key(data, account, key, usable),
        changed=lambda: None,
        folders=folders_below(data / "objects") if settings.s3_endpoint is None else None,
    )
