"""The transaction a unit of work is handed, who runs units, and what may go wrong. Runs in whatever thread the store runs the unit in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
OnWake = Callable[[Sequence[tuple[str, int]]], None]
"""Is told which (kind, id) pairs a commit woke: one call at a time, after the commit. Must be quick."""


class Overloaded(Exception):
    """Too many requests wait already; nothing was queued. The edge answers ThrottlingException."""


class StoreUnavailable(Exception):
    """The database could not be written or read (disk full, I/O error, connection lost, closed). A later unit may work.

    Nothing of the unit was kept; only where a connection is lost while its commit is under way, nobody knows: look again.
    """


class Duplicate(Exception):
    """A row with these values of `columns` ("table.column") exists already. Nothing of the unit was kept."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__(f"a row with the same {', '.join(columns)} exists already")
        self.columns = columns


class Cursor(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """A connection of either database: statements have `:name` parameters, values come by name."""

    def execute(self, text: str, values: Mapping[str, Any] = ..., /) -> Cursor: ...

    def executemany(self, text: str, values: Iterable[Mapping[str, Any]], /) -> Cursor: ...


class Tx:
    """An open transaction: the connection, its dialect, and what the scheduler is to be told once it is durable.

    A unit uses it only while it runs; it neither commits nor rolls back.
    """

    __slots__ = ("connection", "dialect", "wakes")

    def __init__(self, connection: Connection, dialect: str, *, wakes: list[tuple[str, int]] | None) -> None:
        self.connection = connection
        self.dialect = dialect
        self.wakes = wakes

    def wake(self, kind: str, id: int) -> None:  # noqa: A002 - the column's name
        """Report (kind, id) to the store's `on_wake` after the commit, or never when the unit fails.

        Raises:
            RuntimeError: this transaction only reads.
        """
        if self.wakes is None:
            raise RuntimeError(f"a read cannot wake {kind} {id}: use a writing unit")
        self.wakes.append((kind, id))

    def rows(self, text: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a composed statement with `:name` parameters."""
        return self.connection.execute(text, values).fetchall()

    def change(self, text: str, values: Mapping[str, Any]) -> int:
        """How many rows a composed insert, update or delete touched."""
        return self.connection.execute(text, values).rowcount


class Store(Protocol):
    """A database, whichever it is: where units of work run, and when their answers leave (docs/dev/store.md)."""

    def reading(self, work: Callable[[Tx], T]) -> Awaitable[T]:
        """The edge's way to read. Everything committed before the call is seen."""
        ...

    def writing(self, work: Callable[[Tx], T]) -> Awaitable[T]:
        """The edge's way to write: the result, or the unit's error, once the commit is on the disk."""
        ...

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` here; it cannot write. Several statements may see several moments."""
        ...

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as a unit of the service's own and wait until it is durable. Never from a unit, never from the loop."""
        ...

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        """As `write`, without waiting. What the service submits is done in the order of submission."""
        ...

    def submit_unhurried(self, work: Callable[[Tx], T]) -> Future[T]:
        """As `submit`, for what nobody waits for: it may become durable a few milliseconds later, in the same order."""
        ...

    def set_on_wake(self, callback: OnWake | None) -> None:
        """Who is told of what commits woke."""
        ...

    def close(self) -> None:
        """Finish the queued units, then close every connection. Idempotent."""
        ...
