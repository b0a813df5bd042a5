"""What `doctor` tries on this host for tasks, by doing it: containers, an overlay, limits. A process of its own."""

from __future__ import annotations

from typing import Any


def findings(parent: str, bwrap: str) -> list[dict[str, Any]]:
    raise NotImplementedError
