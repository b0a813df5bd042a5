"""What workflows and their versions have in common: a definition as it is asked for, kept and shown. Server process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson

from runomics.domain import ready2run, repository
from runomics.domain.limits import Limits
from runomics.domain.workflow import WorkflowStatus
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.run_request import check_s3_uri, check_tags
from runomics.store.catalog import WorkflowRow
from runomics.store.versions import VersionRow
from runomics.wire.errors import AccessDeniedException, ValidationException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        CreateWorkflowRequestTypeDef,
        CreateWorkflowVersionRequestTypeDef,
        DefinitionRepositoryTypeDef,
    )

    DefinitionRequest = CreateWorkflowRequestTypeDef | CreateWorkflowVersionRequestTypeDef

_SOURCES = ("definitionZip", "definitionUri", "definitionRepository")
_KEPT = (
    "containerRegistryMap",
    "containerRegistryMapUri",
    "definitionRepository",
    "parameterTemplatePath",
    "readmePath",
    "readmeUri",
    "workflowBucketOwnerId",
)

_EITHER = (
    ("readmeMarkdown", "readmeUri"),
    ("readmeMarkdown", "readmePath"),
    ("readmeUri", "readmePath"),
    ("parameterTemplate", "parameterTemplatePath"),
    ("containerRegistryMap", "containerRegistryMapUri"),
)

UPDATES = {
    "description": "description",
    "storageType": "storage_type",
    "storageCapacity": "storage_capacity_gib",
    "readmeMarkdown": "readme",
}
"""Member of an update → the column it sets."""


# ---- as it is asked for ------------------------------------------------------------------------------------------


def store_definition(caller: Caller, request: DefinitionRequest) -> dict[str, Any]:
    """Before the transaction, on a pool thread: refuse what can be refused, and keep the archive on disk.

    The request comes back with the archive's digest, `definitionSha256`, in the place of its bytes.

    Raises:
        ValidationException: the request cannot be served, whatever the archive holds.
    """
    _check(request, caller.site.limits)
    stored: dict[str, Any] = dict(request)
    if "definitionZip" in request:
        stored["definitionSha256"] = caller.site.definitions.keep(cast("bytes", stored.pop("definitionZip")))
    return stored


def columns(request: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a new row that come from the request `store_definition` gave, the same for workflow and version."""
    template = request.get("parameterTemplate")
    extra = {name: request[name] for name in _KEPT if name in request}
    return {
        "description": request.get("description"),
        "engine": request.get("engine"),
        "main": request.get("main"),
        "definition_sha256": request.get("definitionSha256"),
        "definition_uri": request.get("definitionUri"),
        "parameter_template": None if template is None else orjson.dumps(template).decode(),
        "template_given": int(template is not None),
        "storage_type": request.get("storageType"),
        "storage_capacity_gib": request.get("storageCapacity"),
        "accelerators": request.get("accelerators"),
        "tags": orjson.dumps(request.get("tags", {})).decode(),
        "extra": orjson.dumps(extra).decode(),
        "readme": request.get("readmeMarkdown"),
    }


def changes(request: Mapping[str, Any], members: Mapping[str, str], limits: Limits) -> dict[str, Any]:
    """The columns that an update sets. `members`: member → column.

    Raises:
        ValidationException: the README is too large.
    """
    _check_readme(request.get("readmeMarkdown"), limits)
    return {column: request[member] for member, column in members.items() if member in request}


def _check(request: DefinitionRequest, limits: Limits) -> None:
    given = [name for name in _SOURCES if name in request]
    if len(given) != 1:
        what = "none" if not given else " and ".join(given)
        raise ValidationException(f"Exactly one of {', '.join(_SOURCES)} is needed; {what} was given.")
    if "definitionRepository" in request:
        _check_repository(request["definitionRepository"])
    else:
        for name, instead in (
            ("parameterTemplatePath", "parameterTemplate"),
            ("readmePath", "readmeMarkdown or readmeUri"),
        ):
            if name in request:
                raise ValidationException(
                    f"{name} is a path in a repository and needs definitionRepository. Use {instead}."
                )
    if "definitionZip" in request:
        _check_archive_size(len(cast("bytes", request["definitionZip"])), limits)
    for name in ("definitionUri", "readmeUri", "containerRegistryMapUri"):
        if name in request:
            check_s3_uri(name, str(request[name]))  # type: ignore[literal-required]
    for first, second in _EITHER:
        if first in request and second in request:
            raise ValidationException(f"{first} and {second} were both given: give one of them.")
    _check_readme(request.get("readmeMarkdown"), limits)
    entries = len(request.get("parameterTemplate", {}))
    if entries > limits.template_entries:
        raise ValidationException(
            f"parameterTemplate has {entries} entries; the limit is {limits.template_entries}. Leave some out."
        )
    check_tags(request.get("tags", {}), limits)


def _check_repository(wanted: DefinitionRepositoryTypeDef) -> None:
    try:
        repository.check_repository(wanted["fullRepositoryId"])
        repository.reference_of(cast("Mapping[str, str] | None", wanted.get("sourceReference")))
    except repository.Malformed as error:
        raise ValidationException(f"definitionRepository: {error}.") from error


