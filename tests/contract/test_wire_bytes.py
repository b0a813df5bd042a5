"""The server as bytes see it: odd but legal HTTP, pages, streams, and five thousand requests that nobody should send."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from live_edge import LIMIT_BYTES, Answer, LiveEdge, handler, live_edge, read_answer, request_bytes
from model_values import Values

from runomics.wire.asgi import Handler, Page, PageAnswer, PageRequest
from runomics.wire.codec import compile_operations
from runomics.wire.errors import ResourceNotFoundException
from runomics.wire.model import ServiceModel
from runomics.wire.server import MAX_HEAD_BYTES

MODEL = ServiceModel.load()
OPERATIONS = compile_operations(MODEL)
JSON_BODY = ((b"Content-Type", b"application/json"),)
ended = threading.Event()
preparing, may_go_on, deleted = threading.Event(), threading.Event(), threading.Event()


def prepare_slowly(_caller: Any, request: dict[str, Any]) -> dict[str, Any]:
    preparing.set()
    assert may_go_on.wait(10)
    return request


def delete(_tx: Any, _caller: Any, _request: dict[str, Any]) -> None:
    deleted.set()


def fail_for_13(request: dict[str, Any]) -> None:
    if request["id"] == "13":
        raise ZeroDivisionError


async def ticking() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


def endless() -> Iterator[bytes]:
    try:
        while True:
            yield b"x" * 65536
    finally:
        ended.set()


def breaking() -> Iterator[bytes]:
    yield b"begun"
    raise ZeroDivisionError


def page(request: PageRequest) -> PageAnswer:
    name = request.path.rpartition("/")[2]
    if name == "missing":
        raise ResourceNotFoundException("no such page")
    if name == "fault":
        raise ZeroDivisionError
    bodies: dict[str, Any] = {
        "ticking": ticking(),
        "endless": endless(),
        "breaking": breaking(),
        "iterator": iter([b"a", b"", b"b"]),
    }
    if name in bodies:
        return PageAnswer(200, "text/plain", bodies[name])
    if name == "file":
        return PageAnswer(200, "application/zip", Path(request.query.decode()), {"Content-Disposition": "attachment"})
    about = [
        request.method,
        request.path,
        request.query.decode("latin-1"),
        request.body.decode("latin-1"),
        request.key and request.key.account,
    ]
    return PageAnswer(201, "application/json", json.dumps(about).encode())


@pytest.fixture(scope="module")
def live() -> Iterator[LiveEdge]:
    handlers = {
        name: handler(
            lambda _request, shape=MODEL.operations[name].output_shape: (
                Values(MODEL.shapes, 7).make(shape) if shape else None
            )
        )
        for name in OPERATIONS
    }
    handlers["GetRun"] = handler(lambda request: {"id": request["id"]})
    handlers["DeleteRun"] = Handler(function=delete, writes=True, prepare=prepare_slowly)
    handlers["CancelRun"] = handler(fail_for_13)
    handlers["StartRun"] = handler(lambda request: {"id": str(len(json.dumps(request)))})
    pages = {
        "/-/": Page(signed=True, respond=page),
        "/open/": Page(signed=False, respond=page),
        "/healthz": Page(False, page),
    }
    with live_edge(handlers, pages=pages) as edge:
        yield edge


def ask(live: LiveEdge, data: bytes, *, head_only: bool = False) -> Answer:
    with live.connect() as connection:
        connection.sendall(data)
        return read_answer(connection, head_only=head_only)


def start_run(**members: Any) -> bytes:
    request = {
        "workflowId": "1",
        "roleArn": "arn:aws:iam::123456789012:role/omics",
        "outputUri": "s3://outputs/results",
        "requestId": "one",
        **members,
    }
    return json.dumps(request).encode()


# ---- legal and odd -----------------------------------------------------------------------------------------------


def test_a_whole_url_as_target_is_served_by_its_path(live: LiveEdge) -> None:
    answer = ask(live, request_bytes(b"GET", b"http://workflows-omics.example/run/7?export=DEFINITION"))
    assert (answer.status, answer.body) == (200, b'{"id":"7"}')


def test_many_requests_share_a_connection_and_may_be_sent_ahead(live: LiveEdge) -> None:
    with live.connect() as connection:
        for number in range(20):
            connection.sendall(request_bytes(b"GET", b"/run/%d" % number))
            assert read_answer(connection).body == b'{"id":"%d"}' % number
        connection.sendall(request_bytes(b"GET", b"/run/1") + request_bytes(b"GET", b"/run/2"))
        received = b""
        while received.count(b'{"id":') < 2:
            received += connection.recv(65536)
        assert received.index(b'{"id":"1"}') < received.index(b'{"id":"2"}')


def test_a_body_may_come_in_chunks(live: LiveEdge) -> None:
    body = start_run(parameters={"text": "x" * 300_000})
    head = request_bytes(b"POST", b"/run", body, (*JSON_BODY, (b"Transfer-Encoding", b"chunked"))).removesuffix(body)
    pieces = [body[at : at + 70_001] for at in range(0, len(body), 70_001)]
    with live.connect() as connection:
        connection.sendall(head)
        for piece in pieces:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection).status == 201


def test_a_client_that_waits_for_a_100_gets_it_before_it_sends_its_body(live: LiveEdge) -> None:
    body = start_run()
    whole = request_bytes(b"POST", b"/run", body, (*JSON_BODY, (b"Expect", b"100-continue")))
    with live.connect() as connection:
        connection.sendall(whole.removesuffix(body))
        assert read_answer(connection) == Answer(100, {}, b"")
        connection.sendall(body)
        assert read_answer(connection).status == 201


def test_a_client_that_waits_with_too_large_a_body_is_refused_without_sending_it(live: LiveEdge) -> None:
    headers = ((b"Content-Length", b"%d" % (LIMIT_BYTES + 1)), (b"Expect", b"100-continue"))
    answer = ask(live, request_bytes(b"POST", b"/run", b"", headers))
    assert (answer.status, answer.headers[b"connection"]) == (413, b"close")


def test_a_body_without_end_is_refused_at_the_limit(live: LiveEdge) -> None:
    with live.connect() as connection:
        connection.sendall(request_bytes(b"POST", b"/run", b"", ((b"Transfer-Encoding", b"chunked"),)))
        connection.sendall(b"%x\r\n%s\r\n" % (LIMIT_BYTES + 1, b"x" * (LIMIT_BYTES + 1)))
        connection.sendall(b"1\r\nx\r\n")
        assert read_answer(connection).status == 413


@pytest.mark.parametrize("is_chunked", [False, True])
def test_after_a_body_over_the_limit_the_connection_serves_on(live: LiveEdge, is_chunked: bool) -> None:
    body = b"x" * (3 * LIMIT_BYTES)
    with live.connect() as connection:
        if is_chunked:
            connection.sendall(request_bytes(b"POST", b"/run", b"", ((b"Transfer-Encoding", b"chunked"),)))
            connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        else:
            connection.sendall(request_bytes(b"POST", b"/run", body))
        answer = read_answer(connection)
        assert (answer.status, answer.headers[b"x-amzn-errortype"]) == (413, b"RequestTooLargeException")
        assert json.loads(answer.body) == {"message": f"Request size exceeded {LIMIT_BYTES} bytes"}
        connection.sendall(request_bytes(b"GET", b"/run/7"))
        assert read_answer(connection).body == b'{"id":"7"}'


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS", b"PUT", b"PATCH", b"TRACE", b"DELETE"])
def test_methods_that_name_no_operation_are_answered_as_unknown(live: LiveEdge, method: bytes) -> None:
    with live.connect() as connection:
        connection.sendall(request_bytes(method, b"/run"))
        answer = read_answer(connection, head_only=method == b"HEAD")
        assert (answer.status, answer.headers[b"x-amzn-errortype"]) == (404, b"UnknownOperationException")
        if method != b"HEAD":
            assert json.loads(answer.body) == {"message": f"No operation answers {method.decode()} /run"}
        connection.sendall(request_bytes(b"GET", b"/run/7"))
        assert read_answer(connection).body == b'{"id":"7"}'


@pytest.mark.parametrize(
    "target", [b"/", b"/nothing", b"/run/1/2", b"/run/", b"//run", b"/run//cancel", b"/run/1/cancel", b"/RUN"]
)
def test_paths_that_name_no_operation_are_answered_as_unknown(live: LiveEdge, target: bytes) -> None:
    answer = ask(live, request_bytes(b"GET", target))
    assert (answer.status, answer.headers[b"x-amzn-errortype"]) == (404, b"UnknownOperationException")


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_offer_to_upgrade_is_ignored(live: LiveEdge, protocol: bytes) -> None:
    headers = ((b"Connection", b"Upgrade"), (b"Upgrade", protocol))
    assert ask(live, request_bytes(b"GET", b"/run/7", b"", headers)).body == b'{"id":"7"}'


def test_an_old_client_without_keep_alive_is_served(live: LiveEdge) -> None:
    data = request_bytes(b"GET", b"/run/7").replace(b" HTTP/1.1", b" HTTP/1.0")
    answer = ask(live, data)
    assert (answer.status, answer.headers[b"connection"]) == (200, b"close")


def test_a_request_head_without_end_is_cut_off(live: LiveEdge) -> None:
    with live.connect() as connection:
        connection.sendall(b"GET /".ljust(MAX_HEAD_BYTES, b"x"))
        connection.sendall(b"x")
        answer = read_answer(connection)
        assert (answer.status, json.loads(answer.body)) == (431, {"message": "The request head is too large"})
        assert connection.recv(1) == b""
    assert ask(live, request_bytes(b"GET", b"/run/7")).status == 200


def test_a_client_that_goes_away_cancels_nothing(live: LiveEdge) -> None:
    with live.connect() as connection:
        connection.sendall(request_bytes(b"DELETE", b"/run/7"))
        assert preparing.wait(10)
    assert not deleted.is_set()
    may_go_on.set()
    assert deleted.wait(10)
    assert ask(live, request_bytes(b"DELETE", b"/run/7")).status == 202


def test_a_slow_preparation_holds_nobody_up(live: LiveEdge) -> None:
    may_go_on.clear()
    with live.connect() as connection:
        connection.sendall(request_bytes(b"DELETE", b"/run/7"))
        assert ask(live, request_bytes(b"GET", b"/run/7")).status == 200
        may_go_on.set()
        assert read_answer(connection).status == 202


def test_a_fault_is_logged_whole_under_its_request_id(live: LiveEdge) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = ask(live, request_bytes(b"POST", b"/run/13/cancel"))
    assert answer.status == 500
    faults = [line for line in lines if line["event"] == "api.fault"]
    assert [(line["log_level"], line["operation"], line["request_id"].encode()) for line in faults] == [
        ("error", "CancelRun", answer.headers[b"x-amzn-requestid"])
    ]
    assert isinstance(faults[0]["exc_info"], ZeroDivisionError)


def test_request_ids_are_version_4_uuids_and_differ(live: LiveEdge) -> None:
    ids = [ask(live, request_bytes(b"GET", b"/run/7")).headers[b"x-amzn-requestid"].decode() for _ in range(50)]
    assert len(set(ids)) == 50
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant, str(uuid.UUID(one)) == one) for one in ids} == {
        (4, uuid.RFC_4122, True)
    }


# ---- pages -------------------------------------------------------------------------------------------------------


def test_a_signed_page_knows_its_account_and_an_open_one_asks_for_none(live: LiveEdge) -> None:
    answer = ask(live, request_bytes(b"POST", b"/-/x/y%2Fz?a=1", b"body"))
    assert (answer.status, json.loads(answer.body)) == (201, ["POST", "/-/x/y%2Fz", "a=1", "body", "123456789012"])
    answer = ask(live, b"GET /-/x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (answer.status, answer.headers[b"x-amzn-errortype"]) == (403, b"MissingAuthenticationTokenException")
    answer = ask(live, b"GET /open/x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert json.loads(answer.body) == ["GET", "/open/x", "", "", None]


def test_a_page_without_a_slash_is_that_path_alone(live: LiveEdge) -> None:
    assert ask(live, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").status == 201
    assert ask(live, b"GET /healthz/more HTTP/1.1\r\nHost: h\r\n\r\n").status == 404


def test_a_file_is_streamed_whole(live: LiveEdge, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "archive.zip").write_bytes(content)
    answer = ask(live, b"GET /open/file?%s HTTP/1.1\r\nHost: h\r\n\r\n" % str(tmp_path / "archive.zip").encode())
    assert (answer.headers[b"content-type"], answer.headers[b"content-disposition"]) == (
        b"application/zip",
        b"attachment",
    )
    assert answer.body == content
    target = b"HEAD /open/file?%s HTTP/1.1\r\nHost: h\r\n\r\n" % str(tmp_path / "archive.zip").encode()
    answer = ask(live, target, head_only=True)
    assert (answer.headers[b"content-length"], answer.body) == (b"3000001", b"")


@pytest.mark.parametrize(("name", "body"), [(b"ticking", b"one two"), (b"iterator", b"ab")])
def test_streams_are_sent_as_they_come(live: LiveEdge, name: bytes, body: bytes) -> None:
    assert ask(live, b"GET /open/%s HTTP/1.1\r\nHost: h\r\n\r\n" % name).body == body


def test_a_stream_ends_when_its_reader_is_gone(live: LiveEdge) -> None:
    ended.clear()
    with live.connect() as connection:
        connection.sendall(b"GET /open/endless HTTP/1.1\r\nHost: h\r\n\r\n")
        assert connection.recv(65536)
    assert ended.wait(10)


def test_a_stream_that_breaks_cuts_its_connection(live: LiveEdge) -> None:
    with pytest.raises(ConnectionError):
        ask(live, b"GET /open/breaking HTTP/1.1\r\nHost: h\r\n\r\n")


def test_errors_of_pages_have_the_form_of_operations(live: LiveEdge) -> None:
    answer = ask(live, b"GET /open/missing HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (answer.status, answer.body) == (404, b'{"message":"no such page"}')
    assert ask(live, b"GET /open/fault HTTP/1.1\r\nHost: h\r\n\r\n").status == 500


# ---- nobody should send ------------------------------------------------------------------------------------------

DEEP = b"[" * 1020 + b"]" * 1020
BODIES = [
    (b"", "ValidationException"),
    (b"{}", "ValidationException"),
    (b"null", "SerializationException"),
    (b"[]", "SerializationException"),
    (b'"text"', "SerializationException"),
    (b"NaN", "SerializationException"),
    (b'{"priority": NaN}', "SerializationException"),
    (b'{"priority": 1e999}', "SerializationException"),
    (b"\xef\xbb\xbf{}", "SerializationException"),
    (b"\xff\xfe{}", "SerializationException"),
    (b'{"name": "\xc3"}', "SerializationException"),
    (b'{"name": "\\ud800"}', "SerializationException"),
    (b"[" * 200_000, "SerializationException"),
    (b'{"a":' * 100_000, "SerializationException"),
    (start_run(name=1), "SerializationException"),
    (start_run(name=[]), "SerializationException"),
    (start_run(priority="1"), "SerializationException"),
    (start_run(priority=1.5), "SerializationException"),
    (start_run(priority=True), "SerializationException"),
    (start_run(tags=[]), "SerializationException"),
    (start_run(tags={"a": {}}), "SerializationException"),
    (start_run(priority=1 << 62), "ValidationException"),
    (start_run(priority=1 << 200), "SerializationException"),
    (start_run(name="a\u0000b"), "ValidationException"),
    (start_run(tags={"k": "\u0000"}), "ValidationException"),
    (start_run(parameters="@").replace(b'"@"', DEEP), "ValidationException"),
    (start_run(tags={f"{number}": "x" * 300 for number in range(2000)}), "ValidationException"),
]


@pytest.mark.parametrize(("body", "code"), BODIES, ids=[str(number) for number in range(len(BODIES))])
def test_bodies_that_are_no_request_are_the_clients_fault(live: LiveEdge, body: bytes, code: str) -> None:
    answer = ask(live, request_bytes(b"POST", b"/run", body, JSON_BODY))
    assert (answer.status, answer.headers[b"x-amzn-errortype"].decode()) == (400, code)
    assert len(json.loads(answer.body)["message"]) < 40_000


@pytest.mark.parametrize("body", [b'{"requestId":"a",' + start_run()[1:], start_run(unknown={"x": [1]}, name=None)])
def test_repeated_unknown_and_null_members_are_no_fault(live: LiveEdge, body: bytes) -> None:
    for headers in (JSON_BODY, (), ((b"Content-Type", b"text/plain; charset=latin-1"),)):
        assert ask(live, request_bytes(b"POST", b"/run", body, headers)).status == 201


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"/run/%FF", "SerializationException"),
        (b"/run/%zz", "ValidationException"),
        (b"/run/%", "ValidationException"),
        (b"/run/%00", "ValidationException"),
        (b"/run/..", "ValidationException"),
        (b"/run/%2E%2E%2F", "ValidationException"),
        (b"/run/" + b"9" * 5000, "ValidationException"),
        (b"/run?maxResults=", "SerializationException"),
        (b"/run?maxResults=1_0", "SerializationException"),
        (b"/run?maxResults=%D9%A1", "SerializationException"),
        (b"/run?maxResults=" + b"9" * 5000, "SerializationException"),
        (b"/run?maxResults=9999999999999999999", "ValidationException"),
        (b"/run?maxResults=101", "ValidationException"),
        (b"/run?name=%FF", "SerializationException"),
        (b"/run?status=run%20ning", "ValidationException"),
        (b"/run/1?export=", "ValidationException"),
    ],
)
def test_paths_and_queries_that_are_no_request_are_the_clients_fault(live: LiveEdge, target: bytes, code: str) -> None:
    answer = ask(live, request_bytes(b"GET", target))
    assert (answer.status, answer.headers[b"x-amzn-errortype"].decode()) == (400, code)


PIECES = [
    b"run",
    b"workflow",
    b"tags",
    b"runBatch",
    b"share",
    b"1",
    b"cancel",
    b"version",
    b"%2F",
    b"%FF",
    b"%",
    b"..",
    b"-",
    b"healthz",
]
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b'"',
    b"null",
    b"1e99",
    b"-",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"true",
    b'"name"',
    b'"tags"',
]


def nonsense(rng: random.Random, size: int, tokens: list[bytes]) -> bytes:
    return b"".join(rng.choice(tokens) for _ in range(rng.randrange(size)))


def mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(changed)) if changed else 0
        kind = rng.randrange(3)
        if kind == 0:
            changed[at : at + rng.randrange(1, 9)] = b""
        elif kind == 1:
            changed[at:at] = rng.choice(TOKENS)
        elif changed:
            changed[at] = rng.randrange(256)
    return bytes(changed)


def some_json(rng: random.Random, depth: int) -> Any:
    scalars: list[Any] = [None, True, -1, 1 << 70, 1.5, "", "x" * 300, "\u0000", "☃", "s3://bucket/key", "1000001"]
    if depth == 0 or rng.random() < 0.4:
        return rng.choice(scalars)
    if rng.random() < 0.5:
        return [some_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {
        rng.choice(["name", "tags", "a", "", "parameters"]): some_json(rng, depth - 1) for _ in range(rng.randrange(4))
    }


def fuzzed(rng: random.Random) -> bytes:
    """A signed request: half of them a real operation with a few members replaced, the rest without rhyme or reason."""
    method = rng.choice([b"GET", b"POST", b"DELETE", b"PUT", b"HEAD"])
    if rng.random() < 0.5:
        operation = rng.choice(list(OPERATIONS.values()))
        method = operation.method.encode()
        target = b"/".join(
            rng.choice([b"1000001", b"%00", b"%C3%A4", b"%E2%82", b"a" * 200]) if segment.startswith(b"{") else segment
            for segment in operation.segments
        )
        shape = MODEL.shapes[str(MODEL.operations[operation.name].input_shape)]
        members = {name: some_json(rng, 4) for name in shape["members"] if rng.random() < 0.7}
        body = json.dumps(members).encode() if operation.reads_body else b""
        if operation.query and rng.random() < 0.7:
            target += b"?" + b"&".join(
                key + b"=" + rng.choice([b"1", b"", b"%FF", b"x"]) for key in sorted(operation.query)
            )
        if rng.random() < 0.3:
            body = mutated(rng, body)
    else:
        target = b"/" + b"/".join(rng.choice(PIECES) for _ in range(rng.randrange(5)))
        if rng.random() < 0.5:
            target += b"?" + nonsense(rng, 12, [b"a", b"=", b"&", b"%", b"%41", b"+", b"maxResults"])
        body = nonsense(rng, 40, TOKENS)
    data = request_bytes(method, target, body, JSON_BODY if rng.random() < 0.5 else ())
    if rng.random() < 0.2:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        at = rng.randrange(1, len(lines) - 1)
        name, _, value = lines[at].partition(b": ")
        lines[at] = name + b": " + mutated(rng, value).replace(b"\n", b"").replace(b"\r", b"")
        data = b"\r\n".join(lines) + b"\r\n\r\n" + rest
    return data


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_sent_is_answered_and_never_as_the_servers_fault(live: LiveEdge, seed: int) -> None:
    """500 requests a seed. One whose head was broken may end its connection with a 400; every other one must leave it usable."""
    may_go_on.set()
    rng = random.Random(seed)
    statuses: dict[int, int] = {}
    with contextlib.ExitStack() as open_connections:
        connection = open_connections.enter_context(live.connect())
        for number in range(500):
            data = fuzzed(rng)
            connection.sendall(data)
            answer = read_answer(connection, head_only=data.startswith(b"HEAD "))
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status < 500, (seed, number, data, answer)
            if answer.headers.get(b"connection") == b"close":
                assert answer.status == 400, (seed, number, data, answer)
                connection = open_connections.enter_context(live.connect())
                continue
            assert answer.status < 300 or json.loads(answer.body or b'{"message":""}').keys() == {"message"}
    assert {200, 400, 403, 404} <= statuses.keys()


@pytest.mark.parametrize("seed", range(4))
def test_broken_http_is_refused_or_dropped_and_harms_nobody_else(live: LiveEdge, seed: int) -> None:
    rng = random.Random(1000 + seed)
    whole = request_bytes(b"POST", b"/run", start_run(), JSON_BODY)
    for _ in range(60):
        with live.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(mutated(rng, mutated(rng, whole)))
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
            assert not received.startswith(b"HTTP/1.1 5"), received
    assert ask(live, request_bytes(b"GET", b"/run/7")).body == b'{"id":"7"}'


def test_the_same_bytes_in_any_cut_give_the_same_answer(live: LiveEdge) -> None:
    data = request_bytes(b"POST", b"/run", start_run(parameters={"a": [1, 2, 3]}), JSON_BODY)
    cuts = [len(data) // 3, 1, data.index(b"\r\n\r\n") + 2, data.index(b"\r\n\r\n") + 4, len(data) - 1]
    whole = ask(live, data)
    assert whole.status == 201
    for first, second in itertools.combinations(sorted(cuts), 2):
        with live.connect() as connection:
            for piece in (data[:first], data[first:second], data[second:]):
                connection.sendall(piece)
            assert read_answer(connection).body == whole.body
