"""A closed-loop HTTP load of raw, pre-signed requests over kept connections. Runs as a process of its own, pinned to one core.

    python load.py '{"port": 1, "key_id": "…", "secret": "…", "region": "…", "kind": "get_run", "connections": 8, "seconds": 5, …}'

Prints one JSON object: requests, seconds, errors, p50_ms, p99_ms, max_ms.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import uvloop


class Signer:
    """Signs as botocore does: host and date, and the content type when there is a body."""

    def __init__(self, *, key_id: str, secret: str, region: str, host: str) -> None:
        now = datetime.now(UTC)
        self.date = now.strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.date[:8]}/{region}/omics/aws4_request"
        self.key_id, self.host = key_id, host
        key = ("AWS4" + secret).encode()
        for part in (self.date[:8], region, "omics", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self.key = key

    def request(self, method: str, path: str, *, query: str = "", body: bytes = b"") -> bytes:
        headers = {"host": self.host, "x-amz-date": self.date}
        if body:
            headers = {"content-type": "application/json", **headers}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical_query = "&".join(sorted(query.split("&"))) if query else ""
        payload = hashlib.sha256(body).hexdigest()
        canonical = "\n".join((method, path, canonical_query, lines, names, payload))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.date}\n{self.scope}\n{digest}"
        signature = hmac.digest(self.key, text.encode(), "sha256").hex()
        head = [
            f"{method} {path}{'?' + query if query else ''} HTTP/1.1",
            f"Host: {self.host}",
            "Accept-Encoding: identity",
            "User-Agent: Boto3/1.44 md/Botocore#1.44 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.12",
            f"X-Amz-Date: {self.date}",
            f"Authorization: AWS4-HMAC-SHA256 Credential={self.key_id}/{self.scope}, SignedHeaders={names}, Signature={signature}",
            f"amz-sdk-invocation-id: {uuid.uuid4()}",
            "amz-sdk-request: attempt=1",
        ]
        if body:
            head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """One kept connection: the next request goes out when the answer to the last is whole."""

    def __init__(self, feed: Iterator[bytes], *, until: float, latencies: list[float], errors: list[str]) -> None:
        self.feed, self.until, self.latencies, self.errors = feed, until, latencies, errors
        self.buffer = b""
        self.needed = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.fire()

    def fire(self) -> None:
        self.sent_at = time.perf_counter()
        request = next(self.feed, None) if self.sent_at < self.until else None
        if request is None:
            self.transport.close()
            return
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        if not self.needed:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = buffer
                return
            start = buffer.lower().find(b"content-length: ", 0, end)
            length = int(buffer[start + 16 : buffer.find(b"\r", start)]) if start >= 0 else 0
            self.needed = end + 4 + length
        if len(buffer) < self.needed:
            self.buffer = buffer
            return
        if buffer.startswith(b"HTTP/1.1 20"):
            self.latencies.append(time.perf_counter() - self.sent_at)
        else:
            self.errors.append(buffer[: self.needed][-200:].decode(errors="replace"))
        self.buffer, self.needed = b"", 0
        self.fire()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def start_run_body(options: dict[str, Any]) -> Callable[[], bytes]:
    fixed = {
        "workflowId": options["workflow_id"],
        "workflowType": "PRIVATE",
        "roleArn": "arn:aws:iam::123456789012:role/omics",
        "name": "sample-00001",
        "outputUri": options.get("output_uri", "s3://runomics/results"),
        "parameters": options.get("parameters", {}),
        "logLevel": "ALL",
        "storageType": "DYNAMIC",
        "priority": 5,
        "retentionMode": "RETAIN",
        "tags": {"project": "p1", "owner": "lab"},
    }
    return lambda: json.dumps({**fixed, "requestId": str(uuid.uuid4())}).encode()


def requests(options: dict[str, Any], signer: Signer) -> Callable[[], bytes]:
    """What makes the next request of the kind asked for."""
    chance = random.Random(options.get("seed", 1))
    low, high = options.get("first_id", 1_000_000), options.get("last_id", 2_000_000)
    kind = options["kind"]
    if kind == "get_run":
        return lambda: signer.request("GET", f"/run/{chance.randrange(low, high)}")
    if kind == "list_runs":
        tokens = options.get("tokens") or [""]
        filters = options.get("filters", [""])

        def page() -> bytes:
            token, chosen = chance.choice(tokens), chance.choice(filters)
            parts = [part for part in ("maxResults=100", chosen, f"startingToken={token}" if token else "") if part]
            return signer.request("GET", "/run", query="&".join(sorted(parts)))

        return page
    body = start_run_body(options)
    return lambda: signer.request("POST", "/run", body=body())


async def load(options: dict[str, Any]) -> dict[str, Any]:
    host = f"127.0.0.1:{options['port']}"
    signer = Signer(
        key_id=options["key_id"], secret=options["secret"], region=options.get("region", "us-east-1"), host=host
    )
    make = requests(options, signer)
    amount = options.get("amount") or int(options["seconds"] * options.get("rate_guess", 12_000))
    unique = min(amount, options.get("unique", amount))
    made = [make() for _ in range(unique)]
    feed = iter(made[index % unique] for index in range(amount))
    latencies: list[float] = []
    errors: list[str] = []
    gc.collect()
    gc.freeze()
    gc.disable()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    connections = []
    for _ in range(options["connections"]):
        _, protocol = await loop.create_connection(
            lambda: Connection(feed, until=began + options["seconds"], latencies=latencies, errors=errors),
            "127.0.0.1",
            options["port"],
        )
        connections.append(protocol)
    await asyncio.gather(*(protocol.done for protocol in connections))
    seconds = time.perf_counter() - began
    latencies.sort()

    def percentile(share: float) -> float:
        return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000, 3) if latencies else 0.0

    return {
        "requests": len(latencies),
        "seconds": round(seconds, 3),
        "per_second": round(len(latencies) / seconds, 1),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "p50_ms": percentile(0.5),
        "p99_ms": percentile(0.99),
        "max_ms": percentile(1.0),
    }


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    if settings.get("core") is not None:
        os.sched_setaffinity(0, {settings["core"]})
    print(json.dumps(uvloop.run(load(settings))))
