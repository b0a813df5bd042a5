"""Signatures, with botocore's own signer as the oracle."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from runomics.wire.errors import (
    ApiError,
    IncompleteSignatureException,
    InvalidSignatureException,
    MissingAuthenticationTokenException,
    UnrecognizedClientException,
)
from runomics.wire.signing import AccessKey, Scope, authenticate, canonical_query, headers_by_name

KEY = AccessKey("AKIAEXAMPLE", "123456789012", b"secret/secret+secret", "arn:aws:iam::123456789012:user/me")
ARN = quote("arn:aws:omics:us-east-1:123456789012:workflow/1000000/version/v1", safe="")


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as the server gets it."""

    method: str
    raw_path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def with_header(self, name: bytes, value: bytes) -> Sent:
        others = tuple(pair for pair in self.headers if pair[0] != name)
        return replace(self, headers=(*others, (name, value)))

    def header(self, name: bytes) -> bytes:
        return dict(self.headers)[name]


def signed(
    method: str = "GET",
    target: str = "/run/1",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    host: str = "workflows-127.0.0.1:8080",
    secret: str = KEY.secret.decode(),
    region: str = "us-east-1",
    service: str = "omics",
    token: str | None = None,
) -> Sent:
    """Signed by botocore now."""
    request = botocore.awsrequest.AWSRequest(
        method=method, url=f"http://{host}{target}", data=body, headers={"Host": host, **(headers or {})}
    )
    credentials = botocore.credentials.Credentials(KEY.key_id, secret, token)
    botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    parts = urlsplit(request.url)
    pairs = tuple((name.lower().encode(), value.encode()) for name, value in request.headers.items())
    return Sent(method, parts.path.encode(), parts.query.encode(), pairs, body)


def check(
    sent: Sent, now_seconds: float | None = None, find_key: Callable[[str], AccessKey | None] | None = None
) -> Any:
    return authenticate(
        method=sent.method,
        raw_path=sent.raw_path,
        query=sent.query,
        headers=headers_by_name(list(sent.headers)),
        body=sent.body,
        find_key=find_key or {KEY.key_id: KEY}.get,
        scope=Scope("us-east-1", "omics"),
        now_seconds=time.time() if now_seconds is None else now_seconds,
    )


def sent_at(sent: Sent) -> float:
    return calendar.timegm(time.strptime(sent.header(b"x-amz-date").decode(), "%Y%m%dT%H%M%SZ"))


# ---- accepted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "body", "headers"),
    [
        ("GET", "/run/1", b"", {}),
        ("GET", "/run", b"", {}),
        ("GET", "/run?maxResults=10&name=a%20b&startingToken=x%2Fy%3D%3D", b"", {}),
        ("GET", "/run?name=&status=RUNNING&batchId=2", b"", {}),
        ("DELETE", f"/tags/{ARN}?tagKeys=b&tagKeys=a&tagKeys=%C3%A4%26%3D", b"", {}),
        ("GET", "/run?b=2&a=9&a=10&A=1&~b=1&~a=2", b"", {}),
        ("GET", "/run?empty", b"", {}),
        ("POST", f"/tags/{ARN}", b'{"tags":{}}', {"Content-Type": "application/json"}),
        ("POST", "/run/1/cancel", b"", {"Content-Length": "0"}),
        ("POST", "/run", b"x" * 300_000, {"Content-Type": "application/json", "X-Long": "  many   blanks \t inside  "}),
        ("GET", "/configuration/a~b_c-d.e%20f%25g", b"", {"X-Amz-Content-Sha256": botocore.auth.EMPTY_SHA256_HASH}),
    ],
)
def test_what_botocore_signs_is_accepted(method: str, target: str, body: bytes, headers: dict[str, str]) -> None:
    assert check(signed(method, target, body, headers)) is KEY


@pytest.mark.parametrize("host", ["127.0.0.1:1", "workflows-omics.example", "tags-omics.us-east-1.amazonaws.com"])
def test_the_host_counts_as_it_was_received(host: str) -> None:
    assert check(signed(host=host)) is KEY
    with pytest.raises(InvalidSignatureException):
        check(signed(host=host).with_header(b"host", b"other"))


