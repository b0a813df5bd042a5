"""What an engine tries in order to get out: all refused by the sandbox of run processes, each possible where its layer is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import attacks
import pytest
from canaries import SYSTEM_PYTHON, Canaries, as_user, canaries, setuid_program, with_a_key

pytestmark = pytest.mark.needs("root", "loop", "userns")

HERE = Path(__file__).parent
SOURCE = HERE.parents[2] / "src" / "runomics"
PLAIN_USER = 12345
ENGINE_USER = 1_879_100_011

NOT_ENGINES = frozenset(
    {
        "read_the_scratch_of_another_task",  # an engine sees the whole volume of its run
        "write_what_is_read_only",  # operators show paths to tasks, not to engines
        "make_what_is_read_only_writable",
        "make_what_is_read_only_writable_by_attributes",
        "trace_the_first_process_of_the_sandbox",  # it is that process
        "type_into_the_terminal",  # it has no /dev/tty
        "read_a_disk_of_the_host",  # its /dev holds five devices by name
        "find_the_services_environment",  # its launcher has no more than five variables
        "fill_the_devices",  # its /dev is part of the frozen root
    }
)

Layers = tuple[str, ...]
CAPABLE, OTHERS, OTHERS_CALLS = attacks.CAPABLE, attacks.OTHERS, attacks.OTHERS_CALLS
DIFFERENT: dict[str, tuple[Layers | None, Layers | None]] = {
    # A service's engine is a user without rights over the processes and shared memory of others.
    "signal_a_process_of_the_host": (OTHERS, ("pid",)),
    "signal_a_process_of_the_host_unseen": (OTHERS, ("pid",)),
    "attach_shared_memory_of_a_process": (("ipc", "capabilities"), ("ipc",)),
    "climb_out_of_a_chroot": (("tree", "capabilities"), ("tree", "capabilities")),
    "read_the_shared_memory_of_the_host": (("tree",), ("tree",)),
    "read_a_key_of_the_service": (("key", "seccomp"), ("key", "seccomp")),
    "run_a_program_that_is_setuid": (("no new privileges", "nosuid", "seccomp"), None),
    "open_the_core_pattern": (("proc", "user"), None),
    # A plain user's engine is alone in one user namespace, which owns its other ones.
    "make_a_user_namespace": (("seccomp",), ("seccomp",)),
    "make_a_user_namespace_by_clone3": (("seccomp",), ("seccomp",)),
    "mount_a_file_system": (CAPABLE, CAPABLE),
    "copy_the_mounts": (CAPABLE, CAPABLE),
    "open_a_file_system": (CAPABLE, CAPABLE),
    "make_a_raw_socket": (("capabilities",), ("capabilities",)),
    "make_a_packet_socket": (CAPABLE, CAPABLE),
}


def layers_of(name: str, *, plain: bool) -> Layers | None:
    """What must be missing for an engine's attempt to succeed; None: it cannot be tried here."""
    needed = DIFFERENT.get(name, attacks.LAYERS[attacks.ATTACKS[name]])[1 if plain else 0]
    return None if needed == attacks.ALL else needed


@dataclass
class Cell:
    """One engine's directories, and what lies outside of them."""

    place: Path
    canaries: Canaries
    plain: bool

    def attempt(self, names: list[str], layers: Layers = ()) -> dict[str, str]:
        """What becomes of the attempts of one engine, with those layers taken away."""
        uid = PLAIN_USER if self.plain else ENGINE_USER
        tree = {
            name: str(self.place / name) for name in ("base", "engine", "volume", "definition", "inputs", "gateway")
        }
        targets = {
            **self.canaries.targets,
            "own": "/mnt/workflow/w",
            "volume": "/mnt/workflow",
            "inputs": "/mnt/workflow/inputs",
            "definition": "/mnt/workflow/definition",
            "setuid": "/mnt/workflow/w/setuid",
            "read_only": "/nowhere",
        }
        told = {
            "tree": {**tree, "uid": uid, "gid": uid},
            "rootless": self.plain,
            "names": names,
            "targets": targets,
            "without": layers,
        }
        command = [
            *as_user(PLAIN_USER if self.plain else 0),
            SYSTEM_PYTHON,
            "-s",
            str(self.place / "lib" / "engine_inside.py"),
        ]
        done = subprocess.run(
            [*command, json.dumps(told)],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.place / "lib")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=lambda: with_a_key(self.canaries.targets["secret"]),
        )
        assert done.returncode == 0, (layers, done.stderr)
        found: dict[str, str] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module", params=[False, True], ids=["root", "plain"])
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    plain: bool = request.param
    place, outside = (Path(tempfile.mkdtemp(prefix="ro-engine-")) for _ in range(2))
    for name in ("base", "engine", "volume/w", "definition", "inputs", "gateway"):
        (place / name).mkdir(parents=True)
    owner = PLAIN_USER if plain else ENGINE_USER
    for path in (place, *place.rglob("*")):
        os.chown(path, owner, owner)
        path.chmod(0o755)
    shutil.copytree(
        SOURCE / "sandbox", place / "lib" / "runomics" / "sandbox", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(SOURCE / "__init__.py", place / "lib" / "runomics")
    for name in ("attacks.py", "engine_inside.py"):
        shutil.copy(HERE / name, place / "lib")
    setuid_program(place / "volume" / "w" / "setuid")
    with canaries(outside, uid=PLAIN_USER if plain else 0) as made:
        yield Cell(place, made, plain)
    shutil.rmtree(place)
    shutil.rmtree(outside)


ENGINES = [name for name in attacks.ATTACKS if name not in NOT_ENGINES]


def test_there_are_enough_attempts() -> None:
    assert len(ENGINES) >= 40
    assert set(attacks.ATTACKS) >= NOT_ENGINES | set(DIFFERENT)


def test_every_attempt_of_an_engine_is_refused(cell: Cell) -> None:
    found = cell.attempt(list(attacks.ATTACKS))
    assert sorted(name for name in ENGINES if found[name].startswith("succeeded")) == []
    allowed = {"read_the_scratch_of_another_task"}
    assert {name for name in NOT_ENGINES - allowed if found[name].startswith("succeeded")} == set()


def test_every_attempt_succeeds_where_its_layer_is_missing(cell: Cell) -> None:
    """Or the test above would say nothing of the sandbox."""
    by_layers: dict[Layers, list[str]] = defaultdict(list)
    for name in ENGINES:
        layers = layers_of(name, plain=cell.plain)
        if layers is not None:
            by_layers[layers].append(name)
    refused = {}
    for layers, names in by_layers.items():
        found = cell.attempt(names, layers)
        refused.update({(name, layers): said for name, said in found.items() if said != "succeeded"})
    assert refused == {}
