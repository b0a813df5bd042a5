"""The operations on shares, from both sides: their life, who may do what with them, and how they are listed."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from server_in_a_box import ACCOUNT, NOW_MS, OTHER, Box

from runomics.domain.limits import Limits
from runomics.store.database import Duplicate, next_id
from runomics.store.events import undelivered
from runomics.store.pages import WALK
from runomics.store.shares import (
    NewShare,
    find_share,
    forget_shares,
    insert_share,
    moving_shares,
    wish_accept,
    wish_delete,
)
from runomics.wire.errors import (
    AccessDeniedException,
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)

STRANGER = "111122223333"
ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow"


@pytest.fixture
def workflow_id(box: Box) -> str:
    identifier = box.registered_workflow(name="hello")
    box.woken.clear()
    return identifier


def status(box: Box, share_id: str, account: str = ACCOUNT) -> str:
    found: str = box.call("GetShare", account=account, shareId=share_id)["share"]["status"]
    return found


def listed(box: Box, owner: str, account: str = ACCOUNT, **request: Any) -> list[str]:
    return [
        item["shareId"] for item in box.call("ListShares", account=account, resourceOwner=owner, **request)["shares"]
    ]


# ---- the life of a share -----------------------------------------------------------------------------------------


@pytest.mark.source("observed")
def test_a_share_is_offered_accepted_used_and_revoked(box: Box, workflow_id: str) -> None:
    created = box.call(
        "CreateShare", resourceArn=f"{ARN}/{workflow_id}", principalSubscriber=OTHER, shareName="for-the_lab"
    )
    share_id = created["shareId"]
    assert created == {"shareId": str(uuid.UUID(share_id)), "status": "PENDING", "shareName": "for-the_lab"}
    assert box.woken == [], "an offer waits for its subscriber, not for the server"

    box.now_ms += 1000
    assert box.call("AcceptShare", account=OTHER, shareId=share_id) == {"status": "ACTIVATING"}
    assert status(box, share_id) == "ACTIVATING"
    assert [kind for kind, _ in box.woken] == ["share"]
    box.move_shares()
    assert status(box, share_id) == "ACTIVE"

    box.now_ms += 1000
    assert box.call("DeleteShare", shareId=share_id) == {"status": "DELETING"}
    assert status(box, share_id, OTHER) == "DELETING"
    assert [kind for kind, _ in box.woken] == ["share", "share"]
    box.now_ms += 1000
    box.move_shares()
    assert status(box, share_id, OTHER) == "DELETED"
    assert box.store.read(moving_shares) == []


@pytest.mark.source("model")
def test_both_sides_see_the_same_of_a_share(box: Box, workflow_id: str) -> None:
    share_id = box.offered(workflow_id, shareName="lab")
    box.now_ms += 5001
    box.call("AcceptShare", account=OTHER, shareId=share_id)
    expected = {
        "shareId": share_id,
        "resourceArn": f"{ARN}/{workflow_id}",
        "resourceId": workflow_id,
        "principalSubscriber": OTHER,
        "ownerId": ACCOUNT,
        "status": "ACTIVATING",
        "shareName": "lab",
        "creationTime": "2025-11-24T16:00:00.001000Z",
        "updateTime": "2025-11-24T16:00:05.001000Z",
    }
    for account, owner in ((ACCOUNT, "SELF"), (OTHER, "OTHER")):
        assert box.call("GetShare", account=account, shareId=share_id) == {"share": expected}
        assert box.call("ListShares", account=account, resourceOwner=owner) == {"shares": [expected]}


def test_what_was_asked_for_before_the_server_ended_is_done_by_the_next(box: Box, workflow_id: str) -> None:
    accepted, deleted = box.offered(workflow_id), box.offered(workflow_id, STRANGER)
    box.call("AcceptShare", account=OTHER, shareId=accepted)
    box.call("DeleteShare", shareId=deleted)
    box.reopen()
    box.move_shares()
    assert (status(box, accepted), status(box, deleted)) == ("ACTIVE", "DELETED")


def test_a_step_of_a_share_that_waits_for_nothing_does_nothing(box: Box, workflow_id: str) -> None:
    offered, active = box.offered(workflow_id), box.shared(workflow_id, STRANGER)
    before = [box.call("GetShare", shareId=share_id) for share_id in (offered, active)]
    box.now_ms += 1000
    for row_id in (1_000_000, 1_000_001, 7):
        box.shares.step(row_id)
    assert [box.call("GetShare", shareId=share_id) for share_id in (offered, active)] == before


def test_a_share_accepted_and_ended_at_once_is_ended(box: Box, workflow_id: str) -> None:
    share_id = box.offered(workflow_id)
    box.call("AcceptShare", account=OTHER, shareId=share_id)
    box.call("DeleteShare", shareId=share_id)
    box.move_shares()
    assert status(box, share_id) == "DELETED"


def test_a_share_whose_workflow_an_operator_removed_fails_and_says_so(box: Box, workflow_id: str) -> None:
    share_id = box.offered(workflow_id)
    box.call("AcceptShare", account=OTHER, shareId=share_id)
    box.store.write(lambda tx: tx.change("delete from workflow where id = :id", {"id": int(workflow_id)}))
    box.move_shares()
    found = box.call("GetShare", account=OTHER, shareId=share_id)["share"]
    assert (found["status"], found["statusMessage"]) == (
        "FAILED",
        "The workflow is no longer there. Delete the share.",
    )
    assert box.call("DeleteShare", shareId=share_id) == {"status": "DELETING"}


@pytest.mark.source("guide")
def test_each_status_of_a_share_is_told_to_both_accounts(box: Box, workflow_id: str) -> None:
    share_id = box.shared(workflow_id, shareName="lab")
    box.call("DeleteShare", account=OTHER, shareId=share_id)
    box.move_shares()
    events = [event for event in box.store.read(lambda tx: undelivered(tx, 100)) if event.kind == "share"]
    life = ["PENDING", "ACTIVATING", "ACTIVE", "DELETING", "DELETED"]
    for account in (ACCOUNT, OTHER):
        told = [(event.status, event.seq) for event in events if event.account == account]
        assert told == list(zip(life, range(1, 6), strict=True))
    assert orjson.loads(events[0].detail) == {
        "shareId": share_id,
        "shareName": "lab",
        "resourceArn": f"{ARN}/{workflow_id}",
        "ownerId": ACCOUNT,
        "principalSubscriber": OTHER,
    }


@pytest.mark.source("assumed")
def test_a_deleted_share_is_forgotten_after_a_while_and_no_other(box: Box, workflow_id: str) -> None:
    gone, active = box.shared(workflow_id), box.shared(workflow_id, STRANGER)
    box.call("DeleteShare", shareId=gone)
    box.move_shares()
    assert box.store.write(lambda tx: forget_shares(tx, NOW_MS, 10)) == 0
    assert box.store.write(lambda tx: forget_shares(tx, NOW_MS + 1, 10)) == 1
    assert listed(box, "SELF") == [active]
    with pytest.raises(ResourceNotFoundException):
        status(box, gone)


# ---- CreateShare -------------------------------------------------------------------------------------------------


@pytest.mark.source("assumed")
@pytest.mark.parametrize(
    "arn",
    [
        "",
        "workflow",
        "1000000",
        f"{ARN}/1000000/version/v1",
        f"{ARN}/abc",
        f"{ARN}/1000000\n",
        f"arn:aws:omics:us-east-1:{ACCOUNT}:run/1000000",
        "arn:aws:omics:us-east-1::workflow/1000000",
        f"arn:aws:s3:us-east-1:{ACCOUNT}:workflow/1000000",
        f"arn:aws:omics:us-east-1:{ACCOUNT}:variantStore/abc",
        f"{ARN}/{'9' * 5000}",
        "\x00",
    ],
)
def test_only_private_workflows_are_shared(box: Box, workflow_id: str, arn: str) -> None:
    with pytest.raises(ValidationException, match="is not the ARN of a private workflow") as caught:
        box.call("CreateShare", resourceArn=arn, principalSubscriber=OTHER)
    assert len(caught.value.message) < 400
    assert listed(box, "SELF") == []


def test_a_workflow_of_another_region_is_not_shared_here(box: Box, workflow_id: str) -> None:
    with pytest.raises(ValidationException, match="is of Region eu-west-1; this server's Region is us-east-1"):
        box.call(
            "CreateShare",
            resourceArn=f"arn:aws:omics:eu-west-1:{ACCOUNT}:workflow/{workflow_id}",
            principalSubscriber=OTHER,
        )


@pytest.mark.source("assumed")
@pytest.mark.parametrize("subscriber", ["", "12345678901", "1234567890123", "lab", "12345678901\n", "１" * 12])
def test_a_subscriber_is_an_account(box: Box, workflow_id: str, subscriber: str) -> None:
    with pytest.raises(ValidationException, match="is not an account"):
        box.offered(workflow_id, subscriber)


@pytest.mark.source("assumed")
def test_nobody_shares_with_oneself(box: Box, workflow_id: str) -> None:
    with pytest.raises(ValidationException, match=f"principalSubscriber {ACCOUNT} owns the workflow"):
        box.offered(workflow_id, ACCOUNT)


@pytest.mark.source("assumed")
def test_only_ones_own_workflows_are_shared_and_foreign_ones_read_as_missing(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    texts = []
    for account, owner, identifier in (
        (OTHER, ACCOUNT, workflow_id),
        (OTHER, ACCOUNT, "7777777"),
        (OTHER, OTHER, workflow_id),
        (OTHER, OTHER, "7777777"),
        (STRANGER, ACCOUNT, workflow_id),
    ):
        arn = f"arn:aws:omics:us-east-1:{owner}:workflow/{identifier}"
        with pytest.raises(ResourceNotFoundException) as caught:
            box.call("CreateShare", account=account, resourceArn=arn, principalSubscriber="444455556666")
        texts.append(caught.value.message.replace(identifier, "ID").replace(account, "CALLER"))
    assert set(texts) == {"Workflow ID not found. ListWorkflows lists the PRIVATE workflows of account CALLER."}


@pytest.mark.source("assumed")
def test_a_workflow_is_shared_with_an_account_once_at_a_time(box: Box, workflow_id: str) -> None:
    share_id = box.offered(workflow_id)

    def again() -> str:
        with pytest.raises(ConflictException) as caught:
            box.offered(workflow_id)
        return caught.value.message

    assert f"share {share_id} is PENDING" in again()
    box.call("AcceptShare", account=OTHER, shareId=share_id)
    assert f"share {share_id} is ACTIVATING" in again()
    box.move_shares()
    assert f"share {share_id} is ACTIVE" in again()
    box.call("DeleteShare", shareId=share_id)
    other_id = box.offered(workflow_id)
    box.move_shares()
    assert (status(box, share_id), status(box, other_id)) == ("DELETED", "PENDING")


def test_the_database_refuses_a_second_live_share_by_itself(box: Box, workflow_id: str) -> None:
    box.offered(workflow_id)
    with pytest.raises(Duplicate):
        box.store.write(
            lambda tx: insert_share(
                tx,
                NewShare(
                    id=next_id(tx, "share"),
                    account=ACCOUNT,
                    share_id="x",
                    workflow_id=int(workflow_id),
                    resource_arn="x",
                    principal_subscriber=OTHER,
                    created_ms=1,
                ),
            )
        )


@pytest.mark.source("guide")
def test_a_workflow_has_so_many_live_shares_and_no_more(tmp_path: Path) -> None:
    box = Box(tmp_path / "small", limits=Limits(shares_per_workflow=2))
    try:
        workflow_id, other_id = box.registered_workflow(), box.registered_workflow()
        box.offered(other_id)
        first = box.offered(workflow_id)
        box.shared(workflow_id, STRANGER)
        with pytest.raises(ServiceQuotaExceededException, match=f"{workflow_id} has 2 shares, as many as"):
            box.offered(workflow_id, "444455556666")
        box.call("DeleteShare", shareId=first)
        box.offered(workflow_id, "444455556666")
    finally:
        box.close()


# ---- who may do what ---------------------------------------------------------------------------------------------


@pytest.mark.source("assumed")
def test_a_stranger_cannot_tell_a_share_from_none(box: Box, workflow_id: str) -> None:
    share_id = box.shared(workflow_id)
    missing = str(uuid.UUID(int=7))
    for operation in ("GetShare", "AcceptShare", "DeleteShare"):
        texts = []
        for identifier in (share_id, missing):
            with pytest.raises(ResourceNotFoundException) as caught:
                box.call(operation, account=STRANGER, shareId=identifier)
            texts.append(caught.value.message.replace(identifier, "ID"))
        assert texts[0] == texts[1]
        assert texts[0].startswith("Share ID not found. ListShares lists")
    assert status(box, share_id) == "ACTIVE"


@pytest.mark.parametrize("share_id", ["x", "\x00", "0" * 5000, f"{uuid.UUID(int=7)}\n", str(uuid.UUID(int=10)).upper()])
def test_what_is_no_share_id_is_not_found(box: Box, share_id: str) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        box.call("GetShare", shareId=share_id)
    assert len(caught.value.message) < 400


@pytest.mark.source("assumed")
def test_only_the_subscriber_accepts_and_only_an_offer(box: Box, workflow_id: str) -> None:
    share_id = box.offered(workflow_id)
    with pytest.raises(AccessDeniedException, match=f"is for account {OTHER} to accept, not for its owner"):
        box.call("AcceptShare", shareId=share_id)
    box.call("AcceptShare", account=OTHER, shareId=share_id)
    for now in ("ACTIVATING", "ACTIVE"):
        with pytest.raises(ConflictException, match=f"is {now} and cannot be accepted: only a PENDING one can"):
            box.call("AcceptShare", account=OTHER, shareId=share_id)
        box.move_shares()
    box.call("DeleteShare", shareId=share_id)
    for now in ("DELETING", "DELETED"):
        with pytest.raises(ConflictException, match=f"is {now} and cannot be accepted"):
            box.call("AcceptShare", account=OTHER, shareId=share_id)
        box.move_shares()


@pytest.mark.source("model")
@pytest.mark.parametrize("account", [ACCOUNT, OTHER])
def test_either_side_ends_a_share_and_may_say_so_twice(box: Box, workflow_id: str, account: str) -> None:
    share_id = box.shared(workflow_id)
    assert box.call("DeleteShare", account=account, shareId=share_id) == {"status": "DELETING"}
    box.woken.clear()
    assert box.call("DeleteShare", account=account, shareId=share_id) == {"status": "DELETING"}
    box.move_shares()
    assert box.call("DeleteShare", account=account, shareId=share_id) == {"status": "DELETED"}
    assert box.woken == []


@pytest.mark.source("model")
def test_an_offer_may_be_withdrawn_and_declined(box: Box, workflow_id: str) -> None:
    for account in (ACCOUNT, OTHER):
        share_id = box.offered(workflow_id)
        assert box.call("DeleteShare", account=account, shareId=share_id) == {"status": "DELETING"}
        box.move_shares()
        assert status(box, share_id) == "DELETED"


def test_a_share_that_changed_since_it_was_read_is_not_moved(box: Box, workflow_id: str) -> None:
    share_id = box.offered(workflow_id)
    stale = box.store.read(lambda tx: find_share(tx, ACCOUNT, share_id))
    assert stale is not None
    box.call("DeleteShare", shareId=share_id)
    assert box.store.write(lambda tx: wish_accept(tx, stale, NOW_MS)) is None
    assert box.store.write(lambda tx: wish_delete(tx, stale, NOW_MS)) is None
    assert status(box, share_id) == "DELETING"


# ---- ListShares --------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_each_side_lists_its_own_and_nobody_else_anything(box: Box, workflow_id: str) -> None:
    others_id = box.registered_workflow(account=OTHER)
    mine = [box.offered(workflow_id), box.shared(workflow_id, STRANGER)]
    theirs = box.offered(others_id, ACCOUNT, account=OTHER)
    assert [listed(box, owner) for owner in ("SELF", "OTHER")] == [mine, [theirs]]
    assert [listed(box, owner, OTHER) for owner in ("SELF", "OTHER")] == [[theirs], mine[:1]]
    assert [listed(box, owner, STRANGER) for owner in ("SELF", "OTHER")] == [[], mine[1:]]
    assert [listed(box, owner, "444455556666") for owner in ("SELF", "OTHER")] == [[], []]


@pytest.mark.source("model")
def test_a_filter_lets_through_what_has_one_of_the_values_of_each_member(box: Box, workflow_id: str) -> None:
    second_id = box.registered_workflow()
    pending, active = box.offered(workflow_id), box.shared(workflow_id, STRANGER)
    second = box.offered(second_id)
    deleted = box.offered(second_id, STRANGER)
    box.call("DeleteShare", shareId=deleted)
    box.move_shares()

    def found(**members: Any) -> list[str]:
        return listed(box, "SELF", filter=members)

    assert found() == [pending, active, second, deleted]
    assert found(status=["PENDING"]) == [pending, second]
    assert found(status=["ACTIVE", "DELETED"]) == [active, deleted]
    assert found(resourceArns=[f"{ARN}/{second_id}", "nothing"]) == [second, deleted]
    assert found(resourceArns=[f"{ARN}/{workflow_id}"], status=["PENDING", "DELETED"]) == [pending]
    assert found(type=["WORKFLOW", "VARIANT_STORE"], status=["ACTIVE"]) == [active]
    assert found(type=["VARIANT_STORE"]) == []
    assert found(resourceArns=["nothing"]) == []


@pytest.mark.source("model")
@pytest.mark.parametrize("filter_", [{}, {"filter": {"status": ["PENDING"]}}])
def test_a_long_list_comes_in_pages(box: Box, workflow_id: str, filter_: dict[str, Any]) -> None:
    made = [box.offered(workflow_id, f"{number:012}") for number in range(5)]
    seen: list[str] = []
    token: dict[str, str] = {}
    sizes = []
    while True:
        page = box.call("ListShares", resourceOwner="SELF", maxResults=2, **filter_, **token)
        sizes.append(len(page["shares"]))
        seen += [item["shareId"] for item in page["shares"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert (seen, sizes) == (made, [2, 2, 1])


def test_a_filtered_page_looks_at_a_bounded_number_of_shares_and_goes_on_from_there(box: Box, workflow_id: str) -> None:
    def fill(tx: Any) -> None:
        for number in range(WALK + 5):
            insert_share(
                tx,
                NewShare(
                    id=next_id(tx, "share"),
                    account=ACCOUNT,
                    share_id=str(uuid.UUID(int=number)),
                    workflow_id=int(workflow_id),
                    resource_arn=f"{ARN}/{workflow_id}",
                    principal_subscriber=f"{number:012}",
                    created_ms=NOW_MS,
                ),
            )

    box.store.write(fill)
    last = str(uuid.UUID(int=WALK + 4))
    box.call("AcceptShare", account=f"{WALK + 4:012}", shareId=last)
    asked = {"resourceOwner": "SELF", "filter": {"status": ["ACTIVATING"]}}
    first = box.call("ListShares", **asked)
    assert first["shares"] == []
    second = box.call("ListShares", **asked, nextToken=first["nextToken"])
    assert [item["shareId"] for item in second["shares"]] == [last]
    assert "nextToken" not in second
    assert len(box.call("ListShares", resourceOwner="SELF", maxResults=5000)["shares"]) == 100


def test_a_token_is_good_for_one_account_one_side_and_one_filter(box: Box, workflow_id: str) -> None:
    for number in range(3):
        box.offered(workflow_id, f"{number:012}")
    token = box.call("ListShares", resourceOwner="SELF", maxResults=1)["nextToken"]
    assert len(box.call("ListShares", resourceOwner="SELF", nextToken=token)["shares"]) == 2
    for change in ({"account": OTHER}, {"resourceOwner": "OTHER"}, {"filter": {"status": ["PENDING"]}}):
        with pytest.raises(ValidationException, match="is not a token of ListShares with this filter"):
            box.call("ListShares", **{"resourceOwner": "SELF", "nextToken": token, **change})
    with pytest.raises(ValidationException, match="nextToken 'x' is not a token"):
        box.call("ListShares", resourceOwner="SELF", nextToken="x")


@pytest.mark.source("assumed")
@pytest.mark.parametrize("size", [0, -1])
def test_a_page_holds_at_least_one_share(box: Box, size: int) -> None:
    with pytest.raises(ValidationException, match=f"Value '{size}' at 'maxResults' failed to satisfy constraint"):
        box.call("ListShares", resourceOwner="SELF", maxResults=size)
