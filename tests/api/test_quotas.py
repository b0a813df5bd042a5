"""Quotas and request rates of an account: what is one too many is refused by the right exception, and nothing of it stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, MODEL, NOW_MS, OTHER, Box

from runomics.domain import request_rates
from runomics.domain.limits import Limits
from runomics.domain.request_rates import full_bucket
from runomics.operations import quota
from runomics.operations.caller import Caller
from runomics.operations.throttle import Throttle, throttled
from runomics.store import account_use
from runomics.store.catalog import count_workflows
from runomics.wire.errors import ServiceQuotaExceededException, ThrottlingException
from runomics.wire.model import ServiceModel


@pytest.mark.source("model")
def test_a_quota_is_exceeded_by_one_more_than_it_allows() -> None:
    quota.require_room(9, 10, "things. Delete one")
    with pytest.raises(ServiceQuotaExceededException) as refused:
        quota.require_room(10, 10, "things. Delete one")
    assert refused.value.message == "The account has reached its quota of 10 things. Delete one."
    assert ServiceModel.load().error_statuses[refused.value.code] == 402


def test_one_workflow_too_many_leaves_nothing_and_other_accounts_alone(tmp_path: Path) -> None:
    box = Box(tmp_path / "small", limits=Limits(workflows=2))
    try:
        first, _ = box.registered_workflow(), box.create_workflow()
        for _ in range(2):
            with pytest.raises(ServiceQuotaExceededException, match="its quota of 2 workflows"):
                box.create_workflow(requestId="again")
        box.create_workflow(account=OTHER)
        assert box.store.read(lambda tx: count_workflows(tx, ACCOUNT)) == 2
        box.call("DeleteWorkflow", id=first)
        assert box.create_workflow(requestId="again")
    finally:
        box.close()


def test_a_repeated_request_at_the_quota_gets_its_first_answer(tmp_path: Path) -> None:
    box = Box(tmp_path / "small", limits=Limits(workflows=1))
    try:
        first = box.create_workflow(requestId="once")
        assert box.create_workflow(requestId="once") == first
    finally:
        box.close()


def stored(box: Box, account: str = ACCOUNT) -> int:
    return box.store.read(lambda tx: account_use.stored_runs(tx, account))


def counted(box: Box, account: str = ACCOUNT) -> int:
    """The same, by walking the rows."""
    text = "select count(*) from run where account = :account and delete_wished_ms is null"
    found: int = box.store.read(lambda tx: tx.rows(text, {"account": account}))[0][0]
    return found


def test_the_count_of_runs_is_that_of_their_rows_whatever_happens(box: Box) -> None:
    workflow = box.registered_workflow()
    started = [box.start_run(workflow)["id"] for _ in range(4)]
    box.start_run(workflow, requestId="twice")
    box.start_run(workflow, requestId="twice")
    with pytest.raises(Exception, match="do not fit the parameter template"):
        box.start_run(workflow, parameters={"nothing": 1})
    assert stored(box) == counted(box) == 5
    for run_id in started[:2]:
        box.set_run(run_id, status="COMPLETED")
        box.call("DeleteRun", id=run_id)
    with pytest.raises(Exception, match="not found"):
        box.call("DeleteRun", id=started[0])
    assert stored(box) == counted(box) == 3
    assert stored(box, OTHER) == counted(box, OTHER) == 0


# ---- rates -------------------------------------------------------------------------------------------------------


@pytest.mark.source("guide", "assumed")
def test_a_bucket_lets_a_second_s_worth_through_and_fills_again() -> None:
    bucket = full_bucket(10, 100.0)
    assert [bucket.take(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert [bucket.take(100.25) for _ in range(3)] == [True, True, False]
    assert [bucket.take(500.0) for _ in range(11)] == [True] * 10 + [False]


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = full_bucket(1, 100.0)
    assert [bucket.take(at) for at in (100.0, 50.0, 50.5, 51.6)] == [True, False, False, True]


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def caller(box: Box, account: str = ACCOUNT) -> Caller:
    return Caller(account, f"arn:aws:iam::{account}:root", "AKIATEST", "r", NOW_MS, box.site)


@pytest.mark.source("model", "observed")
def test_each_account_and_operation_has_its_own_rate(box: Box) -> None:
    clock = Clock()
    throttle = Throttle(request_rates.AWS, now=clock)
    throttle.admit(caller(box), "StartRun")
    with pytest.raises(ThrottlingException) as refused:
        throttle.admit(caller(box), "StartRun")
    assert refused.value.message == "Rate exceeded"
    assert ServiceModel.load().error_statuses[refused.value.code] == 429
    throttle.admit(caller(box, OTHER), "StartRun")
    throttle.admit(caller(box), "GetRun")
    clock.seconds += 1.0
    throttle.admit(caller(box), "StartRun")
    for _ in range(1000):
        throttle.admit(caller(box), "ListBatch")


def test_what_is_throttled_is_not_even_authorized(box: Box) -> None:
    asked: list[str] = []

    def authorize(who: Caller, operation: str, request: Any) -> None:
        asked.append(operation)

    admit = throttled(authorize, Throttle({"StartRun": 1}, now=Clock()))
    admit(caller(box), "StartRun", {})
    with pytest.raises(ThrottlingException):
        admit(caller(box), "StartRun", {})
    assert asked == ["StartRun"]


@pytest.mark.source("model")
def test_every_rate_is_of_an_operation_that_there_is() -> None:
    assert set(request_rates.AWS) <= set(MODEL.operation_names)
    assert all(rate >= 1 for rate in request_rates.AWS.values())
