"""Identity policies: what the documents of AWS's reference mean, and what is refused with which words."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.policy import MANAGED, Decision, PolicyError, compiled, managed_name, parse
from runomics.domain.policy_pattern import compile_pattern

RUN = "arn:aws:omics:us-east-1:123456789012:run/1000000"
ALLOWED, NOT_ALLOWED, DENIED = Decision.ALLOWED, Decision.NOT_ALLOWED, Decision.DENIED


def policy_of(*statements: dict[str, Any], version: str = "2012-10-17") -> Any:
    return parse({"Version": version, "Statement": list(statements)})


def allow(action: Any = "omics:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "omics:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def holds(condition: dict[str, Any], context: dict[str, tuple[str, ...]]) -> bool:
    return policy_of(allow(Condition=condition)).decide("omics:GetRun", RUN, context) is ALLOWED


# ---- evaluation --------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_what_no_statement_speaks_of_is_not_allowed() -> None:
    assert policy_of(allow("omics:GetRun")).decide("omics:DeleteRun", RUN, {}) is NOT_ALLOWED


@pytest.mark.source("guide")
def test_a_denial_wins_wherever_it_stands() -> None:
    before = policy_of(deny("omics:DeleteRun"), allow())
    after = policy_of(allow(), deny("omics:DeleteRun"))
    assert [policy.decide("omics:DeleteRun", RUN, {}) for policy in (before, after)] == [DENIED, DENIED]
    assert after.decide("omics:GetRun", RUN, {}) is ALLOWED


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("pattern", "action", "decision"),
    [
        ("*", "omics:GetRun", ALLOWED),
        ("omics:*", "iam:PassRole", NOT_ALLOWED),
        ("omics:get*", "omics:GetRun", ALLOWED),
        ("OMICS:GETRUN", "omics:GetRun", ALLOWED),
        ("omics:GetRu?", "omics:GetRun", ALLOWED),
        ("omics:GetRun?", "omics:GetRun", NOT_ALLOWED),
        ("omics:Get*Task", "omics:GetRunTask", ALLOWED),
        ("omics:Get*Task", "omics:GetRun", NOT_ALLOWED),
        (["omics:ListRuns", "omics:GetRun"], "omics:GetRun", ALLOWED),
    ],
)
def test_actions_match_with_wildcards_whatever_their_case(pattern: Any, action: str, decision: Decision) -> None:
    assert policy_of(allow(pattern)).decide(action, RUN, {}) is decision


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("pattern", "resource", "decision"),
    [
        (RUN, RUN, ALLOWED),
        ("arn:aws:omics:*:123456789012:run/*", RUN, ALLOWED),
        ("arn:aws:omics:us-east-1:123456789012:run/100000?", RUN, ALLOWED),
        ("arn:aws:omics:us-east-1:123456789012:RUN/*", RUN, NOT_ALLOWED),
        ("arn:aws:omics:us-east-1:123456789012:run/*", RUN.replace("123456789012", "210987654321"), NOT_ALLOWED),
        ("arn:aws:omics:us-east-1", RUN, ALLOWED),
        ("arn:aws:omics:*:run/*", RUN, NOT_ALLOWED),
        ("arn:aws:omics:us-east-1:123456789012:*", "*", NOT_ALLOWED),
        ("*", "*", ALLOWED),
        ([RUN, "arn:aws:omics:*:*:workflow/1"], "arn:aws:omics:us-east-1::workflow/1", ALLOWED),
    ],
)
def test_resources_match_field_by_field(pattern: Any, resource: str, decision: Decision) -> None:
    assert policy_of(allow(resource=pattern)).decide("omics:GetRun", resource, {}) is decision


@pytest.mark.source("guide")
def test_not_action_and_not_resource_speak_of_everything_else() -> None:
    policy = policy_of(
        {"Effect": "Allow", "NotAction": ["omics:Delete*", "omics:Cancel*"], "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:omics:*:123456789012:*"},
    )
    other = RUN.replace("123456789012", "210987654321")
    assert [
        policy.decide("omics:GetRun", RUN, {}),
        policy.decide("omics:DeleteRun", RUN, {}),
        policy.decide("omics:GetRun", other, {}),
    ] == [ALLOWED, NOT_ALLOWED, DENIED]


def test_one_statement_may_stand_alone_without_a_list() -> None:
    policy = parse(json.dumps({"Version": "2012-10-17", "Id": "x", "Statement": allow(Sid="One")}))
    assert policy.decide("omics:GetRun", RUN, {}) is ALLOWED


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("name", "decisions"),
    [
        ("AmazonOmicsFullAccess", [ALLOWED, ALLOWED, ALLOWED]),
        ("AmazonOmicsReadOnlyAccess", [ALLOWED, NOT_ALLOWED, NOT_ALLOWED]),
    ],
)
def test_managed_policies_are_those_of_aws(name: str, decisions: list[Decision]) -> None:
    policy = compiled(f"arn:aws:iam::aws:policy/{name}")
    role = "arn:aws:iam::123456789012:role/runner"
    passed = {"iam:passedtoservice": ("omics.amazonaws.com",)}
    assert [
        policy.decide("omics:ListRuns", "*", {}),
        policy.decide("omics:StartRun", RUN, {}),
        policy.decide("iam:PassRole", role, passed),
    ] == decisions
    assert policy.decide("iam:PassRole", role, {"iam:passedtoservice": ("ec2.amazonaws.com",)}) is NOT_ALLOWED
    assert managed_name(name) == name
    assert managed_name(json.dumps(MANAGED[name])) is None


# ---- conditions --------------------------------------------------------------------------------------------------

TAG = {"aws:requesttag/stage": ("prod",)}


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("condition", "with_the_key", "with_another_value", "without_the_key"),
    [
        ({"StringEquals": {"aws:RequestTag/stage": "prod"}}, True, False, False),
        ({"StringEquals": {"aws:RequestTag/stage": ["dev", "prod"]}}, True, False, False),
        ({"StringEquals": {"aws:requestTag/Stage": "prod"}}, True, False, False),
        ({"StringEquals": {"aws:RequestTag/stage": "pro*"}}, False, False, False),
        ({"StringNotEquals": {"aws:RequestTag/stage": "prod"}}, False, True, True),
        ({"StringNotEquals": {"aws:RequestTag/stage": ["prod", "dev"]}}, False, True, True),
        ({"StringEqualsIgnoreCase": {"aws:RequestTag/stage": "PROD"}}, True, False, False),
        ({"StringNotEqualsIgnoreCase": {"aws:RequestTag/stage": "PROD"}}, False, True, True),
        ({"StringLike": {"aws:RequestTag/stage": "p*d"}}, True, False, False),
        ({"StringNotLike": {"aws:RequestTag/stage": "p?o*"}}, False, True, True),
        ({"StringEqualsIfExists": {"aws:RequestTag/stage": "prod"}}, True, False, True),
        ({"stringlikeifexists": {"aws:RequestTag/stage": "pr*"}}, True, False, True),
        ({"Null": {"aws:RequestTag/stage": "true"}}, False, False, True),
        ({"Null": {"aws:RequestTag/stage": False}}, True, True, False),
    ],
)
def test_operators_on_one_value(
    condition: dict[str, Any],
    with_the_key: bool,
    with_another_value: bool,
    without_the_key: bool,
) -> None:
    another = {"aws:requesttag/stage": ("test",)}
    assert (holds(condition, TAG), holds(condition, another), holds(condition, {})) == (
        with_the_key,
        with_another_value,
        without_the_key,
    )


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("operator", "keys", "outcome"),
    [
        ("ForAllValues:StringEquals", ("stage", "team"), True),
        ("ForAllValues:StringEquals", ("stage", "else"), False),
        ("ForAllValues:StringEquals", None, True),
        ("ForAnyValue:StringEquals", ("else", "team"), True),
        ("ForAnyValue:StringEquals", ("else",), False),
        ("ForAnyValue:StringEquals", None, False),
        ("ForAllValues:StringNotEquals", ("else", "other"), True),
        ("ForAllValues:StringNotEquals", ("else", "team"), False),
        ("ForAnyValue:StringNotEquals", ("else", "team"), True),
        ("ForAnyValue:StringNotEquals", ("stage", "team"), False),
        ("ForAnyValue:StringNotEquals", None, False),
        ("ForAllValues:StringLikeIfExists", None, True),
    ],
)
def test_operators_on_several_values(operator: str, keys: tuple[str, ...] | None, outcome: bool) -> None:
    context = {} if keys is None else {"aws:tagkeys": keys}
    assert holds({operator: {"aws:TagKeys": ["stage", "team"]}}, context) is outcome


@pytest.mark.source("guide")
def test_all_operators_and_all_keys_must_hold() -> None:
    condition = {
        "StringEquals": {"aws:RequestTag/stage": "prod", "aws:username": "ana"},
        "Null": {"aws:TagKeys": "false"},
    }
    whole = {**TAG, "aws:username": ("ana",), "aws:tagkeys": ("stage",)}
    without = [{name: value for name, value in whole.items() if name != left_out} for left_out in whole]
    assert [holds(condition, context) for context in (whole, *without)] == [True, False, False, False]


@pytest.mark.source("guide")
def test_bool_compares_truth_values() -> None:
    condition = {"Bool": {"aws:ResourceTag/locked": "TRUE"}}
    assert [holds(condition, {"aws:resourcetag/locked": (value,)}) for value in ("true", "True", "false")] == [
        True,
        True,
        False,
    ]


# ---- variables ---------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_variables_stand_for_the_values_of_the_request() -> None:
    policy = policy_of(allow(Condition={"StringEquals": {"aws:ResourceTag/owner": "${aws:username}"}}))
    owner = {"aws:resourcetag/owner": ("ana",)}
    assert [
        policy.decide("omics:GetRun", RUN, {**owner, "aws:username": ("ana",)}),
        policy.decide("omics:GetRun", RUN, {**owner, "aws:username": ("ben",)}),
        policy.decide("omics:GetRun", RUN, owner),
    ] == [ALLOWED, NOT_ALLOWED, NOT_ALLOWED]


@pytest.mark.source("guide")
def test_a_variable_in_a_resource_does_not_smuggle_in_wildcards() -> None:
    policy = policy_of(allow(resource="arn:aws:omics:*:*:configuration/${aws:username}"))
    name = "arn:aws:omics:us-east-1:123456789012:configuration/"
    assert policy.decide("omics:GetConfiguration", name + "ana", {"aws:username": ("ana",)}) is ALLOWED
    assert policy.decide("omics:GetConfiguration", name + "ana", {"aws:username": ("*",)}) is NOT_ALLOWED


@pytest.mark.source("guide")
def test_literal_wildcards_and_defaults() -> None:
    literal = {"StringLike": {"aws:RequestTag/stage": "a${*}${?}${$}*"}}
    default = {"StringEquals": {"aws:RequestTag/stage": "${aws:ResourceTag/stage, 'prod'}"}}
    assert [holds(literal, {"aws:requesttag/stage": (value,)}) for value in ("a*?$b", "axx$b")] == [True, False]
    assert [holds(default, TAG), holds(default, {**TAG, "aws:resourcetag/stage": ("dev",)})] == [True, False]


@pytest.mark.source("guide")
def test_the_version_of_2008_has_no_variables() -> None:
    condition = {"StringEquals": {"aws:RequestTag/stage": "${aws:username}"}}
    policy = policy_of(allow(Condition=condition), version="2008-10-17")
    context = {"aws:requesttag/stage": ("${aws:username}",), "aws:username": ("ana",)}
    assert policy.decide("omics:GetRun", RUN, context) is ALLOWED


def test_only_a_policy_that_asks_for_tags_of_resources_says_so() -> None:
    asking = [
        allow(Condition={"StringEquals": {"aws:ResourceTag/a": "b"}}),
        allow(Condition={"StringEquals": {"aws:username": "${aws:ResourceTag/owner}"}}),
        allow(resource="arn:aws:omics:*:*:configuration/${aws:ResourceTag/team}"),
    ]
    assert [policy_of(statement).needs_resource_tags for statement in [*asking, allow()]] == [True, True, True, False]


# ---- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "The policy: it is not JSON"),
        ("[]", "The policy: it is not a JSON object"),
        ("[" * 60_000, "The policy: it is n"),
        (b"\xff", "The policy: it is not JSON"),
        (" " * 65_537, "The policy: it has 65537 bytes; the limit is 65536"),
        ({"Statement": []}, "The policy: Statement must be a statement or a list of at least one"),
        ({"Version": "2020-01-01", "Statement": allow()}, 'The policy: Version "2020-01-01" is not one of'),
        ({"Statement": allow(), "Rules": 1}, "The policy: unknown element Rules"),
        ('{"Statement": {"Effect": "Deny", "Effect": "Allow"}}', 'The policy: "Effect" stands twice in one object'),
        ({"Statement": [allow(), 7]}, "Statement 2: it is not an object"),
        ({"Statement": allow(Sid=3)}, "Statement 1: Sid 3 is not text"),
        ({"Statement": allow(Sid="Mine", Effect="allow")}, 'Statement 1 (Mine): Effect "allow" is not Allow or Deny'),
        ({"Statement": allow(Principal="*")}, "Statement 1: unknown element Principal"),
        ({"Statement": {"Effect": "Allow", "Resource": "*"}}, "exactly one of Action and NotAction is needed"),
        ({"Statement": allow(NotAction="a:b")}, "exactly one of Action and NotAction is needed"),
        ({"Statement": {"Effect": "Allow", "Action": "*"}}, "exactly one of Resource and NotResource is needed"),
        ({"Statement": allow([])}, "Statement 1: Action: [] is not a text or a list of texts"),
        ({"Statement": allow("GetRun")}, 'Statement 1: Action "GetRun" is not SERVICE:ACTION or *'),
        ({"Statement": allow(resource="run/1")}, 'Statement 1: Resource: "run/1" is not an ARN or *'),
        ({"Statement": allow(Condition=[])}, "Statement 1: Condition: it is not an object"),
        ({"Statement": allow(Condition={"StringEquals": 1})}, "Condition: StringEquals: it must map condition keys"),
        (
            {"Statement": allow(Condition={"NumericLessThan": {"aws:username": "1"}})},
            "Condition: NumericLessThan: aws:username: this server does not know the operator",
        ),
        (
            {"Statement": allow(Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})},
            'Condition: Bool: this server does not know the condition key "aws:MultiFactorAuthPresent"',
        ),
        (
            {"Statement": allow(Condition={"StringEquals": {"aws:username": [1]}})},
            "[1] is not a text or a list of texts",
        ),
        ({"Statement": allow(Condition={"Null": {"aws:username": "yes"}})}, '["yes"] is not true or false'),
        ({"Statement": allow(Condition={"Some:StringLike": {"aws:username": "a"}})}, "may begin with ForAllValues:"),
        (
            {"Version": "2012-10-17", "Statement": allow(resource="arn:aws:omics:*:*:run/${aws:username")},
            "is not closed by a brace",
        ),
        (
            {"Version": "2012-10-17", "Statement": allow(resource="arn:aws:omics:*:*:run/${saml:sub}")},
            'this server does not know the condition key "saml:sub"',
        ),
    ],
)
def test_a_wrong_policy_is_refused_with_statement_and_reason(document: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(message)):
        parse(document)


# ---- patterns ----------------------------------------------------------------------------------------------------


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_mean_what_they_mean_to_a_shell(pattern: str, text: str) -> None:
    assert compile_pattern(pattern).matches(text, {}) is fnmatch.fnmatchcase(text, pattern)


def test_a_hostile_text_takes_no_time() -> None:
    pattern = compile_pattern("*a" * 30 + "*b")
    began = time.perf_counter()
    assert not pattern.matches("a" * 8_000_000, {})
    assert time.perf_counter() - began < 1.0
