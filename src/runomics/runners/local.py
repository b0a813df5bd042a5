"""The runner for task attempts on this host: what the scheduler calls, from any of its threads. Runs in the server.

The work is done elsewhere: supervisors run attempts, and `supervision` watches supervisors. Truth is in the attempts' directories.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from runomics.ports import Finding, TaskCapacity
from runomics.runners import attempt_files, attempt_memory, bridges
from runomics.runners.live_usage import live_usage
from runomics.runners.node_archive import write_archive
from runomics.runners.node_command import ask_node, find_bwrap, find_crun, node_command
from runomics.runners.supervision import OnEnd, OnRunning, Supervision, send_signal

log = structlog.get_logger()

KILL_SECONDS = 5.0
SWEEP_SECONDS = 15.0
DETECT_SECONDS = 30.0
PROBE_SECONDS = 120.0
SNAPSHOT_DAYS = 60
LEFT_CGROUP_SECONDS = 600.0
"""An empty cgroup of that age is no attempt's: a supervisor enters the one it makes at once."""
HOST_ETC = "host-etc"
RECORDS = "attempts"
"""Below DATA, where it can be memory: the records of attempts, `<run uuid>/<attempt>/`."""
CGROUPS = Path("/sys/fs/cgroup")
MEMORY_LEFT_TO_HOST_BYTES = 2 << 30
DEFAULTS: Mapping[str, Any] = {
    "pids": 4096,
    "grace_seconds": 2.0,
    "timeout_seconds": None,
    "rootfs": None,
    "network": False,
}


