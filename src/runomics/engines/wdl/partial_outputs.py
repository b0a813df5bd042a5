"""What the finished tasks of a run leave that was ended by a time limit: their output files, for export. Runs in the run process.

Source: guide (outputs of tasks that had completed are exported when a task or run times out); assumed (where they lie: below the call's
name).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runomics.engines import outcome as outcomes
from runomics.engines.outcome import Outcome

CALL = "call-"


def with_finished(ended: Outcome, workdir: str) -> Outcome:
    """The outcome with the outputs of finished tasks, when a time limit may be why it ended; as it is, when not."""
    timed_out = ended.failure is not None and ended.failure.task_reason == "TIMEOUT"
    if not timed_out and ended.status != outcomes.CANCELLED:
        return ended
    return replace(ended, exports=list(_exports(workdir, workdir)))


def _exports(directory: str, workdir: str) -> Iterator[dict[str, Any]]:
    """Of the calls below `directory`: miniwdl writes a call's outputs.json and links its outputs below out/ when it has succeeded."""
    for name in sorted(os.listdir(directory)):
        call = os.path.join(directory, name)
        if not name.startswith(CALL) or os.path.islink(call) or not os.path.isdir(call):
            continue
        if not os.path.exists(os.path.join(call, "command")):
            yield from _exports(call, workdir)  # a sub-workflow
        elif os.path.exists(os.path.join(call, "outputs.json")):
            yield from _files(call, workdir)


def _files(call: str, workdir: str) -> Iterator[dict[str, Any]]:
    out = os.path.join(call, "out")
    shown = "/".join(part.removeprefix(CALL) for part in os.path.relpath(call, workdir).split("/"))
    for directory, directories, files in os.walk(out):
        directories.sort()
        inside = os.path.relpath(directory, out)
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        for name in sorted([*files, *links]):
            source = os.path.join(directory, name)
            target = os.path.normpath(f"out/{shown}/{inside}/{name}")
            yield {"source": source, "target": target, "directory": os.path.isdir(source)}
