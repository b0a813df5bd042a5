"""What a run names besides its workflow: its run group, its run cache, its configuration. Server process, inside the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from runomics.domain.configuration import ConfigurationEvent, ConfigurationStatus, accepts
from runomics.operations import configurations, run_caches, run_groups
from runomics.operations.caller import Caller
from runomics.store.database import Tx
from runomics.wire.errors import ConflictException, ValidationException

if TYPE_CHECKING:
    from runomics.operations.run_request import StartRunRequest


@dataclass(frozen=True, slots=True)
class RunContext:
    """What was named, found. `extra`: what GetRun shows of the configuration, also when that is gone."""

    run_group_id: int | None = None
    run_cache_id: int | None = None
    cache_behavior: str | None = None
    configuration_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def run_context(tx: Tx, caller: Caller, wanted: StartRunRequest) -> RunContext:
    """Group, cache and configuration of the caller's. Looks up nothing that is not named.

    Source: model; guide, how-run-cache (the cache's behaviour unless the run has one); workflows-vpc-networking (the configuration
    must be ACTIVE); assumed: 409 when it is not, 400 for VPC with a configuration that has no VPC.

    Raises:
        ResourceNotFoundException, ConflictException, ValidationException.
    """
    group_id = run_groups.found(tx, caller, wanted["runGroupId"]).id if "runGroupId" in wanted else None
    cache_id, cache_behavior = None, None
    if "cacheId" in wanted:
        cache = run_caches.found(tx, caller, wanted["cacheId"])
        cache_id, cache_behavior = cache.id, wanted.get("cacheBehavior", cache.cache_behavior)
    configuration_id, extra = _configuration(tx, caller, wanted)
    return RunContext(group_id, cache_id, cache_behavior, configuration_id, extra)


def _configuration(tx: Tx, caller: Caller, wanted: StartRunRequest) -> tuple[int | None, Mapping[str, Any]]:
    if "configurationName" not in wanted:
        return None, {}
    row = configurations.found(tx, caller, wanted["configurationName"])
    if row.status == ConfigurationStatus.FAILED:
        why = caller.site.network_problem(row.account, row.name, row.run_configurations)
        raise ConflictException(
            f"Configuration {row.name} is FAILED and cannot be used. "
            + (why or "The network it stands for was defined after it.")
            + " Then delete it with DeleteConfiguration and make it again."
        )
    if not accepts(ConfigurationStatus(row.status), ConfigurationEvent.RUN_STARTED):
        raise ConflictException(
            f"Configuration {row.name} is {row.status} and cannot be used: wait until GetConfiguration says ACTIVE."
        )
    extra: dict[str, Any] = {
        "configuration": {"name": row.name, "arn": configurations.arn(caller, row.name), "uuid": row.uuid}
    }
    if wanted.get("networkingMode") == "VPC":
        vpc = orjson.loads(row.run_configurations).get("vpcConfig")
        if vpc is None:
            raise ValidationException(
                f"networkingMode VPC needs a configuration with a vpcConfig; configuration {row.name} has none. Name another one, "
                "or leave networkingMode out."
            )
        extra["vpcConfig"] = vpc
    return row.id, extra
