"""Requests that are half right: made from the service model by a seed, with ids the server itself gave, and rubbish in every place."""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import socket
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from load import Signer
from runomics.wire.model import ServiceModel
from workflows import ONE_TASK

MODEL = ServiceModel.load()
POOL = 400
LEARNED = (
    "id",
    "arn",
    "uuid",
    "name",
    "shareId",
    "nextToken",
    "batchId",
    "versionName",
    "taskId",
    "resourceArn",
    "runId",
)
TEXTS = (
    "", "a", "x" * 300, "ä漢☃\U0001f9ec", "a\x00b", "a\nb", "\x7f", "\ud800", "..", "../../etc/passwd", "s3://bucket/key", "s3://runomics/fuzz",
    "arn:aws:iam::123456789012:role/x", "arn:aws:omics:us-east-1:123456789012:run/1", "arn:aws:omics:us-east-1::workflow/1", "123456789012",
    "210987654321", "1000000", "0", "-1", "999999999999999999", "1e9", "null", "true", "' or 1=1 --", "%00", "%2F", "{}", "[]",
    "READY2RUN", "PRIVATE", "lab/hello", "main", "aws:reserved",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 100, 101, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e308)


def archive() -> str:
    """A definition that works, as the API carries it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr(zipfile.ZipInfo("main.wdl"), ONE_TASK)
    return base64.b64encode(data.getvalue()).decode()


@dataclass(slots=True)
class Fuzzer:
    """Makes requests, one after the other the same for a seed and the same answers. `learn` takes ids from answers."""

    seed: int
    pool: list[str] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _archive: str = field(default_factory=archive)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def request(self) -> tuple[str, str, str, str, bytes]:
        """Operation, method, path, query and body."""
        rng = self._random
        operation = MODEL.operations[rng.choice(sorted(MODEL.operations))]
        members = MODEL.shapes[operation.input_shape or ""].get("members", {})
        path, query, body = operation.uri.partition("?")[0], [], {}
        for name, member in members.items():
            location, wire_name = member.get("location"), member.get("locationName", name)
            if location == "uri":
                value = quote(str(self._text(MODEL.shapes[member["shape"]])).encode("utf-8", "replace"), safe="")
                path = path.replace("{" + wire_name + "}", value or "x")
            elif rng.random() < (0.9 if name in MODEL.shapes[operation.input_shape or ""].get("required", ()) else 0.3):
                value = self._value(MODEL.shapes[member["shape"]], 4)
                if location == "querystring":
                    listed = value if isinstance(value, list) else [value]
                    query += [
                        f"{quote(wire_name)}={quote(str(one).encode('utf-8', 'replace'), safe='')}" for one in listed
                    ]
                else:
                    body[wire_name] = value
        data = json.dumps(body).encode() if operation.method == "POST" else b""
        if data and rng.random() < 0.1:
            data = self._mutated(data)
        return operation.name, operation.method, path, "&".join(sorted(query)), data

    def learn(self, document: Any) -> None:
        """Keep ids and names of an answer, for later requests."""
        for name, value in _pairs(document):
            if name in LEARNED and isinstance(value, str):
                if len(self.pool) < POOL:
                    self.pool.append(value)
                else:
                    self.pool[self._random.randrange(POOL)] = value

    def _text(self, shape: Mapping[str, Any]) -> str:
        rng = self._random
        if "enum" in shape and rng.random() < 0.8:
            return str(rng.choice(shape["enum"]))
        if self.pool and rng.random() < 0.6:
            return rng.choice(self.pool)
        return rng.choice(TEXTS)

    def _value(self, shape: Mapping[str, Any], depth: int) -> Any:
        rng, kind = self._random, shape["type"]
        if rng.random() < 0.08 or depth == 0 or shape.get("document"):
            return self._rubbish(depth)
        if kind == "structure":
            wanted = shape.get("required", ())
            return {
                name: self._value(MODEL.shapes[member["shape"]], depth - 1)
                for name, member in shape.get("members", {}).items()
                if rng.random() < (0.95 if name in wanted else 0.4)
            }
        if kind == "list":
            return [self._value(MODEL.shapes[shape["member"]["shape"]], depth - 1) for _ in range(rng.randrange(4))]
        if kind == "map":
            inner = MODEL.shapes[shape["value"]["shape"]]
            return {rng.choice(TEXTS): self._value(inner, depth - 1) for _ in range(rng.randrange(4))}
        if kind == "blob":
            return self._archive if rng.random() < 0.5 else rng.choice(("", "AAAA", "!", "UEsDBA=="))
        if kind in ("integer", "long"):
            return rng.choice(NUMBERS)
        if kind == "boolean":
            return rng.random() < 0.5
        return self._text(shape)

    def _rubbish(self, depth: int) -> Any:
        rng = self._random
        if depth <= 0 or rng.random() < 0.6:
            return rng.choice((*TEXTS, *NUMBERS, None, True, [], {}))
        if rng.random() < 0.5:
            return [self._rubbish(depth - 1) for _ in range(rng.randrange(4))]
        return {rng.choice(TEXTS): self._rubbish(depth - 1) for _ in range(rng.randrange(4))}

    def _mutated(self, data: bytes) -> bytes:
        rng = self._random
        at = rng.randrange(len(data))
        return rng.choice(
            (
                data[:at],
                data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
                data + data,
                b"[" * 3000,
                b'{"a":' * 3000,
                data.replace(b"{", b'{"name":"a","name":"b",', 1),
                b"\xff\xfe" + data,
                b"",
            )
        )


def _pairs(document: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield name, value
            yield from _pairs(value)
    elif isinstance(document, list):
        for item in document:
            yield from _pairs(item)


class Client:
    """Sends signed requests over a kept connection."""

    def __init__(self, port: int, *, key_id: str, secret: str) -> None:
        self._port = port
        self._key = {"key_id": key_id, "secret": secret}
        self._connect()

    def _connect(self) -> None:
        # A signature is good for some minutes: each connection signs with its own time.
        self._signer = Signer(**self._key, region="us-east-1", host=f"127.0.0.1:{self._port}")
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)

    def ask(self, method: str, path: str, *, query: str = "", body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._socket.sendall(self._signer.request(method, path, query=query, body=body))
        response = http.client.HTTPResponse(self._socket, method=method)
        response.begin()
        answer = response.read()
        if response.will_close:
            self.renew()
        return response.status, answer

    def renew(self) -> None:
        """Go on over a new connection."""
        self._socket.close()
        self._connect()

    def call(self, operation: str, request: Mapping[str, Any]) -> tuple[int, bytes]:
        """One operation, its members where the model has them."""
        spec = MODEL.operations[operation]
        members = MODEL.shapes[spec.input_shape or ""].get("members", {})
        path, query, body = spec.uri.partition("?")[0], [], {}
        for name, value in request.items():
            member = members[name]
            location, wire_name = member.get("location"), member.get("locationName", name)
            if location == "uri":
                path = path.replace("{" + wire_name + "}", quote(value, safe=""))
            elif location == "querystring":
                query += [
                    f"{wire_name}={quote(str(one), safe='')}" for one in (value if isinstance(value, list) else [value])
                ]
            else:
                body[wire_name] = value
        return self.ask(
            spec.method, path, query="&".join(sorted(query)), body=json.dumps(body).encode() if body else b""
        )

    def close(self) -> None:
        self._socket.close()


def fuzz(client: Client, fuzzer: Fuzzer, count: int) -> tuple[dict[int, int], list[tuple[str, str, str, str, bytes]]]:
    """Send `count` requests: answers by status, and the requests that the server called its own fault."""
    statuses: dict[int, int] = {}
    faults = []
    for number in range(count):
        if number % 2000 == 1999:
            client.renew()
        request = fuzzer.request()
        _, method, path, query, body = request
        status, answer = client.ask(method, path, query=query, body=body)
        statuses[status] = statuses.get(status, 0) + 1
        if status >= 500:
            faults.append(request)
        elif status < 300 and answer:
            fuzzer.learn(json.loads(answer))
    return statuses, faults
