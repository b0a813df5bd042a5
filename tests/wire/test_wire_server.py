"""The server process: a free port told, an ordinary return after a signal, no wake-ups while nobody asks."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from runomics.wire.server import HttpServer, bind

PROGRAM = textwrap.dedent(
    """
    from runomics.wire.server import HttpServer, bind, settle

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    server = HttpServer(app, sockets=[bind("127.0.0.1", 0)], started=lambda port: (settle(), print(port, flush=True)))
    server.run()
    print("closed in order", flush=True)
    """
)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def answer(connection: socket.socket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    received = b""
    while not received.endswith(b"ok"):
        piece = connection.recv(4096)
        assert piece
        received += piece
    return received


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_though_connections_are_open(
    process: subprocess.Popen[str], sent: signal.Signals
) -> None:
    port = port_of(process)
    with socket.create_connection(("127.0.0.1", port)) as used, socket.create_connection(("127.0.0.1", port)):
        head = answer(used).partition(b"\r\n\r\n")[0]
        assert head.split(b"\r\n")[1:] == [b"content-length: 2"]
        began = time.monotonic()
        process.send_signal(sent)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 0.6
        assert used.recv(1) == b""
    assert process.stdout is not None
    assert process.stdout.read() == "closed in order\n"


def test_it_sleeps_while_nobody_asks(process: subprocess.Popen[str]) -> None:
    """uvicorn's own loop would wake about ten times in this second."""
    port = port_of(process)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        answer(connection)

    def switches() -> int:
        with open(f"/proc/{process.pid}/status") as status:
            return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)

    def settled() -> int:
        before = -1
        while (now := switches()) != before:
            before = now
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
        return now

    before = settled()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)
    assert switches() - before <= 2


def test_an_address_in_use_is_named() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: "):
            bind("127.0.0.1", port)
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.host\.invalid:1: "):
        bind("no.such.host.invalid", 1)


def test_a_stop_before_the_start_is_kept() -> None:
    async def app(_scope: object, _receive: object, _send: object) -> None:
        return None

    ports: list[int] = []
    server = HttpServer(app, sockets=[bind("127.0.0.1", 0)], started=ports.append)
    server.stop()
    server.stop()
    server.run()
    server.stop()