def test_repeated_signed_headers_are_one_with_commas() -> None:
    sent = signed(headers={"X-Many": "a  b,c"})
    apart = tuple(pair for pair in sent.headers if pair[0] != b"x-many")
    assert check(replace(sent, headers=(*apart, (b"x-many", b" a  b "), (b"x-many", b"c")))) is KEY


def test_a_session_token_is_tolerated() -> None:
    assert check(signed(token="a-session-token")) is KEY


def test_the_date_header_serves_where_there_is_no_x_amz_date() -> None:
    sent = signed(headers={"Date": "now"})
    assert b"x-amz-date" not in dict(sent.headers)
    assert check(sent) is KEY


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda value: value.replace(b", ", b","),
        lambda value: value.replace(b", ", b" ,\t "),
        lambda value: value.replace(b", ", b"  "),
        lambda value: b"  " + value.replace(b"HMAC-SHA256 ", b"HMAC-SHA256   ") + b" ",
        lambda value: (
            b"AWS4-HMAC-SHA256 " + b", ".join(reversed(value.removeprefix(b"AWS4-HMAC-SHA256 ").split(b", ")))
        ),
    ],
)
def test_other_spacing_and_order_of_the_authorization_header_are_read(rewrite: Callable[[bytes], bytes]) -> None:
    sent = signed()
    assert check(sent.with_header(b"authorization", rewrite(sent.header(b"authorization")))) is KEY


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        (b"", b""),
        (b"b=1&a=2", b"a=2&b=1"),
        (b"a=b=c", b"a=b%3Dc"),
        (b"a=x+y&a=%7e%2f", b"a=x%20y&a=~%2F"),
        (b"a=:", b"a=%3A"),
        (b"&&a&", b"a="),
        (b"a-b=1&a=2", b"a=2&a-b=1"),
    ],
)
def test_queries_have_one_canonical_form(query: bytes, canonical: bytes) -> None:
    assert canonical_query(query) == canonical


# ---- refused -----------------------------------------------------------------------------------------------------


def refusal(sent: Sent, kind: type[ApiError], now_seconds: float | None = None) -> str:
    with pytest.raises(kind) as refused:
        check(sent, now_seconds)
    return refused.value.message


@pytest.mark.source("observed")
def test_an_unsigned_request_misses_its_token() -> None:
    sent = signed()
    bare = replace(sent, headers=tuple(pair for pair in sent.headers if pair[0] != b"authorization"))
    assert refusal(bare, MissingAuthenticationTokenException) == "Missing Authentication Token"


@pytest.mark.source("observed")
def test_an_unknown_key_is_not_recognized() -> None:
    with pytest.raises(UnrecognizedClientException) as refused:
        check(signed(), find_key=lambda _key_id: None)
    assert refused.value.message == "The security token included in the request is invalid."


@pytest.mark.source("observed")
@pytest.mark.parametrize(
    "tamper",
    [
        lambda sent: replace(sent, method="DELETE"),
        lambda sent: replace(sent, raw_path=b"/run/2"),
        lambda sent: replace(sent, raw_path=b"/run/%31"),
        lambda sent: replace(sent, query=b"name=b&maxResults=1"),
        lambda sent: replace(sent, query=b"name=a&maxResults=1&maxResults=2"),
        lambda sent: replace(sent, query=b""),
        lambda sent: replace(sent, body=b'{"a":2}'),
        lambda sent: replace(sent, body=b""),
        lambda sent: sent.with_header(b"host", b"127.0.0.1:8080"),
        lambda sent: sent.with_header(b"content-type", b"text/plain"),
        lambda sent: replace(sent, headers=tuple(pair for pair in sent.headers if pair[0] != b"content-type")),
        lambda sent: replace(sent, headers=(*sent.headers, (b"content-type", b"application/json"))),
        lambda sent: sent.with_header(b"authorization", sent.header(b"authorization")[:-1] + b"Z"),
        lambda sent: sent.with_header(b"authorization", sent.header(b"authorization")[:-64] + b"0" * 64),
        lambda sent: sent.with_header(b"authorization", sent.header(b"authorization")[:-1]),
    ],
)
def test_a_request_changed_on_its_way_does_not_match_its_signature(tamper: Callable[[Sent], Sent]) -> None:
    sent = signed("POST", "/run/1?name=a&maxResults=1", b'{"a":1}', {"Content-Type": "application/json"})
    assert check(sent) is KEY
    assert refusal(tamper(sent), InvalidSignatureException).startswith(
        "The request signature we calculated does not match the signature you provided. "
    )


