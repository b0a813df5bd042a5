"""Keeps the Ready2Run workflows of the database what the operator's catalogue says. Server process, once at start, on its own thread.

An entry that cannot be offered is reported in the server's log and left out; the others are offered. An entry that did not change
keeps its row, so a restart costs nobody anything; one that did is registered anew, under its id and with a new uuid.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import structlog

from runomics.domain.limits import Limits
from runomics.domain.packaging import Refused
from runomics.domain.ready2run import (
    ACCOUNT,
    WORKFLOW_TYPE,
    EntryFile,
    EntryRefused,
    parse_version,
    parse_workflow,
)
from runomics.domain.workflow import WorkflowStatus
from runomics.scheduler.packing import files_below, pack
from runomics.store import catalog, versions
from runomics.store.catalog import NewWorkflow, WorkflowRow
from runomics.store.database import Store, Tx, next_id
from runomics.store.definitions import Definitions
from runomics.store.versions import NewVersion, VersionRow

log = structlog.get_logger()

Check = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A request of CreateWorkflow or CreateWorkflowVersion as the service model has it. Raises an exception whose text says what is wrong."""

FILE_BYTES = 1 << 20
PAGE = 100
FINGERPRINT = "catalogueFingerprint"
"""In a row's `extra`: what its entry looked like."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A workflow or version of the catalogue. `columns` are those that both kinds of row have; `fingerprint` tells a change.

    `entry` is where it stands in the catalogue.
    """

    columns: Mapping[str, Any]
    fingerprint: str
    entry: str


@dataclass(frozen=True, slots=True)
class OfferedWorkflow:
    """A workflow with its versions by name."""

    workflow_id: int
    name: str
    itself: Offered
    versions: Mapping[str, Offered] = field(default_factory=dict)


class Ready2Run:
    """`directory` is the catalogue; None offers nothing. `check_workflow` and `check_version` hold entries to the service model."""

    def __init__(
        self,
        directory: Path | None,
        *,
        store: Store,
        definitions: Definitions,
        check_workflow: Check,
        check_version: Check,
        now_ms: Callable[[], int],
        limits: Limits | None = None,
    ) -> None:
        self._directory = directory
        self._store = store
        self._definitions = definitions
        self._check_workflow = check_workflow
        self._check_version = check_version
        self._now_ms = now_ms
        self._limits = limits or Limits()

    def offer(self) -> None:
        """Make the rows what the catalogue says; the scheduler registers the new ones. Idempotent."""
        wanted = self._read() if self._directory is not None else {}
        kept = {row.id: row for row in self._store.read(_workflows)}
        for row in kept.values():
            if row.id not in wanted:
                self._store.write(partial(_withdraw, row=row, now_ms=self._now_ms()))
                log.info("ready2run.withdrawn", workflow_id=row.id)
        for workflow in wanted.values():
            self._offer(workflow)

    def _offer(self, workflow: OfferedWorkflow) -> None:
        now_ms = self._now_ms()
        if not self._store.write(partial(_offer_workflow, workflow=workflow, now_ms=now_ms)):
            self._refuse(
                workflow.itself.entry, f"id {workflow.workflow_id} is that of an account's workflow: choose another"
            )
            return
        for name, version in workflow.versions.items():
            self._store.write(
                partial(_offer_version, workflow_id=workflow.workflow_id, name=name, version=version, now_ms=now_ms)
            )
        self._store.write(
            partial(
                _withdraw_versions,
                workflow_id=workflow.workflow_id,
                kept=frozenset(workflow.versions),
                now_ms=now_ms,
            )
        )

    # ---- the directory -------------------------------------------------------------------------------------------

    def _read(self) -> dict[int, OfferedWorkflow]:
        found: dict[int, OfferedWorkflow] = {}
        directory = self._directory
        try:
            folders = sorted(path for path in Path(directory or "").iterdir() if path.is_dir())
        except OSError as error:
            self._refuse(str(directory), f"the catalogue cannot be read: {error.strerror}")
            return {}
        for folder in folders:
            if folder.name.startswith("."):
                continue
            workflow = self._workflow(folder)
            if workflow is None:
                continue
            if workflow.workflow_id in found:
                other = found[workflow.workflow_id].itself.entry
                self._refuse(folder.name, f"id {workflow.workflow_id} is that of {other} already: choose another")
                continue
            found[workflow.workflow_id] = workflow
        return found

    def _workflow(self, folder: Path) -> OfferedWorkflow | None:
        try:
            file = parse_workflow(_text(folder / "workflow.toml"))
            itself = self._offered(folder, file, self._check_workflow, {})
        except EntryRefused as error:
            self._refuse(folder.name, str(error))
            return None
        offered = {}
        below = folder / "versions"
        for place in sorted(below.iterdir()) if below.is_dir() else ():
            named = {"workflowId": str(file.workflow_id), "versionName": place.name}
            try:
                toml = place / "version.toml"
                parsed = parse_version(_text(toml) if toml.exists() else "")
                offered[place.name] = self._offered(place, parsed, self._check_version, named)
            except EntryRefused as error:
                self._refuse(self._entry(place), str(error))
        return OfferedWorkflow(file.workflow_id or 0, file.members["name"], itself, offered)

    def _offered(self, folder: Path, file: EntryFile, check: Check, named: Mapping[str, str]) -> Offered:
        request = {**file.members, **named, "requestId": "catalogue"}
        template = folder / "parameter-template.json"
        if template.exists():
            request["parameterTemplate"] = _json(template)
        readme = _text(folder / "README.md") if (folder / "README.md").exists() else None
        if readme is not None and len(readme.encode()) > self._limits.readme_bytes:
            raise EntryRefused(f"README.md has more than {self._limits.readme_bytes} bytes")
        try:
            request = dict(check(request))
        except Exception as error:
            raise EntryRefused(str(error)) from error
        sha256 = self._definition(folder)
        told = orjson.dumps([request, dict(file.metadata), readme, sha256], option=orjson.OPT_SORT_KEYS)
        fingerprint = hashlib.sha256(told).hexdigest()
        extra = {FINGERPRINT: fingerprint, **({"metadata": dict(file.metadata)} if file.metadata else {})}
        return Offered(_columns(request, sha256, readme, extra), fingerprint, self._entry(folder))

    def _definition(self, folder: Path) -> str:
        """The digest of the entry's archive, which is kept among the definitions."""
        archive, tree = folder / "definition.zip", folder / "definition"
        if archive.is_file() == tree.is_dir():
            raise EntryRefused("exactly one of definition.zip and the folder definition is needed")
        try:
            if tree.is_dir():
                return self._definitions.receive(lambda descriptor: pack(files_below(tree), descriptor))
            if archive.stat().st_size > self._limits.definition_uri_bytes:
                raise EntryRefused(f"definition.zip has more than {self._limits.definition_uri_bytes} bytes")
            return self._definitions.keep(archive.read_bytes())
        except (Refused, OSError) as error:
            raise EntryRefused(f"the definition cannot be read: {error}") from error

    def _entry(self, folder: Path) -> str:
        return folder.relative_to(self._directory or "").as_posix()

    def _refuse(self, entry: str, reason: str) -> None:
        log.warning("ready2run.entry_refused", entry=entry, reason=reason)


