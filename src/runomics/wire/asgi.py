"""The edge: one ASGI callable from a received request to its answer. The only file with `await`; runs in the server's event loop.

The path of a request is drawn in docs/dev/wire.md. What runs an operation, and on which thread, is the store's choice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import orjson
import structlog

from runomics.wire.codec import Operation, Routes, compile_operations, encode, target_path
from runomics.wire.errors import (
    ApiError,
    FrontEndError,
    InternalServerException,
    NotSupportedOperationException,
    RequestTooLargeException,
    UnknownOperationException,
)
from runomics.wire.model import ServiceModel
from runomics.wire.signing import AccessKey, Scope, authenticate, headers_by_name

T = TypeVar("T")
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 8 << 20
INLINE_BODY_BYTES = 128 << 10
"""Larger bodies are verified, decoded and validated on a pool thread: they would hold the loop for a millisecond or more."""

CHUNK_BYTES = 256 << 10
"""Of a file that is streamed to a client."""

SUCCESS = "Success"
"""The outcome of a call that ended in no error."""

Audit = Callable[[str, Sequence[Any], Mapping[str, Any] | None, str, str], None]
"""(operation, what was seen, answer, outcome, request id): seen are caller and decoded request, as far as the call came. Must be quick."""

_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Handler:
    """How one operation is carried out.

    `function(tx, caller, request)` runs inside the store and gives the answer by wire names, None when it has no body. `prepare`
    runs before, on a pool thread and outside any transaction: it does the file work and gives the request to go on with.
    """

    function: Callable[[Any, Any, dict[str, Any]], Mapping[str, Any] | None]
    writes: bool
    prepare: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None


class StoreSeam(Protocol):
    """Where operations run. A result of `writing` is durable."""

    def reading(self, work: Callable[[Any], T]) -> Awaitable[T]: ...

    def writing(self, work: Callable[[Any], T]) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request below a page's prefix. `path` is as sent, percent-encoded; `key` is set on signed pages."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    key: AccessKey | None


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """What a page answers. A Path is streamed as a file; iterators are streamed as they yield, plain ones on a pool thread."""

    status: int
    content_type: str
    body: bytes | Path | Iterator[bytes] | AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is no operation. `respond` runs on a pool thread and may raise ApiError."""

    signed: bool
    respond: Callable[[PageRequest], PageAnswer]


class MustNotWait(Exception):
    """`authorize` would have to wait for something: it is asked again on a pool thread, where it may."""


class _Disconnected(Exception):
    """The client went away before its request was whole."""