def test_a_header_that_is_not_signed_may_change_on_its_way() -> None:
    assert check(signed().with_header(b"user-agent", b"a proxy's")) is KEY


@pytest.mark.source("observed")
def test_another_secret_does_not_match() -> None:
    assert "does not match" in refusal(signed(secret="another"), InvalidSignatureException)


@pytest.mark.source("observed")
def test_another_scope_is_refused_by_name() -> None:
    message = refusal(signed(region="eu-west-1"), InvalidSignatureException)
    assert message == (
        "Credential should be scoped to a valid region, not 'eu-west-1'. This server is region 'us-east-1'."
    )
    message = refusal(signed(service="s3"), InvalidSignatureException)
    assert message == "Credential should be scoped to correct service: 'omics', not 's3'."
    sent = signed()
    other = sent.header(b"authorization").replace(b"/aws4_request", b"/aws5_request")
    message = refusal(sent.with_header(b"authorization", other), InvalidSignatureException)
    assert message == "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'."


@pytest.mark.source("observed")
def test_fifteen_minutes_either_way_are_accepted_and_one_second_more_is_not() -> None:
    sent = signed()
    moment = sent_at(sent)
    assert check(sent, moment + 900) is KEY
    assert check(sent, moment - 900) is KEY
    stamp = sent.header(b"x-amz-date").decode()
    expired = refusal(sent, InvalidSignatureException, moment + 901)
    assert expired.startswith(f"Signature expired: {stamp} is now earlier than ")
    assert expired.endswith(" - 15 min.)")
    early = refusal(sent, InvalidSignatureException, moment - 901)
    assert early.startswith(f"Signature not yet current: {stamp} is still later than ")
    assert early.endswith(" + 15 min.)")


@pytest.mark.source("observed")
def test_the_scope_is_of_the_day_of_the_request() -> None:
    sent = signed()
    other = sent.header(b"x-amz-date").replace(b"20", b"19", 1)
    message = refusal(sent.with_header(b"x-amz-date", other), InvalidSignatureException)
    assert message.startswith(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
    )


@pytest.mark.parametrize("claimed", [b"UNSIGNED-PAYLOAD", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"0" * 64, b""])
def test_a_body_is_always_hashed(claimed: bytes) -> None:
    sent = signed(headers={"X-Amz-Content-Sha256": claimed.decode()})
    assert "'x-amz-content-sha256' header does not match" in refusal(sent, InvalidSignatureException)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"Bearer abc", "Unsupported AWS 'algorithm': 'Bearer'"),
        (b"AWS4-ECDSA-P256-SHA256 Credential=a", "Unsupported AWS 'algorithm'"),
        (b"AWS4-HMAC-SHA256", "requires 'Credential' parameter. Authorization header requires 'SignedHeaders'"),
        (b"AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Signature=0", "requires 'SignedHeaders' parameter."),
        (b"AWS4-HMAC-SHA256 nonsense", "'nonsense' not a valid key=value pair"),
        (b"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "exactly 5 slash-delimited elements"),
        (b"\xff\xfe", "Unsupported AWS 'algorithm'"),
    ],
)
def test_an_authorization_header_that_cannot_be_read_says_why(value: bytes, says: str) -> None:
    assert says in refusal(signed().with_header(b"authorization", value), IncompleteSignatureException)


@pytest.mark.parametrize("value", [b"", b"yesterday", b"20261399T000000Z", b"\xff", b"Mon, 99 Foo 2026"])
def test_a_request_needs_a_date(value: bytes) -> None:
    sent = signed().with_header(b"x-amz-date", value)
    authorization = sent.header(b"authorization")
    day = authorization.partition(b"AKIAEXAMPLE/")[2][:8]
    refusal(sent.with_header(b"authorization", authorization.replace(day, b"20261399")), IncompleteSignatureException)


def test_signatures_in_the_query_are_refused() -> None:
    sent = replace(signed(), headers=((b"host", b"h"),), query=b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00")
    assert "query string are not accepted" in refusal(sent, IncompleteSignatureException)


def test_a_refusal_does_not_repeat_the_signature() -> None:
    value = b"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host Signature=" + b"5" * 64 + b" Extra"
    assert "5555" not in refusal(signed().with_header(b"authorization", value), IncompleteSignatureException)
