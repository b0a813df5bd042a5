"""AWS signature version 4: whether a received request was signed by the holder of an access key. Pure; server process, once a request.

Everything is verified as received: the Host header with whatever prefix an SDK put before it, the raw path, the body's own hash.
Source: the Signature Version 4 reference; the sentences of refusals are those AWS's front ends answer with (observed).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from runomics.wire.errors import (
    IncompleteSignatureException,
    InvalidSignatureException,
    MissingAuthenticationTokenException,
    UnrecognizedClientException,
)

ALGORITHM = b"AWS4-HMAC-SHA256"
TERMINATOR = b"aws4_request"
MAX_SKEW_MINUTES = 15


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key of an account. `principal_arn` is who signs with it; `secret` never leaves the process."""

    key_id: str
    account: str
    secret: bytes = field(repr=False)
    principal_arn: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What this server's signatures are for."""

    region: str
    service: str


class _Authorization(NamedTuple):
    key_id: bytes
    date: bytes
    region: bytes
    service: bytes
    terminator: bytes
    signed_headers: bytes
    signature: bytes


_USUAL = re.compile(
    rb"AWS4-HMAC-SHA256 +Credential=([^/,\s]+)/([0-9]{8})/([^/,\s]+)/([^/,\s]+)/([^/,\s]+), *"
    rb"SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{64})"
).fullmatch
_STAMP = re.compile(rb"[0-9]{8}T[0-9]{6}Z").fullmatch
_EMPTY_HASH = hashlib.sha256(b"").hexdigest().encode()
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


