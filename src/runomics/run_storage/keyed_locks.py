"""Owns one lock per run uuid, for as long as somebody holds or wants it; runs in the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Entry:
    lock: threading.RLock = field(default_factory=threading.RLock)
    users: int = 0


class KeyedLocks:
    """Re-entrant locks by name; a name that nobody holds costs nothing."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """One thread at a time per name."""
        with self._lock:
            entry = self._entries.setdefault(name, _Entry())
            entry.users += 1
        try:
            with entry.lock:
                yield
        finally:
            with self._lock:
                entry.users -= 1
                if entry.users == 0:
                    del self._entries[name]
