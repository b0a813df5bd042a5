"""Names of things: ARNs, S3 URIs, log streams, and the decimal ids of the API. Pure; used by every server-side room."""

from __future__ import annotations

import re
from dataclasses import dataclass

LOG_GROUP = "/aws/omics/WorkflowLog"
"""Source: guide, monitoring-cloudwatch-logs."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ARN = re.compile(r"arn:([^:]+):([^:]+):([^:]*):([^:]*):(.+)", re.DOTALL)


class MalformedName(ValueError):
    """A text that is not the ARN or URI it should be. The message says what is wrong with it."""


def arn_prefix(region: str, account: str, kind: str) -> str:
    """What an id is appended to: `arn:aws:omics:REGION:ACCOUNT:KIND/`. The account of READY2RUN workflows is empty."""
    return f"arn:aws:omics:{region}:{account}:{kind}/"


def workflow_arn(region: str, account: str, workflow_id: int, workflow_type: str = "PRIVATE") -> str:
    """Source: guide (PRIVATE); observed (READY2RUN has an empty account)."""
    owner = "" if workflow_type == "READY2RUN" else account
    return f"{arn_prefix(region, owner, 'workflow')}{workflow_id}"


def version_arn(region: str, account: str, workflow_id: int, version_name: str, workflow_type: str = "PRIVATE") -> str:
    """Source: guide, workflows-version-create."""
    return f"{workflow_arn(region, account, workflow_id, workflow_type)}/version/{version_name}"


def run_arn(region: str, account: str, run_id: int) -> str:
    return f"{arn_prefix(region, account, 'run')}{run_id}"


def batch_arn(region: str, account: str, batch_id: int) -> str:
    return f"{arn_prefix(region, account, 'runBatch')}{batch_id}"


def task_arn(region: str, account: str, task_id: int) -> str:
    return f"{arn_prefix(region, account, 'task')}{task_id}"


@dataclass(frozen=True, slots=True)
class Arn:
    """The five parts after `arn:`; `resource` is `kind/id`, possibly with more segments."""

    partition: str
    service: str
    region: str
    account: str
    resource: str


def parse_arn(text: str) -> Arn:
    """The parts of an ARN.

    Raises:
        MalformedName: fewer than six parts.
    """
    match = _ARN.fullmatch(text)
    if match is None:
        raise MalformedName(f"'{text}' is not an ARN (arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE)")
    return Arn(*match.groups())


# ---- log streams -------------------------------------------------------------------------------------------------


def run_stream(run_id: int | str) -> str:
    """Stream of the run log."""
    return f"run/{run_id}"


def engine_stream(run_id: int | str) -> str:
    return f"run/{run_id}/engine"


def task_stream(run_id: int | str, task_id: int | str) -> str:
    return f"run/{run_id}/task/{task_id}"


def log_stream_arn(region: str, account: str, stream: str) -> str:
    """The full ARN that GetRun.logLocation and GetRunTask.logStream carry. Source: guide."""
    return f"arn:aws:logs:{region}:{account}:log-group:{LOG_GROUP}:log-stream:{stream}"


# ---- S3 URIs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class S3Uri:
    """s3://bucket/key; the key may be empty or a prefix."""

    bucket: str
    key: str


def parse_s3_uri(text: str) -> S3Uri:
    """Bucket and key, the key exactly as written.

    Raises:
        MalformedName: another scheme, a bucket name S3 does not allow, or a key that S3 or the file system cannot hold.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme != "s3":
        raise MalformedName(f"'{text}' is not an S3 URI: it must start with s3://BUCKET/")
    bucket, _, key = rest.partition("/")
    if _BUCKET.fullmatch(bucket) is None or ".." in bucket:
        raise MalformedName(f"'{text}' names no valid bucket: '{bucket}' is not 3-63 of a-z, 0-9, '.' and '-'")
    if len(key.encode("utf-8", "surrogatepass")) > 1024:
        raise MalformedName(f"'{text[:80]}…' has a key of more than 1024 bytes")
    return S3Uri(bucket, key)


def run_output_uri(output_uri: str, run_id: int, prefix_mode: str | None) -> str:
    """Where a run writes: `<outputUri>/<run id>` without a trailing slash, or outputUri itself for NONE_WITH_OVERWRITE.

    Source: guide (samples with the bare run id); the mode: model.
    """
    folder = output_uri.rstrip("/")
    if prefix_mode == "NONE_WITH_OVERWRITE":
        return folder
    return f"{folder}/{run_id}"


# ---- ids ---------------------------------------------------------------------------------------------------------


def number(identifier: str) -> int | None:
    """The row id an API id stands for; None when it is not written as we write ids (leading zeros), so that it is not found."""
    if not (identifier.isascii() and identifier.isdecimal()) or len(identifier) > 18:
        return None
    value = int(identifier)
    return value if str(value) == identifier else None
