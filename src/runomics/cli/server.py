"""Starting and stopping a server from the command line. Runs in the user's process; the server becomes a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runomics.cli.connection import Connection, Endpoint, NoServer, connect, is_alive, is_listening, read_endpoint
from runomics.settings import Settings, load

START_SECONDS = 60.0
STOP_SECONDS = 60.0
LOG_TAIL_BYTES = 2000


class StopFailed(Exception):
    """The server did not end, or the process is not one of ours."""


def connect_or_start(data: Path) -> tuple[Connection, bool]:
    """The server on `data`, started if none runs; whether it was started now.

    Raises:
        NoServer: it could not be started; the message has the end of its log.
    """
    endpoint = read_endpoint(data)
    if endpoint is not None and is_listening(endpoint):
        return connect(data), False
    start(data)
    return connect(data), True


def start(data: Path, listen: str | None = None) -> int:
    """Start a server on `data` in a session of its own, log in DATA/server.log; its pid once it takes connections.

    Without `listen` it takes the configured address, or a free port when that one is taken.

    Raises:
        NoServer: it ended or did not listen within a minute.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    address = listen or _free_address(load({"data": str(data)}))
    log = data / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "runomics", "serve", "--data", str(data), "--listen", address],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )

    def settled() -> bool:
        endpoint = read_endpoint(data)
        ready = endpoint is not None and endpoint.pid == process.pid and is_listening(endpoint)
        return ready or process.poll() is not None

    in_time = wait_until(settled, START_SECONDS)
    if in_time and process.poll() is None:
        return process.pid
    process.terminate()
    raise NoServer(f"the server did not start; the end of {log}:\n{_tail(log)}")


def stop(endpoint: Endpoint) -> None:
    """End the server. Runs go on without it and are found again by the next one.

    Raises:
        StopFailed: the process is not a runomics server, or did not end in a minute.
    """
    try:
        command = Path(f"/proc/{endpoint.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return
    if b"serve" not in command:
        raise StopFailed(f"process {endpoint.pid} is no runomics server: DATA/endpoint.json is old")
    os.kill(endpoint.pid, signal.SIGTERM)
    if not wait_until(lambda: not is_alive(endpoint.pid), STOP_SECONDS):
        raise StopFailed(f"process {endpoint.pid} did not end within {STOP_SECONDS:.0f} s")


def wait_until(condition: Callable[[], bool], seconds: float, interval_seconds: float = 0.02) -> bool:
    """Ask until `condition` holds; False when `seconds` have passed."""
    pause = threading.Event()
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        pause.wait(interval_seconds)
    return True


def _free_address(settings: Settings) -> str:
    host, port = settings.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return settings.listen.rpartition(":")[0] + ":0"
    return settings.listen


def _tail(log: Path) -> str:
    with log.open("rb") as content:
        content.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        return content.read().decode(errors="replace").strip() or "(empty)"