class Edge:
    """The ASGI application. Made once, by `app`; `close` ends its threads."""

    def __init__(
        self,
        *,
        model: ServiceModel,
        handlers: Mapping[str, Handler],
        store: StoreSeam,
        find_key: Callable[[str], AccessKey | None],
        make_caller: Callable[[AccessKey, str], Any],
        authorize: Callable[[Any, str, Mapping[str, Any]], None],
        region: str,
        now: Callable[[], float],
        pages: Mapping[str, Page] | None = None,
        translate: Callable[[Exception], ApiError | None] | None = None,
        audit: Audit | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        pool_threads: int = 8,
    ) -> None:
        """Compile the model and check the registrations.

        `handlers` by operation name; one that is missing answers NotSupportedOperationException. `make_caller(key, request id)`
        makes what operations get as caller. `authorize(caller, operation name, request)` sees the request decoded and not yet
        validated, so every member may have any JSON type; it raises AccessDeniedException, or in the loop's thread MustNotWait. `now`
        is UTC epoch seconds. `pages` by path: one that ends in "/" answers everything below it, another that path alone. `translate`
        gives the API's error for exceptions of other rooms (a full queue of the store), None for faults. `audit` hears of every call
        to an operation, in the loop.

        Raises:
            ValueError: a handler for an operation that the model does not have.
        """
        self._operations = compile_operations(model)
        unknown = sorted(set(handlers) - set(self._operations))
        if unknown:
            raise ValueError(f"no such operations in the model: {', '.join(unknown)}")
        self._routes = Routes(self._operations)
        self._handlers = dict(handlers)
        self._statuses = dict(model.error_statuses)
        self._reading, self._writing = store.reading, store.writing
        self._find_key, self._make_caller, self._authorize = find_key, make_caller, authorize
        self._scope = Scope(region=region, service=model.signing_name)
        self._now = now
        self._exact_pages = {path.encode(): page for path, page in (pages or {}).items() if not path.endswith("/")}
        self._page_trees = sorted(
            ((path.encode(), page) for path, page in (pages or {}).items() if path.endswith("/")),
            key=lambda entry: -len(entry[0]),
        )
        self._translate = translate
        self._audit = audit
        self._max_body_bytes = max_body_bytes
        self._pool = ThreadPoolExecutor(pool_threads, thread_name_prefix="edge")
        self._page_pool = ThreadPoolExecutor(pool_threads, thread_name_prefix="page")
        self._log = structlog.get_logger().bind()
        self._logs_requests = bool(self._log.is_enabled_for(logging.DEBUG))
        self._request_ids = _RequestIds()

    def close(self) -> None:
        """End the pool threads once they are idle. Requests that come later fail."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._page_pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await send({"type": "websocket.close"})

    # ---- one request ---------------------------------------------------------------------------------------------

    async def _answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request_id = self._request_ids.next()
        operation: Operation | None = None
        extra: list[tuple[bytes, bytes]] = []
        seen: list[Any] = []
        answer: Mapping[str, Any] | None = None
        outcome = SUCCESS
        headers = headers_by_name(scope["headers"])
        try:
            body = await self._body(headers.get(b"content-length"), receive)
            raw_path = scope["raw_path"]
            if raw_path[:1] != b"/":
                raw_path = target_path(raw_path)
            operation, segments = self._routes.match(scope["method"], raw_path)
            if operation is None:
                page = self._page(raw_path)
                if page is None:
                    raise UnknownOperationException(scope["method"], raw_path[:256].decode("latin-1"))
                await self._answer_page(page, scope, headers, raw_path, body, receive, send, request_id)
                return
            admitting = (operation, segments, scope, headers, raw_path, body, request_id, seen)
            waits = len(body) > INLINE_BODY_BYTES
            if not waits:
                try:
                    caller, request = self._admit(*admitting)
                except MustNotWait:
                    waits = True
                    seen.clear()
            if waits:
                caller, request = await asyncio.get_running_loop().run_in_executor(self._pool, self._admit, *admitting)
            handler = self._handlers.get(operation.name)
            if handler is None:
                raise NotSupportedOperationException(f"{operation.name} is not supported by this server yet")
            if handler.prepare is not None:
                request = await asyncio.get_running_loop().run_in_executor(self._pool, handler.prepare, caller, request)
            function = handler.function
            answer = await (self._writing if handler.writes else self._reading)(
                lambda tx: function(tx, caller, request)
            )
            status = operation.status
            payload = encode(answer or {}) if operation.answers_body else b""
        except _Disconnected:
            return
        except Exception as error:
            known = self._known(error, request_id, operation.name if operation else scope["method"])
            outcome = known.code
            status = known.status if isinstance(known, FrontEndError) else self._statuses[known.code]
            payload = _error_body(known.message)
            extra = [(b"x-amzn-errortype", known.code.encode())]
            if isinstance(known, RequestTooLargeException) and b"expect" in headers:
                extra.append((b"connection", b"close"))
        answer_headers = [(b"x-amzn-requestid", request_id.encode()), *extra]
        if payload:
            answer_headers.append(_JSON)
        if status != 204:
            answer_headers.append((b"content-length", b"%d" % len(payload)))
        if self._audit is not None and operation is not None:
            self._audit(operation.name, seen, answer, outcome, request_id)
        if self._logs_requests:
            self._log.debug(
                "api.request", request_id=request_id, operation=operation.name if operation else None, status=status
            )
        await send({"type": "http.response.start", "status": status, "headers": answer_headers})
        await send({"type": "http.response.body", "body": payload})

    def _admit(
        self,
        operation: Operation,
        segments: list[bytes],
        scope: dict[str, Any],
        headers: Mapping[bytes, bytes],
        raw_path: bytes,
        body: bytes,
        request_id: str,
        seen: list[Any],
    ) -> tuple[Any, dict[str, Any]]:
        """Who calls and what for: authenticate, decode, authorize, validate, in AWS's order (403 before 400).

        The caller and the decoded request are put into `seen` as soon as they are known.
        """
        query = scope["query_string"]
        key = authenticate(
            method=scope["method"],
            raw_path=raw_path,
            query=query,
            headers=headers,
            body=body,
            find_key=self._find_key,
            scope=self._scope,
            now_seconds=self._now(),
        )
        caller = self._make_caller(key, request_id)
        seen.append(caller)
        decoded = operation.decode(segments, query, body)
        seen.append(decoded)
        self._authorize(caller, operation.name, decoded)
        return caller, operation.validate(decoded)

    async def _body(self, length: bytes | None, receive: Receive) -> bytes:
        """The whole body. One that is announced as too large is not read: the server drops it as it comes."""
        if length is not None and int(length) > self._max_body_bytes:
            raise RequestTooLargeException(self._max_body_bytes)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return body
        chunks, size = [body], len(body)
        while message.get("more_body", False):
            if size > self._max_body_bytes:
                raise RequestTooLargeException(self._max_body_bytes)
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        if size > self._max_body_bytes:
            raise RequestTooLargeException(self._max_body_bytes)
        return b"".join(chunks)

    def _known(self, error: Exception, request_id: str, what: str) -> ApiError:
        """The error as the API has it; a fault is logged whole and answered vaguely."""
        if isinstance(error, ApiError):
            return error
        translated = self._translate(error) if self._translate is not None else None
        if translated is not None:
            return translated
        self._log.error("api.fault", request_id=request_id, operation=what, exc_info=error)
        return InternalServerException(f"An internal error occurred. Request id: {request_id}")

    # ---- pages ---------------------------------------------------------------------------------------------------

    def _page(self, raw_path: bytes) -> Page | None:
        exact = self._exact_pages.get(raw_path)
        if exact is not None:
            return exact
        return next((page for prefix, page in self._page_trees if raw_path.startswith(prefix)), None)

    async def _answer_page(
        self,
        page: Page,
        scope: dict[str, Any],
        headers: Mapping[bytes, bytes],
        raw_path: bytes,
        body: bytes,
        receive: Receive,
        send: Send,
        request_id: str,
    ) -> None:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._page_pool, self._respond, page, scope, headers, raw_path, body)
        answer_headers = [
            (b"x-amzn-requestid", request_id.encode()),
            (b"content-type", answer.content_type.encode()),
            *((name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()),
        ]
        start = {"type": "http.response.start", "status": answer.status, "headers": answer_headers}
        if isinstance(answer.body, bytes):
            answer_headers.append((b"content-length", b"%d" % len(answer.body)))
            await send(start)
            await send({"type": "http.response.body", "body": answer.body})
            return
        if isinstance(answer.body, Path):
            file, size = await loop.run_in_executor(self._page_pool, _open, answer.body)
            answer_headers.append((b"content-length", b"%d" % size))
            chunks: AsyncIterator[bytes] = _Threaded(_Pieces(file, size), self._page_pool)
        else:
            stream = answer.body
            chunks = stream if isinstance(stream, AsyncIterator) else _Threaded(stream, self._page_pool)
        await send(start)
        try:
            await _stream(chunks, scope["method"], receive, send)
        except Exception as error:
            # The status is sent already: all that is left to say is an answer cut short, which the server makes of our return.
            self._log.error("api.fault", request_id=request_id, operation=scope["method"], exc_info=error)

    def _respond(
        self, page: Page, scope: dict[str, Any], headers: Mapping[bytes, bytes], raw_path: bytes, body: bytes
    ) -> PageAnswer:
        key = None
        if page.signed:
            key = authenticate(
                method=scope["method"],
                raw_path=raw_path,
                query=scope["query_string"],
                headers=headers,
                body=body,
                find_key=self._find_key,
                scope=self._scope,
                now_seconds=self._now(),
            )
        return page.respond(
            PageRequest(
                method=scope["method"],
                path=raw_path.decode("latin-1"),
                query=scope["query_string"],
                headers=scope["headers"],
                body=body,
                key=key,
            )
        )


class _Threaded:
    """A plain iterator, stepped and closed on pool threads."""

    def __init__(self, pieces: Iterator[bytes], pool: ThreadPoolExecutor) -> None:
        self._pieces = pieces
        self._pool = pool

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await asyncio.get_running_loop().run_in_executor(self._pool, next, self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Let go of what the iterator holds, whether or not it was begun."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            await asyncio.get_running_loop().run_in_executor(self._pool, close)


def _open(path: Path) -> tuple[BinaryIO, int]:
    file = path.open("rb")
    return file, os.fstat(file.fileno()).st_size


class _Pieces:
    """Exactly `size` bytes of a file: what it gains later is not sent, one that shrank ends the answer early."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self._file.read(min(CHUNK_BYTES, self._left))
        if not piece:
            raise StopIteration
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()


async def _stream(chunks: AsyncIterator[bytes], method: str, receive: Receive, send: Send) -> None:
    """Send what comes until it ends or the client is gone."""
    gone = asyncio.ensure_future(receive())
    try:
        if method != "HEAD":
            async for chunk in chunks:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def _live(receive: Receive, send: Send) -> None:
    """The lifespan protocol: whoever made the edge also opens and closes what is behind it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
            continue
        await send({"type": "lifespan.shutdown.complete"})
        return


def _error_body(message: str) -> bytes:
    try:
        return orjson.dumps({"message": message})
    except TypeError:
        return orjson.dumps({"message": message.encode("utf-8", "replace").decode()})


class _RequestIds:
    """Version 4 UUIDs at a quarter of uuid4's price: unique, not secret."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311 (an id for log lines, no secret)

    def next(self) -> str:
        digits = f"{self._bits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
