"""What the command line asks under `/-/`: how far a run is, and what it printed. Server process, pool threads; the edge checks signatures.

An account sees its own runs only; another's read as not found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runomics.domain.run import ENDED as ENDED_RUNS
from runomics.domain.task import ENDED as ENDED_TASKS
from runomics.ports import LogStore, RunStorage
from runomics.store import runs as run_rows
from runomics.store import tasks as task_rows
from runomics.store.database import Store
from runomics.store.runs import RunRow

LOG_LIMIT_BYTES = 1 << 20


class Moved(Protocol):
    """Bytes moved for a run (scheduler.transfer.Progress)."""

    @property
    def imported_bytes(self) -> int: ...

    @property
    def import_total_bytes(self) -> int: ...

    @property
    def exported_bytes(self) -> int: ...

    @property
    def export_total_bytes(self) -> int: ...


class NotFound(Exception):
    """No such run or task in this account."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Looks at runs for their owner. `moved(run directory)` gives the bytes moved for a run."""

    store: Store
    storage: RunStorage
    logs: LogStore
    runs_directory: Path
    moved: Callable[[Path], Moved]

    def progress(self, account: str, run_id: int) -> dict[str, Any]:
        """Bytes imported and exported, storage in use and its peak, in bytes.

        Raises:
            NotFound: no such run.
        """
        run = self._run(account, run_id)
        moved = self.moved(self.runs_directory / run.uuid)
        usage = None if run.status in ENDED_RUNS else self.storage.usage(run.uuid)
        peak_bytes = run.storage_peak_bytes if usage is None else usage.peak_bytes
        return {
            "run": {"id": str(run.id), "uuid": run.uuid, "status": str(run.status), "phase": run.phase},
            "imported_bytes": moved.imported_bytes,
            "import_total_bytes": moved.import_total_bytes,
            "exported_bytes": moved.exported_bytes,
            "export_total_bytes": moved.export_total_bytes,
            "storage_used_bytes": 0 if usage is None else usage.used_bytes,
            "storage_peak_bytes": peak_bytes,
        }

    def log(self, account: str, run_id: int, stream: str, offset: int) -> dict[str, Any]:
        """Lines of `run`, `engine`, `manifest` or `task/<id>` from `offset` on; whether more can come.

        Raises:
            NotFound: no such run, task or stream.
        """
        run = self._run(account, run_id)
        ended = run.status in ENDED_RUNS
        name = f"run/{run.id}"
        if stream == "engine":
            name += "/engine"
        elif stream == "manifest":
            name = f"manifest/run/{run.id}/{run.uuid}"
        elif stream.startswith("task/") and stream.removeprefix("task/").isdecimal():
            ended = self._task_ended(run, int(stream.removeprefix("task/")))
            name += "/" + stream
        elif stream != "run":
            raise NotFound(f"no log stream {stream!r}: ask for run, engine, manifest or task/<id>")
        lines, after = self.logs.read(account, name, offset, LOG_LIMIT_BYTES)
        return {"lines": lines, "offset": after, "ended": ended and after == offset}

    def _run(self, account: str, run_id: int) -> RunRow:
        run = self.store.read(lambda tx: run_rows.find_run(tx, account, run_id))
        if run is None:
            raise NotFound(f"Run {run_id} not found")
        return run

    def _task_ended(self, run: RunRow, task_id: int) -> bool:
        task = self.store.read(lambda tx: task_rows.find_task(tx, run.account, run.id, task_id))
        if task is None:
            raise NotFound(f"Task {task_id} not found in run {run.id}")
        return task.status in ENDED_TASKS
