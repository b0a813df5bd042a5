"""The engines' only way out: one Unix socket per run, JSON lines, one thread for all of them. Runs in the server.

A run is known by the place of its socket. A closed connection cancels nothing; an engine that connects again sends its open work again.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from runomics.scheduler.submission import InvalidSubmission, Submission, parse

log = structlog.get_logger()

PROTOCOL = 1
LINE_LIMIT_BYTES = 4 << 20
UNSENT_LIMIT_BYTES = 16 << 20
UNREAD_BYTES, UNSENT_LIMIT_OF_RUN_BYTES = 1 << 20, 64 << 20
RECEIVED_LIMIT_BYTES = 64 << 20
"""What all connections of one run may hold of lines that have not ended."""
CONNECTIONS_LIMIT = 2048
"""Of one run. Without it an engine could take every descriptor of the server, and no other run would be heard."""
NOTES_LIMIT = 20_000
"""Lines of an engine in its run's log, which lies on the server's disk; the rest is acknowledged and left out."""
URI_LIMIT, URIS_LIMIT = 4096, 100_000
BACKLOG = 1024


class TaskDesk(Protocol):
    """Who takes in tasks (scheduler.tasks.Tasks)."""

    def submit(self, submissions: list[tuple[int, Submission]]) -> None: ...

    def cancel(self, run_id: int, key: str, attempt: int) -> None: ...


class StageDesk(Protocol):
    """Who fetches inputs named at run time, or says which there are. Answers through `Gateway.staged` or `Gateway.listed`."""

    def __call__(self, run_id: int, uri: str) -> None: ...


@dataclass(slots=True, eq=False)
class _Connection:
    run_id: int
    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    counted_bytes: int = 0
    unsent: bytearray = field(default_factory=bytearray)
    writable_wanted: bool = False
    tasks: set[tuple[str, int]] = field(default_factory=set)
    uris: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Door:
    """A run's listening socket and who came through it."""

    run_id: int
    listener: socket.socket
    connections: set[_Connection] = field(default_factory=set)
    received_bytes: int = 0
    notes: int = 0


