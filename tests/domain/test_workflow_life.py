"""The table of a workflow's moves."""

from __future__ import annotations

import itertools

import pytest

from runomics.domain.workflow import MOVES, IllegalWorkflowTransition, WorkflowEvent, WorkflowStatus, accepts, advance


@pytest.mark.source("guide")
def test_creation_ends_in_active_or_failed() -> None:
    assert advance(WorkflowStatus.CREATING, WorkflowEvent.REGISTERED) is WorkflowStatus.ACTIVE
    assert advance(WorkflowStatus.CREATING, WorkflowEvent.REFUSED) is WorkflowStatus.FAILED


@pytest.mark.source("guide")
def test_only_active_and_failed_workflows_are_deleted() -> None:
    deletable = {status for status in WorkflowStatus if accepts(status, WorkflowEvent.DELETE_REQUESTED)}
    assert deletable == {WorkflowStatus.ACTIVE, WorkflowStatus.FAILED}


def test_only_active_workflows_run() -> None:
    assert {status for status in WorkflowStatus if accepts(status, WorkflowEvent.RUN_STARTED)} == {
        WorkflowStatus.ACTIVE
    }


def test_what_the_table_does_not_list_is_illegal() -> None:
    for status, event in itertools.product(WorkflowStatus, WorkflowEvent):
        if (status, event) in MOVES:
            continue
        with pytest.raises(IllegalWorkflowTransition) as caught:
            advance(status, event)
        assert (caught.value.status, caught.value.event) == (status, event)
