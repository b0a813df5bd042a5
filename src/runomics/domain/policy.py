"""IAM identity policies: read once, then asked whether an action on a resource is allowed. Pure; server process.

Source: guide, IAM JSON policy reference (elements, evaluation logic, condition operators, variables).
Deviation: a policy with a condition operator or key that this server cannot evaluate (numbers, dates, IP addresses) is refused
when it is attached, instead of being kept with a statement that would not mean what it says.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from runomics.domain.policy_pattern import Context, Pattern, compile_pattern

DOCUMENT_LIMIT_BYTES = 65_536
VERSIONS = ("2008-10-17", "2012-10-17")

_TAG_KEYS = ("aws:requesttag/", "aws:resourcetag/")
_KEYS = (
    "aws:CalledVia",
    "aws:CalledViaLast",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:RequestedRegion",
    "aws:TagKeys",
    "aws:username",
    "iam:PassedToService",
)
_KNOWN_KEYS = frozenset(key.lower() for key in _KEYS)


class PolicyError(ValueError):
    """A document that is no policy this server can follow. The message names the statement and says why."""


class Decision(Enum):
    """What a policy says to one action on one resource."""

    ALLOWED = "allowed"
    NOT_ALLOWED = "not allowed by any statement"
    DENIED = "denied by a statement"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, compiled. `needs_resource_tags`: some condition or variable asks for aws:ResourceTag."""

    statements: tuple[Statement, ...]
    needs_resource_tags: bool

    def decide(self, action: str, resource: str, context: Context) -> Decision:
        """What it says to `action` (omics:GetRun) on `resource` (an ARN, or `*` for what has none). Deny wins; silence denies."""
        allowed = False
        for statement in self.statements:
            if statement.allows and allowed:
                continue
            if statement.applies(action, resource, context):
                if not statement.allows:
                    return Decision.DENIED
                allowed = True
        return Decision.ALLOWED if allowed else Decision.NOT_ALLOWED


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: what it allows or denies, on what, when."""

    allows: bool
    actions: tuple[Pattern, ...]
    excludes_actions: bool
    resources: tuple[_ResourcePattern, ...]
    excludes_resources: bool
    conditions: tuple[_Condition, ...]

    def applies(self, action: str, resource: str, context: Context) -> bool:
        """Whether it speaks of this action on this resource now."""
        if any(pattern.matches(action, context) for pattern in self.actions) is self.excludes_actions:
            return False
        if any(pattern.matches(resource, context) for pattern in self.resources) is self.excludes_resources:
            return False
        return all(condition.holds(context) for condition in self.conditions)


def parse(document: str | bytes | Mapping[str, Any]) -> Policy:
    """The policy that `document` (JSON text, or what it decodes to) describes.

    Raises:
        PolicyError: it is none, or holds what this server cannot evaluate.
    """
    content = _decoded(document)
    policy = _Place("The policy")
    policy.know(content, frozenset({"Version", "Id", "Statement"}))
    version = content.get("Version", VERSIONS[0])
    if version not in VERSIONS:
        raise policy.error(f"Version {_shown(version)} is not one of {', '.join(VERSIONS)}")
    given = content.get("Statement")
    listed = [given] if isinstance(given, Mapping) else given
    if not isinstance(listed, list) or not listed:
        raise policy.error("Statement must be a statement or a list of at least one")
    has_variables = version == VERSIONS[1]
    statements = tuple(
        _statement(_Place(f"Statement {number}", has_variables), one) for number, one in enumerate(listed, start=1)
    )
    return Policy(statements, needs_resource_tags=any(_asks_for_resource_tags(one) for one in statements))


# ---- managed policies --------------------------------------------------------------------------------------------

MANAGED: Mapping[str, Mapping[str, Any]] = {
    "AmazonOmicsFullAccess": {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "omics:*", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": ["ram:AcceptResourceShareInvitation", "ram:GetResourceShareInvitations"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:CalledViaLast": "omics.amazonaws.com"}},
            },
            {
                "Effect": "Allow",
                "Action": "iam:PassRole",
                "Resource": "*",
                "Condition": {"StringEquals": {"iam:PassedToService": "omics.amazonaws.com"}},
            },
        ],
    },
    "AmazonOmicsReadOnlyAccess": {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["omics:Get*", "omics:List*"], "Resource": "*"}],
    },
}
"""What AWS calls so. Source: guide, security-iam-awsmanpol."""

FULL_ACCESS = "AmazonOmicsFullAccess"


def managed_name(text: str) -> str | None:
    """The managed policy that `text` names, by itself or as `arn:aws:iam::aws:policy/NAME`; None for anything else."""
    name = text.removeprefix("arn:aws:iam::aws:policy/")
    return name if name in MANAGED else None


def compiled(text: str) -> Policy:
    """The policy of a key: a managed policy's name, or a document.

    Raises:
        PolicyError: neither.
    """
    name = managed_name(text)
    return parse(text if name is None else MANAGED[name])


@functools.lru_cache(maxsize=256)
def compiled_once(document: str) -> Policy:
    """`parse` of a document that is asked again and again. Raises: PolicyError."""
    return parse(document)


# ---- the document ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the document something stands, for errors, and whether its version has variables."""

    name: str
    has_variables: bool = False

    def at(self, name: str) -> _Place:
        """A place within this one."""
        return _Place(f"{self.name}: {name}", self.has_variables)

    def error(self, why: str) -> PolicyError:
        """What is wrong here."""
        return PolicyError(f"{self.name}: {why}")

    def know(self, given: Mapping[str, Any], known: frozenset[str]) -> None:
        """Raises: PolicyError: `given` has an element that is not `known`."""
        unknown = sorted(str(name) for name in given.keys() - known)
        if unknown:
            raise self.error(f"unknown element {', '.join(unknown)}; known are {', '.join(sorted(known))}")

    def texts(self, value: Any) -> list[str]:
        """A text, or a list of texts. Raises: PolicyError: anything else."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise self.error(f"{_shown(value)} is not a text or a list of texts")
        return texts

    def pattern(self, text: str, *, has_wildcards: bool = True, ignores_case: bool = False) -> Pattern:
        """`text` compiled. Raises: PolicyError: a variable is unknown or not closed."""
        try:
            pattern = compile_pattern(
                text, has_wildcards=has_wildcards, has_variables=self.has_variables, ignores_case=ignores_case
            )
        except ValueError as error:
            raise self.error(str(error)) from None
        for key in pattern.keys:
            self.known_key(key)
        return pattern

    def known_key(self, key: str) -> str:
        """A condition key in lower case. Raises: PolicyError: this server has no value for it, ever."""
        lowered = key.lower()
        if lowered in _KNOWN_KEYS or any(lowered.startswith(prefix) and lowered != prefix for prefix in _TAG_KEYS):
            return lowered
        raise self.error(
            f"this server does not know the condition key {_shown(key)}; it knows aws:RequestTag/KEY, aws:ResourceTag/KEY, "
            + ", ".join(_KEYS)
        )


def _decoded(document: str | bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(document, Mapping):
        return document
    if len(document) > DOCUMENT_LIMIT_BYTES:
        raise PolicyError(f"The policy: it has {len(document)} bytes; the limit is {DOCUMENT_LIMIT_BYTES}")
    try:
        content = json.loads(document, object_pairs_hook=_without_repeats)
    except PolicyError:
        raise
    except RecursionError:
        raise PolicyError("The policy: it is nested too deeply") from None
    except ValueError as error:
        raise PolicyError(f"The policy: it is not JSON: {error}") from None
    if not isinstance(content, Mapping):
        raise PolicyError("The policy: it is not a JSON object")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key given twice would silently lose what was written first, perhaps a denial."""
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PolicyError(f"The policy: {_shown(twice)} stands twice in one object")
    return content


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 128 else text[:127] + "…"


