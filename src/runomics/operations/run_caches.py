"""The operations on run caches: create, look, list, update, delete. Server process, one transaction each.

Deviation: run caches are kept and shown, but no task result is taken from one or put into one yet; a run that names a cache says so in
its log.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson

from runomics.domain import identity
from runomics.operations import idempotency, pages
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.run_request import check_s3_uri, check_tags
from runomics.store import caches
from runomics.store.database import Tx, next_id
from runomics.wire.errors import ConflictException, ResourceNotFoundException, ServiceQuotaExceededException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        CreateRunCacheRequestTypeDef,
        DeleteRunCacheRequestTypeDef,
        GetRunCacheRequestTypeDef,
        ListRunCachesRequestTypeDef,
        UpdateRunCacheRequestTypeDef,
    )

_OPERATION = "CreateRunCache"
ACTIVE = "ACTIVE"
"""What every cache is: one that is deleted is not found. Source: model, shape RunCacheStatus."""


def found(tx: Tx, caller: Caller, cache_id: str) -> caches.CacheRow:
    """The caller's run cache.

    Raises:
        ResourceNotFoundException: no such cache, deleted, or of another account: the same text for all.
    """
    number = identity.number(cache_id)
    row = None if number is None else caches.find_cache(tx, caller.account, number)
    if row is None:
        raise ResourceNotFoundException(
            f"Run cache {cache_id} not found. ListRunCaches lists the run caches of account {caller.account}."
        )
    return row


def create_run_cache(tx: Tx, caller: Caller, request: CreateRunCacheRequestTypeDef) -> dict[str, Any]:
    """Make a run cache at a place in S3.

    Source: model; guide, workflow-cache-create (CACHE_ON_FAILURE unless said otherwise, the bucket is the account's own);
    guide, fixed-quotas (1,000 an account); assumed (402 for one too many).
    Deviation: the bucket of cacheS3Location is not looked at, nor its owner compared with cacheBucketOwnerId.

    Raises:
        ValidationException, ConflictException, ServiceQuotaExceededException.
    """
    if (answer := idempotency.first_answer(tx, caller, _OPERATION, request)) is not None:
        return answer
    tags = request.get("tags", {})
    check_tags(tags, caller.site.limits)
    check_s3_uri("cacheS3Location", request["cacheS3Location"])
    limit = caller.site.limits.run_caches
    if caches.count_caches(tx, caller.account) >= limit:
        raise ServiceQuotaExceededException(
            f"Account {caller.account} has {limit} run caches, as many as an account may have. Delete one with DeleteRunCache."
        )
    new = caches.NewCache(
        id=next_id(tx, caches.KIND),
        account=caller.account,
        uuid=str(uuid.uuid4()),
        name=request.get("name"),
        description=request.get("description"),
        cache_behavior=request.get("cacheBehavior", "CACHE_ON_FAILURE"),
        cache_s3_uri=request["cacheS3Location"],
        cache_bucket_owner_id=request.get("cacheBucketOwnerId", caller.account),
        tags=orjson.dumps(tags).decode(),
        created_ms=caller.now_ms,
    )
    caches.insert_cache(tx, new)
    answer = {
        "arn": _arn(caller, new.id),
        "id": str(new.id),
        "status": ACTIVE,
        "tags": orjson.Fragment(new.tags),
    }
    idempotency.remember(tx, caller, _OPERATION, request, answer=answer)
    return answer


def get_run_cache(tx: Tx, caller: Caller, request: GetRunCacheRequestTypeDef) -> dict[str, Any]:
    """A run cache. Source: model."""
    row = found(tx, caller, request["id"])
    answer = {
        **_item(caller, row),
        "cacheBucketOwnerId": row.cache_bucket_owner_id,
        "tags": orjson.Fragment(row.tags),
    }
    if row.description is not None:
        answer["description"] = row.description
    return answer


def list_run_caches(tx: Tx, caller: Caller, request: ListRunCachesRequestTypeDef) -> dict[str, Any]:
    """Run caches in the order of their making.

    Source: model; assumed (order, 100 a page).
    """
    rows, next_after_id = caches.list_caches(
        tx, caller.account, after_id=pages.start(caller, "ListRunCaches", request), limit=pages.size(request)
    )
    items = [_item(caller, row) for row in rows]
    return pages.page(caller, "ListRunCaches", request, items=items, next_after_id=next_after_id)


def update_run_cache(tx: Tx, caller: Caller, request: UpdateRunCacheRequestTypeDef) -> None:
    """Change name, description or behaviour; what is left out stays as it is. Runs that were started keep their behaviour.

    Source: model; guide (the place cannot be changed); assumed (runs that were started).
    """
    row = found(tx, caller, request["id"])
    caches.update_cache(
        tx,
        row,
        name=request.get("name"),
        description=request.get("description"),
        cache_behavior=request.get("cacheBehavior"),
    )


def delete_run_cache(tx: Tx, caller: Caller, request: DeleteRunCacheRequestTypeDef) -> None:
    """Remove a run cache; what lies at its place stays.

    Source: guide, workflow-cache-delete (only while no active run uses it); assumed: otherwise ConflictException, PENDING runs too.
    """
    row = found(tx, caller, request["id"])
    run_id = caches.find_open_run(tx, row.id)
    if run_id is not None:
        raise ConflictException(
            f"Run cache {row.id} is used by runs that have not ended (run {run_id}) and cannot be deleted: wait for their end, or "
            "cancel them first with CancelRun."
        )
    caches.delete_cache(tx, row)


def _item(caller: Caller, row: caches.CacheRow) -> dict[str, Any]:
    item: dict[str, Any] = {
        "arn": _arn(caller, row.id),
        "id": str(row.id),
        "status": ACTIVE,
        "cacheBehavior": row.cache_behavior,
        "cacheS3Uri": row.cache_s3_uri,
        "creationTime": moment(row.created_ms),
    }
    if row.name is not None:
        item["name"] = row.name
    return item


def _arn(caller: Caller, cache_id: int) -> str:
    return f"{identity.arn_prefix(caller.site.region, caller.account, 'runCache')}{cache_id}"
