"""What an image adds to a task: number 5 again, for tasks on the host's root, in an image by bubblewrap, and in one by crun, by turns.

    python benchmarks/image_tasks.py [--rounds 5]

Each kind has a server of its own; the image comes from a registry that is started for the purpose (docker-registry, skopeo).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server import Server, wait_until
from workflows import SCATTER, register, start

WIDTHS = (20, 120)


@dataclass(slots=True)
class Kind:
    """One way to run a task, and what its rounds took: width → seconds of CPU of the service and its tasks, and of time."""

    name: str
    server: Server
    workflow_id: str = ""
    cpu: dict[int, list[float]] = field(default_factory=lambda: {width: [] for width in WIDTHS})
    wall: dict[int, list[float]] = field(default_factory=lambda: {width: [] for width in WIDTHS})

    def per_task(self, figures: dict[int, list[float]]) -> float:
        """Of a task: the least of each width, for others use the machine's caches too."""
        return (min(figures[WIDTHS[1]]) - min(figures[WIDTHS[0]])) / (WIDTHS[1] - WIDTHS[0])


def tree_cpu(root: int) -> float:
    """CPU seconds of a process, of those below it, and of all that these have waited for."""
    fields = Path(f"/proc/{root}/stat").read_text().rsplit(")", 1)[1].split()
    own = sum(int(value) for value in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    children = {
        child for thread in Path(f"/proc/{root}/task").iterdir() for child in (thread / "children").read_text().split()
    }
    return own + sum(tree_cpu(int(child)) for child in children)


def measure(rounds: int) -> list[Kind]:
    """The three kinds, `rounds` times by turns."""
    sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
    from image_registry import registry, userland  # noqa: PLC0415 a registry of the tests, only where it is asked for

    kinds: list[Kind] = []
    with registry() as lab:
        lab.push("bench/tools:1", [userland()])
        settings = {"registry_auth_file": lab.auth_file, "insecure_registries": lab.host}
        try:
            for name, runtime in (("host's root", None), ("image, bubblewrap", "bwrap"), ("image, crun", "crun")):
                more = (
                    {}
                    if runtime is None
                    else {"container_runtime": runtime, "default_image": f"{lab.host}/bench/tools:1"}
                )
                kind = Kind(name, Server(Path(tempfile.mkdtemp(prefix="bench-images-")), settings={**settings, **more}))
                kinds.append(kind)
                kind.server.start()
                kind.workflow_id = register(kind.server.client(), "scatter", SCATTER)
                run(kind, 5)
            for _ in range(rounds):
                for kind in kinds:
                    for width in WIDTHS:
                        cpu, wall = run(kind, width)
                        kind.cpu[width].append(cpu)
                        kind.wall[width].append(wall)
        finally:
            for kind in kinds:
                kind.server.stop()
                shutil.rmtree(kind.server.data, ignore_errors=True)
    return kinds


def run(kind: Kind, width: int) -> tuple[float, float]:
    """CPU seconds of the machine and seconds of time that a scatter of that width took."""
    client: Any = kind.server.client()
    if kind.server.process is None:
        raise RuntimeError("the server was not started")
    before = tree_cpu(kind.server.process.pid)
    run_id = start(client, kind.workflow_id, parameters={"width": width})
    began = time.perf_counter()
    if not wait_until(lambda: client.get_run(id=run_id)["status"] == "COMPLETED", 120, every_seconds=0.05):
        raise RuntimeError(f"{kind.name}: {client.get_run(id=run_id)}")
    return tree_cpu(kind.server.process.pid) - before, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    for kind in measure(parser.parse_args().rounds):
        cpu_ms, seconds = kind.per_task(kind.cpu) * 1000, kind.per_task(kind.wall)
        spread = statistics.median(kind.cpu[WIDTHS[1]]) / min(kind.cpu[WIDTHS[1]])
        print(
            f"{kind.name:20} {cpu_ms:6.1f} ms CPU, {1 / seconds:5.0f} tasks/s   (median / least of CPU: {spread:.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