class Gateway:
    """All doors, served by one thread. `open`, `close`, `tell`, `staged` and `listed` may be called from any thread."""

    def __init__(
        self,
        *,
        desk: TaskDesk,
        stage: StageDesk,
        note: Callable[[int, Mapping[str, Any]], None],
        listing: StageDesk | None = None,
    ) -> None:
        self._desk = desk
        self._stage = stage
        self._listing = listing
        self._note = note
        self._selector = selectors.DefaultSelector()
        self._doors: dict[int, _Door] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wakes)
        self._stopping = False
        self._submitted: list[tuple[int, Submission]] = []
        self._thread = threading.Thread(target=self._serve, name="gateway", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and end the thread. Engines wait for the next server."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        for door in list(self._doors.values()):
            self._shut(door)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def open(self, run_id: int, directory: Path) -> None:
        """Bind `directory`/sock for the run, replacing what a dead server left there. Idempotent; engines may connect on return."""
        if run_id in self._doors:
            return
        directory.mkdir(parents=True, exist_ok=True)
        listener = _bind(directory)
        door = _Door(run_id, listener)
        self._doors[run_id] = door
        self._call(lambda: self._register(door))

    def close(self, run_id: int) -> None:
        """Close the run's door. Idempotent."""
        door = self._doors.pop(run_id, None)
        if door is not None:
            self._call(lambda: self._shut(door))

    def tell(self, run_id: int, key: str, attempt: int, message: Mapping[str, Any]) -> None:
        """Send what became of a task to whoever of the run asked for it."""
        line = orjson.dumps({**message, "key": key, "attempt": attempt}) + b"\n"
        self._call(lambda: self._send_task(run_id, (key, attempt), line, ends=message.get("op") == "exited"))

    def staged(self, run_id: int, uri: str, message: Mapping[str, Any]) -> None:
        """Send what became of a stage request."""
        line = orjson.dumps({"op": "staged", "uri": uri, **message}) + b"\n"
        self._call(lambda: self._send_uri(run_id, uri, line))

    def listed(self, run_id: int, uri: str, message: Mapping[str, Any]) -> None:
        """Send which objects there are."""
        line = orjson.dumps({"op": "listed", "uri": uri, **message}) + b"\n"
        self._call(lambda: self._send_list(run_id, uri, line))

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _call(self, function: Callable[[], None]) -> None:
        self._calls.append(function)
        if threading.current_thread() is not self._thread:
            self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return

    def _drain_wakes(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            return

    def _serve(self) -> None:
        while not self._stopping:
            for key, events in self._selector.select():
                try:
                    self._dispatch(key, events)
                except Exception:
                    log.exception("gateway.event_failed")
            self._hand_over()
            self._run_calls()

    def _dispatch(self, key: selectors.SelectorKey, events: int) -> None:
        data = key.data
        if isinstance(data, _Door):
            self._accept(data)
            return
        if not isinstance(data, _Connection):
            data()
            return
        if events & selectors.EVENT_WRITE:
            self._flush(data)
        if events & selectors.EVENT_READ:
            self._receive(data)

    def _run_calls(self) -> None:
        while self._calls:
            function = self._calls.popleft()
            try:
                function()
            except Exception:
                log.exception("gateway.call_failed")

    def _hand_over(self) -> None:
        """Give everything submitted in this round to the desk as one batch."""
        if not self._submitted:
            return
        batch, self._submitted = self._submitted, []
        try:
            self._desk.submit(batch)
        except Exception:
            log.exception("gateway.submit_failed", tasks=len(batch))
            for run_id in {run_id for run_id, _ in batch}:
                self._drop_all(run_id)

    def _register(self, door: _Door) -> None:
        self._selector.register(door.listener, selectors.EVENT_READ, door)

    def _accept(self, door: _Door) -> None:
        while True:
            try:
                client, _ = door.listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                log.error("gateway.accept_failed", run_id=door.run_id, error=str(error))
                return
            if len(door.connections) >= CONNECTIONS_LIMIT:
                log.warning("gateway.too_many_connections", run_id=door.run_id)
                client.close()
                continue
            client.setblocking(False)
            connection = _Connection(door.run_id, client)
            door.connections.add(connection)
            self._selector.register(client, selectors.EVENT_READ, connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        while (end := connection.received.find(b"\n")) >= 0:
            line = bytes(connection.received[:end])
            del connection.received[: end + 1]
            self._take_line(connection, line)
        door = self._doors.get(connection.run_id)
        if door is None or connection not in door.connections:
            return
        door.received_bytes += len(connection.received) - connection.counted_bytes
        connection.counted_bytes = len(connection.received)
        if len(connection.received) > LINE_LIMIT_BYTES or door.received_bytes > RECEIVED_LIMIT_BYTES:
            log.warning("gateway.line_too_long", run_id=connection.run_id)
            self._drop(connection)

    def _take_line(self, connection: _Connection, line: bytes) -> None:
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            log.warning("gateway.line_unreadable", run_id=connection.run_id)
            self._drop(connection)
            return
        op = message.get("op")
        if op == "submit":
            self._take_submit(connection, message)
        elif op == "cancel":
            self._hand_over()
            self._desk.cancel(connection.run_id, str(message.get("key")), _int(message.get("attempt")))
        elif op == "stage":
            uri = str(message.get("uri"))
            if len(uri) > URI_LIMIT or len(connection.uris) >= URIS_LIMIT:
                log.warning("gateway.too_many_uris", run_id=connection.run_id)
                self._drop(connection)
                return
            connection.uris.add(uri)
            self._stage(connection.run_id, uri)
        elif op == "list" and self._listing is not None:
            uri = str(message.get("uri"))
            connection.lists.add(uri)
            self._listing(connection.run_id, uri)
        elif op == "event":
            self._take_note(connection.run_id, message)
            self._send(connection, orjson.dumps({"op": "ack", "seq": message.get("seq")}) + b"\n")
        elif op == "hello" and message.get("protocol") != PROTOCOL:
            log.error("gateway.protocol_unknown", run_id=connection.run_id, protocol=message.get("protocol"))
            self._drop(connection)

    def _take_note(self, run_id: int, message: Mapping[str, Any]) -> None:
        door = self._doors.get(run_id)
        if door is None:
            return
        door.notes += 1
        if door.notes <= NOTES_LIMIT:
            self._note(run_id, message)
        elif door.notes == NOTES_LIMIT + 1:
            self._note(run_id, {"message": f"The engine has said {NOTES_LIMIT} lines; the rest is left out."})

    def _take_submit(self, connection: _Connection, message: Mapping[str, Any]) -> None:
        try:
            submission = parse(message)
        except InvalidSubmission as error:
            answer = {
                "op": "exited",
                "key": message.get("key"),
                "attempt": message.get("attempt"),
                "exit_code": None,
                "reason": "REFUSED",
                "message": str(error),
            }
            self._send(connection, orjson.dumps(answer) + b"\n")
            return
        connection.tasks.add((submission.key, submission.attempt))
        self._submitted.append((connection.run_id, submission))

    def _send_task(self, run_id: int, task: tuple[str, int], line: bytes, *, ends: bool) -> None:
        door = self._doors.get(run_id)
        for connection in () if door is None else tuple(door.connections):
            if task in connection.tasks:
                if ends:
                    connection.tasks.discard(task)
                self._send(connection, line)

    def _send_uri(self, run_id: int, uri: str, line: bytes) -> None:
        door = self._doors.get(run_id)
        for connection in () if door is None else tuple(door.connections):
            if uri in connection.uris:
                connection.uris.discard(uri)
                self._send(connection, line)

    def _send_list(self, run_id: int, uri: str, line: bytes) -> None:
        door = self._doors.get(run_id)
        for connection in () if door is None else tuple(door.connections):
            if uri in connection.lists:
                connection.lists.discard(uri)
                self._send(connection, line)

    def _send(self, connection: _Connection, line: bytes) -> None:
        if len(connection.unsent) + len(line) > UNSENT_LIMIT_BYTES or self._hears_nothing(connection):
            self._drop(connection)
            return
        connection.unsent += line
        self._flush(connection)

    def _hears_nothing(self, connection: _Connection) -> bool:
        """Whether it and the other connections of its run leave more unread than a run may."""
        door = self._doors.get(connection.run_id)
        if len(connection.unsent) < UNREAD_BYTES or door is None:
            return False
        return sum(len(other.unsent) for other in door.connections) > UNSENT_LIMIT_OF_RUN_BYTES

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.unsent:
                sent = connection.socket.send(connection.unsent)
                del connection.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        wanted = bool(connection.unsent)
        if wanted == connection.writable_wanted:
            return
        connection.writable_wanted = wanted
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(connection.socket, events, connection)

    def _drop(self, connection: _Connection) -> None:
        door = self._doors.get(connection.run_id)
        if door is not None and connection in door.connections:
            door.connections.discard(connection)
            door.received_bytes -= connection.counted_bytes
            # Lines behind the one for which it is dropped are not taken.
            connection.received.clear()
        if connection.socket.fileno() < 0:
            return
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _drop_all(self, run_id: int) -> None:
        """Make a run's engine connect and submit again."""
        door = self._doors.get(run_id)
        for connection in () if door is None else tuple(door.connections):
            self._drop(connection)

    def _shut(self, door: _Door) -> None:
        for connection in tuple(door.connections):
            self._drop(connection)
        door.connections.clear()
        if door.listener.fileno() < 0:
            return
        try:
            self._selector.unregister(door.listener)
        except KeyError:
            log.debug("gateway.door_never_opened", run_id=door.run_id)
        door.listener.close()


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _bind(directory: Path) -> socket.socket:
    """A listening socket at `directory`/sock, open to the run's own user. The path may be longer than a socket address can be."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{descriptor}/sock"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind(path)
        # By chmod, not by umask, which belongs to the whole process. Only the run's own tree reaches the directory.
        os.chmod(path, 0o666)  # noqa: S103
        listener.listen(BACKLOG)
        listener.setblocking(False)
    finally:
        os.close(descriptor)
    return listener
