"""A real receiver of webhooks on loopback: keeps what it was sent, answers as the test says, can go away and come back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Sent:
    """One request, as it came. `status` is what was answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    connection: tuple[str, int]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Senders that are killed in the middle of a request are what tests are about."""


class Receiver:
    """`answer(document)` decides the status (or raises to close the connection without one); 200 for all by default."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answer: Callable[[Any], int] = lambda document: 200
        self.answer_headers: dict[str, str] = {}
        self.arrived = threading.Condition()
        self.port = 0
        self._server: _Server | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=1"

    @property
    def taken(self) -> list[Any]:
        """The documents that were answered with 200, in the order of the answers."""
        return [sent.document for sent in list(self.sent) if sent.status == 200]

    def open(self) -> None:
        """Listen, on the same port as before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Header and body of an answer are two writes, which would wait for each other.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                try:
                    status = receiver.answer(json.loads(body))
                except ConnectionError:
                    self.close_connection = True
                    return
                sent = Sent("POST", self.path, dict(self.headers), body, status, self.client_address)
                with receiver.arrived:
                    receiver.sent.append(sent)
                    receiver.arrived.notify_all()
                self.send_response(status)
                for name, value in receiver.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the base class
                """Nothing is logged."""

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Connections are refused from now on. May be called again."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        with self.arrived:
            assert self.arrived.wait_for(condition, seconds), f"{len(self.sent)} requests came"
