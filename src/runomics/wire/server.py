"""The HTTP server under the edge: uvicorn without its clock tick, bound sockets, and a stop that waits for nobody idle. Server process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
"""Of a request line with its headers: the parser itself would collect them without end."""

KEEP_ALIVE_SECONDS = 65
"""How long an idle connection is kept: longer than SDKs wait between two polls, so that they seldom meet a closing one."""

STOP_SECONDS = 5
"""How long requests in progress may take once the server is asked to stop."""

_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"x-amzn-errortype: RequestTooLargeException\r\ncontent-length: 43\r\nconnection: close\r\n\r\n"
    b'{"message":"The request head is too large"}'
)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had; the message names it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(2048)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    bound.setblocking(False)
    return bound


def settle() -> None:
    """Tune this process for serving, once everything is loaded: what exists now is never looked at by the collector again."""
    sys.setswitchinterval(0.0005)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


class HttpServer:
    """One server on bound sockets. `run` blocks until `stop`, or, on the main thread, until SIGTERM or SIGINT."""

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        sockets: Sequence[socket.socket],
        started: Callable[[int], None],
        stop_seconds: int = STOP_SECONDS,
    ) -> None:
        """`started(port)` is called in the loop's thread once connections are accepted, with the first socket's port."""
        self._sockets = list(sockets)
        self._server = _Quiet(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=stop_seconds,
            ),
            started=lambda: started(self._sockets[0].getsockname()[1]),
        )

    def run(self) -> None:
        """Serve. A stop by signal is an ordinary return: what is behind the server can then be closed in order."""
        self._server.run(sockets=self._sockets)

    def stop(self) -> None:
        """Ask for the end, from any thread, once or more often: idle connections close at once."""
        self._server.stop()


class _Quiet(uvicorn.Server):
    """Sleeps until asked to stop: uvicorn's own loop wakes ten times a second for a Date header that is not sent."""

    def __init__(self, config: uvicorn.Config, *, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None
        self._lock = threading.Lock()

    async def main_loop(self) -> None:
        with self._lock:
            self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        self._on_started()
        if not self.should_exit:
            await self._woken.wait()

    def stop(self) -> None:
        self.should_exit = True
        with self._lock:
            if self._loop is not None and self._woken is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._woken.set)

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """A signal handler of the main thread, which also runs the loop: it may interrupt `stop`, so it takes no lock."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        if self._loop is not None and self._woken is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signal once more at the end: that would kill the process before it closes its store."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {name: signal.signal(name, self.handle_exit) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)


class _Protocol(HttpToolsProtocol):
    """Ends a connection whose request head never ends."""

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        head: Any = self.scope
        if head is None or "path" in head:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()
