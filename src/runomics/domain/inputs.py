"""Which objects a run's parameters name, and where each is staged. Pure; used by the server and by the stores of objects.

Only parameters whose declared type can hold a File or a Directory are looked at: a String is never staged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

INPUTS_ROOT = "/mnt/workflow/inputs"
"""Where engine and tasks see what is staged, read-only (docs/dev/formats.md)."""

KEY_BYTES = 1024
"""Source: guide of S3: a key is at most 1,024 bytes of UTF-8."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_TYPE_TOKEN = re.compile(r"\s*([A-Za-z_][\w.]*|\[\]|[\[\],?+])")
_PLAIN = frozenset({"String", "Int", "Float", "Boolean", "string", "int", "long", "float", "double", "boolean", "null"})
_ESCAPED = re.compile(r"%(?:25)*2[EF](?:%2E)?")


class InvalidInput(Exception):
    """A parameter names something that cannot be an input. `reason` is a failureReason of the API, `message` its text."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class InputUri:
    """An object, or with `is_prefix` everything below a key, that the parameters name. `uri` is as the client wrote it.

    `declared` is False where the type does not say what the string is (a member of a struct, a Nextflow parameter): such a
    URI is staged when the object exists and is left to the engine when it does not.
    """

    uri: str
    bucket: str
    key: str
    is_prefix: bool
    declared: bool = True


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; the key is verbatim and may be empty.

    Raises:
        ValueError: the text is not such a URI; the message says why.
    """
    if not uri.startswith("s3://"):
        raise ValueError(f"{uri!r} is not an s3:// URI")
    bucket, _, key = uri[5:].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{uri!r} has no valid bucket name")
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the key of {uri!r} is not valid Unicode") from None
    if len(encoded) > KEY_BYTES:
        raise ValueError(f"the key of {uri!r} is longer than {KEY_BYTES} bytes")
    if "\0" in key:
        raise ValueError(f"the key of {uri!r} contains a NUL")
    return bucket, key


def staged_path(bucket: str, key: str) -> str:
    """The path of an object relative to the run's inputs directory: `s3/<bucket>/<key>`.

    Segments that no directory can hold (empty, `.`, `..`) are written %2F, %2E, %2E%2E, one to one. A trailing slash, which
    names a directory, is dropped.
    """
    segments = key.removesuffix("/").split("/") if key not in ("", "/") else []
    return "/".join(["s3", bucket, *map(_as_file_name, segments)])


def _as_file_name(segment: str) -> str:
    if segment == "":
        return "%2F"
    if segment in (".", ".."):
        return segment.replace(".", "%2E")
    if _ESCAPED.fullmatch(segment):
        return "%25" + segment[1:]
    return segment


