"""The manifest of an ended run: one JSON object for the run, then one per task, as readers of HealthOmics manifests expect. Pure.

Source: guide, getinfo-about-runs; the readers of aws-healthomics-tools (timestamps with a fraction and Z, the run first).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from runomics.domain.run import RunState
from runomics.domain.storage import shown_capacity_gib
from runomics.store.runs import RunRow
from runomics.store.tasks import TaskRow

GIB = 1 << 30


def wire_time(at_ms: int | None) -> str | None:
    """Epoch milliseconds as text with microseconds and Z."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def manifest_lines(
    run: RunRow, to: RunState, changes: Mapping[str, Any], tasks: Iterable[TaskRow], *, region: str, now_ms: int
) -> list[str]:
    """The manifest's lines for a run that is about to become `to` with `changes` of its columns at `now_ms`."""
    rows = [_run_record(run, to, changes, region=region, stopped_ms=now_ms)]
    rows += [_task_record(task, run, region=region) for task in tasks]
    return [orjson.dumps({name: value for name, value in row.items() if value is not None}).decode() for row in rows]


def _document(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def _run_record(
    run: RunRow, to: RunState, changes: Mapping[str, Any], *, region: str, stopped_ms: int
) -> dict[str, Any]:
    arn = f"arn:aws:omics:{region}:{run.account}"
    owner = "" if run.workflow_type == "READY2RUN" else run.workflow_owner_id or run.account
    workflow = f"arn:aws:omics:{region}:{owner}:workflow/{run.workflow_id}"
    peak_bytes = changes.get("storage_peak_bytes", run.storage_peak_bytes)
    version = run.workflow_version_name
    return {
        "arn": f"{arn}:run/{run.id}",
        "uuid": run.uuid,
        "name": run.name,
        "status": str(to.status),
        "statusMessage": changes.get("status_message", run.status_message),
        "failureReason": changes.get("failure_reason", run.failure_reason),
        "creationTime": wire_time(run.created_ms),
        "startTime": wire_time(run.started_ms),
        "stopTime": wire_time(stopped_ms),
        "startedBy": run.started_by,
        "roleArn": run.role_arn,
        "workflow": workflow,
        "workflowType": run.workflow_type,
        "workflowVersion": None if version is None else f"{workflow}/version/{version}",
        "workflowOwnerId": run.workflow_owner_id,
        "engine": run.engine,
        "engineVersion": run.engine_version,
        "main": run.main,
        "digest": run.digest,
        "parameters": _document(run.parameters),
        "resourceDigests": _document(run.resource_digests),
        "outputUri": run.output_uri,
        "storageType": run.storage_type,
        "storageCapacity": shown_capacity_gib(run.storage_type, run.storage_capacity_gib, peak_bytes, ended=True),
        "priority": run.priority,
        "logLevel": run.log_level,
        "retentionMode": run.retention_mode,
        "runGroup": None if run.run_group_id is None else f"{arn}:runGroup/{run.run_group_id}",
        "runCache": None if run.run_cache_id is None else f"{arn}:runCache/{run.run_cache_id}",
        "runCacheBehavior": run.cache_behavior,
        "run": None if run.source_run_id is None else f"{arn}:run/{run.source_run_id}",
        "metrics": {
            "runningSeconds": _seconds(run.started_ms, stopped_ms),
            "storageReservedGiB": run.storage_capacity_gib if run.storage_type == "STATIC" else 0,
            "storageMaximumGiB": 0 if peak_bytes is None else peak_bytes / GIB,
            "storageMaximumBytes": peak_bytes or 0,
        },
    }


def _task_record(task: TaskRow, run: RunRow, *, region: str) -> dict[str, Any]:
    arn = f"arn:aws:omics:{region}:{run.account}"
    seconds = _seconds(task.started_ms, task.stopped_ms)
    return {
        "arn": f"{arn}:task/{task.id}",
        "uuid": task.uuid,
        "name": task.name,
        "run": f"{arn}:run/{run.id}",
        "workflow": f"{arn}:workflow/{run.workflow_id}",
        "status": str(task.status),
        "statusMessage": task.status_message,
        "failureReason": task.failure_reason,
        "creationTime": wire_time(task.created_ms),
        "startTime": wire_time(task.started_ms),
        "stopTime": wire_time(task.stopped_ms),
        "cpus": task.cpus,
        "memory": task.memory_gib,
        "gpus": task.gpus,
        "instanceType": task.instance_type,
        "image": task.image,
        "imageDigest": task.image_digest,
        "exitCode": task.exit_code,
        "metrics": {
            "cpusReserved": task.cpus,
            "cpusAverage": task.cpu_seconds / seconds if task.cpu_seconds is not None and seconds else 0,
            "cpusMaximum": task.cpus_maximum or 0,
            "gpusReserved": task.gpus,
            "memoryReservedGiB": task.memory_gib,
            "memoryAverageGiB": (task.memory_average_bytes or 0) / GIB,
            "memoryMaximumGiB": (task.peak_memory_bytes or 0) / GIB,
            "runningSeconds": seconds,
            **_scratch(task),
        },
    }


def _scratch(task: TaskRow) -> dict[str, float]:
    """Only of a task with a /tmp of its own."""
    if task.scratch_gib is None:
        return {}
    return {
        "scratchStorageReservedGiB": task.scratch_gib,
        "scratchStorageUtilizedGiB": (task.scratch_used_bytes or 0) / GIB,
    }


def _seconds(started_ms: int | None, stopped_ms: int | None) -> float:
    if started_ms is None or stopped_ms is None:
        return 0.0
    return max(0.0, (stopped_ms - started_ms) / 1000)
