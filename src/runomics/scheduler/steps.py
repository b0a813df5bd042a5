"""One step of a run: look at its row, do or look at the next act, say what happened. Runs on the scheduler's threads.

Acts are repeatable and happen outside transactions; the row moves only by `advance()` and a guarded apply. What a step starts (an import,
an engine, an export) is looked at by later steps; what is kept here in memory can be found again after a crash by doing the act again.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from runomics.domain import failures
from runomics.domain.inputs import InvalidInput, input_uris
from runomics.domain.packaging import file_of
from runomics.domain.parameters import derive_template, read_parameters, signature
from runomics.domain.run import (
    ENDED,
    CancelRequested,
    DeleteRequested,
    EngineLost,
    EngineSucceeded,
    Failed,
    InputsImported,
    OutputsExported,
    Prepared,
    ReleaseAbandoned,
    RunEvent,
    RunPhase,
    RunState,
    RunStatus,
    StorageReleased,
    TimedOut,
    accepts,
    advance,
)
from runomics.domain.task import Reason
from runomics.ports import (
    Clock,
    EngineHost,
    EngineResult,
    LogStore,
    ObjectForbidden,
    ObjectMissing,
    ObjectStore,
    RunStorage,
    StorageType,
    StorageUnavailable,
    VolumeLost,
)
from runomics.scheduler.gateway import Gateway
from runomics.scheduler.manifest import manifest_lines
from runomics.scheduler.networks import NONE, Networks, NoNetwork
from runomics.scheduler.object_access import ObjectAccess
from runomics.scheduler.task_attempt import RunPlace
from runomics.scheduler.tasks import Tasks
from runomics.scheduler.transfer import Exported, ExportJob, Imported, Transfers
from runomics.scheduler.transfer_work import export_failure
from runomics.store import groups as group_rows
from runomics.store import runs as run_rows
from runomics.store import tasks as task_rows
from runomics.store.database import Store
from runomics.store.definitions import Definitions
from runomics.store.groups import GroupRow
from runomics.store.runs import RunRow

log = structlog.get_logger()

PLAN_FORMAT = 1
PARAMETERS_LIMIT_BYTES = 256 * 1024
CANCEL_GRACE_MS = 5_000
RELEASE_PATIENCE_MS = 60_000
RETRY_MS = 250


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What an operator decides about runs, and where things lie."""

    region: str
    data_directory: Path
    rootless: bool
    sandbox_uid_base: int
    task_concurrency: int = 500
    run_timeout_seconds: int = 604_800
    min_running_seconds: float = 0.0
    restarts_lost_engine: bool = True
    max_incarnations: int = 3
    gateway_patience_seconds: int = 86_400

    @property
    def runs_directory(self) -> Path:
        return self.data_directory / "runs"


@dataclass(slots=True)
class _Acts:
    """What this process has started for a run and what came of it. Lost with the process, found again by repeating."""

    parameters: tuple[str | None, str | None] | None = None
    reading_parameters: bool = False
    imported: Imported | None = None
    importing: bool = False
    exported: Exported | None = None
    exporting: bool = False
    engine_started: int = 0
    engine_ended: int = 0
    failing: Failed | None = None
    stopping_since_ms: int | None = None
    leaving_since_ms: int | None = None
    log_exported: bool = False
    log_exporting: bool = False
    noted: set[str] = field(default_factory=set)