# ---- statements --------------------------------------------------------------------------------------------------

_ELEMENTS = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_ACTION = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9*?]+")


def _statement(place: _Place, given: Any) -> Statement:
    if not isinstance(given, Mapping):
        raise place.error("it is not an object")
    if "Sid" in given:
        if not isinstance(given["Sid"], str):
            raise place.error(f"Sid {_shown(given['Sid'])} is not text")
        place = _Place(f"{place.name} ({given['Sid'][:128]})", place.has_variables)
    place.know(given, _ELEMENTS)
    if given.get("Effect") not in ("Allow", "Deny"):
        raise place.error(f"Effect {_shown(given.get('Effect'))} is not Allow or Deny")
    action_element, actions = _one_of(given, "Action", "NotAction", place)
    resource_element, resources = _one_of(given, "Resource", "NotResource", place)
    for action in actions:
        if action != "*" and _ACTION.fullmatch(action) is None:
            raise place.error(f"{action_element} {_shown(action)} is not SERVICE:ACTION or *")
    return Statement(
        allows=given["Effect"] == "Allow",
        actions=tuple(compile_pattern(action, ignores_case=True) for action in actions),
        excludes_actions=action_element == "NotAction",
        resources=tuple(_resource(text, place.at(resource_element)) for text in resources),
        excludes_resources=resource_element == "NotResource",
        conditions=tuple(_conditions(given.get("Condition", {}), place.at("Condition"))),
    )


def _one_of(given: Mapping[str, Any], name: str, other: str, place: _Place) -> tuple[str, list[str]]:
    if (name in given) == (other in given):
        raise place.error(f"exactly one of {name} and {other} is needed")
    element = name if name in given else other
    return element, place.at(element).texts(given[element])


def _asks_for_resource_tags(statement: Statement) -> bool:
    patterns = [field for resource in statement.resources for field in resource.fields]
    patterns += [wanted for condition in statement.conditions for wanted in condition.wanted]
    keys = [condition.key for condition in statement.conditions]
    keys += [key for pattern in patterns for key in pattern.keys]
    return any(key.startswith("aws:resourcetag/") for key in keys)


