"""docs/dev/run-lifecycle.md from the tables of moves of runs, tasks, shares and configurations."""

from __future__ import annotations

from collections.abc import Mapping

from runomics.domain import configuration, run, share, task

HEAD = """\
# The life of a run, of a task, of a share and of a configuration

<!-- Generated from src/runomics/domain/run.py, task.py, share.py and configuration.py by `make docs`; do not edit. -->

A run's state is its status, the phase of a RUNNING run, and the outcome that a STOPPING (or exporting) run carries. The tables list every
move there is; `advance()` refuses anything else. *Open* means: not COMPLETED, FAILED, CANCELLED or DELETED.
"""


def pages() -> dict[str, str]:
    """The one page."""
    return {"dev/run-lifecycle.md": "\n".join((HEAD, _run_part(), _task_part(), _share_part(), _configuration_part()))}


def _run_part() -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    rows = []
    for move in run.MOVES:
        origin = _place(move.status, move.phase)
        event = move.event.__name__
        if move.to is None:
            target = "the outcome carried"
            for outcome in sorted(run.OUTCOMES):
                arrows.setdefault((_node(move.status, move.phase), outcome), []).append(event)
        else:
            target = _place(move.to, move.to_phase)
            arrows.setdefault((_node(move.status, move.phase), _node(move.to, move.to_phase)), []).append(event)
        notes = []
        if move.outcome is not None:
            notes.append(
                f"outcome {move.outcome}" + (", unless one is carried" if move.event is run.OutputsExported else "")
            )
        if move.starts_engine:
            notes.append("incarnation + 1")
        rows.append(f"| {origin} | {event} | {target} | {', '.join(notes)} |")
    drawing = ["```mermaid", "stateDiagram-v2", f"    [*] --> {run.RunStatus.PENDING}"]
    drawing += [f"    {origin} --> {target}: {', '.join(events)}" for (origin, target), events in arrows.items()]
    drawing += [f"    {run.RunStatus.DELETED} --> [*]", "```", ""]
    events = [f"| {one.__name__} | {(one.__doc__ or '').splitlines()[0]} |" for one in _events()]
    moves = ["| from | event | to | also |", "|---|---|---|---|", *rows, ""]
    return "\n".join(["## Runs", "", *drawing, *moves, "| event | what has happened |", "|---|---|", *events, ""])


def _task_part() -> str:
    lines = ["## Tasks", "", *_drawn(task.MOVES, begin=task.TaskStatus.PENDING, ends=sorted(task.ENDED))]
    lines += [
        "",
        "A retry is a new task with a new id. The service tries again by itself, unseen by the engine, after: ",
    ]
    lines[-1] += ", ".join(sorted(task.RETRIED_BY_SERVICE)) + ".\n"
    return "\n".join(lines)


def _share_part() -> str:
    drawing = _drawn(share.MOVES, begin=share.ShareStatus.PENDING, ends=[share.ShareStatus.DELETED])
    let_go = ", ".join(sorted(share.LET_GO))
    said = f"A share is *live* unless it is {let_go}: a live one forbids a second with the same subscriber and the workflow's removal."
    return "\n".join(["## Shares", "", *drawing, "", f"{said}\n"])


def _configuration_part() -> str:
    status = configuration.ConfigurationStatus
    return "\n".join(
        ["## Configurations", "", *_drawn(configuration.MOVES, begin=status.CREATING, ends=[status.DELETED]), ""]
    )


def _drawn(moves: Mapping[tuple[str, str], str], *, begin: str, ends: list[str]) -> list[str]:
    """A table of moves as a diagram and as a table."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (status, event), target in moves.items():
        arrows.setdefault((status, target), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {begin}"]
    lines += [f"    {origin} --> {target}: {', '.join(events)}" for (origin, target), events in arrows.items()]
    lines += [f"    {status} --> [*]" for status in ends]
    lines += ["```", "", "| from | event | to |", "|---|---|---|"]
    return [*lines, *(f"| {status} | {event} | {target} |" for (status, event), target in moves.items())]


def _events() -> list[type[run.RunEvent]]:
    seen: dict[type[run.RunEvent], None] = {}
    for move in run.MOVES:
        seen.setdefault(move.event)
    return list(seen)


def _place(status: run.RunStatus, phase: run.RunPhase | None) -> str:
    return f"{status}, {phase}" if phase else str(status)


def _node(status: run.RunStatus, phase: run.RunPhase | None) -> str:
    return f"{status}_{phase}" if phase else str(status)
