"""Many runs at once: what live ones that wait for long tasks cost, what queued ones do, and whether short ones keep the machine busy."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from server import Server, wait_until
from workflows import register, start

MIB = 1 << 20
LONG = """version 1.0
task long {
  command <<< sleep 3600 >>>
  output { Int done = 1 }
  runtime { cpu: 1 memory: "1 GiB" }
}
workflow main {
  call long
  output { Int done = long.done }
}
"""
SHORT = """version 1.0
task short {
  command <<< timeout 0.5 sh -c 'while :; do :; done' || true >>>
  output { Int done = 1 }
  runtime { cpu: 1 memory: "1 GiB" }
}
workflow main {
  call short
  output { Int done = short.done }
}
"""
QUEUE_SECONDS = 120.0


def settings(runs: int) -> dict[str, Any]:
    """What a server needs that is to hold so many live runs on a small machine."""
    return {"max_active_runs": runs, "host_cpus": runs + 1, "host_memory_gib": runs + 1}


def waiting_runs(server: Server, runs: int, seconds: float) -> dict[str, Any]:
    """Memory of the engines of `runs` runs (by the slope from a fifth of them on) and CPU of all of the service while they wait."""
    client = server.client()
    workflow_id = register(client, "long", LONG)
    first = max(2, runs // 5)
    began = time.perf_counter()
    _start_until_running(server, workflow_id, 0, first)
    few = _engines_pss_mib(server)
    _start_until_running(server, workflow_id, first, runs)
    started_seconds = time.perf_counter() - began
    threading.Event().wait(3)
    many = _engines_pss_mib(server)
    service = _service(server)
    before = sum(map(_cpu_seconds, service))
    server_before = server.cpu_seconds()
    threading.Event().wait(seconds)
    share = (sum(map(_cpu_seconds, service)) - before) / seconds
    server_share = (server.cpu_seconds() - server_before) / seconds
    return {
        "runs": runs,
        "started_seconds": round(started_seconds, 1),
        "mib_a_run": round((many - few) / (runs - first), 2),
        "server_percent": round(server_share * 100, 2),
        "service_percent": round(share * 100, 2),
    }


def queued_runs(server: Server, queue: Any) -> dict[str, Any]:
    """What the server's memory grows by while `queue()` puts runs into the queue; returns their number with it."""
    before = _pss_mib(_pid(server))
    queued = queue()
    threading.Event().wait(3)
    return {"queued": queued, "grown_mib": round(_pss_mib(_pid(server)) - before, 1)}


def short_runs(server: Server, runs: int) -> dict[str, Any]:
    """`runs` runs of one busy half second each, submitted at once: how busy the machine was, what was swapped."""
    client = server.client()
    workflow_id = register(client, "short", SHORT)
    swapped = _swapped_pages()
    began, idle = time.perf_counter(), _idle_seconds()
    for _ in range(runs):
        start(client, workflow_id)

    def ended() -> bool:
        pages = client.get_paginator("list_runs").paginate(status="COMPLETED")
        return sum(len(page["items"]) for page in pages) >= runs

    done = wait_until(ended, 30 + 2 * runs, every_seconds=0.1)
    seconds = time.perf_counter() - began
    return {
        "runs": runs,
        "done": done,
        "seconds": round(seconds, 1),
        "busy_percent": round(100 * (1 - (_idle_seconds() - idle) / (seconds * (os.cpu_count() or 1))), 1),
        "swapped_pages": _swapped_pages() - swapped,
    }


def _start_until_running(server: Server, workflow_id: str, have: int, wanted: int) -> None:
    client = server.client()
    for _ in range(have, wanted):
        start(client, workflow_id)
    claims = server.data / "attempts"

    def running() -> bool:
        return sum(1 for _ in claims.glob("*/*/running.json")) >= wanted

    if not wait_until(running, QUEUE_SECONDS, every_seconds=0.1):
        raise RuntimeError(f"{wanted} tasks do not all run after {QUEUE_SECONDS} s")


def _pid(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


def _engines_pss_mib(server: Server) -> float:
    """Of all run processes: they claimed their run."""
    return sum(_pss_mib(int(claim.read_text().split()[0])) for claim in server.data.glob("runs/*/pid.*"))


def _service(server: Server) -> list[int]:
    """The server, its launchers, the run processes and the supervisors; not the tasks themselves."""
    found = [int(claim.read_text().split()[0]) for claim in server.data.glob("runs/*/pid.*")]
    found += [int(claim.read_text().split()[0]) for claim in server.data.glob("attempts/*/*/pid")]
    parent = _pid(server)
    children = [
        child
        for thread in Path(f"/proc/{parent}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return [parent, *map(int, children), *found]


def _pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _idle_seconds() -> float:
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return (int(fields[3]) + int(fields[4])) / os.sysconf("SC_CLK_TCK")


def _swapped_pages() -> int:
    counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(counters.get("pswpin", 0)) + int(counters.get("pswpout", 0))
