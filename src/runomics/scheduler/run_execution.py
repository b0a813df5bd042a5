"""What a run does while its engine is there: begin it, watch its time and volume, understand its result. On the scheduler's threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import structlog

from runomics.domain import failures
from runomics.domain.run import EngineLost, EngineSucceeded, Failed, TimedOut
from runomics.domain.task import Reason
from runomics.ports import Clock, EngineHost, EngineResult, LogStore, RunStorage, StorageType
from runomics.scheduler.gateway import Gateway
from runomics.scheduler.networks import Networks, NoNetwork
from runomics.scheduler.run_acts import NOTHING_YET, Acts, Happened, failed
from runomics.scheduler.run_plan import RunPlans, write
from runomics.scheduler.tasks import Tasks
from runomics.store import tasks as task_rows
from runomics.store.runs import RunRow
from runomics.store.tasks import TaskRow

log = structlog.get_logger()


class RunExecution:
    """The executing phase. Knows besides which volumes are over their capacity, of runs that began here."""

    def __init__(
        self,
        *,
        plans: RunPlans,
        storage: RunStorage,
        engines: EngineHost,
        tasks: Tasks,
        gateway: Gateway,
        logs: LogStore,
        networks: Networks,
        clock: Clock,
        wake: Callable[[int], None],
        wake_at: Callable[[int, int], None],
    ) -> None:
        self._plans = plans
        self._store = plans.store
        self._policy = plans.policy
        self._storage = storage
        self._engines = engines
        self._tasks = tasks
        self._gateway = gateway
        self._logs = logs
        self._networks = networks
        self._clock = clock
        self._wake = wake
        self._wake_at = wake_at
        self._by_uuid: dict[str, int] = {}
        self._over_limit: set[str] = set()

    def executing(self, run: RunRow, acts: Acts) -> Happened:
        """Begin or adopt the run's engine, then see what became of it."""
        directory, incarnation = self._plans.directory(run), run.incarnation
        if acts.engine_started != incarnation:
            try:
                begun = self._begin_engine(run, acts, directory)
            except NoNetwork as error:
                return failed(failures.of_network(str(error)))
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
            return failed(failures.of_full_volume(run.storage_capacity_gib))
        if acts.engine_ended != incarnation:
            if run.started_ms is not None:
                self._wake_at(run.id, run.started_ms + limit_ms)
            return NOTHING_YET
        result = self._engines.result(directory, incarnation)
        if result is not None:
            return self._engine_ended(run, result)
        log.warning("run.engine_lost", run_id=run.id, incarnation=incarnation)
        if self._policy.restarts_lost_engine and incarnation < self._policy.max_incarnations:
            return EngineLost(), {}
        return failed(failures.of_lost_engine(incarnation))

    def volume_full(self, run_uuid: str) -> None:
        """A STATIC volume that nothing limits is over its capacity: its run ends."""
        self._over_limit.add(run_uuid)
        run_id = self._by_uuid.get(run_uuid)
        if run_id is not None:
            self._wake(run_id)

    def forget(self, run: RunRow) -> None:
        """The run has ended."""
        self._by_uuid.pop(run.uuid, None)
        self._over_limit.discard(run.uuid)

    def _begin_engine(self, run: RunRow, acts: Acts, directory: Path) -> bool:
        """Open the gateway, take over open tasks, start or adopt the engine. False when the volume is gone.

        Raises:
            NoNetwork: the run's network is not to be had any more.
        """
        self._by_uuid[run.uuid] = run.id
        if self._storage.find(run.uuid) is None:
            return False
        place = self._plans.place(run, self._networks.of_run(run.account, run.extra))
        write(directory / "plan.json", orjson.dumps(self._plans.plan(run, place)))
        open_rows = self._store.read(lambda tx: task_rows.open_tasks(tx, run.id))
        self._tasks.open_run(place, open_rows)
        self._gateway.open(run.id, directory / "gateway")
        if run.log_level != "OFF":
            self._logs.follow_engine(run.account, f"run/{run.id}/engine", directory / "engine.log")
        incarnation = run.incarnation

        def ended(_: Path) -> None:
            acts.engine_ended = incarnation
            self._wake(run.id)

        self._engines.start(directory, ended)
        return True

    def _engine_ended(self, run: RunRow, result: EngineResult) -> Happened:
        event, columns = self._meaning(run, result)
        if event is None or run.engine != "NEXTFLOW":
            return event, columns
        return event, {**columns, "engine_version": result.engine_version}

    def _meaning(self, run: RunRow, result: EngineResult) -> Happened:
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
                return NOTHING_YET
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
            return failed(failures.of_full_volume(run.storage_capacity_gib))
        stream = f"arn:aws:logs:{self._policy.region}:{run.account}:log-group:/aws/omics/WorkflowLog:log-stream:run/{run.id}/engine"
        message = str(reported.get("message") or "The engine failed.")
        return failed(failures.of_engine(message, engine_log_stream=stream))

    def _find_task(self, run: RunRow, key: str, attempt: int) -> TaskRow | None:
        row = self._tasks.find_row(run.id, key, attempt)
        if row is not None:
            return row
        return self._store.read(lambda tx: task_rows.find_task_by_key(tx, run.id, run.incarnation, key, attempt))

    def _time_limit(self, run: RunRow) -> tuple[int, failures.Failure]:
        """How long the run may be RUNNING, in milliseconds, and what it says when it was longer: the service's limit or its group's."""
        seconds = self._policy.run_timeout_seconds
        group = self._plans.group(run)
        if group is None or group.max_duration_minutes is None or group.max_duration_minutes * 60 >= seconds:
            return seconds * 1000, failures.of_run_time(seconds)
        minutes = group.max_duration_minutes
        return minutes * 60_000, failures.of_group_time(minutes, group.id)

    def _time_out(self, run: RunRow, failure: failures.Failure) -> Happened:
        self._tasks.stop_run(run.id)
        # It says yet what its finished tasks leave.
        self._engines.stop(self._plans.directory(run), kill=False)
        return TimedOut(), {"failure_reason": failure.reason, "status_message": failure.message}


def engine_lives(engines: EngineHost, run: RunRow, acts: Acts, directory: Path) -> bool:
    """Whether the engine may still hold the volume. One that this process started is gone when its end was reported."""
    if run.incarnation == 0:
        return False
    if acts.engine_started == run.incarnation and acts.engine_ended != run.incarnation:
        return True
    return engines.is_alive(directory)
