"""What a supervisor is told of an attempt: the members of spec.json that the scheduler knows (docs/dev/formats.md). Pure; in the server."""

from __future__ import annotations

from typing import Any

from runomics.scheduler.submission import beneath
from runomics.scheduler.task_attempt import Attempt

MOST_PROCESSES = 4096


def spec_of(attempt: Attempt, *, grace_seconds: float) -> dict[str, Any]:
    """The attempt's spec; what is the runner's own to say, the runner adds.

    Raises:
        OSError: nobody has said yet what the attempt is to run.
    """
    place, row, submission = attempt.place, attempt.row, attempt.submission
    if submission is None:
        raise OSError("the engine has not sent its submission again")
    task_arn = place.environment["AWS_WORKFLOW_RUN"].rsplit(":", 1)[0] + f":task/{row.id}"
    return {
        "run_uuid": place.run_uuid,
        "task_id": str(row.id),
        "try": row.try_,
        "name": f"run-{place.run_id}-task-{row.id}-{row.try_}",
        "argv": list(submission.argv),
        "cwd": submission.cwd,
        "stdin": submission.stdin,
        "stdout": None if submission.stdout is None else beneath(submission.stdout),
        "stderr": None if submission.stderr is None else beneath(submission.stderr),
        "env": {
            **submission.env,
            **place.environment,
            "AWS_WORKFLOW_TASK": task_arn,
            "AWS_WORKFLOW_TASK_ID": str(row.id),
            "AWS_WORKFLOW_TASK_UUID": row.uuid,
        },
        "volume": str(place.volume),
        "inputs": str(place.run_directory / "inputs"),
        "definition": str(place.definition),
        "scratch": f".scratch/{row.id}.{row.try_}",
        "rootfs": None,
        "rootless": place.rootless,
        "network": submission.network,
        "cpus": attempt.cpus,
        "memory_bytes": attempt.memory_bytes,
        "pids": MOST_PROCESSES,
        "timeout_seconds": submission.timeout_seconds,
        "grace_seconds": grace_seconds,
    }