def _check_archive_size(size_bytes: int, limits: Limits) -> None:
    if size_bytes == 0:
        raise ValidationException("definitionZip is empty. Send the bytes of a zip archive.")
    if size_bytes > limits.definition_zip_bytes:
        raise ValidationException(
            f"definitionZip has {size_bytes} bytes; the limit is {limits.definition_zip_bytes}. Put the archive into a bucket and "
            f"pass definitionUri, which may have {limits.definition_uri_bytes} bytes."
        )


def _check_readme(readme: str | None, limits: Limits) -> None:
    size_bytes = 0 if readme is None else len(readme.encode())
    if size_bytes > limits.readme_bytes:
        raise ValidationException(
            f"readmeMarkdown has {size_bytes} bytes; the limit is {limits.readme_bytes}. Shorten it."
        )


# ---- as it is shown ----------------------------------------------------------------------------------------------


def members(row: WorkflowRow | VersionRow) -> dict[str, Any]:
    """What everybody sees who may run it: not the definition, nor what quotes it."""
    extra = orjson.loads(row.extra)
    optional = {
        "description": row.description,
        "engine": row.engine,
        "main": row.main,
        "storageType": row.storage_type,
        "storageCapacity": row.storage_capacity_gib,
        "accelerators": row.accelerators,
        "profiles": extra.get("profiles"),
        "profileParameterTemplates": extra.get("profileParameterTemplates"),
        "digest": None if row.definition_sha256 is None else f"sha256:{row.definition_sha256}",
        "parameterTemplate": None if row.parameter_template is None else orjson.Fragment(row.parameter_template),
    }
    return {
        "uuid": row.uuid,
        "status": row.status,
        "creationTime": moment(row.created_ms),
        **{name: value for name, value in optional.items() if value is not None},
    }


def owners_members(row: WorkflowRow | VersionRow) -> dict[str, Any]:
    """What only the owner sees beside `members`."""
    extra = orjson.loads(row.extra)
    optional = {
        "statusMessage": row.status_message,
        "containerRegistryMap": extra.get("containerRegistryMap"),
        "definitionRepositoryDetails": extra.get("definitionRepositoryDetails", _asked_details(extra)),
        "readmePath": extra.get("readmePath"),
    }
    return {
        "tags": orjson.Fragment(row.tags),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _asked_details(extra: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is known of a repository before anything was fetched."""
    asked = extra.get("definitionRepository")
    if asked is None:
        return None
    return {name: asked[name] for name in ("connectionArn", "fullRepositoryId", "sourceReference") if name in asked}


def exported(caller: Caller, row: WorkflowRow | VersionRow, wanted: object, *, readme_path: str) -> dict[str, str]:
    """The URLs that `export` asks for, of what there is. `wanted` is the member `export`, a list of names."""
    names = cast("list[str]", wanted)
    expires_ms = caller.now_ms + caller.site.export_seconds * 1000
    urls = {}
    if "DEFINITION" in names and row.definition_sha256 is not None:
        urls["definition"] = caller.site.export_url(f"definition/{row.definition_sha256}", expires_ms)
    if "README" in names and row.readme is not None:
        urls["readme"] = caller.site.export_url(readme_path, expires_ms)
    return urls


# ---- as the catalogue has it -------------------------------------------------------------------------------------


def metadata(row: WorkflowRow | VersionRow) -> dict[str, str] | None:
    """What the catalogue says of a Ready2Run workflow beside its definition; None of any other."""
    found: dict[str, str] | None = orjson.loads(row.extra).get("metadata") if row.account == ready2run.ACCOUNT else None
    return found


def catalogue_members(row: WorkflowRow | VersionRow) -> dict[str, Any]:
    """What everybody sees of a Ready2Run workflow beside `members`: metadata, and why it cannot be run."""
    optional = {
        "metadata": metadata(row),
        "statusMessage": row.status_message if row.status == WorkflowStatus.FAILED else None,
    }
    return {name: value for name, value in optional.items() if value is not None}


def export_owner(row: WorkflowRow | VersionRow) -> str:
    """Who owns it, as export URLs have it."""
    return row.account or "ready2run"


def refuse_catalogue_export(request: Mapping[str, Any]) -> None:
    """A Ready2Run workflow's definition is not for export; its README is.

    Source: assumed.

    Raises:
        AccessDeniedException: the definition is to be exported.
    """
    if "DEFINITION" in request.get("export", ()):
        raise AccessDeniedException(
            "The definition of a Ready2Run workflow is not for export. Leave DEFINITION out of export; the workflow can be run."
        )


# ---- as it is shared ---------------------------------------------------------------------------------------------


def is_subscriber(caller: Caller, request: Mapping[str, Any]) -> bool:
    """Whether the request is about a workflow that another account shares. Naming oneself is the same as naming nobody."""
    return bool(request.get("workflowOwnerId", caller.account) != caller.account)


def refuse_export(request: Mapping[str, Any]) -> None:
    """What a subscriber asks for may not be exported. To be called once it is known that the workflow is shared with it.

    Source: model, guide, sharing-workflows; assumed (the exception).

    Raises:
        AccessDeniedException: something is to be exported.
    """
    if request.get("export"):
        raise AccessDeniedException(
            f"The definition is not for export: account {request['workflowOwnerId']} owns it and shares it for running. "
            "Leave export out, or ask the owner."
        )
