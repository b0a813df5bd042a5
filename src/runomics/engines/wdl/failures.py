"""What went wrong, in words for the workflow's author, from the exceptions miniwdl ends with. Runs in the run process."""

from __future__ import annotations

from collections.abc import Iterator

import WDL
from WDL.runtime.error import CommandFailed, OutputError, RunFailed, Terminated

from runomics.engines import outcome as outcomes
from runomics.engines.outcome import Failure, Outcome
from runomics.engines.task_words import last_lines, shortened
from runomics.engines.wdl.container import TaskEndedBadly
from runomics.engines.wdl.staging import InputUnavailable


def outcome(error: BaseException) -> Outcome:
    """The outcome of a run that ended with `error`."""
    failed_in, cause = _root(error)
    if isinstance(cause, Terminated):
        return Outcome(outcomes.CANCELLED)
    return Outcome(outcomes.FAILED, failure=_failure(failed_in, cause))


def input_refused(error: BaseException) -> Outcome:
    """The outcome when the parameters do not fit the workflow."""
    return Outcome(outcomes.FAILED, failure=Failure("input", shortened(f"check JSON input; {error}")))


def located(error: BaseException) -> str:
    """The error's text, behind `(file Ln 3 Col 5)` when it has a place."""
    place = getattr(error, "pos", None)
    text = str(error) or type(error).__name__
    if not isinstance(place, WDL.Error.SourcePosition) or not place.line:
        return text
    return f"({place.uri} Ln {place.line} Col {place.column}) {text}"


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _root(error: BaseException) -> tuple[RunFailed | None, BaseException]:
    """The innermost failed call, and why it failed."""
    failed_in = None
    while isinstance(error, RunFailed):
        failed_in = error
        if error.__cause__ is None:
            break
        error = error.__cause__
    # An expression's error and a download's hide what stopped them.
    hidden = (link for link in chain(error) if isinstance(link, (InputUnavailable, Terminated)))
    return failed_in, next(hidden, error)


def _failure(failed_in: RunFailed | None, cause: BaseException) -> Failure:
    where = "" if failed_in is None else _name(failed_in)
    if isinstance(cause, InputUnavailable):
        return Failure("stage", shortened(str(cause)), uri=cause.uri, code=cause.code)
    if isinstance(cause, CommandFailed):
        return _command_failed(cause)
    if isinstance(cause, TaskEndedBadly):
        return _task_failure(str(cause), cause.more_info)
    prefix = f"{where}: " if where else ""
    if isinstance(cause, OutputError):
        output = str(getattr(cause, "job_id", "")).removeprefix("decl-")
        named = f"output {output}: " if output and output not in str(cause) else ""
        return Failure("engine", shortened(f"{prefix}{named}{cause}"))
    if isinstance(cause, WDL.Error.RuntimeError):
        return Failure("engine", shortened(prefix + located(cause)))
    return Failure("engine", shortened(f"{prefix}{type(cause).__name__}: {cause}"))


def _name(failed_in: RunFailed) -> str:
    kind = "task" if isinstance(failed_in.exe, WDL.Tree.Task) else "workflow"
    name = str(failed_in.run_id).removeprefix("call-")
    return f"{kind} {name}" if name == failed_in.exe.name else f"{kind} {failed_in.exe.name} ({name})"


def _command_failed(cause: CommandFailed) -> Failure:
    info = cause.more_info
    name = info.get("task_name", "")
    why = "ran out of memory" if info.get("task_reason") == "OOM" else f"failed with exit code {cause.exit_status}"
    quoted = last_lines(cause.stderr_file)
    return _task_failure(f"task {name} {why}{': ' if quoted else ''}{quoted}", info, exit_code=cause.exit_status)


def _task_failure(message: str, info: dict[str, object], *, exit_code: int | None = None) -> Failure:
    number = info.get("task_attempt")
    code = info.get("task_exit_code") if exit_code is None else exit_code
    return Failure(
        "task",
        shortened(message),
        task_key=str(info["task_key"]) if "task_key" in info else None,
        task_attempt=number if isinstance(number, int) else None,
        task_reason=str(info["task_reason"]) if "task_reason" in info else None,
        exit_code=code if isinstance(code, int) else None,
    )
