"""The group-commit writer: one thread of the server process, the only one that writes the database.

Units that wait together share one transaction and one fdatasync, each in a savepoint of its own: one that fails leaves no trace and
does not touch its neighbours. An answer leaves only after the commit.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import structlog

from runomics.store.sqlite_errors import is_storage_error, translated
from runomics.store.transaction import OnWake, Overloaded, StoreUnavailable, Tx

log = structlog.get_logger()

T = TypeVar("T")

MAX_BATCH = 256
"""Units per commit. Above it the wait for the commit grows faster than the throughput."""


LINGER_SECONDS = 0.02
"""How long units that nobody waits for wait for company: a short task's moves then share one commit."""


class _Unit(NamedTuple):
    """A unit of work and where its result goes: a future of `loop`, or of any thread when `loop` is None.

    `hurried`: somebody waits for it.
    """

    work: Callable[[Tx], Any]
    future: Any
    loop: asyncio.AbstractEventLoop | None
    hurried: bool = True


class _Outcome(NamedTuple):
    result: Any
    error: BaseException | None


class Writer:
    """Owns the writing connection. Every method may be called from any thread."""

    def __init__(
        self, connection: sqlite3.Connection, *, dialect: str, queue_limit: int, on_wake: OnWake | None
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._queue_limit = queue_limit
        self.on_wake = on_wake
        self._queue: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._closed = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        """Queue a unit of a thread of the service. Not bound by the queue limit: the service's own work is never refused.

        Raises:
            StoreUnavailable: closed.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._put(_Unit(work, future, None))
        return future

    def submit_unhurried(self, work: Callable[[Tx], T]) -> Future[T]:
        """As `submit`, for a unit whose result nobody waits for: it may be committed a few milliseconds later. The order stays.

        Raises:
            StoreUnavailable: closed.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._put(_Unit(work, future, None, hurried=False))
        return future

    def submit_from_loop(self, work: Callable[[Tx], T]) -> asyncio.Future[T]:
        """Queue a unit of a request. All results of one commit reach the loop by one wake-up.

        Raises:
            Overloaded: more units wait than the limit. StoreUnavailable: closed.
        """
        if self._queue.qsize() >= self._queue_limit:
            raise Overloaded(f"{self._queue_limit} writes wait already; try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Unit(work, future, loop))
        return future

    def close(self) -> None:
        """Finish what is queued, then close the connection. Idempotent."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _put(self, unit: _Unit) -> None:
        # The gate keeps a unit from landing behind the end mark, where nobody would ever answer it.
        with self._gate:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._queue.put(unit)

    def _run(self) -> None:
        while True:
            unit = self._queue.get()
            if unit is None:
                return
            batch, ended = self._gather(unit)
            outcomes, wakes = self._commit(batch)
            self._deliver(batch, outcomes)
            self._tell(wakes)
            # Results and errors must not live on in this frame while the thread waits for the next unit.
            del unit, batch, outcomes
            if ended:
                return

    def _gather(self, first: _Unit) -> tuple[list[_Unit], bool]:
        """`first` and what waits already, whether the end mark was among it. Lingers only while nobody waits for any of them."""
        batch = [first]
        hurried = first.hurried
        until = 0.0 if hurried else time.monotonic() + LINGER_SECONDS
        while len(batch) < MAX_BATCH:
            try:
                unit = (
                    self._queue.get_nowait() if hurried else self._queue.get(timeout=max(0.0, until - time.monotonic()))
                )
            except queue.Empty:
                break
            if unit is None:
                return batch, True
            batch.append(unit)
            hurried = hurried or unit.hurried
        return batch, False

    def _commit(self, batch: list[_Unit]) -> tuple[list[_Outcome], Sequence[tuple[str, int]]]:
        outcomes: list[_Outcome] = []
        wakes: dict[tuple[str, int], None] = {}
        try:
            self._connection.execute("begin immediate")
            if len(batch) == 1:
                outcomes.append(self._run_alone(batch[0], wakes))
            else:
                outcomes.extend(self._run_in_savepoint(unit, wakes) for unit in batch)
            if self._connection.in_transaction:
                self._connection.execute("commit")
        except BaseException as error:
            self._roll_back()
            log.error(
                "store.commit_failed", units=len(batch), error=str(error), exc_info=not isinstance(error, sqlite3.Error)
            )
            refused = [outcome.error for outcome in outcomes] + [None] * (len(batch) - len(outcomes))
            return [_Outcome(None, own or _lost(error)) for own in refused], ()
        return outcomes, tuple(wakes)

    def _run_alone(self, unit: _Unit, wakes: dict[tuple[str, int], None]) -> _Outcome:
        tx = Tx(self._connection, self._dialect, wakes=[])
        try:
            result = unit.work(tx)
        except BaseException as error:
            if is_storage_error(error):
                raise
            self._connection.execute("rollback")
            return _Outcome(None, translated(error))
        self._require_transaction()
        wakes.update(dict.fromkeys(tx.wakes or ()))
        return _Outcome(result, None)

    def _run_in_savepoint(self, unit: _Unit, wakes: dict[tuple[str, int], None]) -> _Outcome:
        tx = Tx(self._connection, self._dialect, wakes=[])
        execute = self._connection.execute
        execute("savepoint unit")
        try:
            result = unit.work(tx)
        except BaseException as error:
            if is_storage_error(error):
                raise
            self._require_transaction()
            execute("rollback to unit")
            execute("release unit")
            return _Outcome(None, translated(error))
        self._require_transaction()
        execute("release unit")
        wakes.update(dict.fromkeys(tx.wakes or ()))
        return _Outcome(result, None)

    def _require_transaction(self) -> None:
        if not self._connection.in_transaction:
            raise RuntimeError("a unit ended the transaction it was given; units neither commit nor roll back")

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
        except sqlite3.Error as error:
            log.error("store.rollback_failed", error=str(error))

    @staticmethod
    def _deliver(batch: list[_Unit], outcomes: list[_Outcome]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], _Outcome]]] = {}
        for unit, outcome in zip(batch, outcomes, strict=True):
            if unit.loop is not None:
                loops.setdefault(unit.loop, []).append((unit.future, outcome))
            elif outcome.error is not None:
                unit.future.set_exception(outcome.error)
            else:
                unit.future.set_result(outcome.result)
        for loop, answers in loops.items():
            try:
                loop.call_soon_threadsafe(_answer, answers)
            except RuntimeError:
                log.warning("store.answers_dropped", answers=len(answers), reason="the event loop is closed")

    def _tell(self, wakes: Sequence[tuple[str, int]]) -> None:
        if not wakes or self.on_wake is None:
            return
        try:
            self.on_wake(wakes)
        except Exception:
            log.exception("store.on_wake_failed", wakes=len(wakes))


def _lost(error: BaseException) -> StoreUnavailable:
    """What a unit is told whose whole transaction failed with `error`: an exception of its own, since each is raised elsewhere."""
    seen = translated(error)
    return seen if isinstance(seen, StoreUnavailable) else StoreUnavailable(f"the transaction was lost: {error}")


def _answer(answers: list[tuple[asyncio.Future[Any], _Outcome]]) -> None:
    for future, outcome in answers:
        # A client that left cancelled its future; its unit stands all the same.
        if future.done():
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.result)
