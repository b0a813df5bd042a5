"""One closure per shape of the service model: takes a decoded value, gives the value to work with, and notes every broken constraint.

Server process; compiled once at start, called in the loop (on a pool thread for large bodies). Unknown members are dropped and null
counts as absent. A value of the wrong JSON type ends the check at once with SerializationException, as AWS's deserialiser refuses it
before any constraint is looked at; broken constraints are all collected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pybase64

from runomics.wire.errors import SerializationException, ValidationException
from runomics.wire.patterns import matcher

MAX_ECHO_CHARS = 128
"""Of a refused value, in characters; the rest is cut and shown as three dots."""

MAX_LISTED_VIOLATIONS = 50
"""Named one by one; the total is always the true one."""

MAX_DOCUMENT_DEPTH = 100
"""Of free documents: it keeps every later reader and writer of the document within its own limit.

Deviation: free documents (parameters, engineSettings) may be nested at most 100 levels deep; AWS's limit is unknown."""

MAX_UNBOUNDED_CHARS = 2048
"""Of a string that the model gives a pattern and no maximum: some of these patterns (`.+/.+`) take time that grows with the square of
the length; within this one, milliseconds.

Deviation: strings that have a pattern and no maximum in the model are limited to 2,048 characters; AWS's limit is unknown."""

INT32 = (-(1 << 31), (1 << 31) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)


class Violations:
    """The broken constraints of one request."""

    __slots__ = ("count", "lines")

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []

    def add(self, value: object, path: str, constraint: str) -> None:
        """Note that `value`, found at `path`, breaks `constraint` (a sentence that starts with "Member must" or "Map keys must")."""
        self.count += 1
        if self.count > MAX_LISTED_VIOLATIONS:
            return
        self.lines.append(f"Value {_echo(value)} at '{path}' failed to satisfy constraint: {constraint}")

    def error(self) -> ValidationException:
        """All of them in one sentence of AWS's form.

        Source: observed, "N validation errors detected: Value '…' at 'parameterTemplate.NAME.member.description' failed to satisfy
            constraint: Member must …".
        Deviation: at most 50 broken constraints are named and a refused value is shown up to 128 characters.
        """
        noun = "error" if self.count == 1 else "errors"
        unnamed = self.count - len(self.lines)
        tail = f"; {unnamed} more" if unnamed else ""
        return ValidationException(f"{self.count} validation {noun} detected: {'; '.join(self.lines)}{tail}")


Check = Callable[[Any, str, Violations], Any]
"""(value, path, violations) → the value to work with. Raises SerializationException for a wrong JSON type."""


