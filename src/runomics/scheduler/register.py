"""Takes workflows and versions from CREATING to ACTIVE or FAILED: fetch, unpack, choose engine and main, inspect. Worker threads.

Every act can be repeated: archives and trees are kept by content, inspections beside them, and the row moves by `advance()` under guard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import structlog

from runomics.domain.limits import Limits
from runomics.domain.packaging import ArchiveLimits, Choice, Refused, choose, host_engine
from runomics.domain.parameters import derive_template
from runomics.domain.workflow import WorkflowEvent, WorkflowStatus, advance
from runomics.ports import (
    EngineHost,
    Inspection,
    InspectionGivenUp,
    ObjectChanged,
    ObjectForbidden,
    ObjectInfo,
    ObjectMissing,
    ObjectStore,
)
from runomics.scheduler import archive
from runomics.scheduler.repository_source import RepositorySource
from runomics.store import catalog, versions
from runomics.store.catalog import WorkflowRow
from runomics.store.database import Store, Tx
from runomics.store.definitions import Definitions
from runomics.store.versions import VersionRow

log = structlog.get_logger()

INSPECTION_SECONDS = 20.0
"""For the inspection alone; clients wait 30 s for the whole. Source: model, waiter WorkflowActive (10 tries, 3 s apart)."""

MESSAGE_LETTERS = 8_000
FETCH_TRIES = 3

_RUNNABLE = re.compile(r"^ {4}(workflow|task) (\w+)$", re.MULTILINE)

REPOSITORY = "definitionRepository"
REPOSITORY_DETAILS = "definitionRepositoryDetails"
"""In a row's `extra`: what was asked for, and what became of it."""

NO_INPUTS = "No input parameters were found in the workflow definition."


Definable = WorkflowRow | VersionRow
"""What has a definition to be examined: what both rows have in common is called the same."""


@dataclass(frozen=True, slots=True)
class _Room:
    """Where the rows of one kind lie in the store. `noun` and `create` are for people."""

    noun: str
    create: str
    fetch_kind: str
    load: Callable[[Tx, int], Definable | None]
    apply: Callable[..., bool]


FETCH_KIND = "workflow-fetch"
VERSION_FETCH_KIND = f"{versions.KIND}-fetch"

_WORKFLOWS = _Room("workflow", "Create the workflow again", FETCH_KIND, catalog.load_workflow, catalog.apply_workflow)
_VERSIONS = _Room(
    "workflow version", "Create the version again", VERSION_FETCH_KIND, versions.load_version, versions.apply_version
)


