"""Rows of images: what a name in a definition means for one run, from when the run first asked to its end. Used inside a unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from runomics.store import statements
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A row of `image`, column by column (the migration says what each is)."""

    account: str
    run_id: int
    name: str
    image: str
    location: str
    digest: str
    resolved_ms: int


SQL = statements.load("images", image=ImageRow)


def find_image(tx: Tx, run_id: int, name: str) -> ImageRow | None:
    """What the name means in the run; None when it has not asked yet."""
    row = SQL.find_image(tx, run_id=run_id, name=name)
    return None if row is None else ImageRow(*row)


def keep_image(tx: Tx, new: ImageRow) -> ImageRow:
    """Let the name mean this in the run, unless it means something already; what it means from now on."""
    SQL.insert_image(tx, **asdict(new))
    return find_image(tx, new.run_id, new.name) or new


def digests_of_active_runs(tx: Tx) -> frozenset[str]:
    """The images that tasks may be running in, or may start in."""
    return frozenset(row[0] for row in SQL.digests_of_active_runs(tx))