# ---- resources ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ResourcePattern:
    """`*` (no fields), or an ARN pattern matched field by field: a wildcard reaches over a colon in the last field alone."""

    fields: tuple[Pattern, ...]

    def matches(self, resource: str, context: Context) -> bool:
        if not self.fields:
            return True
        given = resource.split(":", 5)
        if len(given) != len(self.fields):
            return False
        return all(field.matches(text, context) for field, text in zip(self.fields, given, strict=True))


def _resource(text: str, place: _Place) -> _ResourcePattern:
    if text == "*":
        return _ResourcePattern(())
    if not text.startswith("arn:"):
        raise place.error(f"{_shown(text)} is not an ARN or *")
    fields = [""]
    for piece in re.split(r"(\$\{[^}]*\}|:)", text):
        if piece == ":" and len(fields) < 6:
            fields.append("")
        else:
            fields[-1] += piece
    # A pattern with fewer fields says nothing about the others. Source: guide, policy elements: Resource (incomplete ARNs).
    fields += ["*"] * (6 - len(fields))
    return _ResourcePattern(tuple(place.pattern(field) for field in fields))


# ---- conditions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Operator:
    """How values are compared. `is_negated` turns the outcome round."""

    has_wildcards: bool = False
    ignores_case: bool = False
    is_negated: bool = False


_OPERATORS: Mapping[str, _Operator] = {
    "StringEquals": _Operator(),
    "StringNotEquals": _Operator(is_negated=True),
    "StringEqualsIgnoreCase": _Operator(ignores_case=True),
    "StringNotEqualsIgnoreCase": _Operator(ignores_case=True, is_negated=True),
    "StringLike": _Operator(has_wildcards=True),
    "StringNotLike": _Operator(has_wildcards=True, is_negated=True),
    "ArnEquals": _Operator(has_wildcards=True),
    "ArnLike": _Operator(has_wildcards=True),
    "ArnNotEquals": _Operator(has_wildcards=True, is_negated=True),
    "ArnNotLike": _Operator(has_wildcards=True, is_negated=True),
    "Bool": _Operator(ignores_case=True),
}
_BY_NAME = {name.lower(): operator for name, operator in _OPERATORS.items()}
_QUANTIFIERS = ("", "forallvalues", "foranyvalue")


@dataclass(frozen=True, slots=True)
class _Condition:
    """One operator on one key. `is_present` is set for Null alone; then nothing else counts."""

    key: str
    wanted: tuple[Pattern, ...] = ()
    is_negated: bool = False
    holds_when_absent: bool = False
    for_all: bool = False
    is_present: bool | None = None

    def holds(self, context: Context) -> bool:
        values = context.get(self.key)
        if self.is_present is not None:
            return (values is not None) is self.is_present
        if not values:
            return self.holds_when_absent
        outcomes = (any(one.matches(value, context) for one in self.wanted) is not self.is_negated for value in values)
        return all(outcomes) if self.for_all else any(outcomes)


def _conditions(given: Any, place: _Place) -> Iterator[_Condition]:
    if not isinstance(given, Mapping):
        raise place.error("it is not an object")
    for operator, keys in given.items():
        inner = place.at(str(operator))
        if not isinstance(keys, Mapping) or not keys:
            raise inner.error("it must map condition keys to values")
        for key, value in keys.items():
            yield _condition(
                str(operator), inner.known_key(key), _condition_values(value, inner.at(key)), inner.at(key)
            )


def _condition(operator: str, key: str, values: list[str], place: _Place) -> _Condition:
    """Of several wanted values one must match; with a negated operator none may. Source: guide, multivalued context keys."""
    quantifier, _, name = operator.lower().rpartition(":")
    if quantifier not in _QUANTIFIERS:
        raise place.error("an operator may begin with ForAllValues: or ForAnyValue: alone")
    if name == "null" and not quantifier:
        return _Condition(key, is_present=_truth(values, place) == "false")
    base = name.removesuffix("ifexists")
    found = _BY_NAME.get(base)
    if found is None:
        raise place.error(
            f"this server does not know the operator; it knows Null, {', '.join(_OPERATORS)}, and each of the latter with IfExists"
        )
    if base == "bool":
        _truth(values, place)
    negated_alone = found.is_negated and not quantifier
    return _Condition(
        key,
        tuple(
            place.pattern(value, has_wildcards=found.has_wildcards, ignores_case=found.ignores_case) for value in values
        ),
        is_negated=found.is_negated,
        holds_when_absent=base != name or quantifier == "forallvalues" or negated_alone,
        for_all=quantifier == "forallvalues" or negated_alone,
    )


def _truth(values: list[str], place: _Place) -> str:
    if len(values) != 1 or values[0].lower() not in ("true", "false"):
        raise place.error(f"{_shown(values)} is not true or false")
    return values[0].lower()


def _condition_values(value: Any, place: _Place) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str | bool) for one in values):
        raise place.error(f"{_shown(value)} is not a text or a list of texts")
    return [str(one).lower() if isinstance(one, bool) else one for one in values]
