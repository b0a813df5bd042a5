"""The operations on tags, for everything that can have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, OTHER, Box

from runomics.wire.errors import (
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)

HERE = f"arn:aws:omics:us-east-1:{ACCOUNT}:"

Made = tuple[str, Callable[[], dict[str, str]]]
"""An ARN, and what the Get operation of the thing says its tags are."""


def run(box: Box, **tags: Any) -> Made:
    made = box.start_run(box.registered_workflow(), **tags)
    return made["arn"], lambda: box.call("GetRun", id=made["id"])["tags"]


def run_group(box: Box, **tags: Any) -> Made:
    made = box.call("CreateRunGroup", requestId="r", **tags)
    return made["arn"], lambda: box.call("GetRunGroup", id=made["id"])["tags"]


def run_cache(box: Box, **tags: Any) -> Made:
    made = box.call("CreateRunCache", requestId="r", cacheS3Location="s3://bucket", **tags)
    return made["arn"], lambda: box.call("GetRunCache", id=made["id"])["tags"]


def workflow(box: Box, **tags: Any) -> Made:
    workflow_id = box.registered_workflow(**tags)
    found = box.call("GetWorkflow", id=workflow_id)
    return found["arn"], lambda: box.call("GetWorkflow", id=workflow_id)["tags"]


def version(box: Box, **tags: Any) -> Made:
    workflow_id = box.registered_workflow(tags={"of": "the workflow"})
    made = box.registered_version(workflow_id, "v1.0", **tags)
    return made["arn"], lambda: box.call("GetWorkflowVersion", workflowId=workflow_id, versionName="v1.0")["tags"]


def configuration(box: Box, **tags: Any) -> Made:
    made = box.call("CreateConfiguration", requestId="r", name="net.1", runConfigurations={}, **tags)
    return made["arn"], lambda: box.call("GetConfiguration", name="net.1")["tags"]


KINDS = [run, run_group, run_cache, workflow, version, configuration]


def listed(box: Box, arn: str, *, account: str = ACCOUNT) -> dict[str, str]:
    tags: dict[str, str] = box.call("ListTagsForResource", account=account, resourceArn=arn)["tags"]
    return tags


@pytest.mark.source("guide")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_tags_are_added_replaced_removed_and_shown_by_everything_that_shows_them(
    box: Box, kind: Callable[..., Made]
) -> None:
    arn, shown = kind(box, tags={"a": "1", "A": "2"})
    assert listed(box, arn) == shown() == {"a": "1", "A": "2"}
    box.call("TagResource", resourceArn=arn, tags={"a": "3", "b": ""})
    assert listed(box, arn) == shown() == {"a": "3", "A": "2", "b": ""}
    box.call("UntagResource", resourceArn=arn, tagKeys=["a", "none"])
    assert listed(box, arn) == shown() == {"A": "2", "b": ""}
    box.call("TagResource", resourceArn=arn, tags={})
    box.call("UntagResource", resourceArn=arn, tagKeys=[])
    assert listed(box, arn) == {"A": "2", "b": ""}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_was_made_without_tags_has_none(box: Box, kind: Callable[..., Made]) -> None:
    arn, shown = kind(box)
    assert listed(box, arn) == shown() == {}


@pytest.mark.source("guide")
def test_tags_of_a_version_are_not_the_workflow_s(box: Box) -> None:
    arn, _ = version(box)
    box.call("TagResource", resourceArn=arn, tags={"a": "1"})
    assert listed(box, arn.partition("/version/")[0]) == {"of": "the workflow"}


@pytest.mark.source("guide")
def test_there_are_fifty_tags_at_most_in_a_request_and_in_all(box: Box) -> None:
    arn, _ = run_group(box)
    fifty = {f"k{number}": "v" for number in range(50)}
    with pytest.raises(ValidationException, match="51 tags were given"):
        box.call("TagResource", resourceArn=arn, tags={**fifty, "more": "v"})
    box.call("TagResource", resourceArn=arn, tags=fifty)
    box.call("TagResource", resourceArn=arn, tags={"k7": "other"})
    with pytest.raises(ServiceQuotaExceededException, match="would have 51 tags; a resource has at most 50"):
        box.call("TagResource", resourceArn=arn, tags={"more": "v"})
    assert listed(box, arn) == {**fifty, "k7": "other"}


@pytest.mark.source("guide")
def test_keys_of_the_service_are_neither_set_nor_removed(box: Box) -> None:
    arn, _ = run_group(box)
    with pytest.raises(ValidationException, match=r"may not begin with 'aws:' \(aws:x\)"):
        box.call("TagResource", resourceArn=arn, tags={"aws:x": "y", "a": "b"})
    with pytest.raises(ValidationException, match=r"cannot be removed \(AWS:x\)"):
        box.call("UntagResource", resourceArn=arn, tagKeys=["AWS:x"])
    assert listed(box, arn) == {}


def test_a_tag_moves_no_run_out_of_the_scheduler_s_hands(box: Box) -> None:
    """A step that read the row before still applies: its guard is the revision."""
    arn, _ = run(box)
    revision = "select revision from run"
    before = box.store.read(lambda tx: tx.rows(revision, {}))
    box.call("TagResource", resourceArn=arn, tags={"a": "b"})
    assert box.store.read(lambda tx: tx.rows(revision, {})) == before


CALLS = [("ListTagsForResource", {}), ("TagResource", {"tags": {"a": "b"}}), ("UntagResource", {"tagKeys": ["a"]})]


@pytest.mark.parametrize(("operation", "request_"), CALLS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_another_s_reads_as_what_is_not_there(
    box: Box, kind: Callable[..., Made], operation: str, request_: dict[str, Any]
) -> None:
    arn, shown = kind(box)
    missing = arn.replace("1000000", "77").replace("net.1", "none")
    assert missing != arn
    heard = []
    for name in (arn, missing):
        with pytest.raises(ResourceNotFoundException) as caught:
            box.call(operation, account=OTHER, resourceArn=name, **request_)
        heard.append(str(caught.value).replace(name, "ARN"))
    assert heard[0] == heard[1]
    assert shown() == {}


@pytest.mark.source("guide")
def test_a_subscriber_does_not_tag_what_is_shared_with_it(box: Box) -> None:
    arn, shown = workflow(box)
    box.shared(arn.rpartition("/")[2])
    with pytest.raises(ResourceNotFoundException):
        box.call("TagResource", account=OTHER, resourceArn=arn, tags={"a": "b"})
    assert shown() == {}


@pytest.mark.parametrize(
    "arn",
    [
        f"{HERE}run/77",
        f"{HERE}run/0077",
        f"{HERE}runBatch/77",
        f"{HERE}workflow/77/version/v1",
        f"{HERE}configuration/none",
        f"arn:aws:omics:eu-west-1:{ACCOUNT}:runGroup/1000000",
        "arn:aws:omics:us-east-1::workflow/1000000",
    ],
)
def test_what_is_not_there_is_not_found(box: Box, arn: str) -> None:
    run_group(box)
    with pytest.raises(ResourceNotFoundException, match=f"Resource {arn} not found"):
        listed(box, arn)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws",
        "arn:aws:s3:::bucket",
        f"arn:aws:logs:us-east-1:{ACCOUNT}:run/1",
        f"arn:other:omics:us-east-1:{ACCOUNT}:run/1",
        f"{HERE}task/1000000",
        f"{HERE}run/abc",
        f"{HERE}run/",
        f"{HERE}run/1/2",
        f"{HERE}run/1234567890123456789",
        f"{HERE}rungroup/1",
        f"{HERE}workflow/1/version/",
        f"{HERE}workflow/1/version/-x",
        f"{HERE}runGroup/1/version/x",
        f"{HERE}configuration/a/b",
        f"{HERE}run/1\n",
        f"{HERE}run/\u0661",
    ],
)
def test_what_is_no_arn_of_something_with_tags_is_refused(box: Box, arn: str) -> None:
    with pytest.raises(ValidationException, match=r"is not (the ARN of something that has tags|an ARN)"):
        listed(box, arn)


def test_a_run_wished_away_has_no_tags_any_more(box: Box) -> None:
    arn, _ = run(box)
    run_id = arn.rpartition("/")[2]
    box.set_run(run_id, status="FAILED")
    box.call("DeleteRun", id=run_id)
    with pytest.raises(ResourceNotFoundException):
        listed(box, arn)