class Register:
    """Examines new workflows and versions. The steps may run on several threads at once, for different rows.

    `objects_of(account)` is what that account may read: no role is named when a workflow is made. `source` brings definitions from
    repositories; `hand_over(kind, id)` has `fetch` or `fetch_version` called by somebody who has the time for it.
    """

    def __init__(
        self,
        *,
        store: Store,
        definitions: Definitions,
        engine_host: EngineHost,
        objects_of: Callable[[str], ObjectStore],
        source: RepositorySource | None = None,
        hand_over: Callable[[str, int], None] | None = None,
        now_ms: Callable[[], int],
        limits: Limits | None = None,
        inspection_seconds: float = INSPECTION_SECONDS,
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._engine_host = engine_host
        self._objects_of = objects_of
        self._source = source
        self._hand_over = hand_over or self._fetch_at_once
        self._now_ms = now_ms
        self._limits = limits or Limits()
        self._inspection_seconds = inspection_seconds

    def step(self, workflow_id: int) -> None:
        """Bring the workflow to ACTIVE or FAILED, whatever its definition does. Idempotent. Left CREATING when the server stops meanwhile.

        Raises:
            StoreUnavailable: the outcome could not be written; the workflow is still CREATING.
        """
        self._step(_WORKFLOWS, workflow_id)

    def step_version(self, version_id: int) -> None:
        """The same for the version with this row id.

        Raises:
            StoreUnavailable: the outcome could not be written; the version is still CREATING.
        """
        self._step(_VERSIONS, version_id)

    def fetch(self, workflow_id: int) -> None:
        """`step` for what was handed over: it may take as long as a repository does."""
        self._settle(_WORKFLOWS, workflow_id)

    def fetch_version(self, version_id: int) -> None:
        """The same for the version with this row id."""
        self._settle(_VERSIONS, version_id)

    def _step(self, room: _Room, row_id: int) -> None:
        row = self._store.read(lambda tx: room.load(tx, row_id))
        if row is not None and row.status == WorkflowStatus.CREATING and REPOSITORY in orjson.loads(row.extra):
            self._hand_over(room.fetch_kind, row_id)
        else:
            self._settle(room, row_id)

    def _fetch_at_once(self, kind: str, row_id: int) -> None:
        self._settle(_WORKFLOWS if kind == FETCH_KIND else _VERSIONS, row_id)

    def _settle(self, room: _Room, row_id: int) -> None:
        row = self._store.read(lambda tx: room.load(tx, row_id))
        if row is None or row.status != WorkflowStatus.CREATING:
            return
        columns: dict[str, Any] = {}
        event = WorkflowEvent.REGISTERED
        try:
            columns["status_message"] = self._examine(row, columns)
        except InspectionGivenUp:
            log.info("register.given_up", kind=room.noun, id=row_id)
            return
        except Refused as refusal:
            event = WorkflowEvent.REFUSED
            columns["status_message"] = str(refusal)
        except Exception as error:
            log.exception("register.failed", kind=room.noun, id=row_id)
            event = WorkflowEvent.REFUSED
            columns["status_message"] = (
                f"The definition could not be examined because of a fault of this server ({error}). {room.create}; "
                f"if it fails again, the server's log has {room.noun} {row_id}."
            )
        columns["status_message"] = _cut(columns["status_message"])
        to = advance(WorkflowStatus(row.status), event)
        now_ms = self._now_ms()
        if self._store.write(lambda tx: room.apply(tx, row, to, now_ms=now_ms, **columns)):
            if not row.account and event is WorkflowEvent.REFUSED:
                # Nobody made a request that could be told: the operator's catalogue has to be mended.
                log.warning("ready2run.refused", kind=room.noun, id=row_id, reason=columns["status_message"])
            log.info("register.done", kind=room.noun, id=row_id, status=str(to), milliseconds=now_ms - row.created_ms)

    def _examine(self, row: Definable, columns: dict[str, Any]) -> str | None:
        """Fill in what is found, as it is found; the statusMessage of the ACTIVE workflow.

        Raises:
            Refused: the workflow is FAILED for this reason.
        """
        extra = orjson.loads(row.extra)
        objects = self._objects_of(row.account)
        if REPOSITORY in extra:
            sha256 = self._bring(row, extra, columns)
        else:
            sha256 = row.definition_sha256 or self._fetch_archive(objects, row.definition_uri or "")
        columns["definition_sha256"] = sha256
        if "readmeUri" in extra:
            columns["readme"] = self._fetch_text(objects, "readmeUri", extra["readmeUri"], self._limits.readme_bytes)
        if "containerRegistryMapUri" in extra:
            extra["containerRegistryMap"] = self._fetch_registry_map(objects, extra["containerRegistryMapUri"])
        choice = self._choose(row, sha256)
        columns.update(engine=choice.engine, main=choice.main)
        found = self._inspect(sha256, choice, self._archive_limits(row))
        if (own_name := _own_name(found)) is not None:
            extra["workflowName"] = own_name
        columns["extra"] = orjson.dumps(extra).decode()
        if row.template_given or "parameter_template" in columns:
            return found["message"] or None
        template = derive_template(found["inputs"])
        if len(template) > self._limits.template_entries:
            raise Refused(
                f"The workflow has {len(template)} input parameters; the limit is {self._limits.template_entries}. "
                "Give a parameterTemplate with those that runs may set."
            )
        columns["parameter_template"] = orjson.dumps(template).decode()
        message = found["message"] if template else f"{found['message']}\n{NO_INPUTS}".lstrip("\n")
        return message or None

    # ---- what lies in repositories

    def _bring(self, row: Definable, extra: dict[str, Any], columns: dict[str, Any]) -> str:
        """Fetch the definition, its README and template; the archive's digest."""
        if self._source is None:
            raise Refused("This server does not fetch definitions from repositories.")
        has_readme = row.readme is not None or "readmeUri" in extra
        brought = self._source.bring(row.account, extra, wants_readme=not has_readme)
        extra[REPOSITORY_DETAILS] = brought.details
        columns["extra"] = orjson.dumps(extra).decode()
        if brought.readme is not None:
            columns["readme"] = brought.readme
        if brought.template is not None:
            columns["parameter_template"] = brought.template
        return brought.definition_sha256

    # ---- what lies in buckets

    def _fetch_archive(self, objects: ObjectStore, uri: str) -> str:
        for _ in range(FETCH_TRIES):
            try:
                return self._receive(objects, objects.head(uri))
            except ObjectChanged:
                continue
            except (ObjectMissing, ObjectForbidden) as error:
                raise Refused(_unreadable("definitionUri", uri, error)) from error
        raise Refused(f"definitionUri {uri} changed while it was read. Create the workflow again when it is written.")

    def _receive(self, objects: ObjectStore, info: ObjectInfo) -> str:
        limit_bytes = self._limits.definition_uri_bytes
        if info.size_bytes > limit_bytes:
            raise Refused(
                f"definitionUri {info.uri} has {info.size_bytes} bytes; the limit is {limit_bytes}. Leave out what is not needed."
            )
        return self._definitions.receive(lambda descriptor: objects.download(info, descriptor))

    def _fetch_text(self, objects: ObjectStore, member: str, uri: str, limit_bytes: int) -> str:
        try:
            return objects.read_bytes(uri, limit_bytes).decode("utf-8")
        except (ObjectMissing, ObjectForbidden) as error:
            raise Refused(_unreadable(member, uri, error)) from error
        except UnicodeDecodeError as error:
            raise Refused(f"{member} {uri} is not UTF-8 text. Store it as UTF-8.") from error
        except ValueError as error:
            raise Refused(f"{member} {uri} has more than {limit_bytes} bytes. Shorten it.") from error

    def _fetch_registry_map(self, objects: ObjectStore, uri: str) -> Mapping[str, Any]:
        text = self._fetch_text(objects, "containerRegistryMapUri", uri, self._limits.registry_map_bytes)
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Refused(f"containerRegistryMapUri {uri} is not JSON: {error}.") from error
        if not isinstance(document, dict):
            raise Refused(
                f"containerRegistryMapUri {uri} is not a JSON object with registryMappings and imageMappings."
            )
        return {name: document[name] for name in ("registryMappings", "imageMappings") if name in document}

    # ---- what the archive holds

    def _choose(self, row: Definable, sha256: str) -> Choice:
        names = archive.names(self._definitions.archive(sha256), self._archive_limits(row))
        choice = choose(names, engine=row.engine, main=row.main)
        engine = host_engine(choice.engine)
        why_not = self._engine_host.engines().get(engine, "this server was built without it")
        if why_not:
            raise Refused(f"engine {choice.engine} is not installed on this server: {why_not}")
        return choice

    def _archive_limits(self, row: Definable) -> ArchiveLimits:
        return self._limits.repository if REPOSITORY in orjson.loads(row.extra) else self._limits.archive

    def _inspect(self, sha256: str, choice: Choice, limits: ArchiveLimits) -> Mapping[str, Any]:
        """What inspection says, as interface.json has it; looked at once for each archive, engine and main."""
        engine = choice.engine
        kept = self._definitions.interface(sha256, engine, choice.main)
        if kept is not None and self._definitions.tree(sha256).is_dir():
            return kept
        source = self._definitions.archive(sha256)
        tree = self._definitions.unpack(sha256, lambda directory: archive.unpack(source, directory, limits))
        found = self._engine_host.inspect(engine, tree, choice.main, self._inspection_seconds)
        if found.failure is not None:
            raise Refused(found.failure)
        interface = _interface(found, engine, choice.main)
        self._definitions.keep_interface(sha256, interface)
        return interface


def _interface(found: Inspection, engine: str, main: str) -> dict[str, Any]:
    return {
        **asdict(found),
        "engine": engine,
        "main": main,
        "inputs": [dict(item) for item in found.inputs],
        "outputs": [dict(item) for item in found.outputs],
    }


def _own_name(found: Mapping[str, Any]) -> str | None:
    """The name that a WDL workflow's parameters may be qualified with, read from the outline (ports.Inspection)."""
    if host_engine(found["engine"]) != "WDL":
        return None
    names = dict(reversed(_RUNNABLE.findall(found["message"])))
    return names.get("workflow", names.get("task"))


def _unreadable(member: str, uri: str, error: Exception) -> str:
    what = "does not exist" if isinstance(error, ObjectMissing) else f"may not be read ({error})"
    return (
        f"{member} {uri} {what}. Put the object there, or allow this server to read it, and create the workflow again."
    )


def _cut(message: str | None) -> str | None:
    if message is None or len(message) <= MESSAGE_LETTERS:
        return message
    return message[:MESSAGE_LETTERS] + "…"
