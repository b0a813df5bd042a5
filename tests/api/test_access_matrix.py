"""All operations of the API, over the wire, with every kind of key; and what an account learns of another's resources: nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from access_world import MODEL, AccessWorld, Key
from server_in_a_box import ACCOUNT, OTHER, ROLE
from things import batch_request

from foreign import CASES, MISSING, SLOWER, compare, missing, tell_apart, with_id
from runomics.operations import registry
from runomics.wire.errors import ApiError

ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:"
READ = ("Get", "List")
OPERATIONS = sorted(MODEL.operations)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessWorld]:
    world = AccessWorld(tmp_path_factory.mktemp("world"))
    with world.serving():
        yield world


@pytest.fixture(scope="module")
def keys(world: AccessWorld) -> Mapping[str, Key]:
    return {
        "root": world.key(),
        "full": world.key(policy="AmazonOmicsFullAccess", name="full"),
        "read-only": world.key(policy="AmazonOmicsReadOnlyAccess", name="reader"),
        "nothing": world.key(policy={"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}, name="none"),
        "stranger": world.key(OTHER),
    }


def rubbish(operation: str) -> dict[str, Any]:
    """A request that names something in its path and is wrong in everything else."""
    shape = MODEL.shapes[MODEL.operations[operation].input_shape or ""]
    members = shape.get("members", {})
    in_path = {name: "1" for name, member in members.items() if member.get("location") == "uri"}
    in_body = {name: [[]] for name, member in members.items() if "location" not in member}
    return {**in_path, **in_body}


# ---- who may do what ---------------------------------------------------------------------------------------------


@pytest.mark.source("observed")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_read_only_key_is_denied_every_write_before_its_request_is_looked_at(
    world: AccessWorld, keys: Mapping[str, Key], operation: str
) -> None:
    answer = world.call(keys["read-only"], operation, rubbish(operation))
    is_denied = (answer.status, answer.code) == (403, "AccessDeniedException")
    assert is_denied is not operation.startswith(READ), answer
    if is_denied:
        user = f"User: arn:aws:iam::{ACCOUNT}:user/reader is not authorized to perform: omics:{operation} on resource: "
        assert answer.message.startswith(user)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["root", "full", "stranger"])
def test_a_key_that_may_do_everything_hears_what_is_wrong_with_its_request(
    world: AccessWorld, keys: Mapping[str, Key], operation: str, kind: str
) -> None:
    answer = world.call(keys[kind], operation, rubbish(operation))
    assert answer.code != "AccessDeniedException"
    assert answer.status < 500


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_denial_covers_every_operation(world: AccessWorld, keys: Mapping[str, Key], operation: str) -> None:
    answer = world.call(keys["nothing"], operation, rubbish(operation))
    assert (answer.status, answer.code) == (403, "AccessDeniedException")
    assert answer.message.endswith("with an explicit deny in an identity-based policy")


@pytest.mark.source("observed")
def test_who_signs_is_asked_before_what_is_allowed(world: AccessWorld, keys: Mapping[str, Key]) -> None:
    forged = Key(keys["read-only"].access_key_id, "not the secret")
    answer = world.call(forged, "StartRun", rubbish("StartRun"))
    assert answer.code == "InvalidSignatureException"


@pytest.mark.source("observed")
def test_existence_is_asked_last(world: AccessWorld, keys: Mapping[str, Key]) -> None:
    missing = {"id": "999999999999"}
    assert world.call(keys["read-only"], "DeleteRun", missing).code == "AccessDeniedException"
    assert world.call(keys["full"], "DeleteRun", {"id": "x"}).code == "ValidationException"
    assert world.call(keys["full"], "DeleteRun", missing).code == "ResourceNotFoundException"


# ---- strangers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def owned(world: AccessWorld) -> dict[str, str]:
    """Something of each kind that belongs to ACCOUNT, by the word its ids have below."""
    box = world.box
    workflow = box.registered_workflow()
    box.registered_version(workflow, "v1")
    run = box.start_run(workflow)["id"]
    token = iter(range(1000))

    def made(operation: str, **request: Any) -> dict[str, Any]:
        return box.call(operation, requestId=f"owned-{next(token)}", **request)

    share = box.offered(workflow, "555555555555")
    return {
        "workflow": workflow,
        "run": run,
        "group": made("CreateRunGroup", name="mine")["id"],
        "cache": made("CreateRunCache", cacheS3Location="s3://bucket/cache")["id"],
        "configuration": made("CreateConfiguration", name="mine", runConfigurations={})["name"],
        "share": share,
        "batch": made("StartRunBatch", **batch_request(workflow))["id"],
    }


STRANGE = CASES
"""Operations on one resource, with `{}` where its id goes."""
REGISTERED = [case for case in STRANGE if case[0] in registry.handlers()]
WITHOUT_A_RESOURCE = {
    "CreateConfiguration",
    "CreateRunCache",
    "CreateRunGroup",
    "CreateWorkflow",
    "ListBatch",
    "ListConfigurations",
    "ListRunCaches",
    "ListRunGroups",
    "ListRuns",
    "ListShares",
    "ListWorkflows",
}


@pytest.mark.source("assumed")
@pytest.mark.parametrize(("operation", "kind", "request_"), REGISTERED, ids=lambda value: str(value)[:24])
def test_a_strangers_id_reads_as_one_that_is_missing(
    world: AccessWorld,
    keys: Mapping[str, Key],
    owned: Mapping[str, str],
    operation: str,
    kind: str,
    request_: dict[str, Any],
) -> None:
    none_such = missing(kind)
    others, none = (
        world.call(keys["stranger"], operation, with_id(request_, identifier))
        for identifier in (owned[kind], none_such)
    )
    assert [(answer.status, answer.code) for answer in (others, none)] == [(404, "ResourceNotFoundException")] * 2
    assert others.message.replace(owned[kind], none_such) == none.message


def test_the_time_of_an_answer_does_not_tell_a_strangers_id_from_a_missing_one(
    world: AccessWorld, owned: Mapping[str, str]
) -> None:
    """Asked in this process, so that nothing but the server's own work takes time."""

    def ask(operation: str, request: Mapping[str, Any]) -> None:
        with contextlib.suppress(ApiError):
            world.box.call(operation, account=OTHER, **request)

    assert tell_apart(ask, owned, rounds=150) == []


