"""All operations by all kinds of callers, and all exceptions that the model declares: each raised here, or a reason why it cannot be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from access_world import MODEL, AccessWorld, Answer, Key
from botocore.loaders import Loader
from server_in_a_box import ACCOUNT, OTHER
from structlog.testing import capture_logs
from things import REQUESTS, REVOKED, STRANGER, Things

from runomics.domain.limits import Limits
from runomics.operations.throttle import Throttle, throttled

OPERATIONS = sorted(MODEL.operations)
MODEL_OPERATIONS = Loader().load_service_model("omics", "service-2")["operations"]
SUCCESS = {name: MODEL_OPERATIONS[name]["http"].get("responseCode", 200) for name in OPERATIONS}
DECLARED = {name: {error["shape"] for error in MODEL_OPERATIONS[name]["errors"]} for name in OPERATIONS}
STATUS = {
    error: document["error"]["httpStatusCode"]
    for error, document in Loader().load_service_model("omics", "service-2")["shapes"].items()
    if "error" in document
}

ACCOUNT_WIDE = {
    "CreateConfiguration", "CreateRunCache", "CreateRunGroup", "CreateWorkflow", "ListBatch", "ListConfigurations",
    "ListRunCaches", "ListRunGroups", "ListRuns", "ListShares", "ListWorkflows",
}  # fmt: skip
OF_SHARED = {"GetWorkflow", "GetWorkflowVersion", "ListWorkflowVersions", "StartRun", "StartRunBatch"}
"""What a subscriber may do with the workflow, naming its owner."""
OF_SHARES = {"AcceptShare", "GetShare", "DeleteShare"}
KINDS = ("stranger", "revoked", "subscriber", "read-only", "no-pass-role", "owner")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessWorld]:
    world = AccessWorld(tmp_path_factory.mktemp("world"))
    world.box.with_site(limits=Limits(configurations=10_000))
    with world.serving():
        yield world


@pytest.fixture(scope="module")
def things(world: AccessWorld) -> Things:
    return Things(world)


@pytest.fixture(scope="module")
def keys(world: AccessWorld) -> Mapping[str, Key]:
    for account in (STRANGER, REVOKED):
        assert world.manage("POST", "accounts", {"account": account}).status == 200
    everything = {"Statement": {"Effect": "Allow", "Action": "omics:*", "Resource": "*"}}
    return {
        "owner": world.key(),
        "subscriber": world.key(OTHER),
        "stranger": world.key(STRANGER),
        "revoked": world.key(REVOKED),
        "read-only": world.key(policy="AmazonOmicsReadOnlyAccess", name="reader"),
        "no-pass-role": world.key(policy=everything, name="passless"),
        "nothing": world.key(policy={"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}, name="none"),
    }


# ---- who may do what ---------------------------------------------------------------------------------------------


def expected(operation: str, kind: str) -> int:
    """The status of the answer."""
    if kind in ("owner", "no-pass-role"):
        passes = kind == "no-pass-role" and operation in ("StartRun", "StartRunBatch")
        return 403 if passes or operation == "AcceptShare" else SUCCESS[operation]
    if kind == "read-only":
        return SUCCESS[operation] if operation.startswith(("Get", "List")) else 403
    if operation in ACCOUNT_WIDE:
        return SUCCESS[operation]
    if kind == "subscriber":
        return SUCCESS[operation] if operation in OF_SHARED | OF_SHARES else 404
    if kind == "revoked" and operation in OF_SHARES:
        return 409 if operation == "AcceptShare" else 200
    return 404


def request_of(things: Things, operation: str, kind: str) -> dict[str, Any]:
    request = REQUESTS[operation](things)
    if kind == "revoked" and operation in OF_SHARES:
        request = {"shareId": things.revoked_share()}
    if kind in ("subscriber", "stranger", "revoked") and operation in OF_SHARED:
        if operation == "StartRunBatch":
            setting = {**request["defaultRunSetting"], "workflowOwnerId": ACCOUNT}
            request = {**request, "defaultRunSetting": setting}
        else:
            request = {**request, "workflowOwnerId": ACCOUNT}
    return request


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_kind_of_caller_gets_what_it_may(
    world: AccessWorld, keys: Mapping[str, Key], things: Things, operation: str, kind: str
) -> None:
    answer = world.call(keys[kind], operation, request_of(things, operation, kind))
    assert answer.status == expected(operation, kind), answer
    if answer.status >= 400:
        assert answer.code in DECLARED[operation] | {"AccessDeniedException"}


def test_the_matrix_is_of_all_operations() -> None:
    assert sorted(REQUESTS) == OPERATIONS
    assert len(OPERATIONS) == 46


def test_each_answer_of_the_matrix_would_differ_if_the_request_were_wrong(
    world: AccessWorld, keys: Mapping[str, Key]
) -> None:
    """The owner's requests are about things that are there: the same about others are not found."""
    for operation, member in (("GetRun", "id"), ("GetBatch", "batchId"), ("GetConfiguration", "name")):
        assert world.call(keys["owner"], operation, {member: "999999999"}).status == 404


