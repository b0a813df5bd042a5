"""A server of the product under measurement, as a process of its own on a fresh DATA, with a boto3 client for what is not timed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

READY_SECONDS = 30.0


def wait_until(condition: Any, seconds: float, *, every_seconds: float = 0.001) -> bool:
    """Whether `condition()` came true in time."""
    pause = threading.Event()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        pause.wait(every_seconds)
    return False


@dataclass(slots=True)
class Server:
    """`runomics serve` on `data`. `core` pins it to one core. `settings` are flags by name.

    `python` is the interpreter's command line, `environment` what it sees in place of ours.
    """

    data: Path
    core: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    python: Sequence[str] = (sys.executable,)
    environment: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    log_from: int = 0

    def start(self) -> float:
        """Start and wait for the first answer; seconds from exec to then."""
        self.data.mkdir(parents=True, exist_ok=True)
        endpoint = self.data / "endpoint.json"
        endpoint.unlink(missing_ok=True)
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        began = time.perf_counter()
        log = (self.data / "server.log").open("ab")
        self.log_from = log.tell()
        # As a user's would: modules are compiled once, not at every start.
        inherited = os.environ if self.environment is None else self.environment
        environment = {name: value for name, value in inherited.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.process = subprocess.Popen(
            [*self.python, "-m", "runomics", "serve", f"--data={self.data}", "--listen=127.0.0.1:0", *flags],
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            preexec_fn=None if self.core is None else lambda: os.sched_setaffinity(0, {self.core}),
        )
        log.close()
        process = self.process

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {(self.data / 'server.log').read_text()[-2000:]}")
            return endpoint.exists()

        if not wait_until(ready, READY_SECONDS):
            raise RuntimeError("the server did not become ready")
        document = json.loads(endpoint.read_text())
        self.port = int(document["url"].rsplit(":", 1)[1])
        return time.perf_counter() - began

    def wait_warm(self) -> None:
        """Until the engine launcher has loaded its engines: for seconds after a start it shares the server's core."""

        def warm() -> bool:
            with (self.data / "server.log").open("rb") as log:
                log.seek(self.log_from)
                return b"engines.launcher_ready" in log.read()

        if not wait_until(warm, READY_SECONDS, every_seconds=0.05):
            raise RuntimeError("the engine launcher did not become ready")

    def stop(self) -> None:
        """SIGTERM and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def wreck(self) -> None:
        """End the server and all its runs at once and remove DATA: for a measurement that leaves thousands of runs open."""
        self.kill()
        for claim in [*self.data.glob("runs/*/pid.*"), *self.data.glob("attempts/*/*/pid")]:
            pid = int(claim.read_text().split()[0])
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed([point for point in points if point.startswith(f"{self.data}/")]):
            subprocess.run(["umount", "--lazy", point], check=False)
        shutil.rmtree(self.data, ignore_errors=True)

    @property
    def keys(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.data / "credentials").read_text())
        return found

    def client(self) -> Any:
        """A boto3 client of this server."""
        keys = self.keys
        return boto3.client(
            "omics",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=keys["access_key_id"],
            aws_secret_access_key=keys["secret_access_key"],
            config=Config(inject_host_prefix=False, retries={"max_attempts": 0}),
        )

    def load_options(self, kind: str, **more: Any) -> dict[str, Any]:
        """What load.py needs to reach this server."""
        keys = self.keys
        return {
            "port": self.port,
            "key_id": keys["access_key_id"],
            "secret": keys["secret_access_key"],
            "kind": kind,
            **more,
        }

    def load(self, kind: str, **more: Any) -> dict[str, Any]:
        """Run load.py against this server on the other core."""
        options = self.load_options(kind, **more)
        if self.core is not None:
            options["core"] = 1 - self.core
        result = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("load.py")), json.dumps(options)],
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def cpu_seconds(self) -> float:
        """User and system seconds of the server process so far."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