def test_an_answer_that_takes_longer_would_be_seen(owned: Mapping[str, str]) -> None:
    asked = dict.fromkeys(owned.values(), True)

    def ask(operation: str, request: Mapping[str, Any]) -> None:
        is_foreign = any(value in asked for value in request.values() if isinstance(value, str))
        sum(range(4_000 if is_foreign else 2_000))

    cases = [case for case in CASES if case[0] == "GetRun"]
    assert [pair.case for pair in compare(ask, owned, cases, 50) if pair.ratio > SLOWER] == ["GetRun run"]


def test_every_operation_on_a_resource_is_tried_as_a_stranger() -> None:
    tried = {operation for operation, _, _ in STRANGE}
    assert tried | WITHOUT_A_RESOURCE == set(OPERATIONS)


@pytest.mark.parametrize(
    ("operation", "items"),
    [
        ("ListRuns", "items"),
        ("ListWorkflows", "items"),
        ("ListRunGroups", "items"),
        ("ListRunCaches", "items"),
        ("ListConfigurations", "items"),
    ],
)
def test_lists_hold_nothing_of_another_account(
    world: AccessWorld, keys: Mapping[str, Key], owned: Mapping[str, str], operation: str, items: str
) -> None:
    assert world.call(keys["stranger"], operation, {}).body[items] == []
    assert world.call(keys["root"], operation, {}).body[items] != []


# ---- policies on what exists -------------------------------------------------------------------------------------


def test_tags_of_a_resource_decide_who_may_see_it(world: AccessWorld, owned: Mapping[str, str]) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Action": "omics:Get*",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:ResourceTag/owner": "${aws:username}"}},
        },
    }
    ana, ben = (world.key(policy=policy, name=name) for name in ("ana", "ben"))
    workflow = world.box.registered_workflow(tags={"owner": "ana"})
    run = world.box.start_run(workflow, tags={"owner": "ben"})["id"]
    world.box.registered_version(workflow, "v1", tags={"owner": "ana"})
    group = world.box.call("CreateRunGroup", requestId="tagged", name="g", tags={"owner": "ben"})["id"]
    asked = [
        ("GetWorkflow", {"id": workflow}),
        ("GetRun", {"id": run}),
        ("GetWorkflowVersion", {"workflowId": workflow, "versionName": "v1"}),
        ("GetRunGroup", {"id": group}),
        ("GetRun", {"id": owned["run"]}),
        ("GetRun", {"id": MISSING}),
    ]
    assert [[world.call(key, *one).status for one in asked] for key in (ana, ben)] == [
        [200, 403, 200, 403, 403, 403],
        [403, 200, 403, 200, 403, 403],
    ]


