"""The engine's only way out: submits tasks and asks for inputs over /run/gateway/sock. Runs in the run process, on each waiting thread.

One connection carries one request. A lost connection means nothing (the server may be starting again): the request is sent again
until its answer comes, which the server takes as the same request.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PROTOCOL = 1
MOST_LINE_BYTES = 4 * 1024 * 1024

_FIRST_DELAY_SECONDS = 0.02
_LONGEST_DELAY_SECONDS = 0.5
_CANCEL_WAIT_SECONDS = 0.04
"""How long a cancelled task's end is waited for: the server ends the task in any case, the run's own end must not wait for its grace."""

_SPURIOUS_WAIT_SECONDS = 0.25
_NUDGE = signal.SIGURG


class GatewayLost(Exception):
    """The server did not come back, or the run's gateway was deleted: nobody waits for this engine any more."""


class Cancelled(Exception):
    """The run is being ended; the request was given up."""


class StageFailed(Exception):
    """An input cannot be had. `code` is a failureReason of the API."""

    def __init__(self, uri: str, code: str, message: str) -> None:
        super().__init__(message)
        self.uri = uri
        self.code = code


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a submitted task ended; `exit_code` is None when its command never ran. `reason` as in docs/dev/formats.md."""

    reason: str
    exit_code: int | None
    message: str = ""


def _nudge_main_thread() -> None:
    """Let handlers of signals run that came to another thread.

    Of two signals at once the kernel gives the second to any thread. Python runs handlers on the main thread only, which sleeps
    in a lock (miniwdl's queue) and is not interrupted by it: a cancelled run would wait for its tasks for ever.
    """
    signal.pthread_kill(threading.main_thread().ident or 0, _NUDGE)


def _encode(*lines: Mapping[str, Any]) -> bytes:
    encoded = [json.dumps(line).encode() + b"\n" for line in lines]
    longest = max(map(len, encoded))
    if longest > MOST_LINE_BYTES:
        raise ValueError(f"a message to the server of {longest} bytes is over the limit of {MOST_LINE_BYTES}")
    return b"".join(encoded)


class Gateway:
    """The run's gateway. Make it on the main thread: it claims Python's signal wake-up descriptor.

    Args:
        directory: where the server (re)creates `sock`; its deletion ends all waiting.
        patience_seconds: how long the server may be away.
    """

    def __init__(self, directory: str, *, engine: str, version: str, incarnation: int, patience_seconds: float) -> None:
        self._directory = directory
        self._patience_seconds = patience_seconds
        self._hello = {
            "op": "hello",
            "protocol": PROTOCOL,
            "engine": engine,
            "version": version,
            "incarnation": incarnation,
        }
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Any signal makes _woken readable for ever, so it wakes every waiting thread: nobody reads it.
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(_NUDGE, lambda number, frame: None)

    def submit(self, task: Mapping[str, Any], terminating: Callable[[], bool]) -> TaskEnd:
        """Hand over a task (the members of the `submit` line) and wait for its end; cancels it once `terminating()`.

        Raises:
            GatewayLost. ValueError: the task's description is too long.
        """
        which = {"key": task["key"], "attempt": task["attempt"]}

        def answers(line: Mapping[str, Any]) -> bool:
            return line.get("op") == "exited" and all(line.get(name) == value for name, value in which.items())

        try:
            line = self._ask(
                {"op": "submit", **task}, answers, terminating=terminating, cancel={"op": "cancel", **which}
            )
        except Cancelled:
            return TaskEnd(reason="CANCELLED", exit_code=None, message="the run is being ended")
        return TaskEnd(reason=line["reason"], exit_code=line.get("exit_code"), message=line.get("message") or "")

    def stage(self, uri: str, terminating: Callable[[], bool]) -> str:
        """Have the object (or, with a trailing slash, the prefix) `uri` brought to the inputs; its path below /mnt/workflow.

        Raises:
            StageFailed: it cannot be had. Cancelled, GatewayLost.
        """

        def answers(line: Mapping[str, Any]) -> bool:
            return line.get("op") == "staged" and line.get("uri") == uri

        line = self._ask({"op": "stage", "uri": uri}, answers, terminating=terminating, cancel=None)
        if line.get("error"):
            raise StageFailed(uri, line["error"], line.get("message") or f"{uri} cannot be read")
        return str(line["path"])

    def _ask(
        self,
        request: Mapping[str, Any],
        answers: Callable[[Mapping[str, Any]], bool],
        *,
        terminating: Callable[[], bool],
        cancel: Mapping[str, Any] | None,
    ) -> Mapping[str, Any]:
        opening = _encode(self._hello, request)
        delay = _FIRST_DELAY_SECONDS
        lost_since: float | None = None
        while True:
            if terminating():
                raise Cancelled
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
                try:
                    connection.connect(f"{self._directory}/sock")
                    connection.sendall(opening)
                    lost_since, delay = None, _FIRST_DELAY_SECONDS
                    return self._wait(connection, answers, terminating=terminating, cancel=cancel)
                except (ConnectionError, FileNotFoundError, BlockingIOError):
                    pass
            lost_since = lost_since or time.monotonic()
            self._check_patience(lost_since)
            self._sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)

    def _wait(
        self,
        connection: socket.socket,
        answers: Callable[[Mapping[str, Any]], bool],
        *,
        terminating: Callable[[], bool],
        cancel: Mapping[str, Any] | None,
    ) -> Mapping[str, Any]:
        poller = select.poll()  # not select(): a thousand waiting tasks have descriptors above its limit
        poller.register(connection, select.POLLIN)
        poller.register(self._woken, select.POLLIN)
        pending = b""
        timeout_seconds: float | None = None
        given_up_at: float | None = None
        while True:
            ready = dict(poller.poll(None if timeout_seconds is None else timeout_seconds * 1000))
            if self._woken in ready:
                poller.unregister(self._woken)
                # The signal's handler may not have run yet, or was none that ends the run: look again now and then.
                timeout_seconds = 0.001
            elif timeout_seconds is not None:
                timeout_seconds = min(timeout_seconds * 2, _SPURIOUS_WAIT_SECONDS)
            if timeout_seconds is not None and timeout_seconds < _SPURIOUS_WAIT_SECONDS and not terminating():
                _nudge_main_thread()
            if given_up_at is None and terminating():
                if cancel is None:
                    raise Cancelled
                connection.sendall(_encode(cancel))
                given_up_at = time.monotonic() + _CANCEL_WAIT_SECONDS
            if given_up_at is not None:
                timeout_seconds = given_up_at - time.monotonic()
                if timeout_seconds <= 0:
                    raise Cancelled
            if connection.fileno() not in ready:
                continue
            received = connection.recv(65536)
            if not received:
                raise ConnectionResetError
            *lines, pending = (pending + received).split(b"\n")
            for line in map(json.loads, filter(None, lines)):
                if answers(line):
                    return dict(line)

    def _check_patience(self, lost_since: float) -> None:
        try:
            deleted = os.stat(self._directory).st_nlink == 0
        except FileNotFoundError:
            deleted = True
        if deleted:
            raise GatewayLost("the run's gateway was deleted")
        if time.monotonic() - lost_since > self._patience_seconds:
            raise GatewayLost(f"the server was away for more than {self._patience_seconds:g} seconds")

    def _sleep(self, seconds: float) -> None:
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        if poller.poll(seconds * 1000):
            _nudge_main_thread()
            time.sleep(min(seconds, _FIRST_DELAY_SECONDS))  # woken for ever: keep the pace of the retries all the same
