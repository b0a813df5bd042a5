"""Owns the thread that looks at every volume, often enough that no peak is missed; runs in the server.

Three things make it look: time (10 Hz at rest; up to 1 kHz for a volume whose usage moves, as far as a share of one core allows,
and never below 100 Hz); the file systems' news of closed, renamed and deleted files, which come while the bytes still count; and
whoever asks. Without volumes the thread sleeps. XFS frees a deleted file's blocks in the background, so a look at the news of a
delete still sees the file.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from runomics.ports import Usage
from runomics.run_storage import linux
from runomics.run_storage.meter import UNCOUNTED, Meter, Reading

log = structlog.get_logger()

REST_SECONDS = 0.1
MOVING_LEAST_SECONDS, MOVING_MOST_SECONDS = 0.001, 0.01
MOVING_LASTS_SECONDS = 0.5
CPU_SHARE = 0.01
CREDIT_SECONDS = 0.1
"""Of one core: what looking faster than 100 Hz may cost, and how much of it may be spent at once after a rest."""

PERSIST_SECONDS = 5.0
EXACT_AFTER_SECONDS = 20.0
"""Before the kernel's own write-back (30 s) makes the correction for unwritten files wrong."""

NO_NEWS_EFFECT = "the tip of a burst that is deleted within 100 ms may be missed"

_FEW = 4
_NEWS_BYTES = 1 << 17
_NEWS_READS = 16
ALL_DEVICES = -1


@dataclass(slots=True, eq=False)
class _Track:
    run_uuid: str
    meter: Meter
    device: int | None
    moving_until: float
    reading: Reading | None = None
    has_changed: bool = True
    persisted: Usage | None = None
    needs_exact_since: float | None = None
    is_failing: bool = False
    told_full: bool = False


class Sampler:
    """Samples meters until they are removed. The hooks are called on its thread, without locks held.

    `persist(run_uuid, usage)` every few seconds while the usage changes; `want_exact(run_uuid)` when a volume needs a flush to be
    known well; `on_full(run_uuid)` once, when a volume is full; `on_lost(run_uuid)` once, when it cannot be read.
    """

    def __init__(
        self,
        *,
        persist: Callable[[str, Usage], None],
        want_exact: Callable[[str], None],
        on_full: Callable[[str], None],
        on_lost: Callable[[str], None],
        watches: bool = True,
    ) -> None:
        self._persist = persist
        self._want_exact = want_exact
        self._on_full = on_full
        self._on_lost = on_lost
        self._tracks: dict[str, _Track] = {}
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch = _open_watch() if watches else None
        self._only_bell, self._bell_and_news = select.poll(), select.poll()
        self._only_bell.register(self._bell, select.POLLIN)
        self._bell_and_news.register(self._bell, select.POLLIN)
        if self._watch is not None:
            self._bell_and_news.register(self._watch, select.POLLIN)
        self._credit_seconds = CREDIT_SECONDS
        self._paid_at = self._next_moving = 0.0
        self._next_rest = 0.0
        self._next_persist = 0.0

    def add(self, run_uuid: str, meter: Meter, directory: int | None = None) -> None:
        """Sample `meter` from now on. `directory`: an open directory in a file system that is the volume's alone."""
        device = None if directory is None else self._watch_directory(directory)
        if device is None:
            meter.saw_closes(UNCOUNTED)
        with self._lock:
            self._tracks[run_uuid] = _Track(run_uuid, meter, device, time.monotonic() + MOVING_LASTS_SECONDS)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="storage-sampler", daemon=True)
                self._thread.start()
        self._ring()

    def remove(self, run_uuid: str) -> None:
        """Sample it no more. Idempotent."""
        with self._lock:
            self._tracks.pop(run_uuid, None)

    def sample(self, run_uuid: str) -> None:
        """Look at one volume now."""
        with self._lock:
            track = self._tracks.get(run_uuid)
        if track is not None:
            self._look([track])

    def close(self) -> None:
        """Persist everything and end the thread."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._ring()
        if thread is not None:
            thread.join()
        for track in self._all():
            self._persist(track.run_uuid, track.meter.usage())
        os.close(self._bell)
        if self._watch is not None:
            os.close(self._watch)

    def _watch_directory(self, directory: int) -> int | None:
        """How the news will name the directory's file system; None when there will be none."""
        if self._watch is None:
            return None
        try:
            linux.watch_filesystem(self._watch, directory)
        except OSError as error:
            log.warning("run_storage.no_news", error=str(error), effect=NO_NEWS_EFFECT)
            return None
        return _news_id(os.fstat(directory).st_dev)

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _all(self) -> list[_Track]:
        with self._lock:
            return list(self._tracks.values())

    def _run(self) -> None:
        _hurry()
        while not self._is_closed:
            try:
                self._round()
            except Exception:
                log.exception("run_storage.sampler_failed")
                self._only_bell.poll(REST_SECONDS * 1000)

    def _round(self) -> None:
        """Wait for time, news or the bell; then look at what is due."""
        tracks = self._all()
        now = time.monotonic()
        is_moving = any(track.moving_until > now for track in tracks)
        wait = max(0.0, (min(self._next_moving, self._next_rest) if is_moving else self._next_rest) - now)
        ready = dict(self._bell_and_news.poll(wait * 1000 if tracks else None))
        if self._bell in ready:
            os.eventfd_read(self._bell)
            tracks = self._all()
        began, now = time.thread_time(), time.monotonic()
        has_news = self._watch is not None and self._watch in ready
        is_rest = now >= self._next_rest
        if is_rest or (has_news and len(tracks) <= _FEW):
            self._look(tracks)
        elif now >= self._next_moving:
            self._look([track for track in tracks if track.moving_until > now])
        else:
            self._look([])
        gap = self._pay(time.thread_time() - began, now)
        self._next_moving = now + gap
        if is_rest:
            self._next_rest = now + REST_SECONDS
            self._keep(tracks, now)
        if has_news:
            self._only_bell.poll(gap * 1000)

    def _pay(self, cost_seconds: float, now: float) -> float:
        """Seconds until the next fast look: the least while the share of a core is not used up, bursts allowed."""
        earned = (now - self._paid_at) * CPU_SHARE
        self._paid_at = now
        self._credit_seconds = min(CREDIT_SECONDS, max(-CREDIT_SECONDS, self._credit_seconds + earned - cost_seconds))
        return MOVING_LEAST_SECONDS if self._credit_seconds > 0 else MOVING_MOST_SECONDS

    def _look(self, due: list[_Track]) -> None:
        """Read what is due and what the news are of, and judge the readings with the closes that came up to then."""
        with self._looking:
            readings = self._read(due)
            for _ in range(2):
                closes = {} if self._watch is None else read_news(self._watch)
                for track in self._all() if closes else ():
                    if track.device is None or not (track.device in closes or ALL_DEVICES in closes):
                        continue
                    track.meter.saw_closes(UNCOUNTED if ALL_DEVICES in closes else closes[track.device])
                    track.reading = None
                    if track not in readings:
                        readings.update(self._read([track]))
            for track, reading in readings.items():
                if reading is track.reading:
                    continue
                track.reading, track.has_changed = reading, True
                if track.meter.take(reading):
                    track.moving_until = time.monotonic() + MOVING_LASTS_SECONDS

    def _read(self, tracks: list[_Track]) -> dict[_Track, Reading]:
        readings = {}
        for track in tracks:
            try:
                reading = track.meter.read()
            except OSError as error:
                self._lose(track, error)
                continue
            if reading is not None:
                readings[track] = reading
        return readings

    def _keep(self, tracks: list[_Track], now: float) -> None:
        """The slow part of a round: persist, ask for exact readings, tell who is full."""
        for track in tracks:
            if track.has_changed:
                track.has_changed = False
                self._judge(track, now)
        if now < self._next_persist:
            return
        self._next_persist = now + PERSIST_SECONDS
        for track in tracks:
            usage = track.meter.usage()
            if usage is not track.persisted:
                track.persisted = usage
                self._call(track, partial(_given_usage, self._persist, usage))

    def _judge(self, track: _Track, now: float) -> None:
        """Tell who is full; ask for an exact reading at once, or before the correction gets too old."""
        if track.meter.usage().was_full and not track.told_full:
            track.told_full = True
            self._call(track, self._on_full)
        if track.meter.needs_exact_now():
            self._call(track, self._want_exact)
        elif not track.meter.needs_exact():
            track.needs_exact_since = None
            return
        if track.needs_exact_since is None:
            track.needs_exact_since = now
        elif now - track.needs_exact_since >= EXACT_AFTER_SECONDS:
            track.needs_exact_since = None
            self._call(track, self._want_exact)
        track.has_changed = True  # it must be judged again, whether or not it changes

    def _lose(self, track: _Track, error: OSError) -> None:
        if track.is_failing:
            return
        track.is_failing = True
        log.error("run_storage.volume_unreadable", run_uuid=track.run_uuid, error=str(error))
        self._call(track, self._on_lost)

    def _call(self, track: _Track, hook: Callable[[str], None]) -> None:
        try:
            hook(track.run_uuid)
        except Exception:
            log.exception("run_storage.hook_failed", run_uuid=track.run_uuid)


