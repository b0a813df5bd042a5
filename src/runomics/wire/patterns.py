"""Whole-string matchers for the patterns of the service model, one per distinct pattern. Server process, compiled at start."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import regex

Matcher = Callable[[str], Any]
"""Truthy when the whole string matches."""

_REPEATED_CLASS = re.compile(r"\[[^\]]*\\p\{[^\]]*\]\+")


@cache
def matcher(pattern: str) -> Matcher:
    """The matcher of a model pattern.

    The model's patterns are Java's: `\\w` and `\\d` mean ASCII. A repeated class of Unicode categories is asked once about each
    ASCII character; most strings are then decided by a plain class, four times as fast, and the rest by `regex`.
    """
    if "\\p" not in pattern:
        return re.compile(pattern, re.ASCII).fullmatch
    full = regex.compile(pattern).fullmatch
    if not _REPEATED_CLASS.fullmatch(pattern):
        return full  # type: ignore[no-any-return]
    accepted = "".join(re.escape(chr(code)) for code in range(128) if full(chr(code)))
    quick = re.compile(f"[{accepted}]+").fullmatch
    return lambda value: quick(value) or full(value)
