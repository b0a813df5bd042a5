"""One task attempt from claim to result: a process of its own, forked by the task launcher or run as the body of a batch job.

Order: claim `pid` → cgroup → container → running.json → wait → scratch removed → result.json → cgroup removed. SIGTERM cancels (TERM to
the processes inside, grace, KILL), SIGINT ends at once; both are blocked from before the fork, so none is ever lost. It waits for signals
with a timeout, so an ending is seen at once and nothing is polled. A supervisor that finds the attempt claimed by a dead one sweeps after
it instead.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from typing import Any

from . import bridge, cgroups, claim, linux, local_tmp, mount_view, processes, records, sweep, usage, volume
from . import spec as specs
from .cgroups import Cgroup, Counters, Limits
from .container_process import ROOTFS, ContainerProcess, ImageUnfit
from .mount_view import Namespaces
from .spec import Spec

WATCHED = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
SAMPLE_SECONDS = 0.25
RETRY_KILL_SECONDS = 0.25
RETRY_WRITE_SECONDS = 1.0
REAP_SECONDS = 30.0
LAST_CHARACTERS = 700
"""How much of a failed task's words its record keeps: with the rest of its failure they fit into a statusMessage."""
NO_COMMAND, NO_FILE = "bwrap: execvp ", "executable file `"


