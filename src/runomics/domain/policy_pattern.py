"""The patterns of IAM policies: texts with wildcards and variables, compiled once. Pure; server process.

Source: guide, IAM JSON policy reference (wildcards, policy variables and their defaults).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

Context = Mapping[str, tuple[str, ...]]
"""Condition keys in lower case → their values; a key that a request does not have is absent."""

SUBJECT_LIMIT = 2_048
"""Letters of a text that are looked at: what is longer names nothing that exists."""

_SPECIAL = re.compile(r"\$\{([^}]*)\}|[*?]")
_LITERAL_VARIABLES = ("*", "?", "$")

Pieces = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`${key}` or `${key, 'default'}`; the key in lower case."""

    key: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a whole text is compared with. `parts` are pieces of a regular expression and variables between them."""

    parts: tuple[str | Variable, ...]
    flags: int

    def matches(self, text: str, context: Context) -> bool:
        """Whether all of `text` is what the pattern stands for. A variable without exactly one value stands for nothing."""
        expression = ""
        for part in self.parts:
            if isinstance(part, str):
                expression += part
                continue
            values = context.get(part.key, () if part.default is None else (part.default,))
            if len(values) != 1:
                return False
            expression += re.escape(values[0][:SUBJECT_LIMIT])
        return _compiled(expression, self.flags).fullmatch(text[:SUBJECT_LIMIT]) is not None

    @property
    def keys(self) -> tuple[str, ...]:
        """The condition keys its variables name."""
        return tuple(part.key for part in self.parts if isinstance(part, Variable))


@lru_cache(maxsize=4096)
def _compiled(expression: str, flags: int) -> re.Pattern[str]:
    return re.compile(expression, flags)


def compile_pattern(
    text: str, *, has_wildcards: bool = True, has_variables: bool = False, ignores_case: bool = False
) -> Pattern:
    """The pattern of `text`: `*` is any number of letters, `?` one, `${key}` the value of a key, `${*}` an asterisk.

    Raises:
        ValueError: a variable is not closed.
    """
    pieces: list[list[str | Variable]] = [[]]
    position = 0
    for found in _SPECIAL.finditer(text):
        is_variable = found[1] is not None
        if (is_variable and not has_variables) or (not is_variable and not has_wildcards):
            continue
        pieces[-1].append(_literal(text[position : found.start()], has_variables))
        position = found.end()
        if found[0] == "*":
            pieces.append([])
        elif found[0] == "?":
            pieces[-1].append(".")
        elif found[1] in _LITERAL_VARIABLES:
            pieces[-1].append(re.escape(found[1]))
        else:
            key, comma, default = found[1].partition(",")
            pieces[-1].append(Variable(key.strip().lower(), default.strip().strip("'") if comma else None))
    pieces[-1].append(_literal(text[position:], has_variables))
    flags = re.DOTALL | (re.IGNORECASE if ignores_case else 0)
    return Pattern(tuple(_joined(pieces)), flags)


def _literal(text: str, has_variables: bool) -> str:
    if has_variables and "${" in text:
        raise ValueError(f"the variable in {text!r} is not closed by a brace")
    return re.escape(text)


def _joined(pieces: list[list[str | Variable]]) -> list[str | Variable]:
    """Pieces with anything between them. A piece in the middle is taken where it first occurs and never looked for again, so that
    the time is bounded by the product of both lengths, whatever the pattern.
    """
    first, *others = pieces
    if not others:
        return first
    *middle, last = others
    joined = list(first)
    for piece in middle:
        joined += ["(?>.*?", *piece, ")"]
    return [*joined, ".*", *last]
