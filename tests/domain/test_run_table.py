"""The table of a run's moves: complete, forward only, and nothing outside it happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.run import (
    ENDED,
    MOVES,
    OUTCOMES,
    Admitted,
    CancelRequested,
    DeleteRequested,
    EngineLost,
    EngineSucceeded,
    Failed,
    IllegalTransition,
    InputsImported,
    OutputsExported,
    Prepared,
    ReleaseAbandoned,
    RunEvent,
    RunPhase,
    RunState,
    RunStatus,
    StorageReleased,
    TimedOut,
    accepts,
    advance,
)

EVENTS: tuple[RunEvent, ...] = (
    Admitted(),
    Prepared(),
    InputsImported(),
    EngineLost(),
    EngineSucceeded(),
    TimedOut(),
    OutputsExported(),
    Failed("RUN_TASK_FAILED", "it failed"),
    CancelRequested(),
    StorageReleased(),
    ReleaseAbandoned(),
    DeleteRequested(),
)
ORDER = [RunStatus.PENDING, RunStatus.STARTING, RunStatus.RUNNING, RunStatus.STOPPING]


def reachable() -> set[RunState]:
    """Every joint state, engine starts not told apart."""
    found: set[RunState] = set()
    todo = [RunState()]
    while todo:
        state = todo.pop()
        if state in found:
            continue
        found.add(state)
        for event in EVENTS:
            if accepts(state, type(event)):
                after = advance(state, event)
                todo.append(RunState(after.status, after.phase, after.outcome, min(after.incarnation, 1)))
    return found


def path(*events: RunEvent) -> RunState:
    state = RunState()
    for event in events:
        state = advance(state, event)
    return state


RUNNING = (Admitted(), Prepared(), InputsImported())


def test_every_status_of_the_api_is_reached_and_no_other() -> None:
    assert {state.status for state in reachable()} == set(RunStatus)


def test_from_every_state_an_end_can_be_reached() -> None:
    for state in reachable():
        seen, todo = {state}, [state]
        while todo:
            here = todo.pop()
            for event in EVENTS:
                if accepts(here, type(event)):
                    after = advance(here, event)
                    after = RunState(after.status, after.phase, after.outcome, min(after.incarnation, 1))
                    if after not in seen:
                        seen.add(after)
                        todo.append(after)
        assert any(each.status in ENDED for each in seen), state


def test_no_move_goes_back_to_an_earlier_status() -> None:
    for move in MOVES:
        if move.to in ORDER and move.status in ORDER:
            assert ORDER.index(move.to) >= ORDER.index(move.status)


def test_a_run_that_goes_well_completes() -> None:
    state = path(*RUNNING, EngineSucceeded(), OutputsExported(), StorageReleased())
    assert state == RunState(RunStatus.COMPLETED, None, RunStatus.COMPLETED, 1)


@pytest.mark.source("guide")
def test_a_timed_out_run_delivers_and_still_fails() -> None:
    state = path(*RUNNING, TimedOut())
    assert state == RunState(RunStatus.RUNNING, RunPhase.EXPORTING, RunStatus.FAILED, 1)
    assert advance(state, OutputsExported()).outcome is RunStatus.FAILED


@pytest.mark.source("guide")
@pytest.mark.parametrize("events", [(Admitted(),), RUNNING[:2], RUNNING, (*RUNNING, EngineSucceeded())])
def test_a_cancel_is_taken_in_every_open_state_and_ends_cancelled(events: tuple[RunEvent, ...]) -> None:
    state = path(*events, CancelRequested())
    assert (state.status, state.outcome) == (RunStatus.STOPPING, RunStatus.CANCELLED)
    assert advance(state, StorageReleased()).status is RunStatus.CANCELLED


@pytest.mark.source("guide")
def test_a_cancel_while_stopping_wins_over_the_outcome_carried() -> None:
    state = path(*RUNNING, EngineSucceeded(), OutputsExported(), CancelRequested())
    assert advance(state, ReleaseAbandoned()).status is RunStatus.CANCELLED


@pytest.mark.source("model")
@pytest.mark.parametrize("status", sorted(OUTCOMES))
def test_only_ended_runs_can_be_deleted(status: RunStatus) -> None:
    assert accepts(RunState(status, None, status, 1), DeleteRequested)
    assert not any(accepts(state, DeleteRequested) for state in reachable() if state.status not in ENDED)


def test_a_lost_engine_is_the_next_incarnation() -> None:
    assert path(*RUNNING, EngineLost(), EngineLost()).incarnation == 3


def test_a_stop_without_an_outcome_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        advance(RunState(RunStatus.STOPPING), StorageReleased())


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_no_sequence_of_events_leaves_an_end_or_goes_back(events: list[RunEvent]) -> None:
    state = RunState()
    for event in events:
        before = state
        try:
            state = advance(before, event)
        except IllegalTransition:
            assert not accepts(before, type(event)) or before.outcome is None
            continue
        if before.status in ENDED:
            assert (before.status in OUTCOMES, state.status) == (True, RunStatus.DELETED)
        elif state.status in ORDER:
            assert ORDER.index(state.status) >= ORDER.index(before.status)
        assert state.incarnation >= before.incarnation
