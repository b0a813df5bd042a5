"""Request rates: refuses what one account asks for too often. Server process, before authorization; absent when there are no rates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from runomics.domain.request_rates import Bucket, full_bucket
from runomics.operations.caller import Caller
from runomics.wire.errors import ThrottlingException

Authorize = Callable[[Caller, str, Mapping[str, Any]], None]


class Throttle:
    """One bucket for each account and operation that has a rate. `now` is a clock in seconds that never goes back.

    Kept in memory: a server that starts anew lets a second's worth of requests pass.
    """

    def __init__(self, rates: Mapping[str, float], *, now: Callable[[], float]) -> None:
        self._rates = rates
        self._now = now
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._lock = threading.Lock()

    def admit(self, caller: Caller, operation: str) -> None:
        """Count one request of the caller's account.

        Source: model (429); observed (the text).

        Raises:
            ThrottlingException: it is one too many.
        """
        rate = self._rates.get(operation)
        if rate is None:
            return
        with self._lock:
            now_seconds = self._now()
            bucket = self._buckets.get((caller.account, operation))
            if bucket is None:
                bucket = self._buckets[caller.account, operation] = full_bucket(rate, now_seconds)
            is_admitted = bucket.take(now_seconds)
        if not is_admitted:
            raise ThrottlingException("Rate exceeded")


def throttled(authorize: Authorize, throttle: Throttle) -> Authorize:
    """`authorize` for those that the throttle lets through."""

    def admit(caller: Caller, operation: str, request: Mapping[str, Any]) -> None:
        throttle.admit(caller, operation)
        authorize(caller, operation, request)

    return admit
