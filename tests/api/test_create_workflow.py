"""CreateWorkflow: what is refused at once, what is kept, and the same request again."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, HELLO, Box, zip_of

from runomics.domain.limits import Limits
from runomics.wire.errors import ConflictException, ValidationException

ARCHIVE = zip_of({"main.wdl": HELLO})


@pytest.mark.source("model")
def test_a_workflow_begins_as_creating_and_is_left_to_the_scheduler(box: Box) -> None:
    created = box.call("CreateWorkflow", definitionZip=ARCHIVE, name="hello", tags={"team": "x"}, requestId="r1")
    uuid = created.pop("uuid")
    assert len(uuid) == 36
    assert created == {
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/1000000",
        "id": "1000000",
        "status": "CREATING",
        "tags": {"team": "x"},
    }
    assert box.woken == [("workflow", 1000000)]
    assert box.call("GetWorkflow", id="1000000")["uuid"] == uuid


def test_the_archive_is_on_disk_before_the_row_is(box: Box) -> None:
    box.call("CreateWorkflow", definitionZip=ARCHIVE, requestId="r1")
    sha256 = hashlib.sha256(ARCHIVE).hexdigest()
    assert box.definitions.archive(sha256).read_bytes() == ARCHIVE
    assert box.call("GetWorkflow", id="1000000")["digest"] == f"sha256:{sha256}"


def test_workflows_with_the_same_archive_share_it(box: Box) -> None:
    box.call("CreateWorkflow", definitionZip=ARCHIVE, requestId="r1")
    box.call("CreateWorkflow", definitionZip=ARCHIVE, requestId="r2")
    assert len(list(box.definitions.root.iterdir())) == 1


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "Exactly one of definitionZip, definitionUri, definitionRepository is needed; none was given."),
        ({"definitionZip": ARCHIVE, "definitionUri": "s3://bucket/a.zip"}, "definitionZip and definitionUri was given"),
        (
            {"definitionRepository": {"connectionArn": "arn:x", "fullRepositoryId": "a/../b"}},
            "fullRepositoryId 'a/../b' is not OWNER/NAME",
        ),
        ({"definitionZip": ARCHIVE, "parameterTemplatePath": "p.json"}, "Use parameterTemplate."),
        ({"definitionZip": ARCHIVE, "readmePath": "README.md"}, "Use readmeMarkdown or readmeUri."),
        ({"definitionZip": b""}, "definitionZip is empty"),
        ({"definitionUri": "https://bucket/a.zip"}, "definitionUri: 'https://bucket/a.zip' is not an S3 URI"),
        ({"definitionZip": ARCHIVE, "readmeUri": "README.md"}, "readmeUri: 'README.md' is not an S3 URI"),
        ({"definitionZip": ARCHIVE, "containerRegistryMapUri": "x"}, "containerRegistryMapUri: 'x' is not an S3 URI"),
        (
            {"definitionZip": ARCHIVE, "readmeMarkdown": "x", "readmeUri": "s3://bucket/r"},
            "readmeMarkdown and readmeUri were both given",
        ),
        (
            {"definitionZip": ARCHIVE, "containerRegistryMap": {}, "containerRegistryMapUri": "s3://bucket/r"},
            "containerRegistryMap and containerRegistryMapUri were both given",
        ),
        ({"definitionZip": ARCHIVE, "tags": {"AWS:x": "1", "ok": "2"}}, "may not begin with 'aws:' (AWS:x)"),
        (
            {"definitionZip": ARCHIVE, "tags": {str(n): "" for n in range(51)}},
            "51 tags were given; a resource has at most 50",
        ),
        (
            {"definitionZip": ARCHIVE, "readmeMarkdown": "é" * 300_000},
            "readmeMarkdown has 600000 bytes; the limit is 512000",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_at_once_and_says_what_to_do(
    box: Box, request_: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationException) as caught:
        box.call("CreateWorkflow", requestId="r1", **request_)
    assert says in caught.value.message
    assert box.call("ListWorkflows") == {"items": []}


@pytest.mark.source("guide")
def test_an_archive_over_the_limit_is_sent_to_a_bucket(tmp_path: Any) -> None:
    small = Box(tmp_path, limits=Limits(definition_zip_bytes=len(ARCHIVE) - 1))
    try:
        with pytest.raises(ValidationException, match="pass definitionUri, which may have 100000000 bytes"):
            small.call("CreateWorkflow", definitionZip=ARCHIVE, requestId="r1")
        assert not small.definitions.root.exists()
    finally:
        small.close()


def test_a_template_over_the_setting_is_refused(tmp_path: Any) -> None:
    small = Box(tmp_path, limits=Limits(template_entries=1))
    try:
        with pytest.raises(ValidationException, match="parameterTemplate has 2 entries; the limit is 1"):
            small.call("CreateWorkflow", definitionZip=ARCHIVE, requestId="r1", parameterTemplate={"a": {}, "b": {}})
    finally:
        small.close()


# ---- the same request again --------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_the_same_token_and_request_make_one_workflow(box: Box) -> None:
    first = box.call("CreateWorkflow", definitionZip=ARCHIVE, name="a", tags={"b": "1", "a": "2"}, requestId="r1")
    box.register.step(int(first["id"]))
    box.reopen()
    again = box.call("CreateWorkflow", requestId="r1", tags={"a": "2", "b": "1"}, name="a", definitionZip=ARCHIVE)
    assert again == first, "also its status, though the workflow has gone on"
    assert list(again["tags"]) == ["b", "a"], "verbatim"
    assert len(box.call("ListWorkflows")["items"]) == 1


@pytest.mark.source("assumed")
@pytest.mark.parametrize(
    "change", [{"name": "b"}, {"definitionZip": zip_of({"main.wdl": HELLO + "\n"})}, {"tags": {"a": "1"}}]
)
def test_the_same_token_with_another_request_is_a_conflict(box: Box, change: dict[str, Any]) -> None:
    request = {"definitionZip": ARCHIVE, "name": "a", "requestId": "r1"}
    box.call("CreateWorkflow", **request)
    with pytest.raises(ConflictException, match="requestId 'r1' was used for another CreateWorkflow request"):
        box.call("CreateWorkflow", **{**request, **change})


def test_a_token_belongs_to_its_account(box: Box) -> None:
    first = box.call("CreateWorkflow", definitionZip=ARCHIVE, requestId="r1")
    other = box.call("CreateWorkflow", account="210987654321", definitionZip=ARCHIVE, requestId="r1")
    assert other["id"] != first["id"]


def test_a_refused_request_leaves_its_token_free(box: Box) -> None:
    with pytest.raises(ValidationException):
        box.call("CreateWorkflow", requestId="r1")
    assert box.call("CreateWorkflow", definitionZip=ARCHIVE, requestId="r1")["status"] == "CREATING"
