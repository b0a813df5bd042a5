"""JavaScript of CWL expressions: one confined node for the whole run, started by a small process of its own. Runs in the run process.

The script's `vm` context is no wall: whoever breaks out of it is an ordinary program in the run's sandbox. So node itself is held: no
child processes, no sockets, no signals, no file it could write, a ceiling on memory, and a time limit for each expression.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from cwl_utils.errors import JavascriptException
from cwl_utils.sandboxjs import NodeJSEngine, code_fragment_to_js

from runomics.sandbox import linux, seccomp

HEAP_MIB = 256
MOST_DATA_BYTES = 1 << 30
MOST_ANSWER_BYTES = 64 << 20
IDLE_SECONDS = 5
"""After so long without an expression node ends: a waiting run should not cost its memory."""

_NAMES = ("node", "nodejs")
_OPEN_FILES = 64
_SHOWN_LETTERS = 300
_PROGRAM = """
"use strict";
const vm = require("vm");
let waiting = "", timer = null;
function rest() { clearTimeout(timer); timer = setTimeout(() => process.exit(0), IDLE_MS); timer.unref(); }
process.stdin.setEncoding("utf8");
process.stdin.on("end", () => process.exit(0));
process.stdin.on("data", (part) => {
  waiting += part;
  for (let end = waiting.indexOf("\\n"); end >= 0; end = waiting.indexOf("\\n")) {
    const script = JSON.parse(waiting.slice(0, end));
    waiting = waiting.slice(end + 1);
    let answer;
    try {
      const text = JSON.stringify(vm.runInNewContext(script, {}));
      answer = text === undefined ? {error: "it has no value that JSON could hold"} : {text: text};
    } catch (error) {
      answer = {error: error && error.name ? error.name + ": " + error.message : String(error)};
    }
    process.stdout.write(JSON.stringify(answer) + "\\n");
  }
  rest();
});
rest();
""".replace("IDLE_MS", str(IDLE_SECONDS * 1000))


@functools.cache
def node() -> str | None:
    """The path of the node program on this host, None without one. Looked up in the launcher, where PATH is the host's."""
    for name in _NAMES:
        found = shutil.which(name)
        if found is not None:
            return os.path.realpath(found)
    return None


class Interpreter(NodeJSEngine):
    """Evaluates expressions, one at a time, from any thread. Make it while the process has one thread: it forks."""

    def __init__(self) -> None:
        super().__init__()
        self._program = node()
        self._lock = threading.Lock()
        self._nurse: socket.socket | None = None
        self._running: _Node | None = None

    def start(self) -> None:
        """Get node ready ahead of the first expression; nothing without one, or when it is begun already."""
        if self._program is None or self._nurse is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()  # so that its end is seen
            _be_nurse(theirs, self._program)
        theirs.close()
        self._nurse = ours
        self._running = self._new()

    def eval(self, scan: str, jslib: str = "", timeout: float = 60.0, *_: Any, **__: Any) -> Any:
        """The value of the expression `scan`.

        Raises:
            JavascriptException: it threw, took too long or too much, or there is no node.
        """
        if self._program is None or self._nurse is None:
            raise JavascriptException("JavaScript expressions need node, which this server does not have")
        script = json.dumps(code_fragment_to_js(scan, jslib)).encode() + b"\n"
        with self._lock:
            try:
                answer = self._ask(script, timeout)
            except _Failed as failed:
                raise JavascriptException(f"JavaScript failed: {failed}. The expression is {_shown(scan)}") from None
        return json.loads(answer)

    def _ask(self, script: bytes, timeout: float) -> str:
        rested, self._running = self._running, None
        if rested is not None:
            try:
                answer = rested.ask(script, timeout)
            except _WentToRest:
                rested.close()
            else:
                self._running = rested
                return answer
        fresh = self._new()
        try:
            answer = fresh.ask(script, timeout)
        except _WentToRest:
            fresh.close()
            raise _Failed(
                f"it ended its interpreter, which may have {HEAP_MIB} MiB and start no other process"
            ) from None
        except _TookTooLong:
            fresh.close()
            raise
        self._running = fresh
        return answer

    def _new(self) -> _Node:
        assert self._nurse is not None  # noqa: S101 - start() made it
        script, to_script = os.pipe2(os.O_CLOEXEC)
        from_script, answer = os.pipe2(os.O_CLOEXEC)
        try:
            socket.send_fds(self._nurse, [b"start"], [script, answer])
            said, descriptors, _, _ = socket.recv_fds(self._nurse, 64, 1)
        finally:
            os.close(script)
            os.close(answer)
        if not descriptors:
            os.close(to_script)
            os.close(from_script)
            raise _Failed(f"node could not be started ({said.decode(errors='replace') or 'its starter is gone'})")
        return _Node(to_script, from_script, descriptors[0])