# ---- the exceptions of the model ---------------------------------------------------------------------------------

NEVER = {
    "RequestTimeoutException": "the server waits for a request as long as its connection lasts, and answers what arrived whole",
}
"""Exception → why no operation raises it."""

NO_VALIDATION = {
    "AcceptShare": "shareId has no constraint in the model",
    "DeleteShare": "shareId has no constraint in the model",
    "GetShare": "shareId has no constraint in the model",
}
NOT_FOUND_BY_NOTHING = "it names no resource that has to be there"
QUOTAS: Mapping[str, Mapping[str, int]] = {
    "CreateConfiguration": {"configurations": 0},
    "CreateRunCache": {"run_caches": 0},
    "CreateRunGroup": {"run_groups": 0},
    "CreateShare": {"shares_per_workflow": 0},
    "CreateWorkflow": {"workflows": 0},
    "CreateWorkflowVersion": {"versions_per_workflow": 0},
    "StartRun": {"stored_runs": 0},
    "TagResource": {"tags": 1},
}
"""Operation → the limits under which its request is one too many."""
NO_QUOTA = "it adds nothing that is counted"
BATCH_QUOTA = "its runs are counted one by one when their turn comes, and refused one by one"


def _used_token(things: Things, operation: str) -> dict[str, Any]:
    """A request whose token another request of the same operation had."""
    first = REQUESTS[operation](things)
    assert things.world.call(things.world.operator, operation, first).status == SUCCESS[operation]
    return {**REQUESTS[operation](things), "tags": {"another": "request"}, "requestId": first["requestId"]}


def _live_share(things: Things) -> dict[str, Any]:
    request = REQUESTS["CreateShare"](things)
    assert things.world.call(things.world.operator, "CreateShare", request).status == 200
    return request


def _creating(things: Things, operation: str) -> dict[str, Any]:
    return {**REQUESTS[operation](things), "id": things.box.create_workflow()}


def _creating_version(things: Things, operation: str) -> dict[str, Any]:
    request = REQUESTS[operation](things)
    name = things.name()
    things.box.create_version(things.workflow(), name)
    return {**request, "versionName": name}


def _used_configuration(things: Things) -> dict[str, Any]:
    name = things.configuration()
    things.box.start_run(things.workflow(), requestId=things.token(), configurationName=name)
    return {"name": name}


def _used_by_a_run(things: Things, member: str, thing: str) -> dict[str, Any]:
    things.box.start_run(things.workflow(), requestId=things.token(), **{member: thing})
    return {"id": thing}


CONFLICTS: Mapping[str, Callable[[Things], dict[str, Any]]] = {
    "AcceptShare": lambda t: {"shareId": t.revoked_share()},
    "CancelRun": lambda t: {"id": t.run("COMPLETED")},
    "CancelRunBatch": lambda t: {"batchId": t.batch("PROCESSED")},
    "CreateConfiguration": lambda t: _used_token(t, "CreateConfiguration"),
    "CreateRunCache": lambda t: _used_token(t, "CreateRunCache"),
    "CreateRunGroup": lambda t: _used_token(t, "CreateRunGroup"),
    "CreateShare": _live_share,
    "CreateWorkflow": lambda t: _used_token(t, "CreateWorkflow"),
    "CreateWorkflowVersion": lambda t: _used_token(t, "CreateWorkflowVersion"),
    "DeleteBatch": lambda t: {"batchId": t.batch("INPROGRESS")},
    "DeleteConfiguration": _used_configuration,
    "DeleteRun": lambda t: {"id": t.run()},
    "DeleteRunBatch": lambda t: {"batchId": t.batch("INPROGRESS")},
    "DeleteRunCache": lambda t: _used_by_a_run(t, "cacheId", t.cache()),
    "DeleteRunGroup": lambda t: _used_by_a_run(t, "runGroupId", t.group()),
    "DeleteWorkflow": lambda t: _creating(t, "DeleteWorkflow"),
    "DeleteWorkflowVersion": lambda t: _creating_version(t, "DeleteWorkflowVersion"),
    "StartRun": lambda t: _used_token(t, "StartRun"),
    "StartRunBatch": lambda t: _used_token(t, "StartRunBatch"),
    "UpdateWorkflow": lambda t: _creating(t, "UpdateWorkflow"),
    "UpdateWorkflowVersion": lambda t: _creating_version(t, "UpdateWorkflowVersion"),
}
NO_CONFLICT = {
    "DeleteShare": "a share that was ended is answered as it is",
    "TagResource": "tags are set in any state",
    "UntagResource": "tags are removed in any state",
    "UpdateRunCache": "a run cache is changed in any state",
    "UpdateRunGroup": "a run group is changed in any state",
}
NO_CONFLICT_OF_READS = "it changes nothing"
MISSING = "7777777"


