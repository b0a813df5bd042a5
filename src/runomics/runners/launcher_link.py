"""The server's end of a task launcher: its process, its socket, what was asked and not yet answered. Owned by the local runner's thread.

A launcher remembers nothing, so everything unanswered is asked again after its death; a supervisor that starts twice for one
attempt leaves again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

log = structlog.get_logger()

PACKET_BYTES = 65536
RESTART_SECONDS = (0.0, 0.1, 0.5, 2.0, 5.0)
KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH")


class LauncherLink:
    """One launcher at a time, started again when it dies. Not thread-safe: one thread calls everything."""

    def __init__(
        self,
        command: list[str],
        error_log: Path,
        *,
        on_answer: Callable[[str, dict[str, Any]], None],
        on_socket: Callable[[socket.socket | None, bool], None],
    ) -> None:
        """`command` gets the socket's number as its last argument. `on_answer(directory, answer)` for each request.

        `on_socket(socket, want_to_send)` whenever another socket, or writability, is to be waited for.
        """
        self._command = command
        self._error_log = error_log
        self._on_answer = on_answer
        self._on_socket = on_socket
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready = False
        self._deaths = 0
        self._start_at: float | None = time.monotonic()
        self._number = 0
        self._unsent: dict[str, str] = {}
        self._unanswered: dict[str, str] = {}

    @property
    def pid(self) -> int | None:
        """The launcher's process id, None while there is none."""
        return self._process.pid if self._process else None

    def request(self, directory: str) -> None:
        """Ask for a supervisor of the attempt in `directory`."""
        self._number += 1
        self._unsent[str(self._number)] = directory
        self.send()

    def seconds_to_start(self) -> float | None:
        """How long until `start_if_due` has something to do; None when a launcher is there."""
        return None if self._start_at is None else max(0.0, self._start_at - time.monotonic())

    def start_if_due(self) -> None:
        """Start a launcher when there is none and the pause after the last death is over."""
        if self._start_at is None or time.monotonic() < self._start_at:
            return
        self._start_at = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs, self._error_log.open("ab") as errors:
                self._process = subprocess.Popen(
                    [*self._command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
                )
        except OSError as error:
            ours.close()
            log.error("runners.launcher_not_started", command=self._command, error=str(error))
            self._wait_after_death()
            return
        self._socket = ours
        self._on_socket(ours, False)

    def send(self) -> None:
        """Send what is unsent, as far as the socket takes it."""
        if self._socket is None or not self._ready:
            return
        try:
            while self._unsent:
                number, directory = next(iter(self._unsent.items()))
                self._socket.send(orjson.dumps({"id": number, "directory": directory}))
                del self._unsent[number]
                self._unanswered[number] = directory
        except BlockingIOError:
            self._on_socket(self._socket, True)
            return
        except OSError:
            return  # its end is read as well
        self._on_socket(self._socket, False)

    def receive(self) -> None:
        """Take in the answers that are there; a closed socket is the launcher's death."""
        with contextlib.suppress(BlockingIOError):
            while self._socket is not None:
                try:
                    packet = self._socket.recv(PACKET_BYTES)
                except ConnectionError:
                    packet = b""
                if not packet:
                    self._died()
                    return
                answer = orjson.loads(packet)
                if "ready" in answer:
                    self._ready = True
                    self.send()
                    continue
                self._deaths = 0
                directory = self._unanswered.pop(answer["id"], None)
                if directory is not None:
                    self._on_answer(directory, answer)

    def close(self) -> None:
        """Let the launcher end, wait for it, and start no other. Supervisors go on."""
        self._start_at = None
        self._let_go()

    def _died(self) -> None:
        code = self._let_go()
        log.warning("runners.launcher_died", exit_code=code, unanswered=len(self._unanswered), log=str(self._error_log))
        self._unsent = {**self._unanswered, **self._unsent}
        self._unanswered = {}
        self._wait_after_death()

    def _let_go(self) -> int | None:
        self._on_socket(None, False)
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._ready = False
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _wait_after_death(self) -> None:
        pause = RESTART_SECONDS[min(self._deaths, len(RESTART_SECONDS) - 1)]
        self._deaths += 1
        self._start_at = time.monotonic() + pause
