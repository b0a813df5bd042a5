"""What one workflow language gives the run process: how it is warmed, read, run. Each `engines/<language>/engine.py` has its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runomics.engines.gateway_client import Gateway
from runomics.engines.outcome import Outcome
from runomics.engines.plan import Plan


class AlreadyBegan(Exception):
    """This incarnation's working directory exists: it was started before, and the host went down in between."""


class Stop(Protocol):
    """Whether the run is being ended."""

    requested: bool


def nothing_more() -> Sequence[str]:
    """For a language that needs no more of the host than every sandbox shows."""
    return ()


@dataclass(frozen=True, slots=True)
class Engine:
    """One language.

    `warm` runs once, in the launcher, before the first fork; what it costs in memory every idle server pays.
    `run(plan, gateway, stop, kept)` executes a plan to its end, on the main thread, inside the sandbox; raises GatewayLost, AlreadyBegan.
    `inspect(root, main)` gives interface.json and, or None, the parsed form, kept beside the definition as `kept_name(main)`.
    `shown()` are paths of the host that its sandbox shows too, read-only: interpreters and libraries.
    """

    version: str
    warm: Callable[[], None]
    run: Callable[[Plan, Gateway, Stop, bytes | None], Outcome]
    inspect: Callable[[str, str], tuple[Mapping[str, Any], bytes | None]]
    kept_name: Callable[[str], str] | None = None
    shown: Callable[[], Sequence[str]] = nothing_more