def test_who_may_run_one_workflow_may_not_run_another_by_repeating_its_run(
    world: AccessWorld, owned: Mapping[str, str]
) -> None:
    allowed = world.box.registered_workflow()
    policy = {
        "Statement": [
            {"Effect": "Allow", "Action": "omics:StartRun", "Resource": [ARN + "run/*", ARN + f"workflow/{allowed}"]},
            {"Effect": "Allow", "Action": "iam:PassRole", "Resource": ROLE},
        ]
    }
    key = world.key(policy=policy, name="starter")
    usual = {"roleArn": ROLE, "outputUri": "s3://bucket/x", "parameters": {"reads": "s3://bucket/r"}}
    first = world.call(key, "StartRun", {**usual, "workflowId": allowed, "requestId": "a"})
    again = world.call(key, "StartRun", {**usual, "runId": first.body["id"], "requestId": "b"})
    other = world.call(key, "StartRun", {**usual, "runId": owned["run"], "requestId": "c"})
    role = world.call(key, "StartRun", {**usual, "workflowId": allowed, "roleArn": ROLE + "2", "requestId": "d"})
    assert (first.status, again.status, other.status, role.status) == (201, 201, 403, 403)
    assert f"omics:StartRun on resource: {ARN}workflow/{owned['workflow']}" in other.message
    assert f"iam:PassRole on resource: {ROLE}2" in role.message


# ---- keys while the server runs ----------------------------------------------------------------------------------


def test_a_key_works_from_its_making_to_its_end(world: AccessWorld) -> None:
    key = world.key(policy="AmazonOmicsReadOnlyAccess", name="shortlived")
    assert world.call(key, "ListRuns", {}).status == 200
    assert world.call(key, "CancelRun", {"id": MISSING}).status == 403
    assert world.manage("POST", f"keys/{key.access_key_id}/disable").status == 200
    after = world.call(key, "ListRuns", {})
    assert (after.status, after.code) == (403, "UnrecognizedClientException")


def test_only_the_operators_key_manages(world: AccessWorld, keys: Mapping[str, Key]) -> None:
    for path in ("accounts", "keys", "buckets"):
        for kind in ("root", "full", "stranger"):
            answer = world.manage("GET", path, key=keys[kind])
            assert (answer.status, answer.code) == (403, "AccessDeniedException")
        assert world.manage("GET", path).status == 200
    made = world.manage("POST", "keys", {"account": ACCOUNT}, key=keys["root"])
    assert made.status == 403


def test_progress_is_for_the_account_and_for_keys_that_may_see_the_run(
    world: AccessWorld, keys: Mapping[str, Key], owned: Mapping[str, str]
) -> None:
    path = f"progress/{owned['run']}"
    answers = {kind: world.manage("GET", path, key=keys[kind]) for kind in ("root", "read-only", "nothing", "stranger")}
    assert {kind: answer.status for kind, answer in answers.items()} == {
        "root": 200,
        "read-only": 200,
        "nothing": 403,
        "stranger": 404,
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("GET", "accounts/1", b"", "there is no GET /-/accounts/1"),
        ("DELETE", "keys", b"", "there is no DELETE /-/keys"),
        ("POST", "accounts", b"{", "The body is not JSON"),
        ("POST", "accounts", b"[]", "The body is not a JSON object"),
        ("POST", "accounts", b'{"account": 1}', "account: not a text that is known here"),
        ("POST", "accounts", b'{"policy": "x"}', "policy: not a text that is known here"),
        ("POST", "accounts", b'{"account": "12"}', "'12' is no account: an account is 12 digits"),
        ("POST", "keys", b'{"account": "000000000000"}', "there is no account 000000000000; add it with"),
        ("POST", "keys", b'{"account": "123456789012", "policy": "{}"}', "The policy: Statement must be"),
        ("POST", "keys", b'{"account": "123456789012", "name": "a/b"}', "'a/b' is no user name"),
        ("POST", "keys/AKIANONE/disable", b"", "there is no access key AKIANONE"),
        ("POST", "buckets", b'{"bucket": "..", "account": "123456789012"}', "'..' is no valid bucket name"),
        ("POST", "buckets", b'{"bucket": "fine", "account": "1"}', "there is no account 1"),
        ("POST", "buckets/nobodys/open", b"", "bucket nobodys belongs to nobody"),
        ("POST", "buckets/runomics/open", b'{"account": "1"}', "there is no account 1"),
    ],
)
def test_wrong_management_is_refused_with_words(
    world: AccessWorld, method: str, path: str, body: bytes, message: str
) -> None:
    answer = world.send(world.operator, method, f"/-/{path}", body)
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert message in answer.message