class Compiler:
    """Makes and keeps the closures of one model. Shapes may refer to themselves."""

    def __init__(self, shapes: Mapping[str, Mapping[str, Any]]) -> None:
        self._shapes = shapes
        self._checks: dict[str, Check] = {}
        self._kinds: dict[str, Callable[[Mapping[str, Any]], Check]] = {
            "string": _string,
            "integer": lambda shape: _integer(shape, INT32),
            "long": lambda shape: _integer(shape, INT64),
            "boolean": _boolean,
            "blob": _blob,
            "list": self._list,
            "map": self._map,
            "structure": self._structure,
        }

    def check(self, name: str) -> Check:
        """The closure of shape `name`.

        Raises:
            KeyError: the shape's type does not occur in inputs of this service.
        """
        known = self._checks.get(name)
        if known is not None:
            return known
        self._checks[name] = lambda value, path, violations: self._checks[name](value, path, violations)
        shape = self._shapes[name]
        self._checks[name] = self._kinds[shape["type"]](shape)
        return self._checks[name]

    def _list(self, shape: Mapping[str, Any]) -> Check:
        low, high = shape.get("min", 0), shape.get("max")
        item = self.check(shape["member"]["shape"])

        def check(value: Any, path: str, violations: Violations) -> Any:
            if value.__class__ is not list:
                raise _wrong_type(value, "a List", path)
            _check_size(value, low, high, path, violations)
            checked = []
            for index, element in enumerate(value, 1):
                if element is None:
                    violations.add(None, f"{path}.{index}.member", "Member must not be null")
                    continue
                checked.append(item(element, f"{path}.{index}.member", violations))
            return checked

        return check

    def _map(self, shape: Mapping[str, Any]) -> Check:
        low, high = shape.get("min", 0), shape.get("max")
        check_key, item = self.check(shape["key"]["shape"]), self.check(shape["value"]["shape"])
        is_scalar = self._shapes[shape["value"]["shape"]]["type"] not in ("structure", "list", "map")
        suffix = "" if is_scalar else ".member"

        def check(value: Any, path: str, violations: Violations) -> Any:
            if value.__class__ is not dict:
                raise _wrong_type(value, "a Map", path)
            _check_size(value, low, high, path, violations)
            checked = {}
            for key, element in value.items():
                refused = Violations()
                check_key(key, path, refused)
                if refused.count:
                    reasons = ", ".join(line.rpartition(" failed to satisfy constraint: ")[2] for line in refused.lines)
                    violations.add(key, path, f"Map keys must satisfy constraint: [{reasons}]")
                if element is not None:
                    checked[key] = item(element, f"{path}.{_cut(key)}{suffix}", violations)
            return checked

        return check

    def _structure(self, shape: Mapping[str, Any]) -> Check:
        if shape.get("document"):
            return _document
        members = {name: self.check(member["shape"]) for name, member in shape.get("members", {}).items()}
        required = tuple(shape.get("required", ()))
        is_union = bool(shape.get("union"))

        def check(value: Any, path: str, violations: Violations) -> Any:
            if value.__class__ is not dict:
                raise _wrong_type(value, "a Structure", path)
            prefix = path + "." if path else ""
            checked = {}
            for name, element in value.items():
                if element is not None and (member := members.get(name)) is not None:
                    checked[name] = member(element, prefix + name, violations)
            for name in required:
                if name not in checked:
                    violations.add(None, prefix + name, "Member must not be null")
            if is_union and len(checked) != 1:
                options = ", ".join(members)
                violations.add(value, path, f"Member must have exactly one member set of: [{options}]")
            return checked

        return check


def checker(shapes: Mapping[str, Mapping[str, Any]], *names: str) -> Callable[[str, Any], Any]:
    """A function of a shape's name, one of `names`, and a value: the value to work with, of what does not come by a request of its own.

    The function raises ValidationException with every broken constraint, or SerializationException for a wrong JSON type.
    """
    compiler = Compiler(shapes)
    checks = {name: compiler.check(name) for name in names}

    def check(name: str, value: Any) -> Any:
        violations = Violations()
        checked = checks[name](value, "", violations)
        if violations.count:
            raise violations.error()
        return checked

    return check


# ---- leaves ------------------------------------------------------------------------------------------------------


def _string(shape: Mapping[str, Any]) -> Check:
    """Deviation: the character U+0000 is refused in every string outside free documents: not every database can hold it."""
    if "enum" in shape:
        return _enum(shape["enum"])
    low, pattern = shape.get("min", 0), shape.get("pattern")
    high = shape.get("max", MAX_UNBOUNDED_CHARS if pattern else sys.maxsize)
    matches = matcher(pattern) if pattern else None

    def check(value: Any, path: str, violations: Violations) -> Any:
        if value.__class__ is not str:
            raise _wrong_type(value, "a String", path)
        length = len(value)
        if length < low:
            violations.add(value, path, f"Member must have length greater than or equal to {low}")
        if length > high:
            violations.add(value, path, f"Member must have length less than or equal to {high}")
        elif matches is not None and not matches(value):
            violations.add(value, path, f"Member must satisfy regular expression pattern: {pattern}")
        elif "\0" in value:
            violations.add(value, path, "Member must not contain the character U+0000")
        return value

    return check


