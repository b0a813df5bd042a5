"""What went wrong, in words for the workflow's author, from Nextflow's verdict, its exit code and its log. Runs in the run process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runomics.engines import outcome as outcomes
from runomics.engines.nextflow.process import Ended
from runomics.engines.outcome import Failure, Outcome

_MOST_MESSAGE_CHARACTERS = 4000
_MOST_OUTPUT_CHARACTERS = 1024
_OUT_OF_MEMORY = 3
"""Exit code of a JVM that was told to end when its heap is full."""

_ERROR = re.compile(r"^ERROR ~ (.*?)(?=\n\s*-- Check '|\n \* |\Z)", re.MULTILINE | re.DOTALL)
_WRONG_VERSION = "does not match workflow required version"
_SECTION = re.compile(r"^(Command error|Command output):\n((?:  .*\n|\n)*)", re.MULTILINE)


def outcome(ended: Ended) -> Outcome:
    """The outcome of a run that did not succeed."""
    if ended.stopped:
        return Outcome(outcomes.CANCELLED)
    verdict = ended.verdict or {}
    refused = verdict.get("refused")
    said = _said(ended, verdict)
    for uri, why in refused.items() if isinstance(refused, dict) else ():
        if uri in said and isinstance(why, dict):
            return _failed(
                Failure("stage", _short(str(why.get("message") or said)), uri=uri, code=str(why.get("code")))
            )
    task = verdict.get("task")
    if isinstance(task, dict) and task.get("key"):
        return _failed(_task(task, verdict, said))
    code = "WORKFLOW_VER_VALIDATION_FAILED" if _WRONG_VERSION in said else None
    return _failed(Failure("engine", _short(said), code=code))


def _failed(failure: Failure) -> Outcome:
    return Outcome(outcomes.FAILED, failure=failure)


def _said(ended: Ended, verdict: Mapping[str, Any]) -> str:
    """The best text there is: what the console calls the error has file and line; the session's own words are barer."""
    told = [text.strip() for text in _ERROR.findall(ended.tail.replace("\r\n", "\n"))]
    error, cause = verdict.get("error"), verdict.get("cause")
    # What a plugin logged stands there too, before the error that ended the run.
    if told and told[-1] and str(error or told[-1]).strip().partition("\n")[0] in told[-1]:
        return str(told[-1])
    if error:
        return f"{error} -- {cause}" if cause and cause not in str(error) else str(error)
    if ended.code == _OUT_OF_MEMORY or "OutOfMemoryError" in ended.tail:
        return "Nextflow ran out of memory. The pipeline's own code needs more than the engine may have."
    if ended.code < 0:
        return f"Nextflow was ended by signal {-ended.code}."
    last = ended.tail.strip().rpartition("\n")[2]
    return last or f"Nextflow ended with exit code {ended.code}."


def _task(task: Mapping[str, Any], verdict: Mapping[str, Any], said: str) -> Failure:
    """The cause and the end of what the task printed; the rest of Nextflow's report says where files lie, which are gone by then."""
    error, cause = str(verdict.get("error") or said), verdict.get("cause")
    message = f"{error}: {cause}" if cause and str(cause) not in error else error
    output = _output(str(verdict.get("report") or ""))
    number, attempt = task.get("exit"), task.get("attempt")
    return Failure(
        "task",
        _short(f"{message}: {output}" if output else message),
        task_key=str(task["key"]),
        task_attempt=attempt if isinstance(attempt, int) else 1,
        exit_code=number if isinstance(number, int) else None,
    )


def _output(report: str) -> str:
    sections = {
        name: "\n".join(line[2:] for line in text.splitlines()).strip()
        for name, text in _SECTION.findall(report + "\n")
    }
    found = sections.get("Command error") or sections.get("Command output") or ""
    return "" if found == "(empty)" else found[-_MOST_OUTPUT_CHARACTERS:]


def _short(text: str) -> str:
    return text if len(text) <= _MOST_MESSAGE_CHARACTERS else text[: _MOST_MESSAGE_CHARACTERS - 1] + "…"
