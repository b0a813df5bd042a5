"""The client of the gateway alone, in a process of its own: signals, reconnects, lines cut anywhere."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, os, signal, sys, threading
from runomics.engines.gateway_client import *
gateway = Gateway(sys.argv[1], engine="WDL", version="1", incarnation=1, patience_seconds=float(sys.argv[2]))
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(1))
signal.signal(signal.SIGUSR2, lambda number, frame: None)
def terminating(): return bool(stopped)
def say(**what): os.write(1, json.dumps(what).encode() + b"\\n")
"""


class Client:
    """A process that uses the client, and the server's end of its connections."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[str] | None = None
        self.listen()

    def listen(self) -> None:
        (self.directory / "sock").unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.directory / "sock"))
        self.listener.listen(64)
        self.listener.settimeout(20)

    def start(self, code: str, patience: float = 30) -> None:
        program = PROGRAM + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.directory), str(patience)], stdout=subprocess.PIPE, text=True
        )

    def accept(self) -> tuple[socket.socket, list[dict[str, Any]]]:
        """A connection and the two lines it starts with."""
        connection, _ = self.listener.accept()
        connection.settimeout(20)
        return connection, [self.line(connection), self.line(connection)]

    def line(self, connection: socket.socket) -> dict[str, Any]:
        text = b""
        while not text.endswith(b"\n"):
            text += connection.recv(1)
        return dict(json.loads(text))

    def said(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@pytest.fixture
def client(short_path: Path) -> Iterator[Client]:
    made = Client(short_path)
    yield made
    made.listener.close()
    if made.process is not None:
        made.process.kill()
        made.process.wait()
        if made.process.stdout is not None:
            made.process.stdout.close()


SUBMIT = """
end = gateway.submit({"key": "k", "attempt": 1}, terminating)
say(reason=end.reason, code=end.exit_code, message=end.message)
"""
EXITED = b'{"op":"exited","key":"k","attempt":1,"exit_code":3,"reason":"EXIT","message":"m"}\n'


def test_other_tasks_and_other_news_are_not_the_answer(client: Client) -> None:
    client.start(SUBMIT)
    connection, lines = client.accept()
    assert lines == [
        {"op": "hello", "protocol": 1, "engine": "WDL", "version": "1", "incarnation": 1},
        {"op": "submit", "key": "k", "attempt": 1},
    ]
    news = b'{"op":"queued","key":"k","attempt":1}\n{"op":"running","key":"k","attempt":1}\n'
    others = EXITED.replace(b'"k"', b'"other"') + EXITED.replace(b'"attempt":1', b'"attempt":2')
    for byte in news + others + EXITED:
        connection.sendall(bytes([byte]))
    assert client.said() == {"reason": "EXIT", "code": 3, "message": "m"}
    connection.close()


def test_the_same_lines_are_sent_again_after_each_lost_connection(client: Client) -> None:
    client.start(SUBMIT)
    first, lines = client.accept()
    first.close()
    for _ in range(3):
        again, lines_again = client.accept()
        assert lines_again == lines
        again.sendall(EXITED[:20])
        again.close()
    last, _ = client.accept()
    last.sendall(EXITED)
    assert client.said()["reason"] == "EXIT"
    last.close()


def test_a_signal_that_ends_nothing_neither_cancels_nor_spins(client: Client) -> None:
    client.start(SUBMIT + "say(cpu=sum(os.times()[:2]))")
    connection, _ = client.accept()
    before = sum(map(int, Path(f"/proc/{client.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    for _ in range(5):
        os.kill(client.pid, signal.SIGUSR2)
    threading.Event().wait(0.6)
    after = sum(map(int, Path(f"/proc/{client.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    assert after - before <= 5  # hundredths of a second
    connection.sendall(EXITED)
    assert client.said()["reason"] == "EXIT"
    connection.close()


def test_a_signal_that_ends_the_run_wakes_every_waiting_thread(client: Client) -> None:
    client.start(
        """
        def wait(number): say(reason=gateway.submit({"key": str(number), "attempt": 1}, terminating).reason)
        threads = [threading.Thread(target=wait, args=(number,)) for number in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """
    )
    connections = [client.accept()[0] for _ in range(8)]
    started = time.monotonic()
    os.kill(client.pid, signal.SIGUSR2)
    os.kill(client.pid, signal.SIGTERM)
    cancels = sorted(client.line(connection)["op"] for connection in connections)
    answers = [client.said() for _ in range(8)]
    assert cancels == ["cancel"] * 8
    assert answers == [{"reason": "CANCELLED"}] * 8
    assert time.monotonic() - started < 2.0
    for connection in connections:
        connection.close()


def test_a_signal_that_came_to_another_thread_than_the_main_one_ends_the_run_too(client: Client) -> None:
    client.start(
        """
        def wait(): say(reason=gateway.submit({"key": "k", "attempt": 1}, terminating).reason)
        waiting = threading.Thread(target=wait)
        waiting.start()
        threading.Timer(0.3, lambda: signal.pthread_kill(waiting.ident, signal.SIGTERM)).start()
        waiting.join()
        """
    )
    connection, _ = client.accept()
    assert client.line(connection)["op"] == "cancel"
    assert client.said() == {"reason": "CANCELLED"}
    connection.close()


def test_a_run_that_ends_while_the_server_is_away_does_not_wait_for_it(client: Client) -> None:
    client.start("say(up=1)" + SUBMIT)
    assert client.said() == {"up": 1}
    connection, _ = client.accept()
    client.listener.close()
    (client.directory / "sock").unlink()
    connection.close()
    os.kill(client.pid, signal.SIGTERM)
    assert client.said()["reason"] == "CANCELLED"


def test_staging_answers_with_a_path_or_the_servers_refusal(client: Client) -> None:
    client.start(
        """
        say(path=gateway.stage("s3://b/k", terminating))
        try: gateway.stage("s3://b/no", terminating)
        except StageFailed as failed: say(uri=failed.uri, code=failed.code, message=str(failed))
        """
    )
    first, lines = client.accept()
    assert lines[1] == {"op": "stage", "uri": "s3://b/k"}
    first.sendall(
        b'{"op":"staged","uri":"s3://b/other","path":"/no"}\n{"op":"staged","uri":"s3://b/k","path":"/mnt/workflow/inputs/s3/b/k"}\n'
    )
    assert client.said() == {"path": "/mnt/workflow/inputs/s3/b/k"}
    second, _ = client.accept()
    second.sendall(b'{"op":"staged","uri":"s3://b/no","error":"INPUT_URI_NOT_FOUND","message":"gone"}\n')
    assert client.said() == {"uri": "s3://b/no", "code": "INPUT_URI_NOT_FOUND", "message": "gone"}
    first.close()
    second.close()


def test_a_message_over_the_limit_is_refused_before_it_is_sent(client: Client) -> None:
    client.start(
        """
        try: gateway.submit({"key": "k" * 5_000_000, "attempt": 1}, terminating)
        except ValueError as error: say(error=str(error))
        """
    )
    assert "over the limit of 4194304" in client.said()["error"]
