"""`omicsResourceFallbackOrder` of a runtime section: several ways to run a task, tried in order. Run processes and inspection.

Source: guide, advanced-resource-configuration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import WDL
from WDL.Tree import Call, Conditional, Document, Scatter, Task, Workflow

KEY = "omicsResourceFallbackOrder"
MOST_PROFILES = 10
_KEYS = frozenset({"acceleratorType", "acceleratorCount", "cpu", "memory", "omicsResourceWaitTimeoutInMin"})
_WAIT_MINUTES, _WAIT_MINUTES_MANY_GPUS = 20, 30


def check(document: Document) -> None:
    """What can be said of the lists of a definition before it runs: none is in a scatter, and those that are written out are right.

    Raises:
        WDL.Error.ValidationError: one is not; with its place.
    """
    for imported in document.imports:
        if imported.doc is not None:
            check(imported.doc)
    for task in document.tasks:
        expression = task.runtime.get(KEY)
        if expression is not None:
            _check_expression(task, expression)
    if document.workflow is not None:
        _check_calls(document.workflow.body, in_scatter=False)


def _check_expression(task: Task, expression: Any) -> None:
    try:
        value = expression.eval(WDL.Env.Bindings(), WDL.StdLib.Base(task.effective_wdl_version)).json
    except Exception:
        return  # it depends on the task's inputs
    try:
        profiles(value)
    except WDL.Error.RuntimeError as error:
        raise WDL.Error.ValidationError(expression, str(error)) from None


def _check_calls(nodes: Iterable[Any], *, in_scatter: bool) -> None:
    for node in nodes:
        if isinstance(node, Scatter | Conditional):
            _check_calls(node.body, in_scatter=in_scatter or isinstance(node, Scatter))
        elif isinstance(node, Call) and isinstance(node.callee, Workflow):
            _check_calls(node.callee.body, in_scatter=in_scatter)
        elif in_scatter and isinstance(node, Call) and isinstance(node.callee, Task) and KEY in node.callee.runtime:
            raise WDL.Error.ValidationError(node, f"task {node.callee.name} has {KEY}, which a scatter cannot use")


def profiles(listed: Any) -> tuple[dict[str, Any], ...] | None:
    """The list (plain, evaluated) as the `submit` line has it; None when there is none.

    Raises:
        WDL.Error.RuntimeError: it is no such list; says which rule it breaks.
    """
    if listed is None:
        return None
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_PROFILES:
        raise _bad(f"it must be a list of 1 to {MOST_PROFILES} profiles")
    found = tuple(_profile(each) for each in listed)
    without = [number for number, profile in enumerate(found) if profile["accelerators"] is None]
    if len(without) > 1 or (without and without[0] != len(found) - 1):
        raise _bad("one profile at most may be without accelerators, and it must be the last")
    return found


def _profile(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _bad("each profile must be an object")
    unknown = sorted(set(given) - _KEYS)
    if unknown:
        raise _bad(f"{', '.join(unknown)} is no key of a profile; the keys are {', '.join(sorted(_KEYS))}")
    kind, count = given.get("acceleratorType"), given.get("acceleratorCount")
    if (kind is None) != (count is None):
        raise _bad("acceleratorType and acceleratorCount go together")
    gpus = 0 if count is None else math.ceil(_number(count, "acceleratorCount"))
    usual = _WAIT_MINUTES_MANY_GPUS if gpus > 1 else _WAIT_MINUTES
    minutes = _number(given.get("omicsResourceWaitTimeoutInMin", usual), "omicsResourceWaitTimeoutInMin")
    return {
        "cpus": 0.0 if given.get("cpu") is None else _number(given["cpu"], "cpu"),
        "memory_bytes": 0 if given.get("memory") is None else _memory_bytes(given["memory"]),
        "accelerators": {"type": str(kind), "count": gpus} if gpus else None,
        "wait_seconds": int(minutes * 60),
    }


def _number(value: Any, key: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _bad(f"{key} must be a number, not {value}") from None
    if not 0 < number < math.inf:
        raise _bad(f"{key} must be a number above 0, not {value}")
    return number


def _memory_bytes(value: Any) -> int:
    try:
        return int(WDL._util.parse_byte_size(str(value)))
    except ValueError:
        raise _bad(f"memory cannot be read: {value}") from None


def _bad(why: str) -> WDL.Error.RuntimeError:
    return WDL.Error.RuntimeError(f"invalid setting of runtime.{KEY}: {why}")