def _columns(request: Mapping[str, Any], sha256: str, readme: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Source: observed (runs of Ready2Run workflows take no storageType but DYNAMIC); assumed (it is their default)."""
    template = request.get("parameterTemplate")
    return {
        "description": request.get("description"),
        "engine": request.get("engine"),
        "main": request.get("main"),
        "definition_sha256": sha256,
        "parameter_template": None if template is None else orjson.dumps(template).decode(),
        "template_given": int(template is not None),
        "storage_type": request.get("storageType", "DYNAMIC"),
        "storage_capacity_gib": request.get("storageCapacity"),
        "accelerators": request.get("accelerators"),
        "extra": orjson.dumps(extra).decode(),
        "readme": readme,
    }


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise EntryRefused(f"{path.name} cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES:
        raise EntryRefused(f"{path.name} has more than {FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise EntryRefused(f"{path.name} is not UTF-8 text") from None


def _json(path: Path) -> Any:
    try:
        return orjson.loads(_text(path))
    except orjson.JSONDecodeError as error:
        raise EntryRefused(f"{path.name} is not JSON: {error}") from None


# ---- the rows ----------------------------------------------------------------------------------------------------


def _workflows(tx: Tx) -> list[WorkflowRow]:
    return list(_paged(lambda after: catalog.list_workflows(tx, ACCOUNT, after_id=after, limit=PAGE)))


def _versions(tx: Tx, workflow_id: int) -> list[VersionRow]:
    return list(_paged(lambda after: versions.list_versions(tx, ACCOUNT, workflow_id, after_id=after, limit=PAGE)))


def _paged(page: Callable[[int], tuple[list[Any], int | None]]) -> Iterator[Any]:
    after: int | None = 0
    while after is not None:
        rows, after = page(after)
        yield from rows


def _is_unchanged(row: WorkflowRow | VersionRow, offered: Offered) -> bool:
    """A FAILED one is tried again: what it lacked, an engine perhaps, may be here now."""
    return row.status != WorkflowStatus.FAILED and orjson.loads(row.extra).get(FINGERPRINT) == offered.fingerprint


def _offer_workflow(tx: Tx, *, workflow: OfferedWorkflow, now_ms: int) -> bool:
    """Whether the workflow is offered: not when an account has a workflow of this id."""
    row = catalog.load_workflow(tx, workflow.workflow_id)
    if row is not None and row.account != ACCOUNT:
        return False
    if row is not None and _is_unchanged(row, workflow.itself):
        return True
    if row is not None:
        catalog.delete_workflow(tx, row, now_ms=now_ms)
    catalog.insert_workflow(
        tx,
        NewWorkflow(
            id=workflow.workflow_id,
            account=ACCOUNT,
            uuid=str(uuid.uuid4()),
            name=workflow.name,
            type=WORKFLOW_TYPE,
            created_ms=now_ms,
            **workflow.itself.columns,
        ),
    )
    return True


def _offer_version(tx: Tx, *, workflow_id: int, name: str, version: Offered, now_ms: int) -> None:
    row = versions.find_version(tx, ACCOUNT, workflow_id, name)
    if row is not None and _is_unchanged(row, version):
        return
    if row is not None:
        versions.delete_version(tx, row, now_ms=now_ms)
    versions.insert_version(
        tx,
        NewVersion(
            id=next_id(tx, versions.KIND),
            account=ACCOUNT,
            workflow_id=workflow_id,
            version_name=name,
            uuid=str(uuid.uuid4()),
            created_ms=now_ms,
            **version.columns,
        ),
    )


def _withdraw(tx: Tx, *, row: WorkflowRow, now_ms: int) -> None:
    _withdraw_versions(tx, workflow_id=row.id, kept=frozenset(), now_ms=now_ms)
    catalog.delete_workflow(tx, row, now_ms=now_ms)


def _withdraw_versions(tx: Tx, *, workflow_id: int, kept: frozenset[str], now_ms: int) -> None:
    for row in _versions(tx, workflow_id):
        if row.version_name not in kept:
            versions.delete_version(tx, row, now_ms=now_ms)
