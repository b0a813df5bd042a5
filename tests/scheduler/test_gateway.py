"""The engines' door: lines in, batches out, reconnects, bad lines."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runomics.scheduler import gateway as doors
from runomics.scheduler.gateway import LINE_LIMIT_BYTES, Gateway
from runomics.scheduler.submission import Submission


class Desk:
    """Takes everything and remembers it."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, str, int]] = []
        self.cancelled: list[tuple[int, str, int]] = []
        self.staged: list[tuple[int, str]] = []
        self.notes: list[str] = []
        self.changed = threading.Condition()

    def submit(self, submissions: list[tuple[int, Submission]]) -> None:
        self._add(self.taken, [(run, each.key, each.attempt) for run, each in submissions])

    def cancel(self, run_id: int, key: str, attempt: int) -> None:
        self._add(self.cancelled, [(run_id, key, attempt)])

    def stage(self, run_id: int, uri: str) -> None:
        self._add(self.staged, [(run_id, uri)])

    def note(self, run_id: int, message: Mapping[str, Any]) -> None:
        self._add(self.notes, [message["message"]])

    def _add(self, where: list[Any], what: list[Any]) -> None:
        with self.changed:
            where += what
            self.changed.notify_all()

    def wait_for(self, where: list[Any], count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(where) >= count, 5), where


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def gateway(desk: Desk) -> Iterator[Gateway]:
    made = Gateway(desk=desk, stage=desk.stage, note=desk.note)
    made.start()
    yield made
    made.stop()


class Engine:
    """One connection of an engine."""

    def __init__(self, directory: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(str(directory / "sock"))
        self.file = self.socket.makefile("rb")

    def send(self, **message: Any) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def submit(self, key: str, attempt: int = 1) -> None:
        work = f"/mnt/workflow/{key}"
        self.send(op="submit", key=key, attempt=attempt, name=key, argv=["true"], cwd=work)

    def next(self) -> dict[str, Any]:
        line = self.file.readline()
        assert line, "the connection was closed"
        found: dict[str, Any] = json.loads(line)
        return found

    def is_closed(self) -> bool:
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def engine(gateway: Gateway, short_path: Path) -> Iterator[Engine]:
    gateway.open(7, short_path)
    made = Engine(short_path)
    yield made
    made.close()


def test_what_became_of_a_task_goes_to_who_asked(gateway: Gateway, desk: Desk, engine: Engine) -> None:
    engine.send(op="hello", protocol=1, engine="WDL", version="1", incarnation=1)
    engine.submit("a")
    desk.wait_for(desk.taken, 1)
    gateway.tell(7, "b", 1, {"op": "running"})
    gateway.tell(7, "a", 1, {"op": "exited", "exit_code": 0, "reason": "OK", "message": ""})
    assert engine.next() == {"op": "exited", "exit_code": 0, "reason": "OK", "message": "", "key": "a", "attempt": 1}


def test_an_engine_that_connects_again_hears_of_its_task(
    gateway: Gateway, desk: Desk, engine: Engine, short_path: Path
) -> None:
    engine.submit("a")
    desk.wait_for(desk.taken, 1)
    engine.close()
    again = Engine(short_path)
    again.submit("a")
    desk.wait_for(desk.taken, 2)
    gateway.tell(7, "a", 1, {"op": "queued"})
    assert again.next()["op"] == "queued"
    assert desk.cancelled == []
    again.close()


def test_a_cancel_comes_after_the_submit_before_it(desk: Desk, engine: Engine) -> None:
    engine.submit("a")
    engine.send(op="cancel", key="a", attempt=1)
    desk.wait_for(desk.cancelled, 1)
    assert desk.taken == [(7, "a", 1)]


def test_a_bad_submit_is_refused_and_the_connection_lives(desk: Desk, engine: Engine) -> None:
    engine.send(op="submit", key="a", attempt=1, name="a", argv=["true"], cwd="/etc")
    refused = engine.next()
    assert (refused["op"], refused["reason"], refused["key"]) == ("exited", "REFUSED", "a")
    engine.submit("b")
    desk.wait_for(desk.taken, 1)


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b"\xff\xfe\n"])
def test_an_unreadable_line_ends_the_connection(engine: Engine, line: bytes) -> None:
    engine.socket.sendall(line)
    assert engine.is_closed()


def test_a_line_without_end_ends_the_connection(engine: Engine) -> None:
    try:
        engine.socket.sendall(b"x" * (LINE_LIMIT_BYTES + (1 << 20)))
    except (BrokenPipeError, ConnectionResetError):
        return
    assert engine.is_closed()


