"""The operations on run groups: create, look, list, update, delete. Server process, one transaction each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from runomics.domain import identity
from runomics.operations import idempotency, pages
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.run_request import check_tags
from runomics.store import groups
from runomics.store.database import Tx, next_id
from runomics.wire.errors import ConflictException, ResourceNotFoundException, ServiceQuotaExceededException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        CreateRunGroupRequestTypeDef,
        DeleteRunGroupRequestTypeDef,
        GetRunGroupRequestTypeDef,
        ListRunGroupsRequestTypeDef,
        UpdateRunGroupRequestTypeDef,
    )

_OPERATION = "CreateRunGroup"


def found(tx: Tx, caller: Caller, group_id: str) -> groups.GroupRow:
    """The caller's run group.

    Raises:
        ResourceNotFoundException: no such group, deleted, or of another account: the same text for all.
    """
    number = identity.number(group_id)
    row = None if number is None else groups.find_group(tx, caller.account, number)
    if row is None:
        raise ResourceNotFoundException(
            f"Run group {group_id} not found. ListRunGroups lists the run groups of account {caller.account}."
        )
    return row


def create_run_group(tx: Tx, caller: Caller, request: CreateRunGroupRequestTypeDef) -> dict[str, Any]:
    """Make a run group; its limits count from the next run or task that starts.

    Source: model; guide, fixed-quotas (1,000 a Region); assumed (402 for one too many, names need not differ).

    Raises:
        ValidationException, ConflictException, ServiceQuotaExceededException.
    """
    if (answer := idempotency.first_answer(tx, caller, _OPERATION, request)) is not None:
        return answer
    tags = request.get("tags", {})
    check_tags(tags, caller.site.limits)
    limit = caller.site.limits.run_groups
    if groups.count_groups(tx, caller.account) >= limit:
        raise ServiceQuotaExceededException(
            f"Account {caller.account} has {limit} run groups, as many as an account may have. Delete one with DeleteRunGroup."
        )
    new = groups.NewGroup(
        id=next_id(tx, groups.KIND),
        account=caller.account,
        name=request.get("name"),
        max_runs=request.get("maxRuns"),
        max_cpus=request.get("maxCpus"),
        max_gpus=request.get("maxGpus"),
        max_duration_minutes=request.get("maxDuration"),
        tags=orjson.dumps(tags).decode(),
        created_ms=caller.now_ms,
    )
    groups.insert_group(tx, new)
    answer = {"arn": _arn(caller, new.id), "id": str(new.id), "tags": orjson.Fragment(new.tags)}
    idempotency.remember(tx, caller, _OPERATION, request, answer=answer)
    return answer


def get_run_group(tx: Tx, caller: Caller, request: GetRunGroupRequestTypeDef) -> dict[str, Any]:
    """A run group; limits that it has not are absent. Source: model."""
    row = found(tx, caller, request["id"])
    return {**_item(caller, row), "tags": orjson.Fragment(row.tags)}


def list_run_groups(tx: Tx, caller: Caller, request: ListRunGroupsRequestTypeDef) -> dict[str, Any]:
    """Run groups in the order of their making; names match exactly.

    Source: model; assumed (order, 100 a page, exact names).
    """
    rows, next_after_id = groups.list_groups(
        tx,
        caller.account,
        after_id=pages.start(caller, "ListRunGroups", request),
        limit=pages.size(request),
        name=request.get("name"),
    )
    items = [_item(caller, row) for row in rows]
    return pages.page(caller, "ListRunGroups", request, items=items, next_after_id=next_after_id)


def update_run_group(tx: Tx, caller: Caller, request: UpdateRunGroupRequestTypeDef) -> None:
    """Change name and limits; what is left out stays as it is, and a limit cannot be taken away.

    Source: model; assumed: it counts at once. What runs goes on, even beyond a lower limit, except that a lower maxDuration ends
    runs that have taken longer; a waiting task that a lower maxCpus or maxGpus can never hold fails.
    """
    row = found(tx, caller, request["id"])
    groups.update_group(
        tx,
        row,
        name=request.get("name"),
        max_runs=request.get("maxRuns"),
        max_cpus=request.get("maxCpus"),
        max_gpus=request.get("maxGpus"),
        max_duration_minutes=request.get("maxDuration"),
    )


def delete_run_group(tx: Tx, caller: Caller, request: DeleteRunGroupRequestTypeDef) -> None:
    """Remove a run group. Its ended runs stay and go on naming it.

    Source: assumed: ConflictException while a run of it has not ended.
    """
    row = found(tx, caller, request["id"])
    run_id = groups.find_open_run(tx, row.id)
    if run_id is not None:
        raise ConflictException(
            f"Run group {row.id} has runs that have not ended (run {run_id}) and cannot be deleted: wait for their end, or cancel "
            "them first with CancelRun."
        )
    groups.delete_group(tx, row)


def _item(caller: Caller, row: groups.GroupRow) -> dict[str, Any]:
    item: dict[str, Any] = {
        "arn": _arn(caller, row.id),
        "id": str(row.id),
        "creationTime": moment(row.created_ms),
    }
    members = {
        "name": row.name,
        "maxRuns": row.max_runs,
        "maxCpus": row.max_cpus,
        "maxGpus": row.max_gpus,
        "maxDuration": row.max_duration_minutes,
    }
    return item | {name: value for name, value in members.items() if value is not None}


def _arn(caller: Caller, group_id: int) -> str:
    return f"{identity.arn_prefix(caller.site.region, caller.account, 'runGroup')}{group_id}"
