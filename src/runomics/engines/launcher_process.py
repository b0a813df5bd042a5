"""The engine launcher seen from the server: started, started again when it dies, asked. Its methods run on the engine host's thread.

Requests wait until the launcher is ready; what it has not answered when it dies is asked again of the next one.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

_MOST_IN_FLIGHT = 64
"""More could fill both directions of the socket, and each side would wait for the other."""

_MOST_LOG_BYTES = 1 << 20
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG")
"""All that the launcher inherits: engines can read it in /proc/1/environ, and the server's may hold keys."""


@dataclass(slots=True)
class _Asked:
    message: Mapping[str, Any]
    on_answer: Callable[[Mapping[str, Any]], None]
    sent: bool = False


class LauncherProcess:
    """One launcher at a time. Not thread-safe: everything is called on one thread, which also runs `selector`."""

    def __init__(self, selector: selectors.BaseSelector, log_path: Path) -> None:
        self._selector = selector
        self._log_path = log_path
        self._asked: dict[str, _Asked] = {}
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._start_at: float | None = None

    def start(self) -> None:
        """Start a launcher; it reports ready on the selector later."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mode = "ab" if self._log_path.exists() and self._log_path.stat().st_size < _MOST_LOG_BYTES else "wb"
        # -P: the directory the server was started in is no place to import from.
        command = [sys.executable, "-P", "-m", "runomics.engines.launcher", str(theirs.fileno())]
        with theirs, open(self._log_path, mode) as output:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )
        self._socket = ours
        self._start_at = None
        self._selector.register(ours, selectors.EVENT_READ, self._on_readable)

    @property
    def pid(self) -> int | None:
        """The launcher's process, None between two."""
        return None if self._process is None else self._process.pid

    def ask(self, message: Mapping[str, Any], on_answer: Callable[[Mapping[str, Any]], None]) -> None:
        """Send `message` (its `id` is unique) when the launcher is ready; `on_answer` gets what it says."""
        self._asked[str(message["id"])] = _Asked(message, on_answer)
        self._send()

    def forget(self, request_id: str) -> bool:
        """Withdraw a request that was not sent yet; whether it was."""
        asked = self._asked.get(request_id)
        if asked is None or asked.sent:
            return False
        del self._asked[request_id]
        return True

    def seconds_to_wait(self) -> float | None:
        """Until when the selector may sleep before `tick` must be called."""
        return None if self._start_at is None else max(0.0, self._start_at - time.monotonic())

    def tick(self) -> None:
        """Start the next launcher when its time has come."""
        if self._start_at is not None and time.monotonic() >= self._start_at:
            self.start()

    def close(self) -> None:
        """Let the launcher end; run processes live on."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _send(self) -> None:
        if not self._ready or self._socket is None:
            return
        free = _MOST_IN_FLIGHT - sum(asked.sent for asked in self._asked.values())
        for asked in [one for one in self._asked.values() if not one.sent][: max(0, free)]:
            try:
                self._socket.send(json.dumps(asked.message).encode())
            except OSError:
                return  # its end is read on the selector, and everything is asked again
            asked.sent = True

    def _on_readable(self) -> None:
        if self._socket is None:
            return
        try:
            received = self._socket.recv(65536)
        except ConnectionError:
            received = b""
        if not received:
            self._on_death()
            return
        said = json.loads(received)
        if "ready" in said:
            self._ready = True
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            log.info("engines.launcher_ready", pid=said["ready"])
        else:
            asked = self._asked.pop(str(said.get("id")), None)
            if asked is not None:
                asked.on_answer(said)
        self._send()

    def _on_death(self) -> None:
        code = None if self._process is None else self._process.wait()
        log.error(
            "engines.launcher_died", exit_code=code, log=str(self._log_path), again_in_seconds=self._pause_seconds
        )
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
        self._socket, self._process, self._ready = None, None, False
        for asked in self._asked.values():
            asked.sent = False
        self._start_at = time.monotonic() + self._pause_seconds
        self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
