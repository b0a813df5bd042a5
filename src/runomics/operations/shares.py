"""The operations on shares: offer a workflow to another account, accept, look, list, end. Server process, one transaction each.

A share is of a whole private workflow with one account: every version, also those made later. It is seen from two sides, the owner's
and the subscriber's; nobody else learns that it exists. What was asked for (ACTIVATING, DELETING) the scheduler does a moment later.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runomics.domain import identity
from runomics.domain.share import ShareEvent, ShareStatus, accepts
from runomics.operations import pages
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.workflows import found as found_workflow
from runomics.store import shares
from runomics.store.database import Tx, next_id
from runomics.wire.errors import (
    AccessDeniedException,
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        AcceptShareRequestTypeDef,
        CreateShareRequestTypeDef,
        DeleteShareRequestTypeDef,
        GetShareRequestTypeDef,
        ListSharesRequestTypeDef,
    )

_ACCOUNT = re.compile(r"[0-9]{12}")
_WORKFLOW = re.compile(r"workflow/([0-9]{1,18})")
_SHARE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ECHO_LETTERS = 128
TYPE = "WORKFLOW"
"""Of the three kinds of things that the API shares, the one that this service has."""


def found(tx: Tx, caller: Caller, share_id: str) -> shares.ShareRow:
    """The share that the caller owns or is offered.

    Raises:
        ResourceNotFoundException: there is none, or it is between other accounts: the same text for both.
    """
    row = shares.find_share(tx, caller.account, share_id) if _SHARE_ID.fullmatch(share_id) else None
    if row is None:
        raise ResourceNotFoundException(
            f"Share {_echo(share_id)} not found. ListShares lists what account {caller.account} shares (SELF) and is offered (OTHER)."
        )
    return row


# ---- CreateShare, AcceptShare, DeleteShare -----------------------------------------------------------------------


def create_share(tx: Tx, caller: Caller, request: CreateShareRequestTypeDef) -> dict[str, Any]:
    """Offer a workflow of one's own to another account; it may be used once that account accepts.

    Source: model; guide, sharing-workflows; general reference, quotas (100 a workflow); assumed (400 for oneself and for what is no
    private workflow, 409 while a share with the same account is live, 402 for one too many; the account need not be known here).

    Raises:
        ValidationException, ConflictException, ServiceQuotaExceededException. ResourceNotFoundException: not the caller's workflow.
    """
    workflow_id = _shareable(caller, request["resourceArn"])
    subscriber = request["principalSubscriber"]
    if not _ACCOUNT.fullmatch(subscriber):
        raise ValidationException(
            f"principalSubscriber '{_echo(subscriber)}' is not an account. Give the 12 digits of one."
        )
    if subscriber == caller.account:
        raise ValidationException(f"principalSubscriber {subscriber} owns the workflow. Name another account.")
    workflow = found_workflow(tx, caller, workflow_id)
    existing = shares.find_live_share(tx, caller.account, workflow.id, subscriber)
    if existing is not None:
        raise ConflictException(
            f"Workflow {workflow.id} is shared with account {subscriber} already: share {existing.share_id} is {existing.status}. "
            "Use that one, or end it with DeleteShare first."
        )
    limit = caller.site.limits.shares_per_workflow
    if shares.count_live_shares(tx, caller.account, workflow.id) >= limit:
        raise ServiceQuotaExceededException(
            f"Workflow {workflow.id} has {limit} shares, as many as a workflow may have. End one with DeleteShare."
        )
    new = shares.NewShare(
        id=next_id(tx, shares.KIND),
        account=caller.account,
        share_id=str(uuid.uuid4()),
        share_name=request.get("shareName"),
        workflow_id=workflow.id,
        resource_arn=identity.workflow_arn(caller.site.region, caller.account, workflow.id),
        principal_subscriber=subscriber,
        created_ms=caller.now_ms,
    )
    shares.insert_share(tx, new)
    answer = {"shareId": new.share_id, "status": str(ShareStatus.PENDING)}
    if new.share_name is not None:
        answer["shareName"] = new.share_name
    return answer


def accept_share(tx: Tx, caller: Caller, request: AcceptShareRequestTypeDef) -> dict[str, Any]:
    """Accept what one is offered.

    Source: model; observed (ACTIVATING); assumed (the owner may not, 409 unless PENDING).

    Raises:
        ResourceNotFoundException, ConflictException. AccessDeniedException: the caller is the owner.
    """
    row = found(tx, caller, request["shareId"])
    if row.principal_subscriber != caller.account:
        raise AccessDeniedException(
            f"Share {row.share_id} is for account {row.principal_subscriber} to accept, not for its owner."
        )
    if not accepts(ShareStatus(row.status), ShareEvent.ACCEPTED):
        raise ConflictException(f"Share {row.share_id} is {row.status} and cannot be accepted: only a PENDING one can.")
    return _answer(row, shares.wish_accept(tx, row, caller.now_ms))


def delete_share(tx: Tx, caller: Caller, request: DeleteShareRequestTypeDef) -> dict[str, Any]:
    """End a share: the owner revokes it, or the subscriber gives it up. Runs that have been started go on.

    From the answer on the workflow is not found for the subscriber. Again, it is answered with the status the share is in.

    Source: model (either side, idempotent); observed (DELETING); assumed (runs go on).

    Raises:
        ResourceNotFoundException, ConflictException.
    """
    row = found(tx, caller, request["shareId"])
    if not accepts(ShareStatus(row.status), ShareEvent.DELETE_REQUESTED):
        return {"status": row.status}
    return _answer(row, shares.wish_delete(tx, row, caller.now_ms))


def _answer(row: shares.ShareRow, status: ShareStatus | None) -> dict[str, Any]:
    if status is None:
        raise ConflictException(f"Share {row.share_id} was changed by another request. Look at it with GetShare.")
    return {"status": str(status)}


def _shareable(caller: Caller, arn: str) -> str:
    """The id in the ARN of a private workflow of this Region and of the caller's account.

    Raises:
        ValidationException: it is of another kind or Region. ResourceNotFoundException: of another account.
    """
    try:
        parts = identity.parse_arn(arn[: _ECHO_LETTERS + 1])
    except identity.MalformedName:
        parts = None
    resource = _WORKFLOW.fullmatch(parts.resource) if parts is not None else None
    if parts is None or resource is None or parts.service != "omics" or not _ACCOUNT.fullmatch(parts.account):
        raise ValidationException(
            f"resourceArn '{_echo(arn)}' is not the ARN of a private workflow (arn:aws:omics:REGION:ACCOUNT:workflow/ID). Only these "
            "are shared here; the versions of a workflow come with it."
        )
    if parts.region != caller.site.region:
        raise ValidationException(
            f"resourceArn '{_echo(arn)}' is of Region {parts.region}; this server's Region is {caller.site.region}."
        )
    if parts.account != caller.account:
        raise ResourceNotFoundException(
            f"Workflow {resource[1]} not found. ListWorkflows lists the PRIVATE workflows of account {caller.account}."
        )
    return resource[1]


def _echo(text: str) -> str:
    return text if len(text) <= _ECHO_LETTERS else f"{text[:_ECHO_LETTERS]}…"


# ---- GetShare, ListShares ----------------------------------------------------------------------------------------


def get_share(tx: Tx, caller: Caller, request: GetShareRequestTypeDef) -> dict[str, Any]:
    """A share, the same for both sides. A DELETED one is seen for 30 days.

    Source: model; assumed (how long a deleted share is seen).
    """
    return {"share": _details(found(tx, caller, request["shareId"]))}


def list_shares(tx: Tx, caller: Caller, request: ListSharesRequestTypeDef) -> dict[str, Any]:
    """What one shares (SELF) or is offered (OTHER), in the order of its making, of whatever status unless filtered.

    Source: model; guide, resource-sharing; assumed (order, at most 100 a page).

    Raises:
        ValidationException: a page size below 1, a token that is none.
    """
    size = pages.size(request)
    if size < 1:
        raise ValidationException(
            f"1 validation error detected: Value '{size}' at 'maxResults' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1"
        )
    after_id = pages.start(caller, "ListShares", request, member="nextToken")
    listed = shares.owned_shares if request["resourceOwner"] == "SELF" else shares.offered_shares
    rows, next_after_id = listed(
        tx, caller.account, after_id=after_id, limit=min(size, pages.PAGE_SIZE), wanted=_filter(request)
    )
    items = [_details(row) for row in rows]
    return pages.page(caller, "ListShares", request, items=items, next_after_id=next_after_id, items_member="shares")


def _filter(request: ListSharesRequestTypeDef) -> Callable[[shares.ShareRow], bool] | None:
    """What the filter lets through: each member that is given, any of its values. None without one."""
    given = request.get("filter", {})
    if not given:
        return None
    arns, statuses = set(given.get("resourceArns", ())), set(given.get("status", ()))
    has_type = "type" not in given or TYPE in given["type"]

    def wanted(row: shares.ShareRow) -> bool:
        return has_type and (not arns or row.resource_arn in arns) and (not statuses or row.status in statuses)

    return wanted


def _details(row: shares.ShareRow) -> dict[str, Any]:
    details: dict[str, Any] = {
        "shareId": row.share_id,
        "resourceArn": row.resource_arn,
        "resourceId": str(row.workflow_id),
        "principalSubscriber": row.principal_subscriber,
        "ownerId": row.account,
        "status": row.status,
        "creationTime": moment(row.created_ms),
        "updateTime": moment(row.updated_ms),
    }
    if row.status_message is not None:
        details["statusMessage"] = row.status_message
    if row.share_name is not None:
        details["shareName"] = row.share_name
    return details