def test_the_operators_own_key_stays(world: AccessWorld) -> None:
    answer = world.manage("POST", f"keys/{world.operator.access_key_id}/disable")
    assert (answer.status, "it cannot be disabled" in answer.message) == (400, True)
    assert world.manage("GET", "keys").status == 200


def test_buckets_are_made_for_an_account_and_opened_to_others(world: AccessWorld) -> None:
    assert world.manage("POST", "buckets", {"bucket": "refs", "account": OTHER}).status == 200
    again = world.manage("POST", "buckets", {"bucket": "refs", "account": ACCOUNT})
    assert (again.status, f"bucket refs belongs to account {OTHER}" in again.message) == (400, True)
    assert world.manage("POST", "buckets/refs/open", {"account": ACCOUNT}).body["readers"] == [ACCOUNT]
    assert world.manage("POST", "buckets/refs/open").body["readers"] == ["*", ACCOUNT]
    assert (world.data / "objects" / "refs").is_dir()
    listed = {row["bucket"]: row for row in world.manage("GET", "buckets").body["buckets"]}
    assert listed["refs"] == {"bucket": "refs", "account": OTHER, "readers": ["*", ACCOUNT]}
    assert listed["bucket"]["account"] is None


def test_keys_are_listed_without_their_secrets(world: AccessWorld, keys: Mapping[str, Key]) -> None:
    answer = world.manage("GET", "keys")
    secrets = {key.secret for key in keys.values()}
    assert not any(secret in str(answer.body) for secret in secrets)
    by_id = {row["access_key_id"]: row for row in answer.body["keys"]}
    shown = by_id[keys["read-only"].access_key_id]
    assert (shown["policy"], shown["principal_arn"], shown["status"]) == (
        "AmazonOmicsReadOnlyAccess",
        f"arn:aws:iam::{ACCOUNT}:user/reader",
        "ACTIVE",
    )


# ---- the audit ---------------------------------------------------------------------------------------------------


def test_every_call_leaves_a_line(tmp_path: Path) -> None:
    world = AccessWorld(tmp_path)
    with world.serving():
        reader = world.key(policy="AmazonOmicsReadOnlyAccess", name="reader")
        workflow = world.box.registered_workflow()
        usual = {"workflowId": workflow, "roleArn": ROLE, "outputUri": "s3://bucket/x", "requestId": "a"}
        run = world.call(world.operator, "StartRun", {**usual, "parameters": {"reads": "s3://bucket/r"}})
        world.call(reader, "GetRun", {"id": run.body["id"]})
        world.call(reader, "DeleteRun", {"id": run.body["id"]})
        world.call(Key(reader.access_key_id, "wrong"), "ListRuns", {})
        world.call(world.operator, "GetRun", {"id": "x"})
    root, user = f"arn:aws:iam::{ACCOUNT}:root", f"arn:aws:iam::{ACCOUNT}:user/reader"
    lines = [(line["principal"], line["operation"], line["resource"], line["outcome"]) for line in world.audit_lines()]
    arn = ARN + f"run/{run.body['id']}"
    assert lines == [
        (root, "POST /-/keys", "/-/keys", "Success"),
        (root, "StartRun", arn, "Success"),
        (user, "GetRun", arn, "Success"),
        (user, "DeleteRun", arn, "AccessDeniedException"),
        (None, "ListRuns", None, "InvalidSignatureException"),
        (root, "GetRun", ARN + "run/x", "ValidationException"),
    ]
    assert len({line["request_id"] for line in world.audit_lines()}) == len(lines)
