"""The task launcher: a small process with one thread that forks a supervisor for each request and remembers nothing.

It speaks JSON packets over the SEQPACKET socket it was started with (docs/dev/formats.md) and ends when the server closes it;
its supervisors go on. It reaps them, and what they leave behind, as a subreaper. Everything a supervisor needs is imported here,
once: an import in a supervisor would cost its time for every task. Nothing else is: each fork copies the page tables of what is
here, and `threading` and `random` do work of their own in every child (160 page faults, 0.4 ms).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import NoReturn

from . import claim, host_etc, linux, mount_view, supervisor
from .mount_view import Namespaces

PACKET_BYTES = 65536


def main(runs: str, descriptor: int) -> int:
    """Serve requests on the socket `descriptor` until the server is gone. `runs` is the directory in which volumes are mounted."""
    server = socket.socket(fileno=descriptor)
    server.setblocking(True)
    os.set_inheritable(descriptor, False)
    linux.set_name("task-launcher")
    linux.become_subreaper()
    wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("the task launcher has threads; a fork would leave their locks behind")
    namespaces = mount_view.make_ready(runs)
    claim.boot_id()
    gc.collect()
    gc.freeze()
    gc.disable()
    server.send(json.dumps({"ready": os.getpid()}).encode())
    while True:
        _reap()
        readable = select.select([descriptor, wake], [], [])[0]
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        if descriptor not in readable:
            continue
        packet = server.recv(PACKET_BYTES)
        if not packet:
            return 0
        answer = _launch(json.loads(packet), server, (wake, waker), namespaces)
        try:
            server.send(json.dumps(answer).encode())
        except OSError:
            return 0


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _launch(
    request: dict[str, str], server: socket.socket, own: tuple[int, int], namespaces: Namespaces | None
) -> dict[str, str | int]:
    """Fork a supervisor; the answer to the request. Its signals are blocked before it exists, so none can hit it unprepared."""
    with contextlib.suppress(OSError):  # a supervisor that looks itself can tell whose fault it is
        host_etc.recent_look(time.monotonic())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.WATCHED)
    try:
        pid = os.fork()
        if pid == 0:
            _become_supervisor(request["directory"], server, own, namespaces)
    except OSError as error:
        return {"id": request["id"], "error": f"fork: {error.strerror}"}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return {"id": request["id"], "pid": pid, "start_time": claim.start_time(pid)}


def _become_supervisor(
    directory: str, server: socket.socket, own: tuple[int, int], namespaces: Namespaces | None
) -> NoReturn:
    code = 1
    try:
        os.setsid()
        # The launcher's handler of SIGCHLD stays: the signal is blocked for good, and what is executed starts without it.
        signal.set_wakeup_fd(-1)
        server.close()
        os.close(own[0])
        os.close(own[1])
        code = supervisor.supervise(directory, namespaces)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)
