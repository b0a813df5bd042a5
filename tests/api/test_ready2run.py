"""Ready2Run workflows: what an operator puts into the catalogue every account may look at and run, and nobody may change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, HELLO, NOW_MS, OTHER, ROLE, Box, zip_of
from structlog.testing import capture_logs

from runomics.scheduler.ready2run import Ready2Run
from runomics.store.catalog import creating_workflows
from runomics.store.versions import creating_versions
from runomics.wire.errors import AccessDeniedException, ApiError, ResourceNotFoundException, ValidationException
from runomics.wire.model import ServiceModel
from runomics.wire.validate import checker

EXAMPLE = Path(__file__).parents[2] / "examples" / "ready2run"
ID = "9500001"
ARN = f"arn:aws:omics:us-east-1::workflow/{ID}"
USUAL = {"roleArn": ROLE, "outputUri": "s3://bucket/out", "requestId": "r"}

CHECK = checker(ServiceModel.load().shapes, "CreateWorkflowRequest", "CreateWorkflowVersionRequest")


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "catalogue"))


@pytest.fixture
def offer(box: Box, catalogue: Path) -> Callable[..., list[dict[str, Any]]]:
    """A start of the server: reads the catalogue, registers what is new; what the log said of refusals."""

    def begin(directory: Path | None = catalogue) -> list[dict[str, Any]]:
        with capture_logs() as lines:
            Ready2Run(
                directory,
                store=box.store,
                definitions=box.definitions,
                check_workflow=lambda request: CHECK("CreateWorkflowRequest", request),
                check_version=lambda request: CHECK("CreateWorkflowVersionRequest", request),
                now_ms=lambda: box.now_ms,
            ).offer()
            for workflow_id in box.store.read(creating_workflows):
                box.register.step(workflow_id)
            for version_id in box.store.read(creating_versions):
                box.register.step_version(version_id)
        return [dict(line) for line in lines if "refused" in line["event"]]

    return begin


def look(box: Box, account: str = ACCOUNT, **more: Any) -> dict[str, Any]:
    return box.call("GetWorkflow", account=account, id=ID, type="READY2RUN", **more)


def listed(box: Box, account: str = ACCOUNT) -> list[str]:
    return [item["id"] for item in box.call("ListWorkflows", account=account, type="READY2RUN")["items"]]


# ---- what everybody sees -----------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_every_account_sees_the_same_workflow(box: Box, offer: Any) -> None:
    assert offer() == []
    found = look(box)
    archive = box.definitions.archive(found["digest"].removeprefix("sha256:"))
    assert archive.is_file()
    assert found == {
        "arn": ARN,
        "id": ID,
        "uuid": found["uuid"],
        "type": "READY2RUN",
        "status": "ACTIVE",
        "name": "Hello",
        "description": "Greets somebody: an example of a catalogue's entry",
        "engine": "WDL",
        "main": "main.wdl",
        "digest": found["digest"],
        "storageType": "DYNAMIC",
        "parameterTemplate": {"name": {"description": "Who is greeted", "optional": True}},
        "creationTime": found["creationTime"],
        "metadata": {"publisher": "example"},
    }
    assert look(box, OTHER) == found
    (item,) = box.call("ListWorkflows", account=OTHER, type="READY2RUN")["items"]
    members = ("arn", "id", "name", "status", "type", "digest", "creationTime", "metadata")
    assert item == {name: found[name] for name in members}


@pytest.mark.source("observed")
def test_it_is_not_found_without_its_type_nor_under_an_owner(box: Box, offer: Any) -> None:
    offer()
    mine = box.registered_workflow()
    assert box.call("ListWorkflows")["items"][0]["id"] == mine
    for request in (
        {"id": ID},
        {"id": ID, "type": "PRIVATE"},
        {"id": ID, "type": "READY2RUN", "workflowOwnerId": OTHER},
        {"id": mine, "type": "READY2RUN"},
    ):
        with pytest.raises(ResourceNotFoundException, match=f"Workflow {request['id']} not found"):
            box.call("GetWorkflow", **request)


def test_its_readme_is_exported_and_its_definition_is_not(box: Box, offer: Any) -> None:
    offer()
    assert look(box, export=["README"])["readme"].startswith(f"http://server/readme/ready2run/{ID}?")
    with pytest.raises(AccessDeniedException, match="not for export"):
        look(box, export=["README", "DEFINITION"])


def test_its_versions_are_seen(box: Box, offer: Any) -> None:
    offer()
    (item,) = box.call("ListWorkflowVersions", workflowId=ID, type="READY2RUN")["items"]
    named = {"workflowId": ID, "versionName": "1.1", "type": "READY2RUN"}
    found = box.call("GetWorkflowVersion", account=OTHER, **named)
    assert (found["arn"], found["status"], found["description"]) == (f"{ARN}/version/1.1", "ACTIVE", "More polite")
    assert item["digest"] == found["digest"] != look(box)["digest"]
    with pytest.raises(AccessDeniedException):
        box.call("GetWorkflowVersion", export=["DEFINITION"], **named)


# ---- what nobody may ---------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("operation", "request_", "error"),
    [
        ("UpdateWorkflow", {"id": ID, "name": "x"}, ResourceNotFoundException),
        ("DeleteWorkflow", {"id": ID}, ResourceNotFoundException),
        (
            "CreateWorkflowVersion",
            {"workflowId": ID, "versionName": "v", "definitionZip": zip_of({"main.wdl": HELLO}), "requestId": "v"},
            ResourceNotFoundException,
        ),
        ("UpdateWorkflowVersion", {"workflowId": ID, "versionName": "1.1", "description": "x"}, ResourceNotFoundException),
        ("DeleteWorkflowVersion", {"workflowId": ID, "versionName": "1.1"}, ResourceNotFoundException),
        ("CreateShare", {"resourceArn": ARN, "principalSubscriber": OTHER}, ValidationException),
        ("TagResource", {"resourceArn": ARN, "tags": {"a": "b"}}, ResourceNotFoundException),
        ("UntagResource", {"resourceArn": ARN, "tagKeys": ["a"]}, ResourceNotFoundException),
        ("ListTagsForResource", {"resourceArn": ARN}, ResourceNotFoundException),
    ],
)  # fmt: skip
def test_nobody_changes_tags_or_shares_it(
    box: Box, offer: Any, operation: str, request_: dict[str, Any], error: type[ApiError]
) -> None:
    offer()
    before = look(box)
    with pytest.raises(error):
        box.call(operation, **request_)
    assert look(box) == before


# ---- runs --------------------------------------------------------------------------------------------------------


def test_a_run_of_it_is_dynamic_and_keeps_its_definition_to_itself(box: Box, offer: Any) -> None:
    offer()
    started = box.call("StartRun", account=OTHER, workflowId=ID, workflowType="READY2RUN", **USUAL)
    run = box.call("GetRun", account=OTHER, id=started["id"])
    assert (run["workflowId"], run["workflowType"], run["storageType"]) == (ID, "READY2RUN", "DYNAMIC")
    assert "workflowOwnerId" not in run
    with pytest.raises(AccessDeniedException, match="Ready2Run"):
        box.call("GetRun", account=OTHER, id=started["id"], export=["DEFINITION"])
    again = box.call("StartRun", account=OTHER, runId=started["id"], **{**USUAL, "requestId": "again"})
    assert box.call("GetRun", account=OTHER, id=again["id"])["workflowType"] == "READY2RUN"


@pytest.mark.source("observed")
@pytest.mark.parametrize(
    "more", [{"storageType": "STATIC"}, {"storageCapacity": 100}, {"runGroupId": "1000000"}, {"cacheId": "1000000"}]
)
def test_a_run_of_it_refuses_what_it_brings_along(box: Box, offer: Any, more: dict[str, Any]) -> None:
    offer()
    with pytest.raises(ValidationException, match=f"Ready2Run workflow {ID}"):
        box.call("StartRun", workflowId=ID, workflowType="READY2RUN", **USUAL, **more)


@pytest.mark.source("observed")
def test_a_run_of_it_needs_its_type(box: Box, offer: Any) -> None:
    offer()
    with pytest.raises(ResourceNotFoundException):
        box.call("StartRun", workflowId=ID, **USUAL)
    started = box.call("StartRun", workflowId=ID, workflowType="READY2RUN", workflowVersionName="1.1", **USUAL)
    digest = box.call("GetWorkflowVersion", workflowId=ID, versionName="1.1", type="READY2RUN")["digest"]
    assert box.call("GetRun", id=started["id"])["digest"] == digest


def test_no_batch_runs_it(box: Box, offer: Any) -> None:
    offer()
    setting = {"workflowId": ID, "workflowType": "READY2RUN", "roleArn": ROLE, "outputUri": "s3://bucket/out"}
    inline = {"inlineSettings": [{"runSettingId": "a"}]}
    with pytest.raises(ValidationException, match="batch cannot run Ready2Run"):
        box.call("StartRunBatch", defaultRunSetting=setting, batchRunSettings=inline, requestId="b")


# ---- the catalogue changes ---------------------------------------------------------------------------------------


def test_a_restart_changes_nothing(box: Box, offer: Any) -> None:
    offer()
    before = look(box)
    box.now_ms = NOW_MS + 1000
    assert offer() == []
    assert look(box) == before


def test_a_changed_definition_is_registered_anew_under_its_id(box: Box, offer: Any, catalogue: Path) -> None:
    offer()
    before = look(box)
    version = box.call("GetWorkflowVersion", workflowId=ID, versionName="1.1", type="READY2RUN")
    (catalogue / "hello" / "definition" / "main.wdl").write_text(HELLO)
    assert offer() == []
    after = look(box)
    assert after["uuid"] != before["uuid"]
    assert set(after["parameterTemplate"]) == {"reads", "name", "copies"}
    assert box.call("GetWorkflowVersion", workflowId=ID, versionName="1.1", type="READY2RUN") == version


def test_what_leaves_the_catalogue_is_gone_and_its_runs_stay(box: Box, offer: Any, catalogue: Path) -> None:
    offer()
    run = box.call("StartRun", workflowId=ID, workflowType="READY2RUN", **USUAL)["id"]
    shutil.rmtree(catalogue / "hello" / "versions" / "1.1")
    offer()
    assert box.call("ListWorkflowVersions", workflowId=ID, type="READY2RUN")["items"] == []
    offer(None)
    assert listed(box) == []
    assert box.call("GetRun", id=run)["workflowId"] == ID


def test_a_definition_may_be_an_archive_with_a_template(box: Box, offer: Any, catalogue: Path) -> None:
    entry = catalogue / "hello"
    shutil.rmtree(entry / "definition")
    (entry / "definition.zip").write_bytes(zip_of({"main.wdl": HELLO}))
    (entry / "parameter-template.json").write_text(json.dumps({"reads": {"description": "Reads"}}))
    assert offer() == []
    assert look(box)["parameterTemplate"] == {"reads": {"description": "Reads"}}


def test_an_accounts_workflow_never_gets_the_id_of_an_entry(box: Box, offer: Any, catalogue: Path) -> None:
    first = int(box.create_workflow())
    toml = catalogue / "hello" / "workflow.toml"
    toml.write_text(toml.read_text().replace(ID, str(first + 1)))
    assert offer() == []
    assert int(box.create_workflow()) == first + 2


# ---- entries that are wrong --------------------------------------------------------------------------------------


def write(folder: Path, toml: str, files: dict[str, str | bytes] | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "workflow.toml").write_text(toml)
    for name, content in ({"definition/main.wdl": HELLO} if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(
    ("toml", "files", "reason"),
    [
        ("id = ", None, "it is not TOML"),
        ('name = "x"', None, "id must be a number of 1 to 18 digits"),
        ('id = true\nname = "x"', None, "id must be a number of 1 to 18 digits"),
        ('id = "12a"\nname = "x"', None, "id must be a number of 1 to 18 digits"),
        ("id = 7", None, "name is missing"),
        ('id = 7\nname = "x"\nprice = 3', None, "unknown member price"),
        ('id = 7\nname = "x"\nengine = "SNAKEMAKE"', None, "Member must satisfy enum value set"),
        ('id = 7\nname = 8', None, "String"),
        ('id = 7\nname = "x"\nmetadata = { a = 1 }', None, "metadata must be a table of texts"),
        (f'id = {ID}\nname = "x"', None, f"id {ID} is that of hello already"),
        ('id = 7\nname = "x"', {}, "exactly one of definition.zip and the folder definition is needed"),
        ('id = 7\nname = "x"', {"definition/main.wdl": HELLO, "definition.zip": b"PK"}, "exactly one of"),
        ('id = 7\nname = "x"', {"definition/main.wdl": HELLO, "parameter-template.json": "["}, "is not JSON"),
        ('id = 7\nname = "x"', {"definition/main.wdl": HELLO, "parameter-template.json": "[]"}, "can not be converted to a Map"),
        ('id = 7\nname = "x"', {"definition/main.wdl": HELLO, "README.md": b"\xff"}, "README.md is not UTF-8"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_reported_and_the_others_are_offered(
    box: Box, offer: Any, catalogue: Path, toml: str, files: Any, reason: str
) -> None:
    write(catalogue / "wrong", toml, files)
    (line,) = offer()
    assert (line["event"], line["entry"], reason in line["reason"]) == ("ready2run.entry_refused", "wrong", True), line
    assert listed(box) == [ID]


def test_a_definition_that_cannot_be_run_is_failed_and_tried_again_at_the_next_start(
    box: Box, offer: Any, catalogue: Path
) -> None:
    write(catalogue / "wrong", 'id = 7\nname = "x"', {"definition/main.wdl": "version 1.0\nworkflow {"})
    (line,) = offer()
    found = box.call("GetWorkflow", id="7", type="READY2RUN")
    assert (found["status"], line["event"], line["reason"]) == ("FAILED", "ready2run.refused", found["statusMessage"])
    assert listed(box) == ["7", ID]
    (catalogue / "wrong" / "definition" / "main.wdl").write_text(HELLO)
    assert offer() == []
    assert box.call("GetWorkflow", id="7", type="READY2RUN")["status"] == "ACTIVE"


def test_an_entrys_links_are_refused(box: Box, offer: Any, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (catalogue / "hello" / "definition" / "leak.txt").symlink_to(tmp_path / "secret")
    (line,) = offer()
    assert "leak.txt' is a link" in line["reason"]
    assert listed(box) == []


def test_an_id_of_an_accounts_workflow_is_refused(box: Box, offer: Any, catalogue: Path) -> None:
    mine = box.create_workflow()
    write(catalogue / "taken", f'id = {mine}\nname = "x"')
    (line,) = offer()
    assert (line["entry"], f"id {mine} is that of an account's workflow" in line["reason"]) == ("taken", True)
    assert listed(box) == [ID]


def test_a_catalogue_that_is_not_there_is_reported(box: Box, offer: Any, tmp_path: Path) -> None:
    (line,) = offer(tmp_path / "nowhere")
    assert "cannot be read" in line["reason"]
