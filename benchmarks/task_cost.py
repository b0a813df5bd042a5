"""What a task costs (numbers 5 and 17): scatters of `true`, a wide and a narrow one by turns, the difference divided by their tasks.

    python benchmarks/task_cost.py [--rounds 3] [--width 220] [--kinds host,bwrap,crun]

CPU is counted by process: the server, its launchers, and all that these started and waited for, engines by themselves. So what else the
machine does is not in it, though it makes each of them slower. Each kind has a server of its own; the images come from a registry that
is started for the purpose (docker-registry, skopeo). A round measures every kind.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server import Server, wait_until
from workflows import SCATTER, register, start

NARROW = 20
IMAGE = "bench/tools:1"
TASK_LAUNCHER = b".pyz\0launch\0"
WATCH_SECONDS = 0.25
"""How often the run is asked whether it is over: each time costs the server, the narrow scatter as well as the wide one."""
NAMES = {"host": "on the host's root", "bwrap": "in an image, bubblewrap", "crun": "in an image, crun"}


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: of time; of CPU of the whole machine, of the server, of engines, and of the task launcher, supervisors and containers."""

    wall: float
    machine: float
    server: float
    engines: float
    tasks: float

    @property
    def service(self) -> float:
        """All but the engines."""
        return self.server + self.tasks

    def per_task(self, narrow: Spent, tasks: int) -> Spent:
        """Of each of the `tasks` by which this scatter was wider than the narrow one."""
        return Spent(*((own - other) / tasks for own, other in zip(_values(self), _values(narrow), strict=True)))


@dataclass(slots=True)
class Kind:
    """One way to run a task, and what a task took in each round."""

    name: str
    server: Server
    workflow_id: str = ""
    rounds: list[Spent] = field(default_factory=list)

    def median(self) -> Spent:
        """Of the rounds, each member by itself."""
        return Spent(*(statistics.median(values) for values in zip(*map(_values, self.rounds), strict=True)))


def _values(spent: Spent) -> tuple[float, float, float, float, float]:
    return spent.wall, spent.machine, spent.server, spent.engines, spent.tasks


def own_cpu(pid: int) -> float:
    """CPU seconds of a process itself, all its threads."""
    return sum(_times(pid)[:2]) / os.sysconf("SC_CLK_TCK")


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process, of those below it, and of all that these have waited for."""
    return sum(_times(pid)) / os.sysconf("SC_CLK_TCK") + sum(tree_cpu(child) for child in children(pid))


def machine_cpu() -> float:
    """Busy CPU seconds of the whole machine."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    busy = sum(int(value) for index, value in enumerate(fields[:8]) if index not in (3, 4))
    return busy / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that it started, or took over, and has not waited for."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _times(pid: int) -> list[int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return [0, 0, 0, 0]
    return [int(value) for value in fields[11:15]]


def _now(server_pid: int) -> Spent:
    machine, own = machine_cpu(), own_cpu(server_pid)
    engines = tasks = 0.0
    for child in children(server_pid):
        if TASK_LAUNCHER in Path(f"/proc/{child}/cmdline").read_bytes():
            tasks += tree_cpu(child)
        else:
            engines += tree_cpu(child)
    return Spent(time.perf_counter(), machine, own, engines, tasks)


def run(kind: Kind, width: int) -> Spent:
    """What a scatter of that width took.

    Raises:
        RuntimeError: it did not end COMPLETED.
    """
    client: Any = kind.server.client()
    if kind.server.process is None:
        raise RuntimeError("the server was not started")
    pid = kind.server.process.pid
    before = _now(pid)
    run_id = start(client, kind.workflow_id, parameters={"width": width})
    ended = wait_until(lambda: client.get_run(id=run_id)["status"] == "COMPLETED", 300, every_seconds=WATCH_SECONDS)
    if not ended:
        raise RuntimeError(f"{kind.name}: {client.get_run(id=run_id)}")
    found = client.get_run(id=run_id)
    wall = (found["stopTime"] - found["startTime"]).total_seconds()
    # Its engine, and the supervisors of its last tasks, are waited for a moment after its end.
    wait_until(lambda: not any(map(children, children(pid))), 5, every_seconds=0.02)
    spent = _now(pid).per_task(before, 1)
    return Spent(wall, *_values(spent)[1:])


@contextlib.contextmanager
def served(kinds: Sequence[str], settings: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Kind]]:
    """A server for each kind, with its settings, which has run a few tasks already."""
    made: list[Kind] = []
    try:
        for name in kinds:
            server = Server(Path(tempfile.mkdtemp(prefix="bench-tasks-")), settings=dict(settings[name]))
            kind = Kind(NAMES[name], server)
            made.append(kind)
            server.start()
            kind.workflow_id = register(server.client(), "scatter", SCATTER)
            run(kind, 5)
        yield made
    finally:
        for kind in made:
            kind.server.stop()
            shutil.rmtree(kind.server.data, ignore_errors=True)


@contextlib.contextmanager
def image_settings() -> Iterator[dict[str, dict[str, Any]]]:
    """The settings of each kind while a registry with an image runs."""
    sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
    from image_registry import layer, link, registry, userland  # noqa: PLC0415 a registry of the tests, only where it is asked for

    with registry(login=None) as lab:
        # miniwdl's own containers begin with /bin/sh.
        lab.push(IMAGE, [userland(), layer(link("bin/sh", "bash"))])
        image = {"insecure_registries": lab.host, "default_image": f"{lab.host}/{IMAGE}"}
        yield {
            "host": {},
            "bwrap": {**image, "container_runtime": "bwrap"},
            "crun": {**image, "container_runtime": "crun"},
        }


def has_registry() -> bool:
    """Whether images can be had here."""
    return shutil.which("docker-registry") is not None and shutil.which("skopeo") is not None


def measure(
    kinds: Sequence[str], *, rounds: int, width: int, between: Callable[[str | None], None] | None = None
) -> list[Kind]:
    """Those kinds, `rounds` times by turns. `between` is called in the middle of them with the registry's host, if there is one."""
    needs_image = any(name != "host" for name in kinds)
    with contextlib.ExitStack() as held:
        settings = held.enter_context(image_settings()) if needs_image else {"host": {}}
        made = held.enter_context(served(kinds, settings))
        for number in range(rounds):
            for kind in made:
                narrow = run(kind, NARROW)
                kind.rounds.append(run(kind, width).per_task(narrow, width - NARROW))
            if between is not None and number == rounds // 2:
                between(settings.get("bwrap", {}).get("insecure_registries"))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=220)
    parser.add_argument("--kinds", default="host,bwrap,crun")
    options = parser.parse_args()
    for kind in measure(options.kinds.split(","), rounds=options.rounds, width=options.width):
        each = kind.median()
        print(
            f"{kind.name:26} {1000 * each.service:5.1f} ms CPU (server {1000 * each.server:.1f}, tasks {1000 * each.tasks:.1f}); "
            f"engine {1000 * each.engines:.1f}, machine {1000 * each.machine:.1f}; {1 / each.wall:.0f} tasks/s"
        )
    print("load average", " ".join(f"{value:.1f}" for value in os.getloadavg()), "on", os.cpu_count(), "cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
