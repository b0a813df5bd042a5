"""Why runs and tasks fail, in the API's words: failureReason codes and the text that tells a user what to mend. Pure.

Source of the codes: guide, workflows-run-errors. The texts are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from runomics.domain.task import Reason

MESSAGE_LIMIT = 1000

WRONG_ENGINE_VERSION = "WORKFLOW_VER_VALIDATION_FAILED"
"""The workflow insists on a version of its engine that is not here."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failureReason and its statusMessage."""

    reason: str
    message: str


def _shortened(text: str) -> str:
    text = text.strip()
    if len(text) <= MESSAGE_LIMIT:
        return text
    return text[: MESSAGE_LIMIT - 1] + "…"


def of_task(
    *,
    reason: Reason,
    name: str,
    task_id: int,
    exit_code: int | None,
    message: str,
    memory_gib: int,
    timeout_seconds: int | None,
    volume_was_full: bool,
    code: str | None = None,
) -> Failure | None:
    """The failure that a task's end means, None for an end that is none (OK, CANCELLED).

    `code` is the failureReason of an IMAGE or REFUSED end that is not the usual one.
    """
    if reason in (Reason.OK, Reason.CANCELLED):
        return None
    who = f"Task {name} (task ID {task_id})"
    if volume_was_full and reason is Reason.EXIT:
        return Failure(
            "FILE_SYSTEM_OUT_OF_SPACE",
            f"{who} failed after the run's file system ran out of storage. Ask for more storageCapacity, or use storageType DYNAMIC.",
        )
    if reason is Reason.OOM:
        return Failure(
            "OUT_OF_MEMORY_ERROR",
            f"{who} ran out of memory: it may use {memory_gib} GiB. Give it more in its definition.",
        )
    if reason is Reason.TIMEOUT:
        return Failure("TASK_TIMED_OUT", f"{who} timed out after {timeout_seconds} seconds.")
    if reason is Reason.IMAGE:
        return Failure(
            code or "CANNOT_START_CONTAINER_ERROR", _shortened(f"{who} could not start its container. {message}")
        )
    if reason is Reason.REFUSED:
        return Failure(code or "INVALID_TASK_RESOURCE_VALUE", _shortened(f"{who} cannot be placed. {message}"))
    if reason in (Reason.RUNTIME, Reason.LOST):
        return Failure("SERVICE_ERROR", _shortened(f"{who} was lost by the service. {message}"))
    said = f" The last it said: {message}" if message else ""
    return Failure(
        "RUN_TASK_FAILED",
        _shortened(f"{who} ended with exit code {exit_code}. Its log stream has what it printed.{said}"),
    )


def of_engine(message: str, *, engine_log_stream: str) -> Failure:
    """The engine gave up for a reason of its own."""
    return Failure(
        "WORKFLOW_RUN_FAILED",
        _shortened(f"Workflow run failed: {message} The engine's log stream is {engine_log_stream}."),
    )


def of_full_volume(capacity_gib: int | None) -> Failure:
    """A STATIC volume was full."""
    return Failure(
        "FILE_SYSTEM_OUT_OF_SPACE",
        f"The run used all of its {capacity_gib} GiB of STATIC run storage. Ask for more storageCapacity, or use storageType DYNAMIC.",
    )


def of_full_host(used_bytes: int) -> Failure:
    """The run was ended so that the server's disk does not fill up."""
    return Failure(
        "SERVICE_ERROR",
        "The server's disk is nearly full, and of all runs with DYNAMIC storage this one grew fastest: it used "
        f"{used_bytes / (1 << 30):.1f} GiB. Make room on the server, then start the run again.",
    )


def of_run_time(limit_seconds: int) -> Failure:
    """The run's own time limit."""
    return Failure("RUN_TIMED_OUT", f"Run timed out after {limit_seconds // 60} minutes.")


def of_group_time(limit_minutes: int, group_id: int) -> Failure:
    """The time limit of the run's group."""
    return Failure(
        "RUN_TIMED_OUT", f"Run timed out after {limit_minutes} minutes, the maxDuration of run group {group_id}."
    )


def of_lost_engine(incarnation: int) -> Failure:
    """The engine process vanished, and starting it again is not allowed."""
    return Failure(
        "SERVICE_ERROR",
        f"The workflow engine ended without a result (start {incarnation}). Start the run again; if it recurs, see the service's log.",
    )


def of_missing_output_bucket(bucket: str) -> Failure:
    """Results have nowhere to go."""
    return Failure(
        "EXPORT_FAILED",
        f"The output bucket {bucket} does not exist or cannot be written. Make it, or change outputUri.",
    )


def of_storage(message: str) -> Failure:
    """No volume can be made, or the one there was is lost."""
    return Failure("SERVICE_ERROR", _shortened(f"Run storage failed: {message}"))


def of_network(why: str) -> Failure:
    """A run with networkingMode VPC whose network cannot be had. Source: assumed."""
    return Failure("NETWORK_CONFIGURATION_FAILED", _shortened(why))
