"""From method, path, query and body to the input of an operation, and from its answer to bytes. Server process, compiled at start.

Routing looks at the method and the raw path alone: SDKs put prefixes before the host, so the Host header says nothing. Whatever a
client sends ends in a value or in an `ApiError`, never in another exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from runomics.wire.errors import SerializationException
from runomics.wire.model import OperationModel, ServiceModel
from runomics.wire.validate import Check, Compiler, Violations

_INTEGER = re.compile(r"-?[0-9]{1,19}").fullmatch


@dataclass(frozen=True, slots=True)
class QueryMember:
    """Where a query parameter goes: the member's name, whether it repeats, and what its text becomes."""

    name: str
    is_list: bool
    convert: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, ready to serve.

    `labels` are (segment index, member); `bound` are the members that never come from the body; `answers_body` is False where
    the model has no output or an empty one.
    """

    name: str
    method: str
    status: int
    segments: tuple[bytes, ...]
    labels: tuple[tuple[int, str], ...]
    query: Mapping[bytes, QueryMember]
    bound: tuple[str, ...]
    reads_body: bool
    answers_body: bool
    check: Check

    def decode(self, segments: list[bytes], query: bytes, body: bytes) -> dict[str, Any]:
        """The input as received: typed by the model where it comes from path and query, as JSON gave it where from the body.

        Nothing is checked yet: members may be unknown, null or of a wrong type.

        Raises:
            SerializationException: not JSON, not an object, or not UTF-8.
        """
        request = _document(body) if body and self.reads_body else {}
        for name in self.bound:
            request.pop(name, None)
        for index, name in self.labels:
            request[name] = _text(segments[index], "path")
        if query:
            self._decode_query(query, request)
        return request

    def validate(self, request: dict[str, Any]) -> dict[str, Any]:
        """The input to work with, by wire names, without unknown and null members; blobs are bytes.

        Raises:
            ValidationException: names every broken constraint. SerializationException: a value has the wrong JSON type.
        """
        violations = Violations()
        checked: dict[str, Any] = self.check(request, "", violations)
        if violations.count:
            raise violations.error()
        return checked

    def _decode_query(self, query: bytes, request: dict[str, Any]) -> None:
        members = self.query
        for pair in query.split(b"&"):
            key, _, raw = pair.partition(b"=")
            member = members.get(key) or members.get(unquote_to_bytes(key))
            if member is None:
                continue
            value = member.convert(_text(raw.replace(b"+", b" "), "query"))
            if member.is_list:
                request.setdefault(member.name, []).append(value)
                continue
            request[member.name] = value


class Routes:
    """All operations by method and path segments."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._methods: dict[str, dict[bytes, Any]] = {}
        for operation in operations.values():
            self._add(operation)

    def match(self, method: str, raw_path: bytes) -> tuple[Operation | None, list[bytes]]:
        """The operation that answers, and the path's segments, still percent-encoded. None when there is none.

        A label takes exactly one segment that is not empty: an encoded ARN is one. A trailing slash makes an empty segment and so
        names nothing: an empty id never reaches the operation of the path above it.
        """
        segments = raw_path.split(b"/")
        node = self._methods.get(method)
        if node is None:
            return None, segments
        for segment in segments[1:]:
            below = node.get(segment) or (node.get(_LABEL) if segment else None)
            if below is None:
                return None, segments
            node = below
        return node.get(_HERE), segments

    def _add(self, operation: Operation) -> None:
        node = self._methods.setdefault(operation.method, {})
        for segment in operation.segments[1:]:
            node = node.setdefault(_LABEL if segment.startswith(b"{") else segment, {})
        if _HERE in node:
            raise ValueError(f"{operation.name} and {node[_HERE].name} have the same method and path")
        node[_HERE] = operation


_LABEL = b"{}"
_HERE = b"/"
"""No received segment equals these: one holds a slash, and the other is looked up only as a label or when sent as such.

A literal `{}` in a path is then a label's value like any other."""


def compile_operations(model: ServiceModel) -> dict[str, Operation]:
    """Every operation of the model, ready to serve; about 4 ms."""
    compiler = Compiler(model.shapes)
    return {name: _compile(spec, model, compiler) for name, spec in model.operations.items()}


def target_path(raw_path: bytes) -> bytes:
    """The path of a request target. Clients behind a proxy setting send the whole URL: scheme and host are cut off."""
    if raw_path.startswith(b"/"):
        return raw_path
    _, found, rest = raw_path.partition(b"://")
    if not found:
        return raw_path
    return b"/" + rest.partition(b"/")[2]


def encode(answer: Mapping[str, Any]) -> bytes:
    """JSON of an answer by wire names.

    Times are aware datetimes and end in Z; they must have a fraction of a second, since clients parse one: who makes them adds
    1 ms to whole seconds. Ready JSON is an `orjson.Fragment`. There is no null.
    """
    return orjson.dumps(answer, option=orjson.OPT_UTC_Z)


def _compile(spec: OperationModel, model: ServiceModel, compiler: Compiler) -> Operation:
    members: Mapping[str, Any] = model.shapes[spec.input_shape].get("members", {}) if spec.input_shape else {}
    segments = tuple(segment.encode() for segment in spec.uri.partition("?")[0].split("/"))
    by_label = {
        member.get("locationName", name): name for name, member in members.items() if member.get("location") == "uri"
    }
    output = model.shapes[spec.output_shape] if spec.output_shape else {}
    return Operation(
        name=spec.name,
        method=spec.method,
        status=spec.status,
        segments=segments,
        labels=tuple(
            (index, by_label[segment[1:-1].decode()])
            for index, segment in enumerate(segments)
            if segment.startswith(b"{")
        ),
        query={
            member.get("locationName", name).encode(): _query_member(name, model.shapes[member["shape"]], model)
            for name, member in members.items()
            if member.get("location") == "querystring"
        },
        bound=tuple(name for name, member in members.items() if "location" in member),
        reads_body=any("location" not in member for member in members.values()),
        answers_body=bool(output.get("members")),
        check=compiler.check(spec.input_shape) if spec.input_shape else lambda _value, _path, _violations: {},
    )


def _query_member(name: str, shape: Mapping[str, Any], model: ServiceModel) -> QueryMember:
    is_list = shape["type"] == "list"
    kind = model.shapes[shape["member"]["shape"]]["type"] if is_list else shape["type"]
    return QueryMember(name=name, is_list=is_list, convert=_CONVERSIONS[kind])


def _integer(text: str) -> int | str:
    """What is no integer stays text, which the member's check refuses by name."""
    return int(text) if _INTEGER(text) else text


_CONVERSIONS: Mapping[str, Callable[[str], Any]] = {"string": str, "integer": _integer, "long": _integer}


def _text(raw: bytes, place: str) -> str:
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError:
        raise SerializationException(f"The {place} is not UTF-8 once decoded: {raw[:128]!r}") from None


def _document(body: bytes) -> dict[str, Any]:
    """The last of repeated keys counts.

    Deviation: in free documents an integer beyond 64 bits becomes the nearest floating-point number.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SerializationException(f"The request body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise SerializationException("The request body is not a JSON object")
    return document
