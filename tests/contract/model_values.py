"""Values that satisfy the shapes of a service model, and values that break one constraint each; made from the model, by a seed."""

from __future__ import annotations

import copy
import datetime
import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Random = random.Random
Text = Callable[[Random, int], str]


def _of(alphabet: str, prefix: str = "", suffix: str = "") -> Text:
    return lambda rng, size: (
        prefix + "".join(rng.choice(alphabet) for _ in range(max(1, size - len(prefix) - len(suffix)))) + suffix
    )


WORDS = "abcXYZ019 äß漢字☃€+/_.:=@-%&?#'\"|"
S3 = _of("abc019/ ä+%", "s3://a-bucket/k")
PATTERNED: Mapping[str, Text] = {
    r"[0-9]+": _of("0123456789"),
    r"[0-9]{12}": lambda rng, _size: "".join(rng.choice("0123456789") for _ in range(12)),
    r"[\p{L}||\p{M}||\p{Z}||\p{S}||\p{N}||\p{P}]+": _of(WORDS),
    r"[\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}\t\n\r]+": _of(WORDS + "\t\n\r"),
    r"[A-Za-z0-9][A-Za-z0-9\-\._]*": _of("abcXYZ019-._", "v"),
    r"[a-zA-Z0-9_-]+": _of("abcXYZ019_-"),
    r".+/.+": _of("abc-", "owner/"),
    r"arn:.+": _of("abc:/%+ ", "arn:aws:omics:us-east-1:123456789012:run/1"),
    r"arn:aws(-[\w]+)*:.+:.+:[0-9]{12}:.+": _of("abc/", "arn:aws-cn:s:r:123456789012:x"),
    r"arn:aws(-\w+)*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[a-zA-Z0-9\/_+=.@-]+": _of(
        "abc/+", "arn:aws:secretsmanager:us-east-1:123456789012:secret:s"
    ),
    r"s3://([a-z0-9][a-z0-9-.]{1,61}[a-z0-9])/((.{1,1024}))": S3,
    r"s3://([a-z0-9][a-z0-9-.]{1,61}[a-z0-9])(/(.{0,1024}))?": S3,
    r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+": S3,
    r"sg-[0-9a-f]+": _of("0123456789abcdef", "sg-"),
    r"subnet-[0-9a-f]+": _of("0123456789abcdef", "subnet-"),
    r"vpc-[0-9a-f]+": _of("0123456789abcdef", "vpc-"),
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}": lambda rng, _size: str(
        uuid.UUID(int=rng.getrandbits(128))
    ),
    r"[0-9]{2}.[0-9]{2}.[0-9]": lambda _rng, _size: "25.04.4",
    r"sha[\p{L}||\p{M}||\p{Z}||\p{S}||\p{N}||\p{P}]+": _of("0123456789abcdef", "sha256:"),
}
"""A text for each pattern of our operations; one that is missing here is a KeyError that names it."""

DOCUMENTS: tuple[Any, ...] = (
    {"sample": "S1", "reads": ["s3://a/b", None], "deep": {"n": 1.5, "big": 1 << 53, "neg": -3, "yes": True}},
    {},
    ["a", 1, None],
    "text",
    False,
)


@dataclass(frozen=True, slots=True)
class Broken:
    """A request with one broken constraint: where, and the sentence's end."""

    request: dict[str, Any]
    path: str
    constraint: str


class Values:
    """Values of one model. Every optional member is present; a union has one member."""

    def __init__(self, shapes: Mapping[str, Mapping[str, Any]], seed: int) -> None:
        self._shapes = shapes
        self._random = Random(seed)

    def make(self, name: str) -> Any:
        """A value of shape `name`."""
        return self._make(self._shapes[name])

    def _make(self, shape: Mapping[str, Any]) -> Any:
        rng, kind = self._random, shape["type"]
        if kind == "structure":
            return self._structure(shape)
        if kind == "list":
            return [self.make(shape["member"]["shape"]) for _ in range(self._size(shape))]
        if kind == "map":
            return {
                self.make(shape["key"]["shape"]): self.make(shape["value"]["shape"]) for _ in range(self._size(shape))
            }
        if kind == "string":
            return self._string(shape)
        if kind in ("integer", "long"):
            low = max(shape.get("min", -5), -(1 << 31))
            return rng.randint(low, min(shape.get("max", (1 << 31) - 1), low + 1000))
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "blob":
            return rng.randbytes(rng.randint(1, 3000))
        assert kind == "timestamp", kind
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        return moment + datetime.timedelta(
            microseconds=1 + rng.randrange(10**12) // 10**6 * 10**6 + rng.randrange(999_000)
        )

    def _structure(self, shape: Mapping[str, Any]) -> Any:
        if shape.get("document"):
            return copy.deepcopy(self._random.choice(DOCUMENTS))
        members = list(shape.get("members", {}).items())
        if shape.get("union"):
            members = [self._random.choice(members)]
        return {name: self.make(member["shape"]) for name, member in members}

    def _size(self, shape: Mapping[str, Any]) -> int:
        return self._random.randint(max(1, shape.get("min", 0)), max(1, min(3, shape.get("max", 3))))

    def _string(self, shape: Mapping[str, Any]) -> str:
        if "enum" in shape:
            return str(self._random.choice(shape["enum"]))
        low = max(1, shape.get("min", 0))
        size = self._random.randint(low, max(low, min(shape.get("max", 40), low + 40)))
        make = PATTERNED[shape["pattern"]] if "pattern" in shape else _of(WORDS + "\n\t")
        return make(self._random, size)


