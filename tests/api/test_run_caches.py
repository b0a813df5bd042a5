"""The operations on run caches, and StartRun with one. What caching does is not there yet."""

from __future__ import annotations

from typing import Any

import pytest
from server_in_a_box import ACCOUNT, OTHER, Box

from runomics.domain.limits import Limits
from runomics.wire.errors import (
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)

ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:runCache/"
PLACE = "s3://bucket/cache"


def create(box: Box, *, account: str = ACCOUNT, **request: Any) -> dict[str, Any]:
    usual = {"requestId": f"cache-{box.next_number()}", "cacheS3Location": PLACE}
    return box.call("CreateRunCache", account=account, **{**usual, **request})


def get(box: Box, cache_id: str) -> dict[str, Any]:
    return box.call("GetRunCache", id=cache_id)


@pytest.mark.source("model")
def test_a_cache_is_answered_with_what_it_was_made_of(box: Box) -> None:
    given = {"name": "n", "description": "d", "cacheBehavior": "CACHE_ALWAYS", "cacheBucketOwnerId": OTHER}
    made = create(box, tags={"a": "b"}, **given)
    assert made == {"arn": ARN + made["id"], "id": made["id"], "status": "ACTIVE", "tags": {"a": "b"}}
    found = get(box, made["id"])
    assert found == {**made, **given, "cacheS3Uri": PLACE, "creationTime": "2025-11-24T16:00:00.001000Z"}
    (item,) = box.call("ListRunCaches")["items"]
    assert item == {
        name: value for name, value in found.items() if name not in ("tags", "description", "cacheBucketOwnerId")
    }


@pytest.mark.source("guide")
def test_a_cache_is_of_failures_and_of_the_account_s_own_bucket_unless_said_otherwise(box: Box) -> None:
    found = get(box, create(box)["id"])
    assert (found["cacheBehavior"], found["cacheBucketOwnerId"]) == ("CACHE_ON_FAILURE", ACCOUNT)
    assert {"name", "description"}.isdisjoint(found)


@pytest.mark.source("assumed")
def test_the_same_request_again_makes_no_second_cache(box: Box) -> None:
    first = create(box, requestId="token")
    assert create(box, requestId="token") == first
    with pytest.raises(ConflictException, match="was used for another CreateRunCache request"):
        create(box, requestId="token", name="b")
    assert len(box.call("ListRunCaches")["items"]) == 1


def test_caches_are_listed_by_page_and_account(box: Box) -> None:
    made = [create(box)["id"] for _ in range(3)]
    create(box, account=OTHER)
    page = box.call("ListRunCaches", maxResults=2)
    rest = box.call("ListRunCaches", maxResults=2, startingToken=page["nextToken"])
    assert [item["id"] for item in (*page["items"], *rest["items"])] == made
    assert "nextToken" not in rest


@pytest.mark.source("model")
def test_an_update_changes_what_is_given_and_nothing_else(box: Box) -> None:
    cache_id = create(box, name="a", description="d")["id"]
    box.call("UpdateRunCache", id=cache_id, cacheBehavior="CACHE_ALWAYS")
    found = get(box, cache_id)
    assert (found["name"], found["description"], found["cacheBehavior"]) == ("a", "d", "CACHE_ALWAYS")
    box.call("UpdateRunCache", id=cache_id, name="b", description="e")
    found = get(box, cache_id)
    assert (found["name"], found["description"], found["cacheBehavior"]) == ("b", "e", "CACHE_ALWAYS")


@pytest.mark.source("guide")
def test_a_cache_is_not_deleted_while_an_open_run_uses_it(box: Box) -> None:
    cache_id = create(box)["id"]
    run_id = box.start_run(box.registered_workflow(), cacheId=cache_id)["id"]
    for status in ("PENDING", "RUNNING", "STOPPING"):
        box.set_run(run_id, status=status)
        with pytest.raises(ConflictException, match=rf"Run cache {cache_id} is used by runs .* \(run {run_id}\)"):
            box.call("DeleteRunCache", id=cache_id)
    box.set_run(run_id, status="CANCELLED")
    box.call("DeleteRunCache", id=cache_id)
    with pytest.raises(ResourceNotFoundException):
        get(box, cache_id)
    assert box.call("GetRun", id=run_id)["cacheId"] == cache_id


@pytest.mark.source("guide")
def test_a_run_takes_the_behaviour_of_its_cache_unless_it_has_its_own(box: Box) -> None:
    workflow_id = box.registered_workflow()
    cache_id = create(box, cacheBehavior="CACHE_ALWAYS")["id"]
    taken = box.start_run(workflow_id, cacheId=cache_id)["id"]
    own = box.start_run(workflow_id, cacheId=cache_id, cacheBehavior="CACHE_ON_FAILURE")["id"]
    box.call("UpdateRunCache", id=cache_id, cacheBehavior="CACHE_ON_FAILURE")
    shown = [box.call("GetRun", id=run_id) for run_id in (taken, own)]
    assert [(run["cacheId"], run["cacheBehavior"]) for run in shown] == [
        (cache_id, "CACHE_ALWAYS"),
        (cache_id, "CACHE_ON_FAILURE"),
    ]
    assert "cacheId" not in box.call("GetRun", id=box.start_run(workflow_id)["id"])


@pytest.mark.source("guide")
def test_a_run_that_is_repeated_keeps_its_cache_or_takes_another_s_behaviour(box: Box) -> None:
    one, two = create(box)["id"], create(box, cacheBehavior="CACHE_ALWAYS")["id"]
    run_id = box.start_run(box.registered_workflow(), cacheId=one)["id"]
    again = box.call("GetRun", id=box.start_run(None, runId=run_id)["id"])
    other = box.call("GetRun", id=box.start_run(None, runId=run_id, cacheId=two)["id"])
    assert (again["cacheId"], again["cacheBehavior"]) == (one, "CACHE_ON_FAILURE")
    assert (other["cacheId"], other["cacheBehavior"]) == (two, "CACHE_ALWAYS")


@pytest.mark.parametrize("operation", ["GetRunCache", "UpdateRunCache", "DeleteRunCache"])
def test_what_is_another_s_reads_as_what_is_not_there(box: Box, operation: str) -> None:
    cache_id = create(box)["id"]
    with pytest.raises(ResourceNotFoundException) as foreign:
        box.call(operation, account=OTHER, id=cache_id)
    with pytest.raises(ResourceNotFoundException) as missing:
        box.call(operation, account=OTHER, id="77")
    assert str(foreign.value).replace(cache_id, "77") == str(missing.value)


def test_a_run_cannot_use_another_s_cache(box: Box) -> None:
    cache_id = create(box, account=OTHER)["id"]
    with pytest.raises(ResourceNotFoundException, match=f"Run cache {cache_id} not found"):
        box.start_run(box.registered_workflow(), cacheId=cache_id)


@pytest.mark.source("guide")
def test_an_account_has_a_number_of_caches_at_most(tmp_path: Any) -> None:
    box = Box(tmp_path, limits=Limits(run_caches=1))
    create(box)
    create(box, account=OTHER)
    with pytest.raises(ServiceQuotaExceededException, match="has 1 run caches"):
        create(box)
    box.close()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"cacheS3Location": "s3://B"}, "cacheS3Location: 's3://B' names no valid bucket"),
        ({"tags": {"aws:x": "y"}}, "may not begin with 'aws:'"),
    ],
)
def test_what_cannot_be_kept_is_refused(box: Box, request_: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationException, match=says):
        create(box, **request_)
    assert box.call("ListRunCaches")["items"] == []