def _broken(operation: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request with one value that the model forbids; None when no value would be."""
    shape = MODEL.shapes[MODEL.operations[operation].input_shape or ""]
    for name, member in shape.get("members", {}).items():
        rule = MODEL.shapes[member["shape"]]
        if rule["type"] == "string" and ("pattern" in rule or "enum" in rule):
            return {**request, name: "\u0001"}
        if rule["type"] == "integer" and "max" in rule:
            return {**request, name: rule["max"] + 1}
    return None


def reason_not(operation: str, error: str) -> str | None:
    """Why the operation cannot raise what it declares."""
    if error in NEVER:
        return NEVER[error]
    if error == "ValidationException":
        return NO_VALIDATION.get(operation)
    if error == "ResourceNotFoundException":
        return NOT_FOUND_BY_NOTHING if operation in ACCOUNT_WIDE else None
    if error == "ServiceQuotaExceededException" and operation not in QUOTAS:
        return BATCH_QUOTA if operation == "StartRunBatch" else NO_QUOTA
    if error == "ConflictException" and operation not in CONFLICTS:
        return NO_CONFLICT_OF_READS if operation.startswith(("Get", "List")) else NO_CONFLICT[operation]
    return None


def raised(world: AccessWorld, keys: Mapping[str, Key], things: Things, operation: str, error: str) -> Answer:
    """The answer to a request of this operation that has to fail with this exception."""
    owner = keys["owner"]
    if error == "AccessDeniedException":
        return world.call(keys["nothing"], operation, REQUESTS[operation](things))
    if error == "ValidationException":
        broken = _broken(operation, REQUESTS[operation](things))
        assert broken is not None
        return world.call(owner, operation, broken)
    if error == "ResourceNotFoundException":
        return world.call(keys["stranger"], operation, REQUESTS[operation](things))
    if error == "ConflictException":
        key = keys["revoked"] if operation == "AcceptShare" else owner
        return world.call(key, operation, CONFLICTS[operation](things))
    assert error == "ServiceQuotaExceededException"
    request = REQUESTS[operation](things)
    if operation == "TagResource":
        world.call(owner, operation, request)
        request = {**request, "tags": {"one": "more"}}
    site = world.box.site
    world.box.with_site(limits=replace(site.limits, **QUOTAS[operation]))
    try:
        return world.call(owner, operation, request)
    finally:
        world.box.with_site(limits=site.limits)


BY_REQUEST = sorted(
    (operation, error)
    for operation in OPERATIONS
    for error in DECLARED[operation] - {"ThrottlingException", "InternalServerException"}
)


@pytest.mark.source("model")
@pytest.mark.parametrize(("operation", "error"), BY_REQUEST)
def test_each_declared_exception_is_raised_where_it_can_be(
    world: AccessWorld, keys: Mapping[str, Key], things: Things, operation: str, error: str
) -> None:
    if reason_not(operation, error) is not None:
        if error == "ValidationException":
            assert _broken(operation, {}) is None
        return
    answer = raised(world, keys, things, operation, error)
    assert (answer.status, answer.code) == (STATUS[error], error), answer


def test_reasons_are_given_for_operations_that_exist_alone() -> None:
    assert set(NO_CONFLICT) | set(CONFLICTS) | set(NO_VALIDATION) | set(QUOTAS) | ACCOUNT_WIDE <= set(OPERATIONS)
    assert not set(NO_CONFLICT) & set(CONFLICTS)


@pytest.mark.source("model")
def test_every_operation_throttles_and_breaks_down_as_the_model_says(tmp_path: Path) -> None:
    """With a rate that is used up, and with a database that is gone."""
    world = AccessWorld(tmp_path)
    things = Things(world)
    with world.serving():
        requests = {operation: REQUESTS[operation](things) for operation in OPERATIONS}
        authorize = world.edge_authorize
        world.edge_authorize = throttled(authorize, Throttle(dict.fromkeys(OPERATIONS, 0.0), now=time.monotonic))
        first = {
            operation: world.call(world.operator, operation, requests[operation]).status for operation in OPERATIONS
        }
        second = {operation: world.call(world.operator, operation, requests[operation]) for operation in OPERATIONS}
        world.edge_authorize = authorize
        world.box.store.close()
        with capture_logs():
            broken = {name: world.call(world.operator, name, requests[name]) for name in OPERATIONS}
        world.box.open()
    assert 429 not in first.values()
    assert {(answer.status, answer.code) for answer in second.values()} == {(429, "ThrottlingException")}
    assert {(answer.status, answer.code) for answer in broken.values()} == {(500, "InternalServerException")}
    assert all({"ThrottlingException", "InternalServerException"} <= DECLARED[operation] for operation in OPERATIONS)
