"""How long to wait before something that failed is tried again. Pure."""

from __future__ import annotations


def delay_ms(failures: int, *, first_ms: int, most_ms: int) -> int:
    """The wait after so many failures in a row: `first_ms` after one, doubled by each, never over `most_ms`."""
    # The exponent is bounded, so that a receiver that has been down for a year costs no arithmetic on huge numbers.
    return min(most_ms, first_ms << min(max(failures - 1, 0), 40))