class _Failed(Exception):
    """An expression has no value; the text says why."""


class _TookTooLong(_Failed):
    """Its time was up; node is gone."""


class _WentToRest(Exception):
    """Node ended without an answer."""


class _Node:
    """One node process: pipes to and from it, and a descriptor of it."""

    def __init__(self, to_script: int, from_script: int, process: int) -> None:
        os.set_blocking(to_script, False)
        self._to_script, self._from_script, self._process = to_script, from_script, process

    def ask(self, script: bytes, timeout: float) -> str:
        """The JSON text that the script comes to."""
        deadline = time.monotonic() + timeout
        answer = bytearray()
        poller = select.poll()
        poller.register(self._from_script, select.POLLIN)
        poller.register(self._to_script, select.POLLOUT)
        left = memoryview(script)
        while not answer.endswith(b"\n"):
            ready = dict(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if not ready:
                self._kill()
                raise _TookTooLong(f"it ran for more than {timeout:g} seconds")
            if self._from_script in ready:
                part = os.read(self._from_script, 1 << 16)
                if not part:
                    raise _WentToRest
                answer += part
                if len(answer) > MOST_ANSWER_BYTES:
                    self._kill()
                    raise _TookTooLong(f"its value has more than {MOST_ANSWER_BYTES} bytes")
            if self._to_script in ready:
                try:
                    left = left[os.write(self._to_script, left[: 1 << 16]) :]
                except BrokenPipeError:
                    raise _WentToRest from None
                if not left:
                    poller.unregister(self._to_script)
        said = json.loads(answer)
        if "error" in said:
            raise _Threw(str(said["error"]))
        return str(said["text"])

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """Forget it; it ends when its input does."""
        self._kill()
        for descriptor in (self._to_script, self._from_script, self._process):
            os.close(descriptor)


class _Threw(_Failed):
    """The script threw; node goes on."""


def _be_nurse(requests: socket.socket, program: str) -> NoReturn:
    """Start a node for each request, for ever. Has one thread, so a fork of it is safe whatever the run process is doing."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGURG):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: the kernel removes them
        linux.set_process_name("scripts")
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, 64, 2)
            if not message:
                os._exit(0)
            _start(requests, program, descriptors)
    finally:
        os._exit(1)


def _start(requests: socket.socket, program: str, descriptors: Sequence[int]) -> None:
    child = os.fork()
    if child == 0:
        _be_node(program, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    process = os.pidfd_open(child)
    socket.send_fds(requests, [str(child).encode()], [process])
    os.close(process)


def _be_node(program: str, descriptors: Sequence[int]) -> NoReturn:
    try:
        os.dup2(descriptors[0], 0)
        os.dup2(descriptors[1], 1)
        linux.close_from(3)
        for kind, value in (
            (resource.RLIMIT_DATA, MOST_DATA_BYTES),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, _OPEN_FILES),
        ):
            resource.setrlimit(kind, (value, value))
        seccomp.install_alone()
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        arguments = [f"--max-old-space-size={HEAP_MIB}", "--no-warnings", "--eval", _PROGRAM]
        os.execve(program, [program, *arguments], environment)
    finally:
        os._exit(127)


def _shown(text: str) -> str:
    clean = " ".join(text.split())
    return clean if len(clean) <= _SHOWN_LETTERS else clean[:_SHOWN_LETTERS] + "…"
