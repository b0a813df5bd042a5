"""From the settings of a batch to its runs: how they are read, what fails the batch, what fails one run, and that each runs once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from batch_desk import READS, Desk, named
from server_in_a_box import NOW_MS, ROLE, Box

from runomics.domain.limits import Limits
from runomics.ports import ObjectForbidden
from runomics.store.events import undelivered
from runomics.wire.errors import AccessDeniedException, ApiError, ValidationException


@pytest.fixture
def workflow_id(box: Box) -> str:
    return box.registered_workflow(name="hello")


# ---- settings in a bucket ----------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_settings_in_a_bucket_become_runs_in_their_order(desk: Desk, workflow_id: str) -> None:
    names = [f"sample-{number:03d}" for number in range(250)]
    batch_id = desk.start_file(desk.put(named(*names)), workflowId=workflow_id, parameters=READS)
    desk.work()
    found = desk.settings(batch_id)
    assert [item["runSettingId"] for item in found] == names
    run_ids = [int(item["runId"]) for item in found]
    assert run_ids == list(range(run_ids[0], run_ids[0] + 250))
    assert {item["submissionStatus"] for item in found} == {"SUCCESS"}


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("uri", "error"), [("s3://bucket/none.json", ValidationException), ("/tmp/settings.json", ValidationException)]
)
def test_a_file_that_cannot_be_read_is_refused_at_once(
    desk: Desk, workflow_id: str, uri: str, error: type[ApiError]
) -> None:
    with pytest.raises(error, match="s3UriSettings"):
        desk.start_file(uri, workflowId=workflow_id)


@pytest.mark.source("guide")
def test_a_file_that_the_role_may_not_read_is_refused_at_once(desk: Desk, workflow_id: str) -> None:
    class Forbidding:
        def head(self, uri: str) -> None:
            raise ObjectForbidden(f"S3 access denied for {uri}: role {ROLE} may not read bucket bucket")

    desk.box.with_site(objects_as=lambda account, role_arn: Forbidding())
    with pytest.raises(AccessDeniedException, match="may not be read"):
        desk.start_file(desk.put(named("a")), workflowId=workflow_id)


def failed(desk: Desk, document: Any, workflow_id: str) -> str:
    batch_id = desk.start_file(desk.put(document), workflowId=workflow_id)
    desk.work()
    batch = desk.get(batch_id)
    assert batch["status"] == "FAILED"
    assert batch["failedTime"] == "2025-11-24T16:00:00.001000Z"
    assert desk.settings(batch_id) == []
    assert desk.box.call("ListRuns", batchId=batch_id) == {"items": []}
    reason: str = batch["failureReason"]
    return reason


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not JSON",
        {"runSettingId": "a"},
        [["a"]],
        ["a"],
        [{"name": "no id"}],
        [{"runSettingId": 7}],
        [{"runSettingId": ""}],
        [{"runSettingId": "x" * 129}],
        [{"runSettingId": "a\u0000b"}],
        b'[{"runSettingId": "a"}',
        b'[{"runSettingId": "a"}] and more',
        b'[{"runSettingId": "\\ud800"}]',
    ],
)
def test_what_is_no_list_of_settings_fails_the_batch(desk: Desk, workflow_id: str, document: Any) -> None:
    assert failed(desk, document, workflow_id) == "Invalid JSON format in run configurations"


@pytest.mark.source("guide")
def test_a_run_setting_id_used_twice_fails_the_batch(desk: Desk, workflow_id: str) -> None:
    document = named(*(str(number) for number in range(49)), "0")
    assert failed(desk, document, workflow_id) == "Expected 50 unique runSettingIds but there were 49"


@pytest.mark.source("guide")
def test_too_many_runs_fail_the_batch(box: Box, workflow_id: str) -> None:
    desk = Desk(box, max_runs=3)
    assert failed(desk, named("a", "b", "c", "d"), workflow_id) == "Batch has 4 runs but 3 runs is the max."


@pytest.mark.source("assumed")
def test_a_batch_without_settings_fails(desk: Desk, workflow_id: str) -> None:
    assert failed(desk, [], workflow_id) == "Batch has 0 runs but 1 run is the min."


@pytest.mark.source("guide")
def test_a_run_setting_id_sent_along_twice_fails_the_batch_too(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a", "a"), workflowId=workflow_id)
    desk.work()
    assert desk.get(batch_id)["failureReason"] == "Expected 2 unique runSettingIds but there were 1"


@pytest.mark.source("guide")
def test_a_file_that_changed_after_the_answer_fails_the_batch(desk: Desk, workflow_id: str) -> None:
    uri = desk.put(named("a"))
    before = desk.box.objects.head(uri).etag
    batch_id = desk.start_file(uri, workflowId=workflow_id)
    desk.put(named("a", "b"))
    desk.work()
    after = desk.box.objects.head(uri).etag
    assert desk.get(batch_id)["failureReason"] == (
        f'Expected s3UriConfigs etag: "{before}" but was: "{after}". s3UriConfigs have changed since calling StartRunBatch'
    )


@pytest.mark.source("assumed")
def test_a_file_that_went_away_fails_the_batch(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start_file(desk.put(named("a")), workflowId=workflow_id)
    (desk.box.directory / "objects" / "bucket" / "settings.json").unlink()
    desk.work()
    assert "cannot be read" in desk.get(batch_id)["failureReason"]


# ---- submission --------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_a_setting_that_cannot_be_a_run_fails_alone(desk: Desk, workflow_id: str) -> None:
    document = [
        {"runSettingId": "good", "outputUri": "s3://bucket/out", "parameters": READS},
        {"runSettingId": "no output", "parameters": READS},
        {"runSettingId": "no reads", "outputUri": "s3://bucket/out"},
        {"runSettingId": "unknown", "outputUri": "s3://bucket/out", "parameters": {**READS, "colour": "red"}},
        {"runSettingId": "no bucket", "outputUri": "file:///out", "parameters": READS},
        {"runSettingId": "priority", "outputUri": "s3://bucket/out", "parameters": READS, "priority": 100_001},
        {"runSettingId": "type", "outputUri": "s3://bucket/out", "parameters": READS, "priority": "high"},
        {"runSettingId": "list", "outputUri": "s3://bucket/out", "parameters": ["reads"]},
        {"runSettingId": "tag", "outputUri": "s3://bucket/out", "parameters": READS, "runTags": {"aws:x": "1"}},
        {"runSettingId": "too", "outputUri": "s3://bucket/out", "parameters": READS, "runId": "1", "workflowId": "7"},
    ]
    batch_id = desk.start_file(desk.put(document), workflowId=workflow_id, outputUri=None)
    desk.work()
    found = {item["runSettingId"]: item for item in desk.settings(batch_id)}
    good = {name for name, item in found.items() if item["submissionStatus"] == "SUCCESS"}
    assert good == {"good", "too"}, "members that a setting does not have are passed over"
    for name in found.keys() - good:
        item = found[name]
        assert item.keys() == {
            "runSettingId",
            "submissionStatus",
            "submissionFailureReason",
            "submissionFailureMessage",
        }
        assert (item["submissionStatus"], item["submissionFailureReason"]) == ("FAILED", "ValidationException")
    messages = {name: item["submissionFailureMessage"] for name, item in found.items() if name not in good}
    for name, words in {
        "no output": "outputUri is needed",
        "no reads": "Missing required parameters: reads",
        "unknown": "colour",
        "no bucket": "outputUri",
        "priority": "less than or equal to 100000",
        "type": "Integer",
        "list": "JSON object",
        "tag": "aws:",
    }.items():
        assert words in messages[name]
    assert desk.counts(batch_id) == {
        "successfulStartSubmissionCount": 2,
        "failedStartSubmissionCount": 8,
        "pendingRunCount": 2,
    }


@pytest.mark.source("guide")
def test_runs_whose_workflow_went_away_fail_and_those_before_stand(desk: Desk, workflow_id: str) -> None:
    names = [str(number) for number in range(300)]
    batch_id = desk.start_file(desk.put(named(*names)), workflowId=workflow_id, parameters=READS)
    while desk.counts(batch_id).get("successfulStartSubmissionCount", 0) == 0:
        assert desk.step()
    desk.box.call("DeleteWorkflow", id=workflow_id)
    desk.work()
    by_status: dict[str, list[dict[str, Any]]] = {}
    for item in desk.settings(batch_id):
        by_status.setdefault(item["submissionStatus"], []).append(item)
    assert {status: len(items) for status, items in by_status.items()} == {"SUCCESS": 200, "FAILED": 100}
    assert {item["submissionFailureReason"] for item in by_status["FAILED"]} == {"ResourceNotFoundException"}


@pytest.mark.source("guide")
def test_runs_beyond_the_quota_fail_and_take_the_place_of_nobody(tmp_path: Path) -> None:
    box = Box(tmp_path, limits=Limits(stored_runs=5))
    try:
        desk = Desk(box)
        workflow_id = box.registered_workflow()
        ended = [box.start_run(workflow_id, retentionMode=mode)["id"] for mode in ("REMOVE", "RETAIN", "REMOVE")]
        for run_id in ended:
            desk.end(run_id)
        batch_id = desk.start(*named("a", "b", "c"), workflowId=workflow_id, parameters=READS)
        desk.work()
        assert [item["submissionStatus"] for item in desk.settings(batch_id)] == ["SUCCESS", "SUCCESS", "FAILED"]
        assert desk.settings(batch_id)[2]["submissionFailureReason"] == "ServiceQuotaExceededException"
        removing = desk.start(*named("a", "b", "c"), workflowId=workflow_id, parameters=READS, retentionMode="REMOVE")
        desk.work()
        assert [item["submissionStatus"] for item in desk.settings(removing)] == ["SUCCESS", "SUCCESS", "FAILED"]
        listed = {run["id"] for run in box.call("ListRuns")["items"]}
        assert (len(listed), listed & set(ended)) == (5, {ended[1]})
    finally:
        box.close()


@pytest.mark.source("guide")
def test_a_batch_whose_settings_all_fail_is_processed(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a", "b"), workflowId=workflow_id)
    desk.work()
    assert desk.status(batch_id) == "PROCESSED"
    assert desk.counts(batch_id) == {"failedStartSubmissionCount": 2}


@pytest.mark.source("guide")
def test_the_states_of_a_batch_are_told_in_order(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a", "b"), workflowId=workflow_id, parameters=READS, batchName="cohort")
    desk.work()
    for item in desk.settings(batch_id):
        desk.end(item["runId"])
    desk.work()
    events = [event for event in desk.box.store.read(lambda tx: undelivered(tx, 100)) if event.kind == "run-batch"]
    assert [(event.status, event.seq, event.resource_id) for event in events] == [
        ("CREATING", 1, batch_id),
        ("PENDING", 2, batch_id),
        ("SUBMITTING", 3, batch_id),
        ("INPROGRESS", 4, batch_id),
        ("PROCESSED", 5, batch_id),
    ]
    batch = desk.get(batch_id)
    assert orjson.loads(events[-1].detail) == {
        "uuid": batch["uuid"],
        "batchName": "cohort",
        "workflowId": workflow_id,
        "totalRuns": "2",
        "successfulStartSubmissionCount": "2",
        "failedStartSubmissionCount": "0",
        "pendingStartSubmissionCount": "0",
        "pendingRunCount": "0",
        "startingRunCount": "0",
        "runningRunCount": "0",
        "stoppingRunCount": "0",
        "completedRunCount": "2",
        "failedRunCount": "0",
        "cancelledRunCount": "0",
        "deletedRunCount": "0",
    }


@pytest.mark.source("guide")
def test_the_event_of_a_failed_batch_says_why(desk: Desk, workflow_id: str) -> None:
    failed(desk, named("a", "a"), workflow_id)
    event = desk.box.store.read(lambda tx: undelivered(tx, 100))[-1]
    detail = orjson.loads(event.detail)
    assert (event.status, detail["failureReason"], detail["failureMessage"]) == (
        "FAILED",
        "VALIDATION_EXCEPTION",
        "Expected 2 unique runSettingIds but there were 1",
    )


# ---- large -------------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_five_thousand_runs_are_all_there_once(desk: Desk, workflow_id: str) -> None:
    names = [f"sample-{number}" for number in range(5000)]
    document = [{"runSettingId": name, "name": name, "parameters": {"name": name}} for name in names]
    batch_id = desk.start_file(desk.put(document), workflowId=workflow_id, parameters=READS)
    desk.work()
    assert (desk.status(batch_id), desk.get(batch_id)["totalRuns"]) == ("INPROGRESS", 5000)
    assert desk.counts(batch_id) == {"successfulStartSubmissionCount": 5000, "pendingRunCount": 5000}
    listed = desk.settings(batch_id)
    assert [item["runSettingId"] for item in listed] == names
    rows = desk.box.store.read(
        lambda tx: tx.rows("select id, name, uuid, batch_id, parameters, run_output_uri from run order by id", {})
    )
    assert [(str(row[0]), row[1], row[2]) for row in rows] == [
        (item["runId"], item["runSettingId"], item["runInternalUuid"]) for item in listed
    ]
    assert {row[3] for row in rows} == {int(batch_id)}
    assert len({row[2] for row in rows}) == 5000
    assert [orjson.loads(row[4]) for row in rows] == [{**READS, "name": name} for name in names]
    assert [row[5] for row in rows] == [f"s3://bucket/out/{row[0]}" for row in rows]
    assert desk.box.store.read(
        lambda tx: tx.rows("select count(*), count(distinct resource_id) from event where kind = 'run'", {})
    ) == [(5000, 5000)]


@pytest.mark.source("assumed")
def test_small_batches_do_not_wait_for_a_large_one(desk: Desk, workflow_id: str) -> None:
    names = [str(number) for number in range(3000)]
    large = desk.start_file(desk.put(named(*names)), workflowId=workflow_id, parameters=READS)
    small = desk.start(*named("a"), workflowId=workflow_id, parameters=READS)
    desk.work_until(small, "INPROGRESS")
    assert desk.status(large) in ("CREATING", "PENDING")
    desk.work()
    assert (desk.status(large), desk.box.now_ms) == ("INPROGRESS", NOW_MS)
