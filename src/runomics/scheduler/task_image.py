"""An image as a task gets it: the names and digest that its row shows, and what its supervisor makes a root of. A value of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TaskImage:
    """`source`: the name in the definition, where the workflow's registry map made another of it. `layers`: the uppermost first; none:
    the host's own root stands in for the image.
    """

    image: str
    source: str | None
    digest: str | None
    layers: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a task's row that say which image it runs in."""
        return {"image": self.image, "image_digest": self.digest, "source_image": self.source}
