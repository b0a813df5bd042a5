"""What has grown old goes: request tokens, events nobody is told of, ended shares, definitions that nothing names, images, free pages.

A thread of the one server that holds the scheduler's lock. Everything goes in small units, so that requests and runs pass in between.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import structlog

from runomics.ports import Clock
from runomics.store import catalog, tokens, webhooks
from runomics.store import events as event_rows
from runomics.store import shares as share_rows
from runomics.store.database import Store, Tx, free_pages, shrink
from runomics.store.definitions import Definitions

log = structlog.get_logger()

DAY_MS = 86_400_000
KEPT_SHARES_MS = 30 * DAY_MS
"""How long both sides still see a share that was deleted. Source: assumed."""
KEPT_DEFINITION_MS = 3_600_000
"""How long an archive stays that nothing names: a request that sent it may not have come to its row yet."""
FORGOTTEN_AT_ONCE = 500
SWEEP_SECONDS = 60.0
FIRST_SWEEP_SECONDS = 5.0
"""A server that has just started has better things to do."""
SWEEPS_BETWEEN_IMAGES = 60
FREE_PAGES_MIN = 1024
"""4 MiB of free room is kept for what comes next."""
PAGES_AT_ONCE = 128
"""Pages given back by one unit: what keeps it under 10 ms."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """`token_days`: how long a repeated request gets the first answer. `event_days`: how long a webhook is tried for an event."""

    token_days: int
    event_days: int


class Retention:
    """Removes what nobody needs any more, once a minute, between `start` and `stop`."""

    def __init__(
        self,
        *,
        store: Store,
        definitions: Definitions,
        clock: Clock,
        policy: RetentionPolicy,
        collect_images: Callable[[], object],
    ) -> None:
        """`collect_images` removes images that were not used for long."""
        self._store = store
        self._collect_images = collect_images
        self._sweeps = 0
        self._definitions = definitions
        self._clock = clock
        self._policy = policy
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the unit under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def sweep(self) -> None:
        """Remove everything that may go now. One kind that fails does not keep the others."""
        for what, work in (
            ("tokens", self._forget_tokens),
            ("events", self._forget_events),
            ("shares", self._forget_shares),
            ("definitions", self._forget_definitions),
            ("images", self._forget_images),
            ("pages", self._give_back),
        ):
            try:
                work()
            except Exception:
                log.exception("retention.sweep_failed", what=what)

    def _run(self) -> None:
        pause = FIRST_SWEEP_SECONDS
        while not self._stopping.wait(pause):
            self.sweep()
            pause = SWEEP_SECONDS

    # ---- kinds of things -----------------------------------------------------------------------------------------

    def _forget_tokens(self) -> None:
        before_ms = self._clock.now_ms() - self._policy.token_days * DAY_MS
        self._in_units(partial(tokens.forget_tokens, before_ms=before_ms, limit=FORGOTTEN_AT_ONCE))

    def _forget_shares(self) -> None:
        before_ms = self._clock.now_ms() - KEPT_SHARES_MS
        self._in_units(partial(share_rows.forget_shares, before_ms=before_ms, limit=FORGOTTEN_AT_ONCE))

    def _forget_events(self) -> None:
        """Those that no webhook is there for, those of webhooks that are gone, and those that were tried long enough."""
        self._in_units(partial(event_rows.forget_events, limit=FORGOTTEN_AT_ONCE))
        self._in_units(partial(webhooks.drop_orphans, limit=FORGOTTEN_AT_ONCE))
        before_ms = self._clock.now_ms() - self._policy.event_days * DAY_MS
        given_up: Counter[int] = Counter()

        while not self._stopping.is_set():
            # Counted after the commit: a unit may be begun more than once.
            dropped = self._store.write(lambda tx: webhooks.give_up(tx, before_ms, FORGOTTEN_AT_ONCE))
            given_up.update(dropped)
            if len(dropped) < FORGOTTEN_AT_ONCE:
                break
        for webhook_id, count in given_up.items():
            log.warning("events.given_up", webhook=webhook_id, events=count, after_days=self._policy.event_days)

    def _forget_definitions(self) -> None:
        def is_named(sha256: str) -> bool:
            return self._store.read(lambda tx: catalog.definition_in_use(tx, sha256))

        before_ms = self._clock.now_ms() - KEPT_DEFINITION_MS
        for sha256 in self._going(self._definitions.older_than(before_ms)):
            if self._definitions.forget_unnamed(sha256, is_named, before_ms=before_ms):
                log.info("definition.forgotten", sha256=sha256)

    def _forget_images(self) -> None:
        """Once an hour, and soon after the start."""
        if self._sweeps % SWEEPS_BETWEEN_IMAGES == 0:
            self._collect_images()
        self._sweeps += 1

    def _give_back(self) -> None:
        """Make the file smaller when a tenth of it is empty, down to a twentieth: less would only have to grow again."""
        free, pages = self._store.read(free_pages)
        if free < max(FREE_PAGES_MIN, pages // 10):
            return
        while free > max(FREE_PAGES_MIN // 2, pages // 20) and not self._stopping.is_set():
            left = self._store.write(partial(shrink, pages=PAGES_AT_ONCE))
            if left >= free:
                return
            free, pages = left, pages - (free - left)

    # ---- pieces --------------------------------------------------------------------------------------------------

    def _in_units(self, unit: Callable[[Tx], int]) -> None:
        """`unit` again and again, until it found less than it may take at once."""
        while not self._stopping.is_set() and self._store.write(unit) >= FORGOTTEN_AT_ONCE:
            pass

    def _going(self, names: Iterator[str]) -> Iterator[str]:
        for name in names:
            if self._stopping.is_set():
                return
            yield name
