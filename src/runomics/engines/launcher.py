"""The engine launcher: one warm process, one thread, that forks run processes on request. `python -m runomics.engines.launcher FD`.

Miniwdl is imported and its parsers are built before the first request, so a run costs a fork. It decides nothing and remembers nothing;
the server may kill it and start another, run processes do not notice. The end of the socket is its own end.
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
import threading
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from runomics.engines import plan as plans
from runomics.engines import run_process
from runomics.sandbox import linux, tree

_MOST_MESSAGE_BYTES = 65536
_OOM_SCORE = "500"
"""When the host itself runs out of memory, an engine goes before the service."""
NICENESS = 10
_DEFAULT_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)


def serve(server: socket.socket) -> None:
    """Answer requests until the server's end is closed."""
    linux.set_process_name("engine-launcher")
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)  # run processes are grandchildren: they come here to be reaped
    woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    _give_way()
    run_process.warm()
    if threading.active_count() != 1:
        raise RuntimeError(f"the launcher must have one thread to fork safely, it has {threading.enumerate()}")
    gc.collect()
    linux.trim_heap()  # reading schemas and parsers leaves 8 MiB behind
    gc.freeze()
    gc.disable()
    server.send(json.dumps({"ready": os.getpid()}).encode())
    poller = select.poll()
    poller.register(server, select.POLLIN)
    poller.register(woken, select.POLLIN)
    while True:
        _reap()
        ready = dict(poller.poll())
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 512)
        if server.fileno() not in ready:
            continue
        message = server.recv(_MOST_MESSAGE_BYTES)
        if not message:
            return
        answer = _launch(json.loads(message), server)
        try:
            server.send(json.dumps(answer).encode())
        except BrokenPipeError:
            return


def _give_way() -> None:
    """Let the server go first: it answers while engines compute, and while what they need is loaded.

    Linux weighs whole sessions against each other, where it is so set (autogroups), and only within one its processes: so this is
    said once more in each session.
    """
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as file:
        file.write(str(NICENESS))


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _launch(request: Mapping[str, Any], server: socket.socket) -> dict[str, Any]:
    """Fork twice; the second child, pid 1 of new namespaces, serves the request. Its pid and start time are the answer."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    first = os.fork()
    if first == 0:
        _first_child(request, server, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as report:
        said = report.read().decode(errors="replace")
    os.waitpid(first, 0)
    if not said.isdigit():
        return {"id": request["id"], "error": said or "the launcher's child died"}
    # Looked up here and not in the child: it shares a mount namespace with its own child, which takes /proc away.
    return {"id": request["id"], "pid": int(said), "start_time": linux.start_time(int(said)) or 0}


def _first_child(request: Mapping[str, Any], server: socket.socket, writer: int) -> NoReturn:
    try:
        os.setsid()
        _give_way()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write(_OOM_SCORE)
        signal.set_wakeup_fd(-1)
        for number in _DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # Blocked until the run process listens: pid 1 of a pid namespace loses a signal that nothing handles.
        signal.pthread_sigmask(signal.SIG_SETMASK, run_process.STOP_SIGNALS)
        server.close()
        tree.enter_namespaces(rootless=os.geteuid() != 0)
        second = os.fork()
        if second == 0:
            os.close(writer)
            _second_child(request)
        os.write(writer, str(second).encode())
    except BaseException as error:
        os.write(writer, f"{type(error).__name__}: {error}".encode()[:1000])
    finally:
        os._exit(0)


def _second_child(request: Mapping[str, Any]) -> NoReturn:
    code = 70
    try:
        match request["kind"]:
            case "run":
                code = run_process.run(request["plan"])
            case "inspect":
                code = run_process.inspect(request["request"])
            case kind:
                raise ValueError(f"unknown kind of request {kind!r}")
    except plans.UnreadablePlan as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Entry point: argv[1] is the number of the inherited socket."""
    with socket.socket(fileno=int(sys.argv[1])) as server:
        server.set_inheritable(False)
        serve(server)


if __name__ == "__main__":
    main()
