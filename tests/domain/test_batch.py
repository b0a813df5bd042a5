"""The table of a batch's moves, and how a run's own setting is laid over the default."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.batch import (
    MAX_RUNS,
    MOVES,
    RESTING,
    BatchEvent,
    BatchStatus,
    IllegalBatchTransition,
    SubmissionStatus,
    accepts,
    advance,
    failure_of_changed_file,
    failure_of_counts,
    run_request,
)

# ---- states ------------------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_the_states_are_the_models() -> None:
    shapes = Loader().load_service_model("omics", "service-2")["shapes"]
    assert {str(status) for status in BatchStatus} == set(shapes["BatchStatus"]["enum"])
    assert {str(status) for status in SubmissionStatus} == set(shapes["SubmissionStatus"]["enum"])


@pytest.mark.source("guide")
def test_a_batch_goes_from_creating_to_processed() -> None:
    status = BatchStatus.CREATING
    seen = [status]
    for event in (BatchEvent.FOUND, BatchEvent.CHECKED, BatchEvent.SUBMITTED, BatchEvent.RUNS_ENDED):
        status = advance(status, event)
        seen.append(status)
    assert [str(status) for status in seen] == ["CREATING", "PENDING", "SUBMITTING", "INPROGRESS", "PROCESSED"]


def allowing(event: BatchEvent) -> set[str]:
    return {str(status) for status in BatchStatus if accepts(status, event)}


@pytest.mark.source("model")
def test_what_a_client_may_ask_for_and_when() -> None:
    assert allowing(BatchEvent.CANCEL_REQUESTED) == {"PENDING", "SUBMITTING", "INPROGRESS"}
    assert allowing(BatchEvent.RUNS_DELETE_REQUESTED) == {"PROCESSED", "CANCELLED"}
    assert allowing(BatchEvent.DELETE_REQUESTED) == {
        "PROCESSED",
        "FAILED",
        "CANCELLED",
        "RUNS_DELETE_FAILED",
        "RUNS_DELETED",
    }


@pytest.mark.source("guide")
def test_a_batch_fails_only_before_it_has_runs() -> None:
    assert allowing(BatchEvent.REFUSED) == {"CREATING", "PENDING"}


def test_a_resting_batch_moves_by_a_clients_wish_alone() -> None:
    wishes = {BatchEvent.RUNS_DELETE_REQUESTED, BatchEvent.DELETE_REQUESTED}
    assert {status for status, event in MOVES if event not in wishes} == set(BatchStatus) - RESTING
    assert allowing(BatchEvent.DELETE_REQUESTED) == {str(status) for status in RESTING}


def test_every_state_of_a_batch_can_be_reached() -> None:
    assert set(MOVES.values()) | {BatchStatus.CREATING} == set(BatchStatus)


def test_what_the_table_of_batches_does_not_list_is_illegal() -> None:
    for status, event in itertools.product(BatchStatus, BatchEvent):
        if (status, event) in MOVES:
            continue
        with pytest.raises(IllegalBatchTransition) as caught:
            advance(status, event)
        assert (caught.value.status, caught.value.event) == (status, event)


# ---- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("runs", "unique", "text"),
    [
        (100_001, 100_001, "Batch has 100001 runs but 100000 runs is the max."),
        (100_001, 7, "Batch has 100001 runs but 100000 runs is the max."),
        (50, 49, "Expected 50 unique runSettingIds but there were 49"),
    ],
)
def test_a_batch_with_wrong_counts_fails_in_the_guides_words(runs: int, unique: int, text: str) -> None:
    failure = failure_of_counts(runs, unique)
    assert failure is not None
    assert (failure.category, failure.text) == ("VALIDATION_EXCEPTION", text)


@pytest.mark.source("guide")
def test_a_batch_as_large_as_may_be_is_none_too_large() -> None:
    assert failure_of_counts(MAX_RUNS, MAX_RUNS) is None


@pytest.mark.source("assumed")
def test_a_batch_of_no_runs_fails() -> None:
    assert failure_of_counts(0, 0) is not None


@pytest.mark.source("guide")
def test_a_changed_file_is_told_by_both_etags() -> None:
    assert failure_of_changed_file("abc123", "def456").text == (
        'Expected s3UriConfigs etag: "abc123" but was: "def456". s3UriConfigs have changed since calling StartRunBatch'
    )


@pytest.mark.source("guide")
def test_parameters_and_tags_are_merged_as_the_guide_shows() -> None:
    default = {
        "workflowId": "1234567",
        "roleArn": "arn:aws:iam::123456789012:role/OmicsRole",
        "outputUri": "s3://bucket/output/",
        "parameters": {"referenceUri": "s3://bucket/ref.fasta", "version": "v1"},
        "runTags": {"project": "cancer-research", "pipeline-version": "v2.1"},
        "outputBucketOwnerId": "123456789012",
    }
    setting = {
        "runSettingId": "sample-001",
        "name": "Sample 1",
        "parameters": {"inputUri": "s3://bucket/sample.fastq", "version": "v2"},
        "runTags": {"patient-id": "patient001", "pipeline-version": "v3.0"},
    }
    assert run_request(default, setting) == {
        "workflowId": "1234567",
        "roleArn": "arn:aws:iam::123456789012:role/OmicsRole",
        "outputUri": "s3://bucket/output/",
        "name": "Sample 1",
        "parameters": {
            "referenceUri": "s3://bucket/ref.fasta",
            "inputUri": "s3://bucket/sample.fastq",
            "version": "v2",
        },
        "tags": {"project": "cancer-research", "patient-id": "patient001", "pipeline-version": "v3.0"},
    }


@pytest.mark.source("model")
def test_engine_settings_replace_the_defaults_as_a_whole() -> None:
    default = {"engineSettings": {"profile": "a", "syntaxVersion": "v1"}}
    assert run_request(default, {"engineSettings": {"profile": "b"}}) == {"engineSettings": {"profile": "b"}}


NAMES = st.text("abc", min_size=1, max_size=2)
VALUES = st.recursive(st.none() | st.integers(0, 3) | NAMES, lambda inner: st.dictionaries(NAMES, inner, max_size=2))
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
TAGS = st.dictionaries(NAMES, NAMES, max_size=4)
OWN = {
    "name": NAMES,
    "outputUri": NAMES,
    "priority": st.integers(0, 3),
    "parameters": DOCUMENTS,
    "runTags": TAGS,
    "engineSettings": DOCUMENTS,
    "outputBucketOwnerId": NAMES,
}
SETTINGS = st.fixed_dictionaries({"runSettingId": NAMES}, optional=OWN)
DEFAULTS = st.fixed_dictionaries({"workflowId": NAMES, "roleArn": NAMES}, optional={**OWN, "logLevel": NAMES})


def merged_by_hand(first: dict[str, Any] | None, second: dict[str, Any] | None) -> dict[str, Any] | None:
    if first is None or second is None:
        return first if second is None else second
    names = [*first, *second]
    return {name: second[name] if name in second else first[name] for name in names}


@given(DEFAULTS, SETTINGS)
def test_every_member_is_the_settings_own_or_the_defaults(default: dict[str, Any], setting: dict[str, Any]) -> None:
    before = copy.deepcopy((default, setting))
    found = run_request(default, setting)
    assert (default, setting) == before
    for name in ("workflowId", "roleArn", "logLevel", "name", "outputUri", "priority", "engineSettings"):
        assert found.pop(name, "absent") == setting.get(name, default.get(name, "absent"))
    assert found.pop("parameters", None) == merged_by_hand(default.get("parameters"), setting.get("parameters"))
    assert found.pop("tags", {}) == (merged_by_hand(default.get("runTags"), setting.get("runTags")) or {})
    assert found == {}


@given(DEFAULTS)
def test_an_empty_setting_asks_for_the_default(default: dict[str, Any]) -> None:
    expected = {name: value for name, value in default.items() if name not in ("runTags", "outputBucketOwnerId")}
    if default.get("runTags"):
        expected["tags"] = default["runTags"]
    assert run_request(default, {"runSettingId": "x"}) == expected
