"""The operations on run groups, and StartRun into one."""

from __future__ import annotations

from typing import Any

import pytest
from server_in_a_box import ACCOUNT, NOW_MS, OTHER, Box

from runomics.domain.limits import Limits
from runomics.store.groups import KIND
from runomics.wire.errors import (
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)

ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:runGroup/"
LIMITS = {"maxRuns": 2, "maxCpus": 8, "maxGpus": 1, "maxDuration": 60}


def create(box: Box, *, account: str = ACCOUNT, **request: Any) -> dict[str, Any]:
    token = {"requestId": f"group-{box.next_number()}"}
    return box.call("CreateRunGroup", account=account, **{**token, **request})


def get(box: Box, group_id: str, *, account: str = ACCOUNT) -> dict[str, Any]:
    return box.call("GetRunGroup", account=account, id=group_id)


def names(box: Box, **request: Any) -> list[str | None]:
    return [item.get("name") for item in box.call("ListRunGroups", **request)["items"]]


@pytest.mark.source("model")
def test_a_group_is_answered_with_what_it_was_made_of(box: Box) -> None:
    made = create(box, name="nightly", tags={"a": "b"}, **LIMITS)
    assert made == {"arn": ARN + made["id"], "id": made["id"], "tags": {"a": "b"}}
    assert get(box, made["id"]) == {
        **made,
        "name": "nightly",
        **LIMITS,
        "creationTime": "2025-11-24T16:00:00.001000Z",
    }
    assert NOW_MS == 1_764_000_000_000
    (item,) = box.call("ListRunGroups")["items"]
    assert item == {name: value for name, value in get(box, made["id"]).items() if name != "tags"}


@pytest.mark.source("model")
def test_a_group_may_have_no_limit_and_no_name(box: Box) -> None:
    found = get(box, create(box)["id"])
    assert set(found) == {"arn", "id", "creationTime", "tags"}


@pytest.mark.source("assumed")
def test_the_same_request_again_makes_no_second_group(box: Box) -> None:
    first = create(box, name="a", requestId="token")
    assert create(box, name="a", requestId="token") == first
    with pytest.raises(ConflictException, match="was used for another CreateRunGroup request"):
        create(box, name="b", requestId="token")
    assert names(box) == ["a"]


@pytest.mark.source("assumed")
def test_groups_are_listed_by_exact_name_in_the_order_of_their_making(box: Box) -> None:
    for name in ("a", "b", "a", "aa"):
        create(box, name=name)
    create(box, name="a", account=OTHER)
    assert names(box) == ["a", "b", "a", "aa"]
    assert names(box, name="a") == ["a", "a"]
    assert names(box, name="A") == []
    page = box.call("ListRunGroups", maxResults=1, name="a")
    rest = box.call("ListRunGroups", maxResults=1, name="a", startingToken=page["nextToken"])
    assert [item["id"] for item in (*page["items"], *rest["items"])] == ["1000000", "1000002"]
    assert "nextToken" not in rest
    with pytest.raises(ValidationException, match="is not a token of ListRunGroups with this filter"):
        box.call("ListRunGroups", name="b", startingToken=page["nextToken"])


@pytest.mark.source("model")
def test_an_update_changes_what_is_given_and_nothing_else(box: Box) -> None:
    group_id = create(box, name="a", **LIMITS)["id"]
    box.woken.clear()
    box.call("UpdateRunGroup", id=group_id, maxRuns=5)
    found = get(box, group_id)
    assert {name: found[name] for name in LIMITS} == {**LIMITS, "maxRuns": 5}
    assert found["name"] == "a"
    box.call("UpdateRunGroup", id=group_id, name="b", maxCpus=1, maxGpus=2, maxDuration=3)
    found = get(box, group_id)
    assert {name: found[name] for name in ("name", *LIMITS)} == {
        "name": "b",
        "maxRuns": 5,
        "maxCpus": 1,
        "maxGpus": 2,
        "maxDuration": 3,
    }
    box.store.write(lambda tx: None)
    assert box.woken == [(KIND, int(group_id))] * 2


