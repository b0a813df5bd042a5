"""The threads that move data, and the order in which runs get them. Runs in the server.

Every run has a lane of its own and the lanes take turns: a run with a hundred thousand files does not keep one with a
single file waiting. A lane that is closed runs nothing more, and whoever closes it waits for what it was running.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

import structlog

log = structlog.get_logger()


class Lanes:
    """A pool of `threads` threads, started with the first job."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._work_there = threading.Condition(self._lock)
        self._lane_quiet = threading.Condition(self._lock)
        self._queued: OrderedDict[Hashable, deque[Callable[[], None]]] = OrderedDict()
        self._waiting_jobs = 0
        self._running: dict[Hashable, int] = {}
        self._idle = 0
        self._started = 0
        self._stopped = False

    def submit(self, lane: Hashable, job: Callable[[], None]) -> None:
        """Queue the job behind the others of its lane. It must not raise and must not wait for another job."""
        with self._lock:
            if self._stopped:
                return
            self._queued.setdefault(lane, deque()).append(job)
            self._waiting_jobs += 1
            if self._waiting_jobs > self._idle and self._started < self._threads:
                self._started += 1
                self._idle += 1
                threading.Thread(target=self._work, name=f"transfer-{self._started}", daemon=True).start()
            self._work_there.notify()

    def clear(self, lane: Hashable) -> None:
        """Drop what the lane has queued and wait until nothing of it runs (but the caller, if it is one of its jobs)."""
        with self._lock:
            self._waiting_jobs -= len(self._queued.pop(lane, ()))
            mine = 1 if _here.lane == lane else 0
            self._lane_quiet.wait_for(lambda: self._running.get(lane, 0) <= mine)

    def stop(self) -> None:
        """Drop everything that is queued and take nothing more; what runs ends with the process."""
        with self._lock:
            self._stopped = True
            self._queued.clear()
            self._work_there.notify_all()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._work_there.wait_for(lambda: self._queued or self._stopped)
                if self._stopped:
                    return
                lane, jobs = self._queued.popitem(last=False)
                job = jobs.popleft()
                if jobs:
                    self._queued[lane] = jobs
                self._idle -= 1
                self._waiting_jobs -= 1
                self._running[lane] = self._running.get(lane, 0) + 1
            _here.lane = lane
            try:
                job()
            except Exception:
                log.exception("transfer.job_failed", lane=str(lane))
            _here.lane = None
            del job, jobs
            with self._lock:
                self._idle += 1
                self._running[lane] -= 1
                if self._running[lane] == 0:
                    del self._running[lane]
                self._lane_quiet.notify_all()


class Batch:
    """Jobs of one lane that end together: `on_end` is called once, on the thread that ends the last of them.

    A batch begins held, so that it does not end while jobs are still being added: `release` it then.
    """

    def __init__(self, lanes: Lanes, lane: Hashable, on_end: Callable[[], None]) -> None:
        self._lanes = lanes
        self._lane = lane
        self._on_end = on_end
        self._lock = threading.Lock()
        self._open = 1

    def add(self, job: Callable[[], None]) -> None:
        """Queue a job that is over when it returns."""

        def counted() -> None:
            try:
                job()
            finally:
                self.release()

        self.hold()
        self._lanes.submit(self._lane, counted)

    def hold(self) -> None:
        """Something more must end, by `release`, before the batch does."""
        with self._lock:
            self._open += 1

    def release(self) -> None:
        """One thing less."""
        with self._lock:
            self._open -= 1
            ended = self._open == 0
        if ended:
            self._on_end()


class _Here(threading.local):
    lane: Hashable = None


_here = _Here()
