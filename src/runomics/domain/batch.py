"""The life of a batch of runs: its states, the table of allowed moves, and how a run's own setting is laid over the default. Pure.

CREATING and PENDING read and check the settings, SUBMITTING makes runs of them, INPROGRESS waits for the runs. What a client asks of a
batch is written down as a wish; the scheduler moves the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_RUNS = 100_000
"""Source: guide, workflows-batch."""
MAX_FILE_BYTES = 6 * 1000**3
"""Source: guide, workflows-batch (6 GB)."""


class BatchStatus(StrEnum):
    """Source: model, shape BatchStatus."""

    CREATING = "CREATING"
    PENDING = "PENDING"
    SUBMITTING = "SUBMITTING"
    INPROGRESS = "INPROGRESS"
    STOPPING = "STOPPING"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    PROCESSED = "PROCESSED"
    RUNS_DELETING = "RUNS_DELETING"
    RUNS_DELETE_FAILED = "RUNS_DELETE_FAILED"
    RUNS_DELETED = "RUNS_DELETED"


class BatchEvent(StrEnum):
    """What happens to a batch. CREATING is its creation and not listed."""

    FOUND = "found"
    CHECKED = "checked"
    REFUSED = "refused"
    SUBMITTED = "submitted"
    RUNS_ENDED = "runs_ended"
    CANCEL_REQUESTED = "cancel_requested"
    STOPPED = "stopped"
    RUNS_DELETE_REQUESTED = "runs_delete_requested"
    RUNS_DELETED = "runs_deleted"
    RUNS_KEPT = "runs_kept"
    DELETE_REQUESTED = "delete_requested"


class SubmissionStatus(StrEnum):
    """What became of one setting of a batch; none before its turn. Source: model, shape SubmissionStatus."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCEL_SUCCESS = "CANCEL_SUCCESS"
    CANCEL_FAILED = "CANCEL_FAILED"
    DELETE_SUCCESS = "DELETE_SUCCESS"
    DELETE_FAILED = "DELETE_FAILED"


class IllegalBatchTransition(Exception):
    """An event that the table does not allow in this status. Nothing was changed."""

    def __init__(self, status: BatchStatus, event: BatchEvent) -> None:
        super().__init__(f"{event} is not allowed in {status}")
        self.status = status
        self.event = event


_S, _E = BatchStatus, BatchEvent

MOVES: Mapping[tuple[BatchStatus, BatchEvent], BatchStatus] = {
    (_S.CREATING, _E.FOUND): _S.PENDING,
    (_S.CREATING, _E.REFUSED): _S.FAILED,
    (_S.PENDING, _E.CHECKED): _S.SUBMITTING,
    (_S.PENDING, _E.REFUSED): _S.FAILED,
    (_S.SUBMITTING, _E.SUBMITTED): _S.INPROGRESS,
    (_S.INPROGRESS, _E.RUNS_ENDED): _S.PROCESSED,
    (_S.PENDING, _E.CANCEL_REQUESTED): _S.STOPPING,
    (_S.SUBMITTING, _E.CANCEL_REQUESTED): _S.STOPPING,
    (_S.INPROGRESS, _E.CANCEL_REQUESTED): _S.STOPPING,
    (_S.STOPPING, _E.STOPPED): _S.CANCELLED,
    (_S.PROCESSED, _E.RUNS_DELETE_REQUESTED): _S.RUNS_DELETING,
    (_S.CANCELLED, _E.RUNS_DELETE_REQUESTED): _S.RUNS_DELETING,
    (_S.RUNS_DELETING, _E.RUNS_DELETED): _S.RUNS_DELETED,
    (_S.RUNS_DELETING, _E.RUNS_KEPT): _S.RUNS_DELETE_FAILED,
    (_S.PROCESSED, _E.DELETE_REQUESTED): _S.PROCESSED,
    (_S.FAILED, _E.DELETE_REQUESTED): _S.FAILED,
    (_S.CANCELLED, _E.DELETE_REQUESTED): _S.CANCELLED,
    (_S.RUNS_DELETED, _E.DELETE_REQUESTED): _S.RUNS_DELETED,
    (_S.RUNS_DELETE_FAILED, _E.DELETE_REQUESTED): _S.RUNS_DELETE_FAILED,
}
"""Source: guide, workflows-batch (the states and when what may be asked); model (the same, and RUNS_DELETE_FAILED). Deleting a batch is
no state: its row goes."""

RESTING = frozenset(
    {
        BatchStatus.CANCELLED,
        BatchStatus.FAILED,
        BatchStatus.PROCESSED,
        BatchStatus.RUNS_DELETED,
        BatchStatus.RUNS_DELETE_FAILED,
    }
)
"""The states in which nothing happens unless a client asks for it."""


def accepts(status: BatchStatus, event: BatchEvent) -> bool:
    """Whether `event` may happen to a batch in `status`."""
    return (status, event) in MOVES


def advance(status: BatchStatus, event: BatchEvent) -> BatchStatus:
    """The status after `event`.

    Raises:
        IllegalBatchTransition: the table has no such move.
    """
    to = MOVES.get((status, event))
    if to is None:
        raise IllegalBatchTransition(status, event)
    return to


# ---- settings ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a batch is FAILED: `category` as events carry it, `text` as GetBatch answers it."""

    category: str
    text: str


VALIDATION = "VALIDATION_EXCEPTION"
INVALID_JSON = Failure(VALIDATION, "Invalid JSON format in run configurations")
"""Source: guide, workflows-batch."""


def failure_of_counts(runs: int, unique: int, max_runs: int = MAX_RUNS) -> Failure | None:
    """What is wrong with a batch of `runs` settings with `unique` different runSettingIds; None when nothing is.

    Source: guide, workflows-batch (the first two texts); assumed (a file without settings).
    """
    if runs > max_runs:
        return Failure(VALIDATION, f"Batch has {runs} runs but {max_runs} runs is the max.")
    if runs != unique:
        return Failure(VALIDATION, f"Expected {runs} unique runSettingIds but there were {unique}")
    if runs == 0:
        return Failure(VALIDATION, "Batch has 0 runs but 1 run is the min.")
    return None


def failure_of_changed_file(expected_etag: str, etag: str) -> Failure:
    """The settings were replaced after StartRunBatch. Source: guide, workflows-batch (the text); assumed (the category)."""
    return Failure(
        VALIDATION,
        f'Expected s3UriConfigs etag: "{expected_etag}" but was: "{etag}". s3UriConfigs have changed since calling StartRunBatch',
    )


NOT_OF_A_RUN = ("runSettingId", "runTags", "outputBucketOwnerId")


def run_request(default: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """A setting of a batch laid over the default, as the request of a StartRun.

    `parameters` and `runTags` are merged name by name, the setting's value before the default's; of everything else the setting's
    value replaces the default's as a whole.

    Source: guide, workflows-batch (parameters, runTags); model (engineSettings override).
    """
    request = {name: value for name, value in {**default, **setting}.items() if name not in NOT_OF_A_RUN}
    tags = {**default.get("runTags", {}), **setting.get("runTags", {})}
    if tags:
        request["tags"] = tags
    common, own = default.get("parameters"), setting.get("parameters")
    if isinstance(common, Mapping) and isinstance(own, Mapping):
        request["parameters"] = {**common, **own}
    return request