@pytest.mark.source("assumed")
def test_a_group_is_not_deleted_while_a_run_of_it_is_open(box: Box) -> None:
    group_id = create(box)["id"]
    run_id = box.start_run(box.registered_workflow(), runGroupId=group_id)["id"]
    for status in ("PENDING", "STARTING", "RUNNING", "STOPPING"):
        box.set_run(run_id, status=status)
        with pytest.raises(ConflictException, match=rf"Run group {group_id} has runs .* \(run {run_id}\)"):
            box.call("DeleteRunGroup", id=group_id)
    box.set_run(run_id, status="COMPLETED")
    box.call("DeleteRunGroup", id=group_id)
    with pytest.raises(ResourceNotFoundException):
        get(box, group_id)
    assert box.call("GetRun", id=run_id)["runGroupId"] == group_id


@pytest.mark.source("guide")
def test_a_run_says_which_group_it_is_in_and_is_found_by_it(box: Box) -> None:
    workflow_id = box.registered_workflow()
    group_id = create(box)["id"]
    run_id = box.start_run(workflow_id, runGroupId=group_id)["id"]
    box.start_run(workflow_id)
    assert box.call("GetRun", id=run_id)["runGroupId"] == group_id
    assert [item["id"] for item in box.call("ListRuns", runGroupId=group_id)["items"]] == [run_id]


@pytest.mark.source("guide")
def test_a_run_that_is_repeated_is_repeated_in_its_group(box: Box) -> None:
    group_id, other_id = create(box)["id"], create(box)["id"]
    run_id = box.start_run(box.registered_workflow(), runGroupId=group_id)["id"]
    again = box.start_run(None, runId=run_id)["id"]
    elsewhere = box.start_run(None, runId=run_id, runGroupId=other_id)["id"]
    assert [box.call("GetRun", id=each)["runGroupId"] for each in (again, elsewhere)] == [group_id, other_id]
    for each in (run_id, again):
        box.set_run(each, status="FAILED")
    box.call("DeleteRunGroup", id=group_id)
    with pytest.raises(ResourceNotFoundException, match=f"Run group {group_id} not found"):
        box.start_run(None, runId=run_id)


@pytest.mark.parametrize("operation", ["GetRunGroup", "UpdateRunGroup", "DeleteRunGroup"])
def test_what_is_another_s_reads_as_what_is_not_there(box: Box, operation: str) -> None:
    group_id = create(box)["id"]
    with pytest.raises(ResourceNotFoundException) as foreign:
        box.call(operation, account=OTHER, id=group_id)
    with pytest.raises(ResourceNotFoundException) as missing:
        box.call(operation, account=OTHER, id="77")
    assert str(foreign.value).replace(group_id, "77") == str(missing.value)
    with pytest.raises(ResourceNotFoundException, match="Run group 0077 not found"):
        box.call(operation, id="0077")


def test_a_run_cannot_be_started_in_another_s_group(box: Box) -> None:
    group_id = create(box, account=OTHER)["id"]
    with pytest.raises(ResourceNotFoundException, match=f"Run group {group_id} not found"):
        box.start_run(box.registered_workflow(), runGroupId=group_id)


@pytest.mark.source("guide")
def test_an_account_has_a_number_of_groups_at_most(tmp_path: Any) -> None:
    box = Box(tmp_path, limits=Limits(run_groups=1))
    first = create(box)["id"]
    create(box, account=OTHER)
    with pytest.raises(ServiceQuotaExceededException, match="has 1 run groups"):
        create(box)
    box.call("DeleteRunGroup", id=first)
    create(box)
    box.close()


@pytest.mark.source("guide")
def test_reserved_tags_are_refused(box: Box) -> None:
    with pytest.raises(ValidationException, match="may not begin with 'aws:'"):
        create(box, tags={"aws:x": "y"})
    assert names(box) == []