def broken_requests(shapes: Mapping[str, Mapping[str, Any]], name: str, seed: int) -> Iterator[Broken]:
    """One request for every constraint of every member that input shape `name` has, at any depth, with that constraint broken."""
    whole = Values(shapes, seed).make(name)
    for path, place, value, constraint in _breaks(shapes, shapes[name], whole, "", ()):
        request = copy.deepcopy(whole)
        _put(request, place, value)
        yield Broken(request, path, constraint)


_ABSENT = object()
Place = tuple[Any, ...]
Break = tuple[str, Place, Any, str]


def _put(target: Any, place: Place, value: Any) -> None:
    for step in place[:-1]:
        target = target[step]
    if value is _ABSENT:
        del target[place[-1]]
        return
    target[place[-1]] = value


def _breaks(
    shapes: Mapping[str, Mapping[str, Any]], shape: Mapping[str, Any], value: Any, path: str, place: Place
) -> Iterator[Break]:
    kind = shape["type"]
    if kind == "structure" and not shape.get("document"):
        for name, element in value.items():
            inner = f"{path}.{name}" if path else name
            if name in shape.get("required", ()):
                yield inner, (*place, name), _ABSENT, "Member must not be null"
            yield from _breaks(shapes, shapes[shape["members"][name]["shape"]], element, inner, (*place, name))
        if shape.get("union"):
            yield path, place, {}, "Member must have exactly one member set"
    elif kind == "list":
        yield from _size_breaks(shape, path, place, lambda count: [value[0]] * count)
        yield from _breaks(
            shapes, shapes[shape["member"]["shape"]], value[-1], f"{path}.{len(value)}.member", (*place, -1)
        )
    elif kind == "map":
        yield from _size_breaks(
            shape, path, place, lambda count: {f"key{number}": next(iter(value.values())) for number in range(count)}
        )
        key = next(iter(value))
        item = shapes[shape["value"]["shape"]]
        inner = f"{path}.{key}.member" if item["type"] == "structure" else f"{path}.{key}"
        yield from _breaks(shapes, item, value[key], inner, (*place, key))
    elif kind == "string":
        yield from _string_breaks(shape, path, place)
    elif kind == "integer":
        if "min" in shape:
            low = shape["min"]
            yield path, place, low - 1, f"Member must have value greater than or equal to {low}"
        if "max" in shape:
            high = shape["max"]
            yield path, place, high + 1, f"Member must have value less than or equal to {high}"


def _size_breaks(shape: Mapping[str, Any], path: str, place: Place, make: Callable[[int], Any]) -> Iterator[Break]:
    if shape.get("min", 0) > 0:
        yield path, place, make(shape["min"] - 1), f"Member must have length greater than or equal to {shape['min']}"
    if "max" in shape:
        yield path, place, make(shape["max"] + 1), f"Member must have length less than or equal to {shape['max']}"


def _string_breaks(shape: Mapping[str, Any], path: str, place: Place) -> Iterator[Break]:
    if "enum" in shape:
        yield path, place, "NOSUCH", f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]"
        return
    pattern = shape.get("pattern")
    if shape.get("min", 0) > 0 and not pattern:
        yield path, place, "", f"Member must have length greater than or equal to {shape['min']}"
    if "max" in shape:
        yield path, place, "0" * (shape["max"] + 1), f"Member must have length less than or equal to {shape['max']}"
    if pattern:
        yield (
            path,
            place,
            "\u0007" * max(1, shape.get("min", 0)),
            f"Member must satisfy regular expression pattern: {pattern}",
        )