class Steps:
    """Everything a run does between PENDING and its end, one step at a time."""

    def __init__(
        self,
        *,
        store: Store,
        definitions: Definitions,
        storage: RunStorage,
        engines: EngineHost,
        access: ObjectAccess,
        transfers: Transfers,
        tasks: Tasks,
        gateway: Gateway,
        logs: LogStore,
        clock: Clock,
        policy: RunPolicy,
        wake: Callable[[int], None],
        wake_at: Callable[[int, int], None],
        on_ended: Callable[[], None],
        networks: Networks = NONE,
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._storage = storage
        self._engines = engines
        self._access = access
        self._transfers = transfers
        self._tasks = tasks
        self._gateway = gateway
        self._logs = logs
        self._clock = clock
        self._policy = policy
        self._wake = wake
        self._wake_at = wake_at
        self._on_ended = on_ended
        self._networks = networks
        self._acts: dict[int, _Acts] = {}
        self._acts_lock = threading.Lock()
        self._by_uuid: dict[str, int] = {}
        self._over_limit: set[str] = set()

    # ---- stepping ------------------------------------------------------------------------------------------------

    def step(self, run_id: int) -> None:
        """Move the run as far as it goes without waiting. Safe to call at any time; never for one run on two threads at once."""
        while True:
            run = self._store.read(lambda tx: run_rows.load_run(tx, run_id))
            if run is None:
                self._forget(run_id)
                return
            event, columns = self._next(run)
            if event is None or not self._apply(run, event, columns):
                return

    def _next(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        """What happened to the run since its row was written, None while nothing did."""
        state = run.state
        if state.status in ENDED:
            return self._after_end(run)
        if (
            run.cancel_wished_ms is not None
            and state.outcome is not RunStatus.CANCELLED
            and accepts(state, CancelRequested)
        ):
            return CancelRequested(), {}
        if state.status is RunStatus.STOPPING:
            return self._stopping(run)
        failing = self._acts_of(run.id).failing
        if failing is not None:
            return failing, {}
        if state.status is RunStatus.STARTING:
            return self._starting(run)
        if state.phase is RunPhase.IMPORTING:
            return self._importing(run)
        if state.phase is RunPhase.EXECUTING:
            return self._executing(run)
        if state.phase is RunPhase.EXPORTING:
            return self._exporting(run)
        return None, {}

    def _apply(self, run: RunRow, event: RunEvent, columns: Mapping[str, Any]) -> bool:
        """Move the row; whether to go on stepping at once."""
        to = advance(run.state, event)
        if to.status is RunStatus.DELETED:
            self._delete(run)
            return False
        changes = dict(columns)
        if isinstance(event, Failed):
            changes |= {"failure_reason": event.reason, "status_message": event.message}
        if to.outcome is RunStatus.CANCELLED and run.failure_reason is not None:
            changes |= {"failure_reason": None, "status_message": None}
        if to.status in ENDED:
            self._write_manifest(run, to, changes)
        now_ms = self._clock.now_ms()
        if not self._store.write(lambda tx: run_rows.apply_run(tx, run, to, now_ms=now_ms, **changes)):
            log.info("run.apply_refused", run_id=run.id, revision=run.revision)
            return True
        self._note_move(run, to, event)
        if to.status in ENDED:
            self._on_ended()
            self._clean_up(run)
            return run.delete_wished_ms is not None
        return True

    # ---- the acts of each state ----------------------------------------------------------------------------------

    def _starting(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        refused = self._access.role_failure(run.account, run.role_arn)
        if refused is not None:
            return Failed(refused.reason, refused.message), {}
        try:
            self._networks.of_run(run.account, run.extra)
        except NoNetwork as error:
            failure = failures.of_network(str(error))
            return Failed(failure.reason, failure.message), {}
        directory = self._directory(run)
        for name in ("gateway", "engine", "inputs"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        uid = self._uid(run)
        if not self._policy.rootless:
            os.chown(directory / "engine", uid, uid)
        if not (self._definition(run) / file_of(run.main)).is_file():
            return Failed(
                "SERVICE_ERROR", f"The definition of workflow {run.workflow_id} is no longer on this server."
            ), {}
        try:
            self._storage.create(run.uuid, StorageType(run.storage_type), run.storage_capacity_gib, uid)
        except StorageUnavailable as error:
            failure = failures.of_storage(str(error))
            return Failed(failure.reason, failure.message), {}
        return self._with_parameters(run)

    def _with_parameters(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        """Prepared, once the parameters are here: those named by parametersUri are read now.

        Source: model (StartRunRequest.parametersUri); assumed (when it is read, INVALID_RUN_PARAMETERS).
        """
        uri = orjson.loads(run.extra).get("parametersUri") if run.parameters is None else None
        if uri is None:
            return Prepared(), {}
        acts = self._acts_of(run.id)
        if acts.parameters is None:
            if not acts.reading_parameters:
                acts.reading_parameters = True
                self._read_parameters(run, uri, acts)
            return None, {}
        document, failure = acts.parameters
        if failure is not None:
            return Failed("INVALID_RUN_PARAMETERS", failure), {}
        return Prepared(), {"parameters": document}

    def _read_parameters(self, run: RunRow, uri: str, acts: _Acts) -> None:
        interface = self._definitions.interface(run.definition_sha256, run.engine, run.main) or {}
        wanted = signature(derive_template(interface.get("inputs", ())))
        workflow_name = str(interface.get("workflow_name") or "")

        def done(data: bytes | None, failure: str | None) -> None:
            acts.parameters = (None, failure) if data is None else read_parameters(data, wanted, workflow_name)
            self._wake(run.id)

        self._transfers.read_object(uri, PARAMETERS_LIMIT_BYTES, done, objects=self._objects_of(run))

    def _importing(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        acts = self._acts_of(run.id)
        if acts.imported is None:
            if not acts.importing:
                acts.importing = True
                self._begin_import(run, acts)
            if acts.imported is None:
                return None, {}
        imported = acts.imported
        if imported.failure is not None:
            return Failed(*imported.failure), {}
        _write(self._directory(run) / "staged.json", orjson.dumps(dict(imported.staged)))
        digests = orjson.dumps(dict(imported.digests)).decode() if imported.digests else None
        return InputsImported(), {"resource_digests": digests}

    def _begin_import(self, run: RunRow, acts: _Acts) -> None:
        def done(imported: Imported) -> None:
            acts.imported = imported
            self._wake(run.id)

        try:
            uris = input_uris(self._parameters(run), self._declared_inputs(run))
        except InvalidInput as error:
            acts.imported = Imported(staged={}, digests={}, failure=(error.reason, str(error)))
            return
        bucket = run.output_uri.removeprefix("s3://").split("/", 1)[0]
        objects = self._objects_of(run)

        def check() -> tuple[str, str] | None:
            """Results must have somewhere to go before anything is computed."""
            try:
                if objects.bucket_exists(bucket):
                    return None
            except ObjectForbidden as error:
                return export_failure("of the run", run.run_output_uri, error)
            except ObjectMissing:
                pass
            failure = failures.of_missing_output_bucket(bucket)
            return failure.reason, failure.message

        if uris:
            self._note(run, f"Importing {len(uris)} inputs.")
        self._transfers.import_inputs(self._directory(run), uris, done, check=check, objects=objects)

    def _executing(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        acts = self._acts_of(run.id)
        directory, incarnation = self._directory(run), run.incarnation
        if acts.engine_started != incarnation:
            try:
                begun = self._begin_engine(run, directory)
            except NoNetwork as error:
                failure = failures.of_network(str(error))
                return Failed(failure.reason, failure.message), {}
            if not begun:
                return Failed("SERVICE_ERROR", "The run's storage is gone: the host was changed under the service."), {}
            acts.engine_started = incarnation
        result = self._engines.result(directory, incarnation)
        if result is not None:
            return self._engine_ended(run, result)
        limit_ms, timed_out = self._time_limit(run)
        if run.started_ms is not None and self._clock.now_ms() - run.started_ms >= limit_ms:
            return self._time_out(run, timed_out)
        if run.uuid in self._over_limit:
            failure = failures.of_full_volume(run.storage_capacity_gib)
            return Failed(failure.reason, failure.message), {}
        if acts.engine_ended != incarnation:
            if run.started_ms is not None:
                self._wake_at(run.id, run.started_ms + limit_ms)
            return None, {}
        result = self._engines.result(directory, incarnation)
        if result is not None:
            return self._engine_ended(run, result)
        log.warning("run.engine_lost", run_id=run.id, incarnation=incarnation)
        if self._policy.restarts_lost_engine and incarnation < self._policy.max_incarnations:
            return EngineLost(), {}
        failure = failures.of_lost_engine(incarnation)
        return Failed(failure.reason, failure.message), {}

    def _begin_engine(self, run: RunRow, directory: Path) -> bool:
        """Open the gateway, take over open tasks, start or adopt the engine. False when the volume is gone.

        Raises:
            NoNetwork: the run's network is not to be had any more.
        """
        self._by_uuid[run.uuid] = run.id
        if self._storage.find(run.uuid) is None:
            return False
        place = replace(self._place(run), network=self._networks.of_run(run.account, run.extra))
        plan = self._plan(run, place)
        plan_file = directory / "plan.json"
        _write(plan_file, orjson.dumps(plan))
        open_rows = self._store.read(lambda tx: task_rows.open_tasks(tx, run.id))
        self._tasks.open_run(place, open_rows)
        self._gateway.open(run.id, directory / "gateway")
        if run.log_level != "OFF":
            self._logs.follow_engine(run.account, f"run/{run.id}/engine", directory / "engine.log")
        incarnation = run.incarnation

        def ended(_: Path) -> None:
            self._acts_of(run.id).engine_ended = incarnation
            self._wake(run.id)

        self._engines.start(directory, ended)
        return True

    def _engine_ended(self, run: RunRow, result: EngineResult) -> tuple[RunEvent | None, Mapping[str, Any]]:
        event, columns = self._meaning(run, result)
        if event is None or run.engine != "NEXTFLOW":
            return event, columns
        return event, {**columns, "engine_version": result.engine_version}

    def _meaning(self, run: RunRow, result: EngineResult) -> tuple[RunEvent | None, Mapping[str, Any]]:
        if result.succeeded:
            return EngineSucceeded(), {}
        if result.cancelled:
            return Failed("SERVICE_ERROR", "The workflow engine was stopped from outside the service."), {}
        reported = result.failure or {}
        row = None
        if reported.get("kind") == "task":
            key, attempt = str(reported.get("task_key")), int(reported.get("task_attempt") or 1)
            row = self._find_task(run, key, attempt)
        if row is not None and row.reason is None:
            # The attempt ended a moment ago and its row is being written: its reason decides what the run says.
            if not self._tasks.is_quiet(run.id):
                return None, {}
            row = self._find_task(run, str(reported.get("task_key")), int(reported.get("task_attempt") or 1))
        if row is not None and row.reason == Reason.TIMEOUT:
            return TimedOut(), {"failure_reason": row.failure_reason, "status_message": row.status_message}
        if row is not None and row.failure_reason is not None:
            return Failed(row.failure_reason, row.status_message or ""), {}
        code = reported.get("code")
        if code and (reported.get("kind") == "stage" or code == failures.WRONG_ENGINE_VERSION):
            return Failed(str(code), str(reported.get("message") or code)), {}
        usage = self._storage.usage(run.uuid) if run.storage_type == StorageType.STATIC else None
        if usage is not None and usage.was_full:
            failure = failures.of_full_volume(run.storage_capacity_gib)
            return Failed(failure.reason, failure.message), {}
        stream = f"arn:aws:logs:{self._policy.region}:{run.account}:log-group:/aws/omics/WorkflowLog:log-stream:run/{run.id}/engine"
        failure = failures.of_engine(str(reported.get("message") or "The engine failed."), engine_log_stream=stream)
        return Failed(failure.reason, failure.message), {}

    def _find_task(self, run: RunRow, key: str, attempt: int) -> task_rows.TaskRow | None:
        row = self._tasks.find_row(run.id, key, attempt)
        if row is not None:
            return row
        return self._store.read(lambda tx: task_rows.find_task_by_key(tx, run.id, run.incarnation, key, attempt))

    def _time_limit(self, run: RunRow) -> tuple[int, failures.Failure]:
        """How long the run may be RUNNING, in milliseconds, and what it says when it was longer: the service's limit or its group's."""
        seconds = self._policy.run_timeout_seconds
        group = self._group(run)
        if group is None or group.max_duration_minutes is None or group.max_duration_minutes * 60 >= seconds:
            return seconds * 1000, failures.of_run_time(seconds)
        minutes = group.max_duration_minutes
        return minutes * 60_000, failures.of_group_time(minutes, group.id)

    def _time_out(self, run: RunRow, failure: failures.Failure) -> tuple[RunEvent | None, Mapping[str, Any]]:
        self._tasks.stop_run(run.id)
        # It says yet what its finished tasks leave.
        self._engines.stop(self._directory(run), kill=False)
        return TimedOut(), {"failure_reason": failure.reason, "status_message": failure.message}

    def _exporting(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        acts = self._acts_of(run.id)
        if acts.exported is None:
            if run.outcome is not None and not acts.exporting and self._engine_is_leaving(run, acts):
                return None, {}
            if not acts.exporting:
                acts.exporting = True
                self._begin_export(run, acts)
            if acts.exported is None:
                return None, {}
        if acts.exported.failure is not None:
            return Failed(*acts.exported.failure), {}
        until = (run.started_ms or 0) + int(self._policy.min_running_seconds * 1000)
        if self._policy.min_running_seconds and self._clock.now_ms() < until:
            self._wake_at(run.id, until)
            return None, {}
        return OutputsExported(), {}

    def _engine_is_leaving(self, run: RunRow, acts: _Acts) -> bool:
        """Whether the engine of a run whose time is up is still there; after a grace it is killed."""
        if not self._engine_lives(run, acts):
            return False
        now_ms = self._clock.now_ms()
        if acts.leaving_since_ms is None:
            acts.leaving_since_ms = now_ms
        if now_ms - acts.leaving_since_ms > CANCEL_GRACE_MS:
            self._engines.stop(self._directory(run), kill=True)
        self._wake_at(run.id, now_ms + RETRY_MS)
        return True

    def _begin_export(self, run: RunRow, acts: _Acts) -> None:
        directory = self._directory(run)
        result = self._engines.result(directory, run.incarnation)

        def done(exported: Exported) -> None:
            self._note(run, *exported.messages)
            acts.exported = exported
            self._wake(run.id)

        def check() -> tuple[str, str] | None:
            """Nothing is delivered from a volume that lost writes."""
            try:
                self._storage.flush(run.uuid)
            except VolumeLost as error:
                failure = failures.of_storage(str(error))
                return failure.reason, failure.message
            return None

        succeeded = result is not None and result.succeeded
        job = ExportJob(
            run_directory=directory,
            run_output_uri=run.run_output_uri,
            # Of a run that timed out: what its finished tasks leave.
            exports=() if result is None else result.exports,
            outputs=result.outputs if result is not None and succeeded else None,
        )
        self._note(run, f"Exporting {len(job.exports)} outputs.")
        self._transfers.export(job, done, check=check, objects=self._objects_of(run))

    def _stopping(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        acts = self._acts_of(run.id)
        directory = self._directory(run)
        now_ms = self._clock.now_ms()
        if acts.stopping_since_ms is None:
            acts.stopping_since_ms = now_ms
            self._transfers.forget(directory)
            self._adopt_for_stop(run)
            self._tasks.stop_run(run.id)
            if run.incarnation > 0:
                self._engines.stop(directory, kill=True)
        waited_ms = now_ms - acts.stopping_since_ms
        if not self._tasks.is_quiet(run.id) or self._engine_lives(run, acts):
            if waited_ms > CANCEL_GRACE_MS:
                self._tasks.kill_run(run.id)
            self._wake_at(run.id, now_ms + RETRY_MS)
            return None, {}
        self._gateway.close(run.id)
        if not self._engine_log_delivered(run, acts):
            return None, {}
        return self._release(run, acts, waited_ms)

    def _engine_lives(self, run: RunRow, acts: _Acts) -> bool:
        """Whether the engine may still hold the volume. One that this process started is gone when its end was reported."""
        if run.incarnation == 0:
            return False
        if acts.engine_started == run.incarnation and acts.engine_ended != run.incarnation:
            return True
        return self._engines.is_alive(self._directory(run))

    def _adopt_for_stop(self, run: RunRow) -> None:
        """After a restart: what still runs of this run must be known before it can be ended."""
        if run.incarnation == 0:
            return
        open_rows = self._store.read(lambda tx: task_rows.open_tasks(tx, run.id))
        if open_rows:
            self._tasks.open_run(self._place(run), open_rows)
            self._tasks.close_orphans(run.id, open_rows)

    def _engine_log_delivered(self, run: RunRow, acts: _Acts) -> bool:
        """engine.log goes to the outputs of every run but a cancelled one."""
        if run.log_level != "OFF":
            self._logs.end_engine(run.account, f"run/{run.id}/engine")
        log_file = self._directory(run) / "engine.log"
        if run.outcome == RunStatus.CANCELLED or acts.log_exported or not log_file.exists():
            return True
        if acts.log_exporting:
            return False

        def done(exported: Exported) -> None:
            acts.log_exported = True
            if exported.failure is not None:
                log.warning("run.engine_log_not_delivered", run_id=run.id, why=exported.failure[1])
            self._wake(run.id)

        acts.log_exporting = True
        uri = f"{run.run_output_uri.rstrip('/')}/logs/engine.log"
        self._transfers.export_log(log_file, uri, done, objects=self._objects_of(run))
        return acts.log_exported

    def _release(self, run: RunRow, acts: _Acts, waited_ms: int) -> tuple[RunEvent | None, Mapping[str, Any]]:
        try:
            usage = self._storage.destroy(run.uuid)
        except OSError as error:
            if waited_ms < RELEASE_PATIENCE_MS:
                self._wake_at(run.id, self._clock.now_ms() + RETRY_MS)
                return None, {}
            log.error("run.release_abandoned", run_id=run.id, error=str(error))
            return ReleaseAbandoned(), {}
        if usage is None:
            return StorageReleased(), {}
        return StorageReleased(), {"storage_peak_bytes": usage.peak_bytes}

    def _after_end(self, run: RunRow) -> tuple[RunEvent | None, Mapping[str, Any]]:
        self._forget(run.id)
        if run.delete_wished_ms is not None:
            return DeleteRequested(), {}
        return None, {}

    def _delete(self, run: RunRow) -> None:
        now_ms = self._clock.now_ms()
        if self._store.write(lambda tx: run_rows.delete_run(tx, run, now_ms=now_ms)):
            log.info("run.deleted", run_id=run.id)

    # ---- reports from elsewhere ----------------------------------------------------------------------------------

    def volume_full(self, run_uuid: str) -> None:
        """A STATIC volume that nothing limits is over its capacity: its run ends."""
        self._over_limit.add(run_uuid)
        run_id = self._by_uuid.get(run_uuid)
        if run_id is not None:
            self._wake(run_id)

    def fail(self, run_id: int, failure: failures.Failure) -> None:
        """End a live run with a failure that comes from elsewhere."""
        self._acts_of(run_id).failing = Failed(failure.reason, failure.message)
        self._wake(run_id)

    def note(self, run: RunRow, text: str) -> None:
        """A line for the run's log."""
        self._note(run, text)

    def stage(self, run_id: int, uri: str) -> None:
        """An engine asks for an input named at run time."""

        def done(imported: Imported) -> None:
            if imported.failure is not None:
                reason, message = imported.failure
                self._gateway.staged(run_id, uri, {"error": reason, "message": message})
                return
            self._gateway.staged(run_id, uri, {"path": imported.staged[uri]})

        run = self._store.read(lambda tx: run_rows.load_run(tx, run_id))
        if run is None:
            return
        digests = orjson.loads(run.resource_digests) if run.resource_digests else {}
        self._transfers.stage(self._directory(run), uri, digests.get(uri), done, objects=self._objects_of(run))

    def list_objects(self, run_id: int, uri: str) -> None:
        """An engine asks which objects begin with a URI."""
        run = self._store.read(lambda tx: run_rows.load_run(tx, run_id))
        if run is None:
            return

        def done(objects: Sequence[tuple[str, int]] | None, failure: tuple[str, str] | None) -> None:
            found: dict[str, Any] = {"objects": objects}
            if failure is not None:
                found = {"error": failure[0], "message": failure[1]}
            self._gateway.listed(run_id, uri, found)

        self._transfers.list_objects(uri, done, objects=self._objects_of(run))

    def engine_note(self, run_id: int, message: Mapping[str, Any]) -> None:
        """A note of the engine for the run's log."""
        run = self._store.read(lambda tx: run_rows.load_run(tx, run_id))
        text = message.get("message")
        if run is not None and isinstance(text, str):
            self._note(run, text[:4096])

    def task_note(self, place: RunPlace, text: str) -> None:
        """A line about a task for the run's log."""
        if place.keeps_logs:
            self._logs.append(place.account, f"run/{place.run_id}", [(self._clock.now_ms(), text)])

    def sweep_directories(self, keep: frozenset[str]) -> None:
        """Remove the directories of runs that are not among the uuids in `keep`: a crash came between their end and their removal.

        What begins with a dot belongs to the run storage.
        """
        for directory in self._policy.runs_directory.iterdir():
            if directory.name not in keep and not directory.name.startswith("."):
                shutil.rmtree(directory, ignore_errors=True)

    # ---- files and values ----------------------------------------------------------------------------------------

    def _acts_of(self, run_id: int) -> _Acts:
        with self._acts_lock:
            return self._acts.setdefault(run_id, _Acts())

    def _forget(self, run_id: int) -> None:
        with self._acts_lock:
            self._acts.pop(run_id, None)

    def _directory(self, run: RunRow) -> Path:
        return self._policy.runs_directory / run.uuid

    def _objects_of(self, run: RunRow) -> ObjectStore:
        """What the run may touch with its role."""
        session_policy = orjson.loads(run.extra).get("sessionPolicy") if "sessionPolicy" in run.extra else None
        return self._access.of_run(run.account, run.role_arn, session_policy)

    def _definition(self, run: RunRow) -> Path:
        return self._definitions.tree(run.definition_sha256)

    def _uid(self, run: RunRow) -> int:
        if self._policy.rootless:
            return os.geteuid()
        return self._policy.sandbox_uid_base + (run.sandbox_slot or 0)

    def _parameters(self, run: RunRow) -> Mapping[str, Any]:
        found = orjson.loads(run.parameters) if run.parameters else {}
        return found if isinstance(found, dict) else {}

    def _declared_inputs(self, run: RunRow) -> Sequence[Mapping[str, Any]]:
        interface = self._definitions.interface(run.definition_sha256, run.engine, run.main) or {}
        inputs: Sequence[Mapping[str, Any]] = interface.get("inputs", ())
        return inputs

    def _environment(self, run: RunRow) -> dict[str, str]:
        return {
            "AWS_REGION": self._policy.region,
            "AWS_WORKFLOW_RUN": f"arn:aws:omics:{self._policy.region}:{run.account}:run/{run.id}",
            "AWS_WORKFLOW_RUN_ID": str(run.id),
            "AWS_WORKFLOW_RUN_UUID": run.uuid,
        }

    def _group(self, run: RunRow) -> GroupRow | None:
        """The run's group as it is now."""
        group_id = run.run_group_id
        return None if group_id is None else self._store.read(lambda tx: group_rows.load_group(tx, group_id))

    def _place(self, run: RunRow) -> RunPlace:
        group = self._group(run)
        kept = {} if run.extra == "{}" else orjson.loads(run.extra)
        return RunPlace(
            run_id=run.id,
            run_uuid=run.uuid,
            account=run.account,
            incarnation=run.incarnation,
            priority=run.priority or 0,
            run_directory=self._directory(run),
            definition=self._definition(run),
            rootless=self._policy.rootless,
            storage_capacity_gib=run.storage_capacity_gib if run.storage_type == StorageType.STATIC else None,
            environment=self._environment(run),
            keeps_logs=run.log_level != "OFF",
            group=None if group is None else group.limits,
            has_local_scratch=kept.get("scratchStorageMode") == "LOCAL",
            registry_map=kept.get("containerRegistryMap"),
        )

    def _plan(self, run: RunRow, place: RunPlace) -> dict[str, Any]:
        directory = place.run_directory
        uid = self._uid(run)
        suffix = "" if run.incarnation == 1 else f"-{run.incarnation}"
        return {
            "format": PLAN_FORMAT,
            "run_id": str(run.id),
            "run_uuid": run.uuid,
            "account": run.account,
            "incarnation": run.incarnation,
            "engine": run.engine,
            "main": run.main,
            "run_directory": str(directory),
            "base": str(self._policy.data_directory / "sandbox"),
            "volume": str(place.volume),
            "definition": str(place.definition),
            "inputs": str(directory / "inputs"),
            "gateway": str(directory / "gateway"),
            "engine_directory": str(directory / "engine"),
            "log": str(directory / "engine.log"),
            "uid": uid,
            "gid": uid if not self._policy.rootless else os.getegid(),
            "rootless": self._policy.rootless,
            "workdir": f"/mnt/workflow/{run.uuid}/workdir{suffix}",
            "parameters": self._parameters(run),
            "staged": orjson.loads((directory / "staged.json").read_bytes()),
            "environment": self._environment(run),
            "engine_settings": _mapping(orjson.loads(run.extra).get("engineSettings")),
            "task_concurrency": self._policy.task_concurrency,
            "gateway_patience_seconds": self._policy.gateway_patience_seconds,
        }

    def _note(self, run: RunRow, *texts: str) -> None:
        if run.log_level != "OFF":
            now_ms = self._clock.now_ms()
            self._logs.append(run.account, f"run/{run.id}", [(now_ms, text) for text in texts])

    def _note_move(self, run: RunRow, to: RunState, event: RunEvent) -> None:
        log.info("run.moved", run_id=run.id, by=type(event).__name__, status=str(to.status), phase=to.phase)
        if isinstance(event, Failed):
            self._note(run, f"Run failed: {event.reason}: {event.message}")
        if isinstance(event, Prepared) and run.run_cache_id is not None:
            self._note(
                run,
                f"The run names run cache {run.run_cache_id}, but this server does not cache yet: every task runs, and nothing is kept "
                "for later runs.",
            )
        if to.status is not run.status:
            self._note(run, f"Run is {to.status}.")

    def _write_manifest(self, run: RunRow, to: RunState, changes: Mapping[str, Any]) -> None:
        """The run and its tasks as one JSON object a line, once."""
        if run.log_level == "OFF":
            return
        stream = f"manifest/run/{run.id}/{run.uuid}"
        written, _ = self._logs.read(run.account, stream, 0, 1)
        if written:
            return
        rows = self._store.read(lambda tx: task_rows.tasks_of_run(tx, run.id))
        now_ms = self._clock.now_ms()
        lines = manifest_lines(run, to, changes, rows, region=self._policy.region, now_ms=now_ms)
        self._logs.append(run.account, stream, [(now_ms, line) for line in lines])

    def _clean_up(self, run: RunRow) -> None:
        """After the end is durable: forget the run and remove its directory. A crash before this leaves it to the sweep at start."""
        self._tasks.close_run(run.id)
        self._gateway.close(run.id)
        self._by_uuid.pop(run.uuid, None)
        self._over_limit.discard(run.uuid)
        if run.delete_wished_ms is None:
            self._forget(run.id)
        shutil.rmtree(self._directory(run), ignore_errors=True)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
