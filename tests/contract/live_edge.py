"""A real server in a thread with stand-in handlers, a raw HTTP client, and a signer that signs any bytes."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import boto3
import botocore.config

from runomics.wire.asgi import Edge, Handler, Page
from runomics.wire.errors import AccessDeniedException, ApiError
from runomics.wire.model import ServiceModel
from runomics.wire.server import HttpServer, bind
from runomics.wire.signing import AccessKey

T = TypeVar("T")
KEY = AccessKey("AKIAEXAMPLE", "123456789012", b"secret/secret+secret", "arn:aws:iam::123456789012:user/me")
MODEL = ServiceModel.load()
LIMIT_BYTES = 1 << 20


class StoreOfNothing:
    """Runs every unit in the loop, with a word for which door it came through."""

    async def reading(self, work: Callable[[Any], T]) -> T:
        return work("reading")

    async def writing(self, work: Callable[[Any], T]) -> T:
        return work("writing")


@dataclass(slots=True)
class LiveEdge:
    """A running server. `denied` names operations that authorize refuses."""

    port: int = 0
    denied: set[str] = field(default_factory=set)
    authorized: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def client(self, **options: Any) -> Any:
        """A boto3 client of this server."""
        return boto3.client(
            "omics",
            endpoint_url=options.pop("endpoint_url", f"http://127.0.0.1:{self.port}"),
            region_name=options.pop("region_name", "us-east-1"),
            aws_access_key_id=options.pop("key_id", KEY.key_id),
            aws_secret_access_key=options.pop("secret", KEY.secret.decode()),
            config=botocore.config.Config(
                inject_host_prefix=options.pop("inject_host_prefix", False),
                retries={"total_max_attempts": 1},
                **options,
            ),
        )

    def connect(self) -> socket.socket:
        """A connection whose reads give up after ten seconds."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@contextlib.contextmanager
def live_edge(
    handlers: Mapping[str, Handler],
    *,
    pages: Mapping[str, Page] | None = None,
    translate: Callable[[Exception], ApiError | None] | None = None,
) -> Iterator[LiveEdge]:
    """Serve `handlers` until the block ends; the server must then stop by itself."""
    live = LiveEdge()

    def authorize(_caller: Any, operation: str, request: Mapping[str, Any]) -> None:
        live.authorized.append((operation, dict(request)))
        if operation in live.denied:
            raise AccessDeniedException(f"not authorized to perform: omics:{operation}")

    edge = Edge(
        model=MODEL,
        handlers=handlers,
        store=StoreOfNothing(),
        find_key={KEY.key_id: KEY}.get,
        make_caller=lambda key, request_id: (key, request_id),
        authorize=authorize,
        region="us-east-1",
        now=time.time,
        pages=pages,
        translate=translate,
        max_body_bytes=LIMIT_BYTES,
    )
    ports: queue.Queue[int] = queue.Queue()
    server = HttpServer(edge, sockets=[bind("127.0.0.1", 0)], started=ports.put, stop_seconds=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        live.port = ports.get(timeout=10)
        yield live
    finally:
        server.stop()
        thread.join(timeout=10)
        edge.close()
        assert not thread.is_alive()


def handler(answer: Callable[[dict[str, Any]], Mapping[str, Any] | None], *, writes: bool = False) -> Handler:
    """A handler that looks at the request alone."""

    def function(_tx: Any, _caller: Any, request: dict[str, Any]) -> Mapping[str, Any] | None:
        return answer(request)

    return Handler(function=function, writes=writes)


# ---- bytes -------------------------------------------------------------------------------------------------------


def request_bytes(
    method: bytes,
    target: bytes,
    body: bytes = b"",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    host: bytes = b"workflows-omics.example",
) -> bytes:
    """A signed request with any target and body, canonicalized as the Signature Version 4 reference says.

    The target may be a whole URL; its query must already be canonical for the signature to hold.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()).encode()
    path, _, query = target.partition(b"?")
    if b"://" in path:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    signed = b"host;x-amz-date"
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/"
    canonical_path = b"".join(bytes([code]) if code in safe else b"%%%02X" % code for code in path)
    lines = [method, canonical_path, query, b"host:" + host, b"x-amz-date:" + stamp, b"", signed]
    canonical = b"\n".join([*lines, hashlib.sha256(body).hexdigest().encode()])
    scope = stamp[:8] + b"/us-east-1/omics/aws4_request"
    to_sign = b"\n".join((b"AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical).hexdigest().encode()))
    key = b"AWS4" + KEY.secret
    for part in scope.split(b"/"):
        key = hmac.digest(key, part, "sha256")
    signature = hmac.digest(key, to_sign, "sha256").hex().encode()
    credential = KEY.key_id.encode() + b"/" + scope
    authorization = b"AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=%s, Signature=%s" % (credential, signed, signature)
    head = [b"%s %s HTTP/1.1" % (method, target), b"Host: " + host, b"X-Amz-Date: " + stamp]
    head.append(b"Authorization: " + authorization)
    head += [name + b": " + value for name, value in headers]
    if not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def read_answer(connection: socket.socket, *, head_only: bool = False) -> Answer:
    """One answer of known length or chunks.

    Raises:
        ConnectionError: the server closed before it was whole. TimeoutError: it never came.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = [line.partition(b": ") for line in lines]
    headers = {name.lower(): value for name, _, value in pairs}
    status = int(first.split(b" ")[1])
    if head_only or status in (204, 304) or status < 200:
        return Answer(status, headers, rest)
    if headers.get(b"transfer-encoding") == b"chunked":
        while not rest.endswith(b"0\r\n\r\n"):
            rest += _more(connection)
        return Answer(status, headers, _unchunked(rest))
    length = int(headers[b"content-length"])
    while len(rest) < length:
        rest += _more(connection)
    assert len(rest) == length, (head, rest)
    return Answer(status, headers, rest)


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(1 << 16)
    if not piece:
        raise ConnectionError("closed before the answer was whole")
    return piece


def _unchunked(raw: bytes) -> bytes:
    whole = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        whole += raw[:length]
        raw = raw[length + 2 :]
    return whole
