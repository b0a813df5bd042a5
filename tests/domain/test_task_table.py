"""The table of a task's moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.task import (
    ENDED,
    IllegalTaskTransition,
    Reason,
    TaskEvent,
    TaskStatus,
    accepts,
    advance,
    end_event,
)


@given(st.lists(st.sampled_from(TaskEvent), max_size=20))
def test_an_ended_task_never_changes(events: list[TaskEvent]) -> None:
    status = TaskStatus.PENDING
    for event in events:
        before = status
        try:
            status = advance(before, event)
        except IllegalTaskTransition:
            assert not accepts(before, event)
            continue
        assert before not in ENDED


@pytest.mark.parametrize(
    ("reason", "event"),
    [
        (Reason.OK, TaskEvent.SUCCEEDED),
        (Reason.CANCELLED, TaskEvent.CANCELLED),
        *((reason, TaskEvent.FAILED) for reason in Reason if reason not in (Reason.OK, Reason.CANCELLED)),
    ],
)
def test_each_reason_ends_a_running_task(reason: Reason, event: TaskEvent) -> None:
    assert end_event(reason) is event
    assert advance(TaskStatus.RUNNING, event) in ENDED
