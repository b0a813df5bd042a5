"""Attempts run for real by the packed node archive: as root, or as a plain user with the system's Python from a readable place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runomics.runners.local import find_bwrap
from runomics.runners.node_archive import write_archive
from runomics.sandbox import seccomp

PLAIN_USER = 12345
SYSTEM_PYTHON = "/usr/bin/python3"
CGROUP_PARENT = f"runomics-test-{os.getpid()}"
DEADLINE_SECONDS = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again until `condition` holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_SECONDS} s in vain: {what}"
        pause.wait(0.01)


def cgroup_paths(name: str) -> list[Path]:
    """The directories of that name in any tree."""
    return list(Path("/sys/fs/cgroup").glob(f"*/{CGROUP_PARENT}/{name}"))


def remove_cgroup_parent() -> None:
    for path in Path("/sys/fs/cgroup").glob(f"*/{CGROUP_PARENT}"):
        path.rmdir()


@dataclass
class Ended:
    """An attempt that has ended: its result.json, and what it wrote."""

    result: dict[str, Any]
    stdout: bytes
    stderr: bytes
    runtime_log: str

    @property
    def verdict(self) -> tuple[str, int | None]:
        return self.result["reason"], self.result["exit_code"]


@dataclass
class NodeWorld:
    """A run's directories and a user who supervises there."""

    place: Path
    plain: bool
    archive: Path = field(init=False)
    volume: Path = field(init=False)
    inputs: Path = field(init=False)
    definition: Path = field(init=False)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place.chmod(0o755)
        self.archive = write_archive(self.place / "bin")
        self.volume, self.inputs, self.definition = (self.place / name for name in ("volume", "inputs", "definition"))
        for path in (self.volume / "w", self.inputs, self.definition, self.place / "tasks"):
            path.mkdir(parents=True)
        (self.place / "seccomp.bpf").write_bytes(seccomp.program_bytes())
        if self.plain:
            self.give(self.place)

    def give(self, path: Path) -> None:
        """Make the tree the plain user's, when it is one who supervises."""
        if self.plain:
            for each in (path, *path.rglob("*")):
                os.chown(each, PLAIN_USER, PLAIN_USER, follow_symlinks=False)

    def spec(self, task_id: str, script: str, **changes: Any) -> dict[str, Any]:
        return {
            "format": 1,
            "run_uuid": self.place.name,
            "task_id": task_id,
            "try": 1,
            "name": task_id,
            "argv": ["/bin/bash", "-c", script],
            "cwd": "/mnt/workflow/w",
            "stdin": None,
            "stdout": "w/stdout",
            "stderr": "w/stderr",
            "env": {},
            "volume": str(self.volume),
            "inputs": str(self.inputs),
            "definition": str(self.definition),
            "scratch": f".scratch/{task_id}.1",
            "rootfs": None,
            "rootless": self.plain,
            "network": False,
            "seccomp": str(self.place / "seccomp.bpf"),
            "host_etc": str(self.place / "host-etc"),
            "cpus": 1.0,
            "memory_bytes": 256 << 20,
            "pids": 100,
            "timeout_seconds": None,
            "grace_seconds": 5.0,
            "cgroup": "none" if self.plain else "v1",
            "cgroup_parent": CGROUP_PARENT,
            "bwrap": str(find_bwrap()),
            **changes,
        }

    def prepare(self, script: str, task_id: str = "1", **changes: Any) -> Path:
        """An attempt's directory with its spec.json."""
        directory = self.place / "tasks" / f"{task_id}.1"
        directory.mkdir()
        (directory / "spec.json").write_text(json.dumps(self.spec(task_id, script, **changes)))
        self.give(directory)
        return directory

    def supervise(self, directory: Path, before_exec: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
        """Start a supervisor for the attempt."""
        command = [SYSTEM_PYTHON, "-S", "-E", "-I", str(self.archive), "supervise", str(directory)]
        if self.plain:
            user = str(PLAIN_USER)
            command = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs", *command]
        process = subprocess.Popen(command, preexec_fn=before_exec)
        self.processes.append(process)
        return process

    def run(self, script: str, **changes: Any) -> Ended:
        """Supervise an attempt to its end."""
        directory = self.prepare(script, **changes)
        assert self.supervise(directory).wait(DEADLINE_SECONDS) == 0
        return self.ended(directory)

    def ended(self, directory: Path) -> Ended:
        outputs = [self.volume / "w" / name for name in ("stdout", "stderr")]
        return Ended(
            json.loads((directory / "result.json").read_text()),
            *(path.read_bytes() if path.is_file() and not path.is_symlink() else b"" for path in outputs),
            (directory / "runtime.log").read_text(),
        )

    def say(self, text: str) -> str:
        """A shell line that makes `text` appear as a file of the volume, to be waited for."""
        return f"echo > /mnt/workflow/{text}"

    def wait_for(self, text: str) -> None:
        wait_until((self.volume / text).exists, f"{text} in the volume")

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(DEADLINE_SECONDS)
        shutil.rmtree(self.place)


def make_image(target: Path) -> Path:
    """A root with bash and a few programs of this host, small enough to copy."""
    for name in ("bin", "etc", "tmp", "lib64", "usr/bin"):
        (target / name).mkdir(parents=True)
    for name in ("bash", "cat", "ls", "touch", "id"):
        program = shutil.which(name, path="/usr/bin:/bin")
        assert program is not None
        shutil.copy(program, target / "bin" / name)
        for word in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split():
            if word.startswith("/"):
                library = target / word.lstrip("/")
                library.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, library)
    (target / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/bash\n")
    return target


def new_place() -> Path:
    return Path(tempfile.mkdtemp(prefix="ro-node-"))
