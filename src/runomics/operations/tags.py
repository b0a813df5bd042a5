"""The operations on tags: of runs, run groups, run caches, batches, workflows, versions and configurations. Server process, one
transaction each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runomics.domain.identity import MalformedName
from runomics.domain.tagged import Tagged, parse_tagged
from runomics.operations.caller import Caller
from runomics.operations.run_request import check_tags, reserved_keys
from runomics.store import tags
from runomics.store.database import Tx
from runomics.wire.errors import ResourceNotFoundException, ServiceQuotaExceededException, ValidationException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        ListTagsForResourceRequestTypeDef,
        TagResourceRequestTypeDef,
        UntagResourceRequestTypeDef,
    )


def tag_resource(tx: Tx, caller: Caller, request: TagResourceRequestTypeDef) -> None:
    """Add tags; a key that is there gets the new value.

    Source: model; guide, tagging (50, aws: is reserved, case matters); assumed: 402 when they become too many together.

    Raises:
        ValidationException, ResourceNotFoundException, ServiceQuotaExceededException.
    """
    thing = _named(request["resourceArn"])
    check_tags(request["tags"], caller.site.limits)
    together = {**_found(tx, caller, thing, request["resourceArn"]), **request["tags"]}
    limit = caller.site.limits.tags
    if len(together) > limit:
        raise ServiceQuotaExceededException(
            f"{request['resourceArn']} would have {len(together)} tags; a resource has at most {limit}. Remove some first with "
            "UntagResource."
        )
    tags.set_tags(tx, caller.account, thing, together)


def untag_resource(tx: Tx, caller: Caller, request: UntagResourceRequestTypeDef) -> None:
    """Remove tags; keys that are not there are passed over.

    Source: model (idempotent); guide, tagging (aws: may not be changed).

    Raises:
        ValidationException, ResourceNotFoundException.
    """
    thing = _named(request["resourceArn"])
    if reserved := reserved_keys(request["tagKeys"]):
        raise ValidationException(
            f"Tags whose keys begin with 'aws:' cannot be removed ({', '.join(reserved)}). Leave them out."
        )
    left = _found(tx, caller, thing, request["resourceArn"])
    for key in request["tagKeys"]:
        left.pop(key, None)
    tags.set_tags(tx, caller.account, thing, left)


def list_tags_for_resource(tx: Tx, caller: Caller, request: ListTagsForResourceRequestTypeDef) -> dict[str, Any]:
    """All tags of a resource. Source: model.

    Raises:
        ValidationException, ResourceNotFoundException.
    """
    thing = _named(request["resourceArn"])
    return {"tags": _found(tx, caller, thing, request["resourceArn"])}


def _named(resource_arn: str) -> Tagged:
    try:
        return parse_tagged(resource_arn)
    except MalformedName as error:
        raise ValidationException(f"resourceArn: {error}.") from error


def _found(tx: Tx, caller: Caller, thing: Tagged, resource_arn: str) -> dict[str, str]:
    """Of the caller's own thing, in this Region. What is shared with the caller is its owner's to tag."""
    is_own = (thing.region, thing.account) == (caller.site.region, caller.account)
    found = tags.find_tags(tx, caller.account, thing) if is_own else None
    if found is None:
        raise ResourceNotFoundException(
            f"Resource {resource_arn} not found. Pass the arn of a resource of account {caller.account} in {caller.site.region}."
        )
    return found