class LocalRunner:
    """Implements ports.TaskRunner with bubblewrap and cgroups of this host. `begin` before `start`; callbacks must not call `kill`."""

    def __init__(
        self,
        data_directory: Path,
        *,
        cgroup_parent: str | None = None,
        cpus: float | None = None,
        memory_bytes: int | None = None,
        seccomp_program: Path | None = None,
        bwrap: Path | None = None,
        python: Path | None = None,
        host_paths: Sequence[Path] = (),
        container_runtime: str = "auto",
    ) -> None:
        """What is not given is found: all CPUs, all memory but 2 GiB, the wheel's bubblewrap, this interpreter.

        `seccomp_program` is a compiled filter for every task; `host_paths` are more paths of the host that tasks without an image see.
        """
        self._data = data_directory
        self._cgroup_parent = (
            cgroup_parent or f"runomics-{hashlib.sha256(str(data_directory).encode()).hexdigest()[:8]}"
        )
        self._cpus = cpus or float(len(os.sched_getaffinity(0)))
        self._memory_bytes = memory_bytes or _host_memory_bytes() - MEMORY_LEFT_TO_HOST_BYTES
        self._seccomp_program = seccomp_program
        self._bwrap = bwrap or find_bwrap()
        self._python = python or Path(sys.executable)
        self._host_paths = host_paths
        self._container_runtime = container_runtime
        self._crun = find_crun() if container_runtime != "bwrap" else None
        self._choice: dict[str, str] | None = None
        self._choosing = threading.Lock()
        self._supervision: Supervision | None = None
        self._records: Path | None = None

    def begin(self) -> None:
        """Write the node archive, choose the cgroup driver, start watching and the launcher."""
        _remove_old_snapshots(self._data / HOST_ETC)
        self._records = self._data / RECORDS if attempt_memory.mount(self._data / RECORDS) else None
        command = self._command("launch", str(self._data / "runs"))
        _remove_left_cgroups(self._chosen())
        self._forget_bridges()
        self._supervision = Supervision(command, self._data / "bin" / "task-launcher.log")

    def close(self) -> None:
        """Stop watching and let the launcher end. Supervisors and tasks go on; another runner adopts them."""
        if self._supervision is None:
            return
        self._supervision.close()
        attempt_memory.release(self._data / RECORDS)
        if self._chosen()["driver"] == "v1":
            _remove_cgroups(self._cgroup_parent)
        self._forget_bridges()

    def records(self, run_directory: Path) -> Path:
        """In memory where this user may mount, else `tasks/` in the run's directory (ports.TaskRunner)."""
        return run_directory / "tasks" if self._records is None else self._records / run_directory.name

    def discard(self, run_directory: Path) -> None:
        """Remove the records of a run's attempts."""
        shutil.rmtree(self.records(run_directory), ignore_errors=True)

    def sweep(self, keep: frozenset[str]) -> None:
        """Remove the records of all runs but those whose uuids are in `keep`. What lies in runs' directories goes with those."""
        if self._records is not None:
            for directory in self._records.iterdir():
                if directory.name not in keep:
                    shutil.rmtree(directory, ignore_errors=True)

    def prepare(self, task_directory: Path, spec: Mapping[str, Any]) -> None:
        """Write the attempt's spec.json: `spec`, and what is this runner's to say. May be repeated."""
        choice = self._chosen()
        own: dict[str, Any] = {
            "cgroup": choice["driver"],
            "cgroup_parent": choice["parent"],
            "bwrap": str(self._bwrap),
            "rootless": os.geteuid() != 0,
            "seccomp": None if self._seccomp_program is None else str(self._seccomp_program),
            "host_etc": str(self._data / HOST_ETC),
            "host_paths": [str(path) for path in self._host_paths],
            "runtime": self._container_runtime,
            "crun": self._crun,
        }
        attempt_files.write_spec(task_directory, {**DEFAULTS, **own, **spec})

    def start(self, task_directory: Path, on_running: OnRunning, on_end: OnEnd) -> None:
        """Start, adopt, or report what is there (ports.TaskRunner). Returns at once."""
        self._begun().start(task_directory, on_running, on_end)

    def cancel(self, task_directory: Path) -> None:
        """Ask the attempt's supervisor to cancel it. Returns at once; harmless when nothing runs."""
        self._begun().cancel(task_directory)

    def kill(self, task_directory: Path) -> None:
        """End the attempt now; when this returns, no process of it holds the volume, and none will start. Blocks.

        Who waits for its end is told CANCELLED.

        Raises:
            TimeoutError: processes are still there (they hang in the kernel); try again later.
        """
        supervision = self._begun()
        if supervision.is_this_thread():
            raise RuntimeError("kill waits for the runner's thread; do not call it from a callback")
        if attempt_files.forbid(task_directory):
            supervision.report_forbidden(task_directory)
            return
        claim = attempt_files.read_claim(task_directory)
        process = None if claim is None else attempt_files.open_process(claim)
        if process is not None:
            try:
                _end_supervisor(process)
            finally:
                os.close(process)
        if attempt_files.read_end(task_directory) is not None:
            return
        swept = threading.Event()
        supervision.start(task_directory, _ignore, lambda directory, end: swept.set())
        if not swept.wait(SWEEP_SECONDS):
            raise TimeoutError(f"{task_directory}: what the attempt left is not swept after {SWEEP_SECONDS:g} s")

    def capacity(self) -> TaskCapacity:
        """What this host gives to tasks at once."""
        choice = self._chosen()
        return TaskCapacity(self._cpus, self._memory_bytes, choice["driver"] == "none", choice["why_soft"])

    def live_usage(self, task_directory: Path) -> tuple[float | None, int | None]:
        """(CPU seconds, bytes of memory) of a running attempt; None for what cannot be read now."""
        return live_usage(self._chosen(), f"{task_directory.parent.name}.{task_directory.name}")

    def probe(self) -> list[Finding]:
        """Try containers, overlays and limits on this host, for `doctor`."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = self._command("probe", self._cgroup_parent, str(self._bwrap), str(self._data))
        try:
            findings = ask_node(command, PROBE_SECONDS)
        finally:
            _remove_cgroups(self._cgroup_parent)
        return [Finding(**finding) for finding in findings]

    @property
    def launcher_pid(self) -> int | None:
        """The task launcher's process id, None while there is none."""
        return None if self._supervision is None else self._supervision.launcher_pid

    def _begun(self) -> Supervision:
        if self._supervision is None:
            raise RuntimeError("the local runner has not begun: call begin() first")
        return self._supervision

    def _forget_bridges(self) -> None:
        """Remove the bridges of networks that no task is on, if there ever was one."""
        networks = self._data / bridges.NETWORKS
        if not networks.is_dir():
            return
        try:
            gone = ask_node(self._command("forget", str(networks)), DETECT_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("runners.bridges_not_forgotten", error=str(error))
            return
        log.info("runners.bridges_forgotten", networks=gone)

    def _command(self, *arguments: str) -> list[str]:
        return node_command(self._python, write_archive(self._data / "bin"), *arguments)

    def _chosen(self) -> dict[str, str]:
        """The cgroup driver, its parent, and why limits are soft if they are; found once, by doing."""
        with self._choosing:
            if self._choice is None:
                self._choice = ask_node(self._command("detect", self._cgroup_parent), DETECT_SECONDS)
                log.info("runners.cgroup_driver_chosen", **self._choice)
            return self._choice


def _remove_cgroups(parent: str) -> None:
    """Remove the parent's groups, in whatever hierarchies there are; tasks that go on keep theirs."""
    for group in (*CGROUPS.glob(f"*/{parent}"), CGROUPS / parent):
        with contextlib.suppress(OSError):
            group.rmdir()


def _remove_old_snapshots(directory: Path) -> None:
    """Remove copies of the host's /etc that no task has started with for longer than any task runs."""
    if not directory.is_dir():
        return
    for snapshot in directory.iterdir():
        if time.time() - snapshot.stat().st_mtime > SNAPSHOT_DAYS * 86_400:
            shutil.rmtree(snapshot, ignore_errors=True)


def _remove_left_cgroups(choice: Mapping[str, str]) -> None:
    """Remove the cgroups of supervisors that were killed after they had written their result: nobody sweeps after those."""
    if choice["driver"] not in ("v1", "v2"):
        return
    pattern = f"*/{choice['parent']}/*/" if choice["driver"] == "v1" else f"{choice['parent']}/*/"
    for group in CGROUPS.glob(pattern):
        with contextlib.suppress(OSError):  # one that holds processes is busy
            if time.time() - group.stat().st_mtime > LEFT_CGROUP_SECONDS:
                group.rmdir()


def _end_supervisor(process: int) -> None:
    """Have the supervisor end its attempt at once and wait for it; then end it, whatever it does."""
    for number in (signal.SIGINT, signal.SIGKILL):
        send_signal(process, number)
        if _wait_for_end(process, KILL_SECONDS):
            return
    raise TimeoutError("a task supervisor does not end, not even when killed")


def _wait_for_end(process: int, timeout_seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        return bool(selector.select(timeout_seconds))


def _host_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _ignore(directory: Path, started_ms: int) -> None:
    return
