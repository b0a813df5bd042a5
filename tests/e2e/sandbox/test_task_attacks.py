"""What tasks try in order to get out: all refused by the sandbox as supervisors make it, and each possible where its layer is missing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attacks
import pytest
from canaries import SYSTEM_PYTHON, Canaries, canaries, setuid_program, with_a_key
from node_world import PLAIN_USER, NodeWorld, new_place, remove_cgroup_parent

pytestmark = pytest.mark.needs("root", "loop", "cgroup", "userns", "bwrap")

HERE = Path(__file__).parent
CODE = Path(attacks.__file__).read_text() + (
    "\nimport json, sys\ntold = json.loads(sys.argv[1])\nprint(json.dumps(outcomes(told['names'], told['targets'])))\n"
)
MOST_PROCESSES = 20


@dataclass
class Prison:
    """A world of supervised attempts, and what lies outside of them."""

    world: NodeWorld
    canaries: Canaries
    shown: Path
    terminal: int

    def attempt(self, names: list[str], layers: tuple[str, ...] = ()) -> dict[str, str]:
        """What becomes of the attempts of one task, with those layers taken away."""
        world, number = self.world, str(len(self.world.processes) + 1)
        other = world.volume / ".scratch" / "other" / "tmp"
        other.mkdir(parents=True, exist_ok=True)
        (other / "secret").write_text(self.canaries.targets["secret"])
        world.give(world.volume)
        setuid_program(world.volume / "w" / "setuid")
        top = str(world.volume) if layers == ("all",) else "/mnt/workflow"
        targets = {
            **self.canaries.targets,
            "own": f"{top}/w",
            "volume": top,
            "inputs": f"{top}/inputs",
            "definition": f"{top}/definition",
            "setuid": f"{top}/w/setuid",
            "read_only": str(self.shown),
        }
        changes: dict[str, Any] = {
            "argv": [SYSTEM_PYTHON, "-I", "-c", CODE, json.dumps({"names": names, "targets": targets})],
            "host_paths": [targets["read_only"]],
            "pids": 4096 if "processes" in layers else MOST_PROCESSES,
        }
        if layers:
            changes["bwrap"] = self._stand_in(number, layers)
        directory = world.prepare("", task_id=number, **changes)
        supervisor = world.supervise(directory, before_exec=self._before_exec)
        assert supervisor.wait(60) == 0
        ended = world.ended(directory)
        assert ended.verdict == ("OK", 0), (ended.result, ended.stderr, ended.runtime_log)
        found: dict[str, str] = json.loads(ended.stdout)
        return found

    def _stand_in(self, number: str, layers: tuple[str, ...]) -> str:
        script = self.world.place / f"bwrap-{number}.py"
        shutil.copy(HERE / "bwrap_without.py", script)
        script.chmod(0o755)
        told = {
            "layers": layers,
            "place": str(self.canaries.place),
            "shown": str(self.shown),
            "bwrap": self.world.spec("", "")["bwrap"],
        }
        script.with_suffix(".json").write_text(json.dumps(told))
        return str(script)

    def _before_exec(self) -> None:
        """In the supervisor-to-be: a terminal, a key and an environment that a task must not have."""
        os.environ["CANARY_KEY"] = "key"
        with_a_key(self.canaries.targets["secret"])
        os.setsid()
        os.open(os.ttyname(self.terminal), os.O_RDWR)


@pytest.fixture(scope="module", params=[False, True], ids=["root", "plain"])
def prison(request: pytest.FixtureRequest) -> Iterator[Prison]:
    world = NodeWorld(new_place(), request.param)
    uid = PLAIN_USER if request.param else 0
    place = new_place()
    # Not below /tmp, which a task has one of its own of.
    shown = Path(tempfile.mkdtemp(prefix="ro-shown-", dir="/var/tmp"))
    os.chown(shown, uid, uid)
    master, slave = os.openpty()
    os.chown(os.ttyname(slave), uid, -1)
    with canaries(place, uid=uid) as made:
        yield Prison(world, made, shown, slave)
    os.close(master)
    os.close(slave)
    world.close()
    shutil.rmtree(place)
    shutil.rmtree(shown)
    remove_cgroup_parent()


def test_there_are_enough_attempts() -> None:
    assert len(attacks.ATTACKS) >= 40


def test_every_attempt_of_a_task_is_refused(prison: Prison) -> None:
    found = prison.attempt(list(attacks.ATTACKS))
    assert sorted(name for name, said in found.items() if said.startswith("succeeded")) == []
    assert sorted(found) == sorted(attacks.ATTACKS)


def test_every_attempt_succeeds_where_its_layer_is_missing(prison: Prison) -> None:
    """Or the test above would say nothing of the sandbox."""
    by_layers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for attack, needed in attacks.LAYERS.items():
        layers = needed[1 if prison.world.plain else 0]
        if layers is not None:
            by_layers[layers].append(attack.__name__)
    refused = {}
    for layers, names in by_layers.items():
        found = prison.attempt(names, layers)
        refused.update({(name, layers): said for name, said in found.items() if said != "succeeded"})
    assert refused == {}
