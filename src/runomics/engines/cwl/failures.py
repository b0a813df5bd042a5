"""What went wrong, in words for the workflow's author, from what cwltool raises or logs. Runs in the run process and in inspection."""

from __future__ import annotations

import re

from cwltool.errors import UnsupportedRequirement, WorkflowException
from schema_salad.exceptions import ValidationException

from runomics.engines import outcome as outcomes
from runomics.engines.gateway_client import StageFailed, TaskEnd
from runomics.engines.outcome import Failure, Outcome
from runomics.engines.task_words import badly, last_lines, shortened

_ROOTS = re.compile(r"(?:(?:file://)?/mnt/workflow/|(?<![\w/.-]))definition/")
_PLACE = re.compile(r"^(\S+?\.(?:cwl|ya?ml|json)):(\d+):(\d+):\s*", re.MULTILINE)
_MOST_LINES = 150


def text(error: BaseException | str) -> str:
    """An error's text: files by their names in the definition, each with line and column where cwltool knows them."""
    said = str(error) or type(error).__name__
    lines = _ROOTS.sub("", said).strip().splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], "…"]
    return "\n".join(line.rstrip() for line in lines)


def of_document(error: BaseException, main: str) -> str:
    """Why a definition cannot be used."""
    if isinstance(error, RecursionError):
        return f"({main}) the definition is nested too deeply"
    if isinstance(error, MemoryError):
        return f"({main}) the definition needs too much memory to be read"
    if isinstance(error, ValidationException | WorkflowException | UnsupportedRequirement):
        said = text(error)
        return said if _PLACE.search(said) or main.partition("#")[0] in said else f"({main}) {said}"
    return f"({main}) {type(error).__name__}: {text(error)}"


def refused(error: BaseException) -> Outcome:
    """The outcome when the parameters do not fit the workflow."""
    return Outcome(outcomes.FAILED, failure=Failure("input", shortened(f"check JSON input; {text(error)}")))


def of_stage(error: StageFailed) -> Failure:
    """An input cannot be had."""
    return Failure("stage", shortened(str(error)), uri=error.uri, code=error.code)


def of_task(
    *, key: str, name: str, attempt: int, end: TaskEnd, code: int, accepted: bool, stderr: str, said: str
) -> Failure:
    """A job that failed: its command did, or, where its exit code is `accepted`, its outputs are not what it declares."""
    if end.reason in ("OK", "EXIT", "OOM") and accepted:
        return Failure("engine", shortened(f"task {name}: {said or 'its outputs could not be collected'}"))
    if end.reason == "OOM":
        message = f"task {name} ran out of memory"
    elif end.reason == "EXIT":
        message = f"task {name} failed with exit code {code}"
    else:
        message = badly(name, end)
    quoted = last_lines(stderr) if end.reason in ("EXIT", "OOM") else ""
    return Failure(
        "task",
        shortened(f"{message}: {quoted}" if quoted else message),
        task_key=key,
        task_attempt=attempt,
        task_reason=end.reason,
        exit_code=code if end.reason in ("EXIT", "OOM") else end.exit_code,
    )
