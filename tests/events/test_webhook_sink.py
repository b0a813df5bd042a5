"""One webhook over real HTTP: what is sent, what counts as taken, connections that are kept, receivers that misbehave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from receiver import Receiver

from runomics.domain.event import SECRET_PREFIX, StatusEvent, Topic, Webhook
from runomics.domain.webhook_url import BadUrl, checked_url
from runomics.events.event import encoded
from runomics.events.webhook import WebhookSink
from runomics.ports import NotTaken

KEY = bytes(range(32))
SECRET = SECRET_PREFIX + base64.b64encode(KEY).decode()
EVENT = StatusEvent(1, "123456789012", "workflow", "5", "ACTIVE", 2, 1_764_000_000_000, {"uuid": "u"})
NOW_MS = 1_764_000_123_456


@contextmanager
def sink(url: str, timeout_seconds: float = 5.0) -> Iterator[WebhookSink]:
    hook = Webhook(1, url, None, frozenset(Topic), SECRET, 0)
    made = WebhookSink(hook, region="us-east-1", now_ms=lambda: NOW_MS, timeout_seconds=timeout_seconds)
    yield made
    made.close()


def refusal(made: WebhookSink) -> NotTaken:
    with pytest.raises(NotTaken) as refused:
        made.deliver(EVENT)
    return refused.value


def test_an_event_is_posted_whole_and_signed_as_the_specification_says(receiver: Receiver) -> None:
    with sink(receiver.url) as made:
        made.deliver(EVENT)
    (sent,) = receiver.sent
    event_id, body = encoded(EVENT, region="us-east-1")
    assert (sent.method, sent.path, sent.body) == ("POST", "/hook?a=1", body)
    headers = {name.lower(): value for name, value in sent.headers.items()}
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", event_id)
    assert headers["webhook-timestamp"] == "1764000123"
    signed = b".".join([event_id.encode(), b"1764000123", sent.body])
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_one_connection_serves_many_events(receiver: Receiver) -> None:
    with sink(receiver.url) as made:
        for _ in range(5):
            made.deliver(EVENT)
    assert len(receiver.sent) == 5
    assert len({sent.connection for sent in receiver.sent}) == 1


def test_a_kept_connection_that_the_receiver_closed_is_no_failure(receiver: Receiver) -> None:
    receiver.answer_headers = {"Connection": "keep-alive"}
    with sink(receiver.url) as made:
        made.deliver(EVENT)
        dropped: list[int] = []

        def drop_once(document: object) -> int:
            if not dropped:
                dropped.append(1)
                raise ConnectionError
            return 200

        receiver.answer = drop_once
        made.deliver(EVENT)
    assert [sent.status for sent in receiver.sent] == [200, 200]


@pytest.mark.parametrize("status", [201, 202, 204])
def test_any_success_takes_the_event(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda document: status
    with sink(receiver.url) as made:
        made.deliver(EVENT)
    assert [sent.status for sent in receiver.sent] == [status]


@pytest.mark.parametrize(
    ("status", "is_down"), [(302, False), (400, False), (404, False), (500, False), (429, True), (503, True)]
)
def test_any_other_answer_refuses_it(receiver: Receiver, status: int, is_down: bool) -> None:
    receiver.answer = lambda document: status
    with sink(receiver.url) as made:
        refused = refusal(made)
    assert str(refused).startswith(f"answered {status} ")
    assert (refused.is_down, refused.again_ms) == (is_down, None)


def test_a_redirect_is_not_followed(receiver: Receiver, new_receiver: Callable[[], Receiver]) -> None:
    elsewhere = new_receiver()
    receiver.answer = lambda document: 307
    receiver.answer_headers = {"Location": elsewhere.url}
    with sink(receiver.url) as made:
        assert str(refusal(made)).startswith("answered 307 ")
    assert elsewhere.sent == []


def test_a_receiver_says_when_it_may_be_asked_again(receiver: Receiver) -> None:
    receiver.answer = lambda document: 429
    with sink(receiver.url) as made:
        receiver.answer_headers = {"Retry-After": "120"}
        assert refusal(made).again_ms == 120_000
        receiver.answer_headers = {"Retry-After": "99999999999999999999"}
        assert refusal(made).again_ms == 3_600_000
        receiver.answer_headers = {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}
        assert refusal(made).again_ms is None


def test_a_receiver_that_is_not_there_is_down(receiver: Receiver) -> None:
    receiver.close()
    with sink(receiver.url) as made:
        refused = refusal(made)
    assert refused.is_down
    assert "refused" in str(refused)


def test_a_receiver_that_never_answers_is_down_after_the_time_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        sink(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_seconds=0.2) as made,
    ):
        assert refusal(made).is_down


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-nonsense\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, b"HTTP/1.1 9 \x1b[31m\r\n\r\n"]
)
def test_what_is_no_http_is_down_and_breaks_nothing(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with sink(f"http://127.0.0.1:{server.getsockname()[1]}/") as made:
            refused = refusal(made)
        thread.join()
    assert refused.is_down
    assert str(refused).isprintable()


def test_a_secure_receiver_must_prove_who_it_is(receiver: Receiver) -> None:
    with sink(receiver.url.replace("http:", "https:")) as made:
        assert refusal(made).is_down
    assert receiver.sent == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook",
        "ftp://host/",
        "file:///etc/passwd",
        "http:///path",
        "http://host:0/",
        "http://host:99999/",
        "http://user:pass@host/",
        "http://host/#part",
        "http://host/ space",
        "http://host/\r\nX: y",
        "http://höst/",
        "http://[::1/",
        "http://host/" + "a" * 2048,
    ],
)
def test_what_is_no_url_of_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(BadUrl):
        checked_url(url)


@pytest.mark.parametrize("url", ["http://host", "https://host:8443/a/b?c=d%20e", "http://[::1]:80/"])
def test_http_and_https_urls_are_good(url: str) -> None:
    assert checked_url(url).hostname in ("host", "::1")