def parse_input(uri: str, *, directory: bool = False, declared: bool = True) -> InputUri:
    """The input that a string in a File position (`directory`: a Directory position) names.

    A trailing slash means every object below the prefix; a Directory may leave it out.

    Raises:
        InvalidInput: INVALID_URI_INPUT for another scheme, a local path, a malformed URI, or a File that ends in a slash.

    Source: guide, workflows-run-inputs (s3:// and omics:// alone; trailing slash).
    Deviation: omics:// URIs of sequence stores are refused: this service has none.
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        raise _invalid(f"Input {uri!r} is not a URI. Upload the file and give its s3://bucket/key.")
    if scheme[1] == "omics":
        raise _invalid(
            f"Input {uri} is in an omics:// store, which this server does not have. Copy it to a bucket and give its s3:// URI."
        )
    if scheme[1] != "s3":
        raise _invalid(
            f"Input {uri} has the scheme {scheme[1]}://; only s3:// is supported. Copy it to a bucket and give its s3:// URI."
        )
    try:
        bucket, key = split_s3(uri)
    except ValueError as error:
        raise _invalid(f"Input URI is malformed: {error}.") from None
    if directory or uri.endswith("/"):
        return InputUri(uri=uri, bucket=bucket, key=key, is_prefix=True, declared=declared)
    if not key:
        raise _invalid(f"Input {uri} names a bucket, not an object.")
    return InputUri(uri=uri, bucket=bucket, key=key, is_prefix=False, declared=declared)


def input_uris(parameters: Mapping[str, Any], interface_inputs: Sequence[Mapping[str, Any]]) -> list[InputUri]:
    """Every object that the parameters name, in the order of the parameters, each URI once.

    `interface_inputs` are the inputs of interface.json: `name`, `type` and `files` (the type can hold a file). A parameter
    may be called `name` or `Workflow.name`, on either side.

    Raises:
        InvalidInput: a string in a File or Directory position is no input this service can read.
    """
    types = {str(item["name"]): str(item.get("type", "")) for item in interface_inputs if item.get("files")}
    bare = {name.partition(".")[2]: text for name, text in types.items() if "." in name}
    found: dict[str, InputUri] = {}
    for name, value in parameters.items():
        text = types.get(name)
        if text is None:
            text = types.get(name.partition(".")[2], bare.get(name))
        if text is None:
            continue
        for item in _walk(value, _parse_type(text)):
            known = found.setdefault(item.uri, item)
            if item.declared and not known.declared:
                found[item.uri] = replace(known, declared=True, is_prefix=item.is_prefix)
    return list(found.values())


# ---- types -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    arguments: tuple[_Type, ...] = ()


_UNKNOWN = _Type("")


def _parse_type(text: str) -> _Type:
    """`Map[String, Array[File]+]?`, `File[]?`; anything else is of unknown shape."""
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TYPE_TOKEN.match(text, position)
        if match is None:
            return _UNKNOWN
        tokens.append(match[1])
        position = match.end()
    if not tokens:
        return _UNKNOWN
    try:
        parsed, rest = _parse_tokens(tokens, 0)
    except (IndexError, RecursionError):
        return _UNKNOWN
    return parsed if rest == len(tokens) else _UNKNOWN


def _parse_tokens(tokens: list[str], start: int) -> tuple[_Type, int]:
    name, position = tokens[start], start + 1
    arguments: list[_Type] = []
    if position < len(tokens) and tokens[position] == "[":
        while tokens[position] != "]":
            argument, position = _parse_tokens(tokens, position + 1)
            arguments.append(argument)
        position += 1
    parsed = _Type(name, tuple(arguments))
    while position < len(tokens) and tokens[position] in ("?", "+", "[]"):
        if tokens[position] == "[]":
            parsed = _Type("Array", (parsed,))
        position += 1
    return parsed, position


# ---- values ------------------------------------------------------------------------------------------------------


def _walk(value: Any, kind: _Type) -> Iterator[InputUri]:
    if value is None or kind.name in _PLAIN:
        return
    if isinstance(value, Mapping) and value.get("class") in ("File", "Directory"):
        yield from _walk_object(value)
    elif kind.name in ("File", "Directory") and isinstance(value, str):
        yield _in_position(value, kind.name)
    elif kind.name == "Array" and len(kind.arguments) == 1 and isinstance(value, list):
        for item in value:
            yield from _walk(item, kind.arguments[0])
    elif kind.name == "Map" and len(kind.arguments) == 2 and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(key, kind.arguments[0])
            yield from _walk(item, kind.arguments[1])
    elif kind.name == "Pair" and len(kind.arguments) == 2 and isinstance(value, Mapping):
        sides = {str(key).lower(): item for key, item in value.items()}
        yield from _walk(sides.get("left"), kind.arguments[0])
        yield from _walk(sides.get("right"), kind.arguments[1])
    else:
        yield from _walk_unknown(value)


def _walk_object(value: Mapping[str, Any]) -> Iterator[InputUri]:
    """A CWL File or Directory object, with what belongs to it."""
    location = value.get("location", value.get("path"))
    if isinstance(location, str):
        yield _in_position(location, str(value["class"]))
    for member in ("secondaryFiles", "listing"):
        for item in value.get(member) or ():
            yield from _walk(item, _Type("File"))


def _walk_unknown(value: Any) -> Iterator[InputUri]:
    """Strings that look like objects. A prefix is left to the engine: it may be a place to write to."""
    if isinstance(value, str):
        if value.startswith("s3://") and not value.endswith("/"):
            try:
                yield parse_input(value, declared=False)
            except InvalidInput:
                return
    elif isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory"):
            yield from _walk_object(value)
            return
        for item in value.values():
            yield from _walk_unknown(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk_unknown(item)


def _in_position(value: str, kind: str) -> InputUri:
    found = parse_input(value, directory=kind == "Directory")
    if kind == "File" and found.is_prefix:
        raise _invalid(f"Input {value} ends in a slash, which names a directory, where the workflow wants a File.")
    return found


def _invalid(message: str) -> InvalidInput:
    return InvalidInput("INVALID_URI_INPUT", message)