def main(directory: str) -> int:
    """Supervise the attempt in `directory` without a launcher."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    return supervise(directory, None)


def supervise(directory: str, namespaces: Namespaces | None) -> int:
    """Supervise the attempt in `directory`, or sweep after a dead supervisor, or leave when a living one has it.

    The WATCHED signals are blocked. `namespaces` are the launcher's, if it has any.
    """
    log = os.open(directory + "/runtime.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir("/")
    linux.become_subreaper()
    if not claim.take(directory):
        return sweep.after_dead_supervisor(directory)
    linux.set_name("task-supervisor")
    try:
        spec = specs.read(directory)
        cgroup = cgroups.open_cgroup(spec.cgroup, spec.cgroup_parent, spec.cgroup_name)
    except (specs.SpecUnreadable, ValueError) as error:
        records.write_result(directory, sweep.result("RUNTIME", message=str(error)))
        return 0
    Attempt(directory, spec, cgroup, namespaces).run()
    return 0


class Attempt:
    """The supervised attempt and what is known of it."""

    def __init__(self, directory: str, spec: Spec, cgroup: Cgroup, namespaces: Namespaces | None) -> None:
        self._directory = directory
        self._spec = spec
        self._cgroup = cgroup
        self._namespaces = namespaces
        self._usage = usage.UsageRecord()
        self._stop: str | None = None
        self._local_tmp: int | None = None
        self._scratch_used_bytes: int | None = None
        self._at_once = False
        self._started_ms: int | None = None

    def run(self) -> None:
        """Run it to its end and write result.json; never raises for what the task or its volume is like."""
        try:
            end = self._attempt()
        except (OSError, volume.Refused, bridge.Refused, ValueError) as error:
            records.complain()
            end = {"reason": "RUNTIME", "message": f"{type(error).__name__}: {error}"}
        except ImageUnfit as error:
            end = {"reason": "IMAGE", "message": str(error)}
        self._cgroup.kill()
        self._reap()
        self._take_last_counters()
        if self._spec.rootfs and self._spec.rootless:
            with contextlib.suppress(OSError):  # it may never have been mounted
                linux.unmount(f"{self._directory}/{ROOTFS}")
        sweep.remove_leftovers(self._directory, self._spec)
        self._write_result({**self._measures(), **end})
        try:
            self._cgroup.remove()
        except OSError:
            records.complain()

    def _write_result(self, members: dict[str, Any]) -> None:
        """On a full disk it waits for room: a task whose end is lost is done again. A wish to end the attempt ends the waiting."""
        while True:
            try:
                records.write_result(self._directory, members)
                return
            except OSError as error:
                if error.errno not in records.NO_ROOM or self._stop == "CANCELLED":
                    raise
                wish = signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, RETRY_WRITE_SECONDS)
                if wish is not None:
                    raise

    def _attempt(self) -> dict[str, Any]:
        """Start the container and wait for it; the members of result.json that say how it ended."""
        self._note_signals(0)
        if self._stop:
            return {"reason": self._stop, "message": "cancelled before it started"}
        spec = self._spec
        self._cgroup.make(Limits(spec.cpus, spec.memory_bytes, spec.pids))
        with bridge.entered(spec.bridge), mount_view.entered(self._namespaces, spec):
            root = volume.open_volume(spec.volume)
            try:
                container = ContainerProcess(self._directory, spec, self._cgroup, root)
            finally:
                os.close(root)
        self._local_tmp = container.local_tmp
        try:
            container.release(self._cgroup)
            self._started_ms = _now_ms()
            records.write_running(self._directory, self._started_ms)
            code = os.waitstatus_to_exitcode(self._wait(container))
            return self._verdict(container, code if code >= 0 else 128 - code)
        finally:
            self._note_local_tmp()
            self._local_tmp = None
            container.close()

    def _wait(self, container: ContainerProcess) -> int:
        """The wait status of bwrap, whatever it takes: limits and wishes are enforced meanwhile."""
        began = time.monotonic()
        limit = self._spec.timeout_seconds
        next_reading = began + usage.EVERY_SECONDS_AT_FIRST
        next_sample = began + SAMPLE_SECONDS if self._cgroup.limits_are_soft else None
        kill_at: float | None = None
        while True:
            pid, status = os.waitpid(container.pid, os.WNOHANG)
            if pid:
                return status
            now = time.monotonic()
            if self._stop is None and limit is not None and now >= began + limit:
                self._stop = "TIMEOUT"
            if next_sample is not None and now >= next_sample:
                next_sample = now + SAMPLE_SECONDS
                self._sample(container)
            if now >= next_reading:
                next_reading = now + usage.seconds_to_next_reading(now - began)
                self._note_local_tmp()
                if next_sample is None:
                    self._usage.take(_now_ms(), self._cgroup.counters())
            if self._stop and kill_at is None:
                told = not self._at_once and self._terminate(container)
                kill_at = now + (self._spec.grace_seconds if told else 0.0)
            if kill_at is not None and (self._at_once or now >= kill_at):
                self._kill(container)
                kill_at = now + RETRY_KILL_SECONDS
            wakes = [next_reading, next_sample, kill_at]
            if limit is not None and not self._stop:
                wakes.append(began + limit)
            self._note_signals(max(0.0, min(wake for wake in wakes if wake is not None) - time.monotonic()))

    def _note_signals(self, timeout_seconds: float) -> None:
        """Wait for a watched signal; take in every one that is pending."""
        info = signal.sigtimedwait(WATCHED, timeout_seconds)
        while info is not None:
            if info.si_signo in (signal.SIGTERM, signal.SIGINT):
                self._stop = self._stop or "CANCELLED"
                self._at_once = self._at_once or info.si_signo == signal.SIGINT
            info = signal.sigtimedwait(WATCHED, 0)

    def _members(self, container: ContainerProcess) -> list[int]:
        return self._cgroup.members() or processes.tree(container.pid)

    def _terminate(self, container: ContainerProcess) -> bool:
        """TERM to the processes inside; whether there were any.

        Not to the runtime's own: bwrap's pid 1 ignores an unhandled TERM, and the other would take all down with it.
        """
        runtime = container.status().own
        inside = [pid for pid in self._members(container) if pid not in runtime]
        processes.send(inside, signal.SIGTERM)
        return bool(inside)

    def _kill(self, container: ContainerProcess) -> None:
        self._cgroup.kill()
        processes.send(processes.tree(container.pid), signal.SIGKILL)

    def _sample(self, container: ContainerProcess) -> None:
        """Look at the processes where no cgroup does: book their use, and stop them when they are over the memory limit."""
        pids = processes.tree(container.pid)
        limit = self._spec.memory_bytes
        used = processes.resident_bytes(pids)
        if limit and used > limit:
            used = processes.proportional_bytes(pids)
            if used > limit:
                self._stop = self._stop or "OOM"
                self._at_once = True
        self._usage.take(_now_ms(), Counters(processes.cpu_seconds(pids), used))

    def _reap(self) -> None:
        """Wait until every process of the container is gone: they are our children or became so."""
        deadline = time.monotonic() + REAP_SECONDS
        while time.monotonic() < deadline:
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            except ChildProcessError:
                return
        sys.stderr.write(f"{REAP_SECONDS} s after the end of the container some of its processes are still there\n")

    def _note_local_tmp(self) -> None:
        if self._local_tmp is not None:
            self._scratch_used_bytes = max(self._scratch_used_bytes or 0, local_tmp.used_bytes(self._local_tmp))

    def _take_last_counters(self) -> None:
        counters = self._cgroup.counters()
        self._oom_kills = counters.oom_kills
        if counters.cpu_seconds is None:
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            counters = counters._replace(cpu_seconds=spent.ru_utime + spent.ru_stime, peak_bytes=spent.ru_maxrss * 1024)
        self._usage.take(_now_ms(), counters._replace(memory_bytes=None))

    def _verdict(self, container: ContainerProcess, exit_code: int) -> dict[str, Any]:
        status = container.status()
        spec = self._spec
        if self._stop == "TIMEOUT":
            return {
                "reason": "TIMEOUT",
                "exit_code": exit_code,
                "message": f"ended at its time limit of {spec.timeout_seconds:g} s",
            }
        if self._stop == "CANCELLED":
            return {"reason": "CANCELLED", "exit_code": exit_code}
        if exit_code == 0:
            return {"reason": "OK", "exit_code": 0}
        if self._stop == "OOM" or self._cgroup.counters().oom_kills:
            return {
                "reason": "OOM",
                "exit_code": exit_code,
                "message": f"ran into its memory limit of {spec.memory_bytes} bytes",
            }
        if not status.reached and exit_code < 128:
            return _never_started(container.own_words(), exit_code)
        return {"reason": "EXIT", "exit_code": exit_code, "message": _last_lines(container.own_words())}

    def _measures(self) -> dict[str, Any]:
        return {
            **sweep.result("RUNTIME"),
            "started_ms": self._started_ms,
            "stopped_ms": _now_ms(),
            "cpu_seconds": round(self._usage.cpu_seconds, 6),
            "peak_memory_bytes": self._usage.peak_bytes,
            "oom_kills": self._oom_kills,
            "limits_are_soft": self._cgroup.limits_are_soft,
            "usage": self._usage.minutes(),
            "scratch_used_bytes": self._scratch_used_bytes,
        }


def _last_lines(words: str) -> str:
    """The end of what the task said on standard error: whole lines, at most LAST_CHARACTERS."""
    if len(words) <= LAST_CHARACTERS:
        return words
    end = words[-LAST_CHARACTERS:]
    return end.partition("\n")[2] or end


def _never_started(words: str, exit_code: int) -> dict[str, Any]:
    """The runtime ended before the command was reached. A command that is not there is the task's fault, as a shell would say."""
    if words.startswith(NO_COMMAND) or (words.startswith(NO_FILE) and "found" in words):
        return {"reason": "EXIT", "exit_code": 126 if words.endswith("Permission denied") else 127, "message": words}
    return {"reason": "RUNTIME", "message": words or f"the container's runtime ended with exit code {exit_code}"}


def _now_ms() -> int:
    return int(time.time() * 1000)
