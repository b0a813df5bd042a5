"""What a StartRun request asks for once the run it repeats has filled it in, and which combinations are refused. Server process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired, cast

import orjson

from runomics.domain.identity import MalformedName, parse_s3_uri
from runomics.domain.limits import Limits
from runomics.domain.policy import PolicyError, compiled_once
from runomics.domain.storage import DYNAMIC
from runomics.store.runs import RunRow
from runomics.wire.errors import ValidationException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import StartRunRequestTypeDef

    class StartRunRequest(StartRunRequestTypeDef):
        """StartRun with the members that are newer than the type stubs. Source: model."""

        outputUriPrefixMode: NotRequired[Literal["SERVICE_DEFINED", "NONE_WITH_OVERWRITE"]]  # noqa: N815 - the API's name
        requesterPaysEnabled: NotRequired[bool]  # noqa: N815 - the API's name
        parametersUri: NotRequired[str]  # noqa: N815 - the API's name
        sessionPolicy: NotRequired[str]  # noqa: N815 - the API's name


KEPT = frozenset(
    {
        "networkingMode",
        "scratchStorageMode",
        "sessionPolicy",
        "engineSettings",
        "outputUriPrefixMode",
        "requesterPaysEnabled",
        "parametersUri",
    }
)
"""Members that have no column of their own: kept as they came, and answered by GetRun under the same names."""


def repeating(request: StartRunRequest, source: RunRow) -> StartRunRequest:
    """The request with the source run's values wherever it gives none of its own. Tags are not repeated.

    Storage goes together: a capacity is repeated only with the storage type it belonged to; so does a cache with its behaviour.

    Source: guide, rerun-a-run (the source's values are defaults that may be changed); observed (tags are not propagated);
    assumed (the exact list).
    """
    repeated: dict[str, Any] = {
        "workflowId": str(source.workflow_id),
        "workflowType": source.workflow_type,
        "workflowVersionName": source.workflow_version_name,
        "workflowOwnerId": source.workflow_owner_id,
        "name": source.name,
        "priority": source.priority,
        "runGroupId": None if source.run_group_id is None else str(source.run_group_id),
        "cacheId": None if source.run_cache_id is None else str(source.run_cache_id),
        "cacheBehavior": source.cache_behavior,
        "logLevel": source.log_level,
        "retentionMode": source.retention_mode,
        **orjson.loads(source.extra),
    }
    if source.parameters is not None:
        repeated["parameters"] = orjson.loads(source.parameters)
    if request.get("storageType", source.storage_type) == source.storage_type:
        repeated["storageType"] = source.storage_type
        repeated["storageCapacity"] = source.storage_capacity_gib
    if "workflowId" in request:
        for name in ("workflowType", "workflowVersionName", "workflowOwnerId"):
            del repeated[name]
    if "cacheId" in request:
        del repeated["cacheBehavior"]
    repeated["configurationName"] = repeated.pop("configuration", {}).get("name")
    repeated.pop("vpcConfig", None)
    if "parameters" in request or "parametersUri" in request:
        repeated.pop("parameters", None)
        repeated.pop("parametersUri", None)
    given = {name: value for name, value in repeated.items() if value is not None}
    return cast("StartRunRequest", {**given, **request})


def check(request: StartRunRequest, limits: Limits) -> None:
    """What can be refused without looking anything up.

    Raises:
        ValidationException: the first combination or value that cannot be served.
    """
    if "cacheBehavior" in request and "cacheId" not in request:
        raise ValidationException(
            "cacheBehavior needs cacheId: name the run cache it applies to, or leave cacheBehavior out."
        )
    if request.get("networkingMode") == "VPC" and "configurationName" not in request:
        raise ValidationException(
            "networkingMode VPC needs configurationName: name the configuration with the VPC, or leave networkingMode out."
        )
    if request.get("workflowType") == "READY2RUN":
        _check_ready2run(request)
    if "sessionPolicy" in request:
        _check_session_policy(request["sessionPolicy"])
    if "parameters" in request and "parametersUri" in request:
        raise ValidationException("parameters and parametersUri were both given: give one of them.")
    check_s3_uri("outputUri", request["outputUri"])
    if "tags" in request:
        check_tags(request["tags"], limits)


def _check_session_policy(document: str) -> None:
    try:
        compiled_once(document)
    except PolicyError as error:
        raise ValidationException(f"sessionPolicy: {error}.") from error


def _check_ready2run(request: StartRunRequest) -> None:
    workflow = f"Ready2Run workflow {request.get('workflowId')}"
    if "storageCapacity" in request or request.get("storageType", DYNAMIC) != DYNAMIC:
        raise ValidationException(f"{workflow} has its own storage: leave storageCapacity and storageType out.")
    if "cacheId" in request:
        raise ValidationException(f"{workflow} cannot use a run cache: leave cacheId out.")
    if "runGroupId" in request:
        raise ValidationException(f"{workflow} cannot run in a run group: leave runGroupId out.")


def check_s3_uri(member: str, uri: str) -> None:
    """Raises: ValidationException: `uri` is not s3://bucket/…"""
    try:
        parse_s3_uri(uri)
    except MalformedName as error:
        raise ValidationException(f"{member}: {error}.") from error


def check_tags(tags: Mapping[str, str], limits: Limits) -> None:
    """The rules of tags that the model does not hold.

    Source: guide, tagging.

    Raises:
        ValidationException: too many, or a reserved key.
    """
    if len(tags) > limits.tags:
        raise ValidationException(f"{len(tags)} tags were given; a resource has at most {limits.tags}. Leave some out.")
    if reserved := reserved_keys(tags):
        raise ValidationException(f"Tag keys may not begin with 'aws:' ({', '.join(reserved)}). Rename them.")


def reserved_keys(keys: Iterable[str]) -> list[str]:
    """Those of the keys of tags that only the service may use, sorted. Source: guide, tagging."""
    return sorted(key for key in keys if key.lower().startswith("aws:"))


def parameters_text(parameters: Any, limits: Limits) -> str:
    """The parameters as the JSON text that is kept.

    Raises:
        ValidationException: not an object, or too large.
    """
    if not isinstance(parameters, dict):
        raise ValidationException("parameters must be a JSON object that maps each parameter's name to its value.")
    text = orjson.dumps(parameters)
    if len(text) > limits.parameters_bytes:
        raise ValidationException(
            f"parameters take {len(text)} bytes of JSON; the limit is {limits.parameters_bytes}. Pass them as a file with parametersUri."
        )
    return text.decode()
