"""A real server, its files and a boto3 client, for the tests that go from StartRun to outputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seaweedfs_service import seaweedfs
from server import Server, wait_until
from workflows import ENDED, register, start

__all__ = ["seaweedfs"]

SMALL_DISK = {"storage_reserve_gib": 1, "storage_reserve_percent": 0}
"""A test machine's disk may be nearly full."""


@dataclass(slots=True)
class Site:
    """One server on a DATA of its own."""

    server: Server

    @property
    def client(self) -> Any:
        return self.server.client()

    @property
    def data(self) -> Path:
        return self.server.data

    def register(self, text: str, name: str = "test") -> str:
        return register(self.client, name, text)

    def start(self, workflow_id: str, **more: Any) -> str:
        return start(self.client, workflow_id, **more)

    def end_of(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """The run once it has ended."""
        client, found = self.client, {}

        def ended() -> bool:
            found.clear()
            found.update(client.get_run(id=run_id))
            return found["status"] in ENDED

        assert wait_until(ended, seconds, every_seconds=0.02), f"run {run_id} is still {found.get('status')}"
        return found

    def run(self, text: str, *, seconds: float = 60, **more: Any) -> dict[str, Any]:
        """Register and run a WDL text to its end, whatever that is."""
        return self.end_of(self.start(self.register(text), **more), seconds)

    def check_released(self) -> None:
        """A stopped server without open runs holds nothing of the machine: no process, mount, loop device or cgroup."""
        assert wait_until(lambda: not held(self.data), 15, every_seconds=0.05), held(self.data)

    def object(self, uri: str) -> Path:
        """Where an s3:// URI of the folder store lies."""
        return self.data / "objects" / uri.removeprefix("s3://")

    def put(self, uri: str, data: bytes) -> str:
        path = self.object(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return uri

    def outputs(self, run: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.object(run["runOutputUri"]) / "logs" / "outputs.json").read_text())
        return found

    def log(self, run_id: str, name: str) -> list[str]:
        """Lines of a stream's file (run, engine, task-<id>), without their times."""
        file = next((self.data / "logs").glob(f"*/run/{run_id}/{name}.log"))
        return [line.split("\t", 1)[1] for line in file.read_text().splitlines()]


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    """Start servers with settings, on a DATA of their own or on `data`; all are gone at the end."""
    sites: list[Site] = []

    def begin(data: Path | None = None, **settings: Any) -> Site:
        data = data or Path(tempfile.mkdtemp(prefix="ro-e2e-"))
        site = Site(Server(data, settings={**SMALL_DISK, **settings}))
        sites.append(site)
        site.server.start()
        return site

    yield begin
    for site in sites:
        stop_everything(site)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One server shared by the tests of a module."""
    site = Site(Server(Path(tempfile.mkdtemp(prefix="ro-e2e-")), settings=dict(SMALL_DISK)))
    site.server.start()
    yield site
    stop_everything(site)


@pytest.fixture(scope="module")
def site_on() -> Iterator[Callable[[Path], Site]]:
    """A server on a DATA that a module has prepared; stopped, and DATA removed, at the module's end."""
    sites: list[Site] = []

    def make(data: Path) -> Site:
        sites.append(Site(Server(data, settings=dict(SMALL_DISK))))
        sites[-1].server.start()
        return sites[-1]

    yield make
    for site in sites:
        stop_everything(site)


@pytest.fixture
def site_of() -> Iterator[Callable[[Server], Site]]:
    """Sites of servers that a test makes itself; stopped at the end."""
    sites: list[Site] = []

    def make(server: Server) -> Site:
        sites.append(Site(server))
        return sites[-1]

    yield make
    for site in sites:
        stop_everything(site)


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Make ext4 file systems of so many MiB, each in a file of its own; unmounted at the end."""
    places: list[Path] = []

    def make(mebibytes: int) -> Path:
        place = Path(tempfile.mkdtemp(prefix="ro-disk-"))
        places.append(place)
        with (place / "image").open("wb") as image:
            image.truncate(mebibytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(place / "image")], check=True)
        (place / "disk").mkdir()
        subprocess.run(["mount", "-o", "loop", str(place / "image"), str(place / "disk")], check=True)
        return place / "disk"

    yield make
    for place in places:
        subprocess.run(["umount", str(place / "disk")], check=True)
        shutil.rmtree(place)


def stop_everything(site: Site) -> None:
    """Cancel what runs, stop the server, remove DATA. A server that died is started once more to clean up after itself."""
    server = site.server
    if server.process is None or server.process.poll() is not None:
        server.start()
    client = site.client
    live = [run["id"] for run in client.get_paginator("list_runs").paginate().build_full_result()["items"]]
    for run_id in live:
        if client.get_run(id=run_id)["status"] not in ENDED:
            client.cancel_run(id=run_id)
            site.end_of(run_id, 30)
    server.stop()
    site.check_released()
    shutil.rmtree(site.data)


def held(data: Path) -> list[str]:
    """What still has to do with DATA."""
    name = str(data)
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    listed = subprocess.run(["losetup", "-n", "-O", "NAME,BACK-FILE"], capture_output=True, text=True, check=False)
    found += [line for line in listed.stdout.splitlines() if name in line]
    parent = f"runomics-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{parent}")]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            found += [f"{process.name} {command}"] if name in command else []
    return found
