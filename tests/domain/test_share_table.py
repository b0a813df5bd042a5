"""The table of a share's moves."""

from __future__ import annotations

import itertools

import pytest

from runomics.domain.share import (
    LET_GO,
    MOVES,
    IllegalShareTransition,
    ShareEvent,
    ShareStatus,
    accepts,
    advance,
)


@pytest.mark.source("guide")
def test_an_offer_is_accepted_then_active_then_deleted() -> None:
    life = (ShareEvent.ACCEPTED, ShareEvent.ACTIVATED, ShareEvent.DELETE_REQUESTED, ShareEvent.DELETED)
    status = ShareStatus.PENDING
    gone_through = [status]
    for event in life:
        status = advance(status, event)
        gone_through.append(status)
    assert gone_through == ["PENDING", "ACTIVATING", "ACTIVE", "DELETING", "DELETED"]


@pytest.mark.source("assumed")
def test_only_an_offer_is_accepted() -> None:
    assert {status for status in ShareStatus if accepts(status, ShareEvent.ACCEPTED)} == {ShareStatus.PENDING}


@pytest.mark.source("model")
def test_whatever_has_not_been_given_up_may_be_given_up() -> None:
    assert {status for status in ShareStatus if not accepts(status, ShareEvent.DELETE_REQUESTED)} == {
        ShareStatus.DELETING,
        ShareStatus.DELETED,
    }


def test_a_share_that_was_let_go_never_lives_again() -> None:
    reached = {to for (status, _), to in MOVES.items() if status in LET_GO}
    assert reached <= LET_GO


def test_nothing_leads_out_of_deleted_and_everything_leads_to_it() -> None:
    assert all(status is not ShareStatus.DELETED for status, _ in MOVES)
    reaching = {ShareStatus.DELETED}
    while more := {status for (status, _), to in MOVES.items() if to in reaching} - reaching:
        reaching |= more
    assert reaching == set(ShareStatus)


def test_what_the_table_does_not_list_is_illegal() -> None:
    for status, event in itertools.product(ShareStatus, ShareEvent):
        if (status, event) in MOVES:
            continue
        with pytest.raises(IllegalShareTransition) as caught:
            advance(status, event)
        assert (caught.value.status, caught.value.event) == (status, event)
