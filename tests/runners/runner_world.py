"""A data directory with a run's volume and a real local runner on it, and what its callbacks said."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runomics.ports import TaskEnd
from runomics.runners.local import LocalRunner
from runomics.sandbox import seccomp

CGROUP_PARENT = f"runomics-runner-{os.getpid()}"
DEADLINE_SECONDS = 30.0


@dataclass
class Listener:
    """Everything a runner reported of one attempt, in order."""

    heard: list[str | TaskEnd] = field(default_factory=list)
    running: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def on_running(self, directory: Path, started_ms: int) -> None:
        assert started_ms > 0
        self.heard.append("running")
        self.running.set()

    def on_end(self, directory: Path, end: TaskEnd) -> None:
        self.heard.append(end)
        self.ended.set()

    def end(self) -> TaskEnd:
        """Wait for the end; it must be the last and only one."""
        assert self.ended.wait(DEADLINE_SECONDS), self.heard
        ends = [each for each in self.heard if isinstance(each, TaskEnd)]
        assert len(ends) == 1
        return ends[0]


class RunnerWorld:
    """`runner` may be replaced by a new one on the same data, as a server's restart does."""

    def __init__(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="ro-run-"))
        self.run = self.data / "runs" / self.data.name
        self.volume = self.run / "volume"
        for path in (self.volume / "w", self.run / "inputs", self.data / "definition"):
            path.mkdir(parents=True)
        self.seccomp = self.data / "seccomp.bpf"
        self.seccomp.write_bytes(seccomp.program_bytes())
        self.directories: list[Path] = []
        self.runner = self.new_runner()

    def new_runner(self) -> LocalRunner:
        runner = LocalRunner(self.data, cgroup_parent=CGROUP_PARENT, seccomp_program=self.seccomp)
        runner.begin()
        return runner

    def prepare(self, script: str, **changes: Any) -> Path:
        """An attempt that has its spec.json."""
        number = str(len(self.directories) + 1)
        directory = self.runner.records(self.run) / f"{number}.1"
        self.directories.append(directory)
        spec = {
            "run_uuid": self.data.name,
            "task_id": number,
            "try": 1,
            "name": number,
            "argv": ["/bin/bash", "-c", script],
            "cwd": "/mnt/workflow/w",
            "stdin": None,
            "stdout": f"w/stdout-{number}",
            "stderr": f"w/stderr-{number}",
            "env": {},
            "volume": str(self.volume),
            "inputs": str(self.run / "inputs"),
            "definition": str(self.data / "definition"),
            "scratch": f".scratch/{number}.1",
            "cpus": 1.0,
            "memory_bytes": 256 << 20,
            "grace_seconds": 5.0,
            **changes,
        }
        self.runner.prepare(directory, spec)
        return directory

    def start(self, directory: Path) -> Listener:
        listener = Listener()
        self.runner.start(directory, listener.on_running, listener.on_end)
        return listener

    def wait_for(self, name: str) -> None:
        """Until a task has made `name` in the volume."""
        pause = threading.Event()
        for _ in range(3000):
            if (self.volume / name).exists():
                return
            pause.wait(0.01)
        raise AssertionError(f"no {name} in the volume")

    def supervisor(self, directory: Path) -> int:
        """The pid in the claim."""
        return int((directory / "pid").read_text().split()[0])

    def close(self) -> None:
        for directory in self.directories:
            self.runner.kill(directory)
        self.runner.discard(self.run)
        self.runner.close()
        shutil.rmtree(self.data)
        for path in Path("/sys/fs/cgroup").glob(f"*/{CGROUP_PARENT}"):
            path.rmdir()