def _given_usage(persist: Callable[[str, Usage], None], usage: Usage, run_uuid: str) -> None:
    persist(run_uuid, usage)


def _open_watch() -> int | None:
    try:
        return linux.open_watch()
    except OSError as error:
        log.warning("run_storage.no_news", error=str(error), effect=NO_NEWS_EFFECT)
        return None


def _hurry() -> None:
    """Let this thread run before ordinary ones when it is due: a deleted file's bytes count for one tick of the kernel's clock more.

    What it may take of a core is bounded by `CPU_SHARE`. Plain users may not; they have no news to hurry for.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _news_id(device: int) -> int:
    """The first word of the fsid that fanotify reports for a block device's file system: the kernel's long device number."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def read_news(watch: int) -> dict[int, int]:
    """Device (`_news_id`) → files closed after writing, with 0 for devices that have only other news.

    `ALL_DEVICES` is in it when some news were lost.
    """
    counts: dict[int, int] = {}
    for _ in range(_NEWS_READS):
        try:
            data = os.read(watch, _NEWS_BYTES)
        except BlockingIOError:
            break
        for (mask, device), count in _count_news(data).items():
            key = ALL_DEVICES if mask & linux.FAN_Q_OVERFLOW else device
            counts[key] = counts.get(key, 0) + (count if mask & linux.FAN_CLOSE_WRITE else 0)
        if len(data) < _NEWS_BYTES // 2:
            break
    return counts


def _count_news(data: bytes) -> Counter[tuple[int, int]]:
    """(mask, first word of the fsid) → events. Events of one length, the rule, are counted without a loop in Python."""
    length = struct.unpack_from("<I", data)[0]
    if len(data) % length == 0 and length >= 36 and set(data[0::length]) == {length & 0xFF}:
        return Counter(struct.iter_unpack(f"<8xQ12xI{length - 32}x", data))
    pairs: Counter[tuple[int, int]] = Counter()
    at = 0
    while at < len(data):
        length, _, _, _, mask = struct.unpack_from("<IBBHQ", data, at)
        pairs[mask, struct.unpack_from("<I", data, at + 28)[0] if length >= 32 else 0] += 1
        at += length
    return pairs
