"""What is missing of the sandbox on this host, layer by layer, for a server that is to run nothing without it. At the server's start.

Nothing is ever isolated less than was asked without a word: what cannot be isolated fails. This is about layers without which runs
would still work (limits that are only sampled), and about being told at the start, not by the first run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

from runomics.ports import Finding, StorageCaps

TASK_LAYERS = frozenset({"task container", "task limits (cgroup)", "task limits (cpu)", "task limits (processes)"})
PROBE_SECONDS = 60.0


class SandboxMissing(Exception):
    """At least one layer does not work here. The message names each, what the kernel said, and the cure."""


def require(storage: StorageCaps, task_findings: Iterable[Finding]) -> None:
    """Look at every layer.

    Raises:
        SandboxMissing: one does not work.
    """
    missing = [finding for finding in _engine_findings() if not finding.works]
    missing += [finding for finding in task_findings if finding.name in TASK_LAYERS and not finding.works]
    if not storage.enforces_static:
        missing.append(
            Finding(
                f"run storage {storage.name}",
                works=False,
                detail="it has no hard limits: a run may fill the disk before it is ended",
                remedy="Run the server as root on a host with loop devices and mkfs.xfs, with storage_backend xfs-image.",
            )
        )
    if missing:
        lines = [f"  {finding.name}: {finding.detail}\n    {finding.remedy}" for finding in missing]
        raise SandboxMissing(
            "this host cannot isolate runs, and require_sandbox is true (which it is unless listen is loopback). Missing:\n"
            + "\n".join(lines)
            + "\nMend that (runomics doctor shows the whole picture), or set require_sandbox to false to run without."
        )


def _engine_findings() -> list[Finding]:
    """What engines need, tried in a process of its own: this one has threads and must not fork."""
    command = [sys.executable, "-m", "runomics.sandbox.probe"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False)
    if done.returncode:
        return [Finding("engine sandbox", works=False, detail=done.stderr.decode(errors="replace")[-2000:])]
    return [Finding(**finding) for finding in json.loads(done.stdout)]
