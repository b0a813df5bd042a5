"""Epoch milliseconds as the moments of an answer. Server process."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(epoch_ms: int) -> datetime:
    """The moment in UTC, with a fraction always: a whole second reads as one millisecond later.

    Source: observed: clients parse the fraction and fail without one.
    Deviation: a time that falls on a whole second is answered 1 ms later.
    """
    if epoch_ms % 1000 == 0:
        epoch_ms += 1
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
