"""miniwdl's own command line as the peer of numbers 4 and 5: tasks as plain processes (bare_miniwdl.py) or in containers of podman."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:16384", "nproc=8192:16384"]
netns = "none"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""Without these limits podman asks for more than some hosts give; without systemd it has no other manager of cgroups."""
ONE_CGROUP_TREE = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
"""crun refuses to work on a host with both versions of cgroups: in a mount namespace of its own it sees one."""


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of time and of CPU, of miniwdl and all that it started."""

    seconds: float
    cpu_seconds: float

    def per_task(self, narrow: Took, tasks: int) -> Took:
        return Took((self.seconds - narrow.seconds) / tasks, (self.cpu_seconds - narrow.cpu_seconds) / tasks)


def plain(text: str, *arguments: str) -> Took:
    """One run without containers."""
    return _run(text, [*arguments], [sys.executable, str(HERE / "bare_miniwdl.py")], {}, "container_backend = plain\n")


class NoPodman(Exception):
    """podman cannot be measured here. The message says why."""


@dataclass(frozen=True, slots=True)
class Podman:
    """podman with a storage of its own in `folder`, which may pull from the plain-http registry at `host`."""

    folder: Path
    host: str
    image: str

    def begin(self) -> None:
        """Write its settings and pull the image.

        Raises:
            NoPodman: it is not here, or does not work here.
        """
        missing = [name for name in ("podman", "crun", "unshare") if shutil.which(name) is None]
        if missing:
            raise NoPodman(f"no {' and no '.join(missing)} here")
        if os.geteuid() != 0:
            raise NoPodman("only root's podman is measured")
        (self.folder / "containers.conf").write_text(CONTAINERS_CONF)
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/graph"\nrunroot = "{self.folder}/run"\n'
        )
        (self.folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{self.host}"\ninsecure = true\n')
        for command in (["pull", self.image], ["run", "--rm", self.image, "/bin/bash", "-c", "true"]):
            done = subprocess.run(
                [*self._alone(), "podman", *command],
                env=self._environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise NoPodman(f"podman {command[0]}: {done.stderr.strip()[-200:]}")

    def run(self, text: str, *arguments: str) -> Took:
        """One run with every task in a container."""
        backend = (
            f'container_backend = podman\n[podman]\nexe = ["podman"]\n'
            f"[task_runtime]\ndefaults = {json.dumps({'docker': self.image})}\n"
        )
        return _run(text, [*arguments], [*self._alone(), sys.executable, "-m", "WDL"], self._environment(), backend)

    def end(self) -> None:
        """Remove the empty cgroups that it leaves in every tree."""
        for group in sorted(Path("/sys/fs/cgroup").glob("*/libpod_parent/**/"), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()

    def _alone(self) -> list[str]:
        return ["unshare", "--mount", "/bin/sh", "-c", ONE_CGROUP_TREE, "sh"]

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{self.folder}/registries.conf",
        }


def _run(text: str, arguments: list[str], miniwdl: list[str], environment: dict[str, str], backend: str) -> Took:
    folder = Path(tempfile.mkdtemp(prefix="bench-bare-"))
    (folder / "main.wdl").write_text(text)
    scheduler = f"[scheduler]\ntask_concurrency = 4\n{backend}"
    (folder / "cfg").write_text(f"{scheduler}[call_cache]\nget = false\nput = false\n")
    command = [*miniwdl, "run", "main.wdl", *arguments, "--cfg", "cfg", "-d", "run/."]
    done = subprocess.run(
        [sys.executable, str(HERE / "reaping.py"), *command],
        cwd=folder,
        env=environment or None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    took = json.loads(done.stdout)
    shutil.rmtree(folder, ignore_errors=True)
    return Took(took["seconds"], took["cpu_seconds"])