def _enum(names: list[str]) -> Check:
    known = frozenset(names)
    constraint = f"Member must satisfy enum value set: [{', '.join(names)}]"

    def check(value: Any, path: str, violations: Violations) -> Any:
        if value.__class__ is not str:
            raise _wrong_type(value, "a String", path)
        if value not in known:
            violations.add(value, path, constraint)
        return value

    return check


def _integer(shape: Mapping[str, Any], bounds: tuple[int, int]) -> Check:
    low, high = shape.get("min", bounds[0]), shape.get("max", bounds[1])

    def check(value: Any, path: str, violations: Violations) -> Any:
        if value.__class__ is not int:
            raise _wrong_type(value, "an Integer", path)
        if value < low:
            violations.add(value, path, f"Member must have value greater than or equal to {low}")
        if value > high:
            violations.add(value, path, f"Member must have value less than or equal to {high}")
        return value

    return check


def _boolean(_shape: Mapping[str, Any]) -> Check:
    def check(value: Any, path: str, _violations: Violations) -> Any:
        if value.__class__ is not bool:
            raise _wrong_type(value, "a Boolean", path)
        return value

    return check


def _blob(shape: Mapping[str, Any]) -> Check:
    low, high = shape.get("min", 0), shape.get("max")

    def check(value: Any, path: str, violations: Violations) -> Any:
        if value.__class__ is not str:
            raise _wrong_type(value, "a Blob", path)
        try:
            decoded = pybase64.b64decode(value, validate=True)
        except ValueError:
            raise SerializationException(f"The value at '{path}' is not base64") from None
        if not low <= len(decoded) <= (len(decoded) if high is None else high):
            violations.add(f"{len(decoded)} bytes", path, _size_constraint(len(decoded), low, high))
        return decoded

    return check


def _document(value: Any, path: str, violations: Violations) -> Any:
    """Free JSON passes unchanged, whatever its type."""
    level = [value]
    for _ in range(MAX_DOCUMENT_DEPTH + 1):
        below: list[Any] = []
        for element in level:
            if element.__class__ is dict:
                below.extend(element.values())
            elif element.__class__ is list:
                below.extend(element)
        if not below:
            return value
        level = below
    violations.add(value, path, f"Member must be nested at most {MAX_DOCUMENT_DEPTH} levels deep")
    return value


# ---- sentences ---------------------------------------------------------------------------------------------------


def _check_size(value: Any, low: int, high: int | None, path: str, violations: Violations) -> None:
    size = len(value)
    if size < low or (high is not None and size > high):
        violations.add(value, path, _size_constraint(size, low, high))


def _size_constraint(size: int, low: int, high: int | None) -> str:
    if size < low:
        return f"Member must have length greater than or equal to {low}"
    return f"Member must have length less than or equal to {high}"


_TOKENS = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE", list: "START_ARRAY", dict: "START_OBJECT"}


def _wrong_type(value: object, wanted: str, path: str) -> SerializationException:
    """Source: observed, AWS's "STRING_VALUE can not be converted to an Integer"; the place is our addition."""
    token = f"{value}_VALUE".upper() if isinstance(value, bool) else _TOKENS[type(value)]
    return SerializationException(f"{token} can not be converted to {wanted} at '{path}'")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ECHO_CHARS else text[:MAX_ECHO_CHARS] + "..."


def _echo(value: object) -> str:
    if value is None:
        return "null"
    return f"'{_cut(_shown(value))}'"


def _shown(value: object) -> str:
    """Lists as [a, b], maps as {a=b}, as AWS's framework prints them. Looks no deeper than one level and at few elements."""
    if isinstance(value, list):
        return f"[{', '.join(_leaf(element) for element in value[:MAX_ECHO_CHARS])}]"
    if isinstance(value, dict):
        pairs = list(value.items())[:MAX_ECHO_CHARS]
        return "{" + ", ".join(f"{_cut(key)}={_leaf(element)}" for key, element in pairs) + "}"
    return _leaf(value)


def _leaf(value: object) -> str:
    if isinstance(value, list):
        return "[...]"
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return _cut(str(value))
