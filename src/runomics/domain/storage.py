"""Which run storage a run gets and what its capacity reads like. Pure; used by operations and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from runomics.domain.resources import whole_gib

STATIC = "STATIC"
DYNAMIC = "DYNAMIC"


@dataclass(frozen=True, slots=True)
class StorageWish:
    """What one place says about storage. Either may be missing; a capacity of 0 GiB counts as missing."""

    storage_type: str | None = None
    capacity_gib: int | None = None


@dataclass(frozen=True, slots=True)
class RunStorage:
    """What the run gets: `capacity_gib` is the hard limit of STATIC, None for DYNAMIC."""

    storage_type: str
    capacity_gib: int | None


def resolve(request: StorageWish, workflow: StorageWish, default: RunStorage) -> RunStorage:
    """Request before workflow before the server's setting; DYNAMIC has no capacity, whatever was asked.

    The number asked for is kept as it is. `default.capacity_gib` is the size of a STATIC run that nobody sized.

    Source: model (the members and that DYNAMIC ignores capacity); assumed (the order of the places).
    Deviation: STATIC storage is limited to exactly the GiB asked for; AWS rounds up to 1,200 or a multiple of 2,400.
    """
    storage_type = request.storage_type or workflow.storage_type or default.storage_type
    if storage_type == DYNAMIC:
        return RunStorage(DYNAMIC, None)
    return RunStorage(STATIC, request.capacity_gib or workflow.capacity_gib or default.capacity_gib)


def shown_capacity_gib(
    storage_type: str, capacity_gib: int | None, peak_bytes: int | None, *, ended: bool
) -> int | None:
    """`storageCapacity` of GetRun and ListRuns: STATIC as asked for; DYNAMIC the peak once the run has ended, else absent.

    Source: model (dynamic: the maximum used, after completion); observed (static: the requested number).
    Deviation: the peak of DYNAMIC storage is shown for every ended run; AWS leaves it out for runs under two hours.
    """
    if storage_type == STATIC:
        return capacity_gib
    if not ended or peak_bytes is None:
        return None
    return whole_gib(peak_bytes)
