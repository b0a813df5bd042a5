"""The operations on configurations: create, look, list, delete. Server process, one transaction each.

A configuration is never changed. It is CREATING when it was made; the scheduler makes it ACTIVE.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson

from runomics.domain import identity
from runomics.domain.configuration import ConfigurationEvent, ConfigurationStatus, accepts
from runomics.operations import idempotency, pages
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.run_request import check_tags
from runomics.store import configurations
from runomics.store.configurations import ConfigurationRow, NewConfiguration
from runomics.store.database import Tx, next_id
from runomics.wire.errors import ConflictException, ResourceNotFoundException, ServiceQuotaExceededException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        CreateConfigurationRequestTypeDef,
        DeleteConfigurationRequestTypeDef,
        GetConfigurationRequestTypeDef,
        ListConfigurationsRequestTypeDef,
    )

_OPERATION = "CreateConfiguration"
PAGE_SIZE = 10
"""Source: model (the most there may be); assumed (the default)."""


def found(tx: Tx, caller: Caller, name: str) -> ConfigurationRow:
    """The caller's configuration.

    Raises:
        ResourceNotFoundException: the account has none of this name, or no longer.
    """
    row = configurations.find_configuration(tx, caller.account, name)
    if row is None:
        raise ResourceNotFoundException(
            f"Configuration {name} not found. ListConfigurations lists the configurations of account {caller.account}."
        )
    return row


def arn(caller: Caller, name: str) -> str:
    """Of the caller's configuration of this name."""
    return f"{identity.arn_prefix(caller.site.region, caller.account, 'configuration')}{name}"


def create_configuration(tx: Tx, caller: Caller, request: CreateConfigurationRequestTypeDef) -> dict[str, Any]:
    """Make a configuration in CREATING and leave it to the scheduler.

    Source: model; general reference, quotas (10 an account); assumed (409 for a name in use, 402 for one too many).
    Deviation: subnets and security groups name a network that the operator of the server defines; vpcId is absent.

    Raises:
        ValidationException, ServiceQuotaExceededException.
        ConflictException: the account has a configuration of this name, or the request token was used for another request.
    """
    if (answer := idempotency.first_answer(tx, caller, _OPERATION, request)) is not None:
        return answer
    tags = request.get("tags", {})
    check_tags(tags, caller.site.limits)
    name = request["name"]
    if configurations.find_configuration(tx, caller.account, name) is not None:
        raise ConflictException(
            f"Account {caller.account} has a configuration {name} already. Choose another name, or delete that one first with "
            "DeleteConfiguration."
        )
    limit = caller.site.limits.configurations
    if configurations.count_configurations(tx, caller.account) >= limit:
        raise ServiceQuotaExceededException(
            f"Account {caller.account} has {limit} configurations, as many as an account may have. Delete one with "
            "DeleteConfiguration."
        )
    new = NewConfiguration(
        id=next_id(tx, configurations.KIND),
        account=caller.account,
        name=name,
        uuid=str(uuid.uuid4()),
        description=request.get("description"),
        run_configurations=orjson.dumps(request["runConfigurations"]).decode(),
        tags=orjson.dumps(tags).decode(),
        created_ms=caller.now_ms,
    )
    configurations.insert_configuration(tx, new)
    answer = _answer(caller, new, str(ConfigurationStatus.CREATING))
    idempotency.remember(tx, caller, _OPERATION, request, answer=answer)
    return answer


def get_configuration(tx: Tx, caller: Caller, request: GetConfigurationRequestTypeDef) -> dict[str, Any]:
    """A configuration. Source: model."""
    row = found(tx, caller, request["name"])
    return _answer(caller, row, row.status)


def list_configurations(tx: Tx, caller: Caller, request: ListConfigurationsRequestTypeDef) -> dict[str, Any]:
    """Configurations in the order of their making.

    Source: model (10 a page at most); assumed (order, the default page).
    """
    rows, next_after_id = configurations.list_configurations(
        tx,
        caller.account,
        after_id=pages.start(caller, "ListConfigurations", request),
        limit=min(pages.size(request), PAGE_SIZE),
    )
    items = []
    for row in rows:
        item: dict[str, Any] = {
            "arn": arn(caller, row.name),
            "name": row.name,
            "status": row.status,
            "creationTime": moment(row.created_ms),
        }
        if row.description is not None:
            item["description"] = row.description
        items.append(item)
    return pages.page(caller, "ListConfigurations", request, items=items, next_after_id=next_after_id)


def delete_configuration(tx: Tx, caller: Caller, request: DeleteConfigurationRequestTypeDef) -> None:
    """Remove a configuration; done when answered, and the name is free again. Runs that have ended go on showing it.

    Source: guide, workflows-vpc-networking (refused while in use); assumed: ConflictException, also while CREATING.
    """
    row = found(tx, caller, request["name"])
    if not accepts(ConfigurationStatus(row.status), ConfigurationEvent.DELETE_REQUESTED):
        raise ConflictException(
            f"Configuration {row.name} is {row.status} and cannot be deleted: wait until GetConfiguration says ACTIVE."
        )
    run_id = configurations.find_open_run(tx, row.id)
    if run_id is not None:
        raise ConflictException(
            f"Configuration {row.name} is used by runs that have not ended (run {run_id}) and cannot be deleted: wait for their "
            "end, or cancel them first with CancelRun."
        )
    configurations.delete_configuration(tx, row)


def _answer(caller: Caller, row: ConfigurationRow | NewConfiguration, status: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "arn": arn(caller, row.name),
        "uuid": row.uuid,
        "name": row.name,
        "status": status,
        "runConfigurations": orjson.Fragment(row.run_configurations),
        "creationTime": moment(row.created_ms),
        "tags": orjson.Fragment(row.tags),
    }
    if row.description is not None:
        answer["description"] = row.description
    return answer