def test_an_unknown_protocol_ends_the_connection(engine: Engine) -> None:
    engine.send(op="hello", protocol=99, engine="WDL", version="1", incarnation=1)
    assert engine.is_closed()


def test_stages_and_notes_are_passed_on_and_answered(gateway: Gateway, desk: Desk, engine: Engine) -> None:
    engine.send(op="stage", uri="s3://b/k")
    engine.send(op="event", seq=4, kind="note", message="something")
    desk.wait_for(desk.staged, 1)
    desk.wait_for(desk.notes, 1)
    gateway.staged(7, "s3://b/k", {"path": "/mnt/workflow/inputs/s3/b/k"})
    answers = [engine.next(), engine.next()]
    assert {"op": "ack", "seq": 4} in answers
    assert {"op": "staged", "uri": "s3://b/k", "path": "/mnt/workflow/inputs/s3/b/k"} in answers


def test_a_socket_left_by_a_dead_server_is_replaced(gateway: Gateway, desk: Desk, short_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(short_path / "sock"))
    stale.close()
    gateway.open(8, short_path)
    engine = Engine(short_path)
    engine.submit("a")
    desk.wait_for(desk.taken, 1)
    engine.close()


def test_a_closed_door_ends_its_connections(gateway: Gateway, engine: Engine) -> None:
    engine.submit("a")
    gateway.close(7)
    assert engine.is_closed()


def hung_up(connection: socket.socket) -> bool:
    """Whether the server closed it."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_one_run_cannot_take_the_connections_of_all(
    gateway: Gateway, desk: Desk, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "CONNECTIONS_LIMIT", 20)
    for run_id in (1, 2):
        gateway.open(run_id, short_path / str(run_id))
    engines = [Engine(short_path / "1") for _ in range(30)]
    for number, engine in enumerate(engines[:20]):
        engine.submit(f"call-{number}")
    desk.wait_for(desk.taken, 20)
    assert [hung_up(engine.socket) for engine in engines[20:]] == [True] * 10
    other = Engine(short_path / "2")
    other.submit("call-other")
    desk.wait_for(desk.taken, 21)
    engines[0].socket.close()
    engines[0].file.close()
    again = Engine(short_path / "1")
    again.submit("again")
    desk.wait_for(desk.taken, 22)
    for engine in [*engines[1:], other, again]:
        engine.file.close()
        engine.socket.close()


def test_lines_that_never_end_are_held_for_one_run_up_to_a_limit(
    gateway: Gateway, desk: Desk, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "RECEIVED_LIMIT_BYTES", 1 << 20)
    gateway.open(1, short_path)
    engines = [Engine(short_path) for _ in range(3)]
    for engine in engines[:2]:
        engine.socket.sendall(b"x" * (400 << 10))
    with pytest.raises((ConnectionError, TimeoutError)):
        engines[2].socket.sendall(b"x" * (3 << 20))
    # What was held for it is free again.
    engines[0].socket.sendall(b"x" * (200 << 10))
    last = Engine(short_path)
    last.submit("call")
    desk.wait_for(desk.taken, 1)
    for engine in [*engines, last]:
        engine.file.close()
        engine.socket.close()


def test_an_engine_that_says_too_much_is_acknowledged_and_not_written_down(
    gateway: Gateway, desk: Desk, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "NOTES_LIMIT", 3)
    gateway.open(1, short_path)
    engine = Engine(short_path)
    for number in range(6):
        engine.send(op="event", seq=number, message=str(number))
        assert engine.next() == {"op": "ack", "seq": number}
    assert desk.notes == ["0", "1", "2", "The engine has said 3 lines; the rest is left out."]
    engine.file.close()
    engine.socket.close()


def test_a_uri_that_is_no_uri_for_its_length_ends_the_connection(
    gateway: Gateway, desk: Desk, short_path: Path
) -> None:
    gateway.open(1, short_path)
    engine = Engine(short_path)
    engine.send(op="stage", uri="s3://b/" + "x" * 5000)
    assert hung_up(engine.socket)
    assert desk.staged == []
    engine.file.close()
    engine.socket.close()


def test_lines_behind_a_bad_one_are_not_taken(gateway: Gateway, desk: Desk, short_path: Path) -> None:
    gateway.open(1, short_path)
    engine = Engine(short_path)
    engine.socket.sendall(b'[]\n{"op":"cancel","key":"k","attempt":1}\n')
    assert hung_up(engine.socket)
    assert desk.cancelled == []
    engine.file.close()
    engine.socket.close()
