"""A small HTTP server that answers what a test put into it; it stands where a runomics server would, files in DATA included."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]


class Listener:
    """`answers`: path with query → documents given one after the other, the last again and again; others are 404."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.answers: dict[str, list[Any]] = defaultdict(list)
        self.requests: list[Received] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.requests.append(Received(self.path, dict(self.headers)))
                key = self.path if "?" in self.path else self.path + "?"
                documents = listener.answers.get(key, [])
                document = documents.pop(0) if len(documents) > 1 else documents[0] if documents else None
                body = json.dumps(document if document is not None else {"message": "no such thing"}).encode()
                self.send_response(200 if document is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the base class
                """Nothing is logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        (data / "endpoint.json").write_text(json.dumps({"url": self.url, "pid": os.getpid(), "region": "us-east-1"}))
        keys = {"account": "123456789012", "access_key_id": "AKIAEXAMPLE", "secret_access_key": "it's secret"}
        (data / "credentials").write_text(json.dumps(keys))

    def close(self) -> None:
        """Stop listening. May be called again."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