def headers_by_name(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Values by name of headers as ASGI gives them (lower-case names); repeated ones are joined by commas, as they are signed."""
    found = dict(headers)
    if len(found) == len(headers):
        return found
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = joined[name] + b"," + _trimmed(value) if name in joined else _trimmed(value)
    return joined


def authenticate(
    *,
    method: str,
    raw_path: bytes,
    query: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    find_key: Callable[[str], AccessKey | None],
    scope: Scope,
    now_seconds: float,
) -> AccessKey:
    """The key that signed the request.

    `raw_path` is the path as sent, still percent-encoded; it is encoded once more, as for every service but S3. `headers` are those
    of `headers_by_name`.

    Raises:
        MissingAuthenticationTokenException: no Authorization header.
        IncompleteSignatureException: it cannot be read, or the request has no date; also for signatures in the query.
        UnrecognizedClientException: no such access key.
        InvalidSignatureException: wrong signature, wrong scope, or a date more than 15 minutes away.
    """
    authorization = _authorization(headers, query)
    key = find_key(authorization.key_id.decode("latin-1"))
    if key is None:
        raise UnrecognizedClientException
    _check_scope(authorization, scope)
    stamp = _stamp(headers)
    _check_date(authorization, stamp, now_seconds)
    payload = hashlib.sha256(body).hexdigest().encode() if body else _EMPTY_HASH
    claimed = headers.get(b"x-amz-content-sha256")
    if claimed is not None and claimed.strip() != payload:
        raise InvalidSignatureException("The provided 'x-amz-content-sha256' header does not match what was computed.")
    signed = authorization.signed_headers
    canonical = b"\n".join(
        (
            method.encode("latin-1"),
            _canonical_path(raw_path),
            canonical_query(query) if query else b"",
            _canonical_headers(signed, headers),
            b"",
            signed,
            payload,
        )
    )
    to_sign = b"\n".join(
        (
            ALGORITHM,
            stamp,
            b"/".join((authorization.date, authorization.region, authorization.service, TERMINATOR)),
            hashlib.sha256(canonical).hexdigest().encode(),
        )
    )
    signing_key = _signing_key(key.secret, authorization.date, authorization.region, authorization.service)
    expected = hmac.digest(signing_key, to_sign, "sha256").hex().encode()
    if not hmac.compare_digest(expected, authorization.signature):
        raise InvalidSignatureException(MISMATCH)
    return key


# ---- the Authorization header ------------------------------------------------------------------------------------


def _authorization(received: Mapping[bytes, bytes], query: bytes) -> _Authorization:
    value = received.get(b"authorization")
    if not value:
        if b"X-Amz-Signature=" in query:
            raise IncompleteSignatureException(
                "Signatures in the query string are not accepted: sign the request with an Authorization header."
            )
        raise MissingAuthenticationTokenException
    usual = _USUAL(value)
    if usual is not None:
        return _Authorization._make(usual.groups())
    return _unusual_authorization(value)


def _unusual_authorization(value: bytes) -> _Authorization:
    """Reads other spacing and order, or says what is wrong."""
    algorithm, _, rest = value.strip().replace(b"\t", b" ").partition(b" ")
    if algorithm != ALGORITHM:
        raise IncompleteSignatureException(
            f"Unsupported AWS 'algorithm': '{_shown(algorithm)}'; only AWS4-HMAC-SHA256 is accepted. {_quoted(value)}"
        )
    parameters: dict[bytes, bytes] = {}
    for part in rest.replace(b",", b" ").split():
        name, equals, content = part.partition(b"=")
        if not equals:
            raise IncompleteSignatureException(
                f"'{_shown(part)}' not a valid key=value pair (missing equal-sign) in Authorization header. {_quoted(value)}"
            )
        parameters[name] = content
    missing = [name for name in (b"Credential", b"SignedHeaders", b"Signature") if not parameters.get(name)]
    if missing:
        sentences = " ".join(f"Authorization header requires '{name.decode()}' parameter." for name in missing)
        raise IncompleteSignatureException(f"{sentences} {_quoted(value)}")
    credential = parameters[b"Credential"].split(b"/")
    if len(credential) != 5:
        raise IncompleteSignatureException(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term,"
            f" got '{_shown(parameters[b'Credential'])}'"
        )
    return _Authorization._make((*credential, parameters[b"SignedHeaders"].lower(), parameters[b"Signature"]))


def _shown(raw: bytes) -> str:
    return raw[:256].decode("latin-1")


def _quoted(value: bytes) -> str:
    """The header without what follows the signature's name: refusals may be logged."""
    return f"Authorization={_shown(value.partition(b'Signature=')[0])}"


# ---- scope and time ----------------------------------------------------------------------------------------------


def _check_scope(authorization: _Authorization, scope: Scope) -> None:
    if authorization.region == scope.region.encode() and authorization.service == scope.service.encode():
        if authorization.terminator == TERMINATOR:
            return
        raise InvalidSignatureException(
            f"Credential should be scoped with a valid terminator: 'aws4_request', not '{_shown(authorization.terminator)}'."
        )
    if authorization.region != scope.region.encode():
        raise InvalidSignatureException(
            f"Credential should be scoped to a valid region, not '{_shown(authorization.region)}'."
            f" This server is region '{scope.region}'."
        )
    raise InvalidSignatureException(
        f"Credential should be scoped to correct service: '{scope.service}', not '{_shown(authorization.service)}'."
    )


def _stamp(received: Mapping[bytes, bytes]) -> bytes:
    """The request's time as YYYYMMDDTHHMMSSZ, from x-amz-date, else from date."""
    stamp = received.get(b"x-amz-date") or received.get(b"date")
    if not stamp:
        raise IncompleteSignatureException(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    stamp = stamp.strip()
    if _STAMP(stamp):
        return stamp
    try:
        moment = parsedate_to_datetime(stamp.decode("ascii"))
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ").encode()
    except (ValueError, OverflowError):
        raise IncompleteSignatureException(
            f"Date must be in ISO-8601 'basic format'. Got '{_shown(stamp)}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ) from None


def _check_date(authorization: _Authorization, stamp: bytes, now_seconds: float) -> None:
    if stamp[:8] != authorization.date:
        raise InvalidSignatureException(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
            f" '{_shown(authorization.date)}' != '{stamp[:8].decode()}', from '{stamp.decode()}'."
        )
    sent_seconds = _epoch_seconds(stamp)
    if sent_seconds is None:
        raise IncompleteSignatureException(f"Date is not a time: '{stamp.decode()}'")
    skew_seconds = MAX_SKEW_MINUTES * 60
    if abs(now_seconds - sent_seconds) <= skew_seconds:
        return
    now = _iso(now_seconds)
    if sent_seconds < now_seconds:
        edge = _iso(now_seconds - skew_seconds)
        raise InvalidSignatureException(
            f"Signature expired: {stamp.decode()} is now earlier than {edge} ({now} - {MAX_SKEW_MINUTES} min.)"
        )
    edge = _iso(now_seconds + skew_seconds)
    raise InvalidSignatureException(
        f"Signature not yet current: {stamp.decode()} is still later than {edge} ({now} + {MAX_SKEW_MINUTES} min.)"
    )


@lru_cache(maxsize=1024)
def _epoch_seconds(stamp: bytes) -> float | None:
    try:
        return datetime.strptime(stamp.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


# ---- the canonical request ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _signing_key(secret: bytes, date: bytes, region: bytes, service: bytes) -> bytes:
    key = hmac.digest(b"AWS4" + secret, date, "sha256")
    for part in (region, service, TERMINATOR):
        key = hmac.digest(key, part, "sha256")
    return key


_PATH_SAFE = _UNRESERVED + b"/"


def _canonical_path(raw: bytes) -> bytes:
    """The path encoded once more. Dot segments stay as received: clients sign what they send."""
    if not raw.translate(None, _PATH_SAFE):
        return raw
    return quote_from_bytes(raw, safe=b"/~").encode()


_QUERY_SAFE = _UNRESERVED + b"=&"


def canonical_query(query: bytes) -> bytes:
    """Parameters sorted by encoded name and value, each encoded in the one canonical way; a plus sign is a space."""
    needs_no_encoding = not query.translate(None, _QUERY_SAFE)
    pairs = []
    for part in query.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        pairs.append((name, value) if needs_no_encoding and b"=" not in value else (_encoded(name), _encoded(value)))
    pairs.sort()
    return b"&".join([name + b"=" + value for name, value in pairs])


def _encoded(raw: bytes) -> bytes:
    return quote_from_bytes(unquote_to_bytes(raw.replace(b"+", b" ")), safe=b"~").encode()


def _canonical_headers(signed: bytes, received: Mapping[bytes, bytes]) -> bytes:
    try:
        return b"\n".join([name + b":" + _trimmed(received[name]) for name in signed.split(b";")])
    except KeyError:
        raise InvalidSignatureException(MISMATCH) from None


def _trimmed(value: bytes) -> bytes:
    if b"  " in value or b"\t" in value:
        return b" ".join(value.split())
    return value.strip()
