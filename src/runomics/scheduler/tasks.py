"""The task attempts of all live runs: admission to the runner, their rows, their ends. Runs in the server, called from several threads.

The row and its id are durable before a supervisor starts. After that the attempt's directory is the truth about how it ended, and the
row follows, moved without waiting for the commit (task_moves).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from runomics.domain import failures, resources
from runomics.domain.admission import GroupLimits, Room, WaitingTask
from runomics.domain.task import ENDED as ENDED_TASKS
from runomics.domain.task import RETRIED_BY_SERVICE, Reason, TaskEvent, TaskStatus, end_event
from runomics.ports import Clock, LogStore, RunStorage, TaskEnd, TaskRunner
from runomics.scheduler.submission import Submission, beneath
from runomics.scheduler.task_lines import TaskLines
from runomics.scheduler.task_moves import AGAIN_SECONDS, TaskMoves
from runomics.store import tasks as task_rows
from runomics.store.database import SqliteStore, StoreUnavailable, Tx, next_id
from runomics.store.tasks import NewTask, TaskRow

log = structlog.get_logger()

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """What an operator decides about tasks. `host_*`: what they may use at once; `oversize`: clamp, fail; `unknown_images`: fail, host."""

    host_cpus: float
    host_memory_bytes: int
    oversize: str = "clamp"
    unknown_images: str = "fail"
    retries: int = 2
    grace_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class RunPlace:
    """What its tasks must know of a run that executes. Paths are the host's."""

    run_id: int
    run_uuid: str
    account: str
    incarnation: int
    priority: int
    run_directory: Path
    definition: Path
    rootless: bool
    storage_capacity_gib: int | None
    environment: Mapping[str, str]
    keeps_logs: bool
    group: GroupLimits | None = None

    @property
    def volume(self) -> Path:
        return self.run_directory / "volume"


class Listener(Protocol):
    """Hears what becomes of submissions; called from any thread, must not block."""

    def __call__(self, run_id: int, key: str, attempt: int, message: Mapping[str, Any]) -> None: ...


@dataclass(slots=True, eq=False)
class _Run:
    place: RunPlace
    attempts: dict[tuple[str, int], _Attempt] = field(default_factory=dict)
    unsettled: int = 0
    stopping: bool = False


@dataclass(slots=True, eq=False)
class _Attempt:
    """One try of one submission. `row` mirrors the database's."""

    run: _Run
    row: TaskRow
    submission: Submission | None
    directory: Path
    cpus: float
    memory_bytes: int
    since_ms: int
    status_is_running: bool = False
    holds_room: bool = False
    end: TaskEnd | None = None
    settled: bool = False
    outputs: tuple[str, str] | None = None

    @property
    def place(self) -> RunPlace:
        return self.run.place

    @property
    def group_id(self) -> int | None:
        return None if self.place.group is None else self.place.group.group_id

    @property
    def waiting(self) -> WaitingTask:
        return WaitingTask(
            task_id=self.row.id,
            run_id=self.place.run_id,
            priority=self.place.priority,
            cpus=self.cpus,
            memory_bytes=self.memory_bytes,
            since_ms=self.since_ms,
            requested_cpus=self.row.cpus,
            gpus=self.row.gpus,
        )


class Tasks:
    """All task attempts of the runs that execute here."""

    def __init__(
        self,
        *,
        store: SqliteStore,
        runner: TaskRunner,
        storage: RunStorage,
        logs: LogStore,
        clock: Clock,
        policy: TaskPolicy,
        on_quiet: Callable[[int], None],
        run_note: Callable[[RunPlace, str], None],
    ) -> None:
        self._store = store
        self._runner = runner
        self._storage = storage
        self._logs = logs
        self._clock = clock
        self._policy = policy
        self._on_quiet = on_quiet
        self._run_note = run_note
        self._moves = TaskMoves(store=store, clock=clock, on_written=on_quiet)
        self._move = self._moves.move
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self._runs: dict[int, _Run] = {}
        self._by_directory: dict[Path, _Attempt] = {}
        self._lines: TaskLines[_Attempt] = TaskLines()
        self._room = Room(policy.host_cpus, policy.host_memory_bytes)
        self._settlers = ThreadPoolExecutor(2, thread_name_prefix="task-end")
        self._listener: Listener = _nobody
        self._closed = False

    def set_listener(self, listener: Listener) -> None:
        """Who hears of queued, running and exited."""
        self._listener = listener

    def close(self) -> None:
        """Stop taking part; supervisors live on and are adopted by the next server."""
        with self._lock:
            self._closed = True
        self._closing.set()
        self._settlers.shutdown(wait=True, cancel_futures=False)
        self._moves.close()

    # ---- runs ----------------------------------------------------------------------------------------------------

    def open_run(self, place: RunPlace, open_rows: Sequence[TaskRow] = ()) -> None:
        """Take a run's submissions from now on, and adopt what is still open of it. Idempotent by (run, incarnation)."""
        with self._lock:
            known = self._runs.get(place.run_id)
            if known is not None and known.place.incarnation == place.incarnation:
                return
            run = self._runs[place.run_id] = _Run(place)
            if place.group is not None:
                self._lines.know(place.group)
        left = [] if known is None else [attempt for attempt in known.attempts.values() if attempt.end is None]
        for attempt in left:
            self._abandon(attempt)
        tracked = {attempt.row.id for attempt in left}
        for row in open_rows:
            if row.id in tracked:
                continue
            if row.incarnation != place.incarnation:
                self._close_row(place, row, "The engine was started again.")
            elif (_directory(place, row) / "spec.json").exists():
                self._adopt(run, row)

    def close_orphans(self, run_id: int, open_rows: Sequence[TaskRow]) -> None:
        """End the rows of a run that is being stopped which have no attempt here: their start never came to be."""
        with self._lock:
            run = self._runs[run_id]
            tracked = {attempt.row.id for attempt in run.attempts.values()}
        for row in open_rows:
            if row.id not in tracked:
                self._close_row(run.place, row, "The run was stopped.")

    def stop_run(self, run_id: int) -> None:
        """Start no more of its tasks and end those that run: TERM, grace, KILL. Idempotent."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or run.stopping:
                return
            run.stopping = True
            group = run.place.group
            queued = self._lines.of_run(run_id, None if group is None else group.group_id)
            for attempt in queued:
                self._lines.leave(attempt)
            started = [attempt for attempt in run.attempts.values() if attempt.end is None and attempt.holds_room]
        for attempt in queued:
            self._ended(attempt, TaskEnd(Reason.CANCELLED, None, "The run was stopped."))
        for attempt in started:
            self._stop(attempt)

    def kill_run(self, run_id: int) -> None:
        """End every process of the run's tasks at once."""
        with self._lock:
            run = self._runs.get(run_id)
            started = [] if run is None else [each for each in run.attempts.values() if each.end is None]
        for attempt in started:
            self._runner.kill(attempt.directory)

    def is_quiet(self, run_id: int) -> bool:
        """Whether nothing of the run's tasks is left to happen: no process, no unwritten row."""
        with self._lock:
            run = self._runs.get(run_id)
            return (run is None or run.unsettled == 0) and not self._moves.is_behind(run_id)

    def close_run(self, run_id: int) -> None:
        """Forget a run whose tasks are quiet."""
        with self._lock:
            run = self._runs.pop(run_id, None)
            if run is None:
                return
            for attempt in run.attempts.values():
                self._by_directory.pop(attempt.directory, None)
            group = run.place.group
            if group is not None and not any(_is_in(other, group.group_id) for other in self._runs.values()):
                self._lines.forget(group.group_id)

    def find_row(self, run_id: int, key: str, attempt: int) -> TaskRow | None:
        """The row of the latest try of a submission, as this process last moved it."""
        with self._lock:
            run = self._runs.get(run_id)
            found = None if run is None else run.attempts.get((key, attempt))
            return None if found is None else found.row

    # ---- run groups ----------------------------------------------------------------------------------------------

    def set_limits(self, limits: GroupLimits) -> None:
        """A group's limits were changed: its waiting tasks go by the new ones; those that run go on."""
        with self._lock:
            self._lines.know(limits)
            refused = self._lines.refused(limits.group_id)
            for attempt, _ in refused:
                self._lines.leave(attempt)
        for attempt, why in refused:
            self._ended(attempt, TaskEnd(Reason.REFUSED, None, why))
        self._admit()

    def waiting_reason(self, row: TaskRow) -> str | None:
        """What a PENDING task waits for, in words for its owner; None when it does not wait here."""
        with self._lock:
            run = self._runs.get(row.run_id)
            found = None if run is None else run.attempts.get((row.key, row.attempt))
            if found is None or found.row.id != row.id or not self._lines.has(found):
                return None
            return self._lines.missing(found) or "Waiting for free CPUs and memory of this server."

    # ---- submissions ---------------------------------------------------------------------------------------------

    def submit(self, submissions: Sequence[tuple[int, Submission]]) -> None:
        """Take in what engines ask for (run id, submission), as one transaction. A repeat is the same task."""
        fresh: list[tuple[_Run, Submission]] = []
        with self._lock:
            for run_id, submission in submissions:
                run = self._runs.get(run_id)
                if run is None or run.stopping:
                    self._tell_refused(run_id, submission, "The run is ending.", Reason.CANCELLED)
                    continue
                known = run.attempts.get((submission.key, submission.attempt))
                if known is None:
                    fresh.append((run, submission))
                    continue
                if known.submission is None:
                    known.submission = submission
                    known.outputs = _outputs_of(submission)
                self._tell_state(known)
        if not fresh:
            return
        now_ms = self._clock.now_ms()
        for (run, submission), row in zip(fresh, self._rows_for(fresh, now_ms), strict=True):
            self._take(run, submission, row, now_ms)
        self._admit()

    def cancel(self, run_id: int, key: str, attempt: int) -> None:
        """End one submission, waiting or running."""
        with self._lock:
            run = self._runs.get(run_id)
            found = None if run is None else run.attempts.get((key, attempt))
            if found is None or found.end is not None:
                return
            is_waiting = self._lines.leave(found)
        if is_waiting:
            self._ended(found, TaskEnd(Reason.CANCELLED, None, "Cancelled by the engine."))
            return
        self._stop(found)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _rows_for(self, fresh: Sequence[tuple[_Run, Submission]], now_ms: int) -> list[TaskRow]:
        """The rows of new submissions, found (after a restart) or made: durable when this returns."""

        def unit(tx: Tx) -> list[TaskRow]:
            rows: list[TaskRow] = []
            for run, submission in fresh:
                place = run.place
                row = task_rows.find_task_by_key(
                    tx, place.run_id, place.incarnation, submission.key, submission.attempt
                )
                if row is None:
                    row = self._insert(tx, place, submission, 1, now_ms)
                elif row.status is TaskStatus.FAILED and self._may_retry(row):
                    row = self._insert(tx, place, submission, row.try_ + 1, now_ms)
                rows.append(row)
            return rows

        return self._store.write(unit)

    def _insert(self, tx: Tx, place: RunPlace, submission: Submission, try_: int, now_ms: int) -> TaskRow:
        cpus, memory_gib = resources.round_resources(submission.cpus, submission.memory_bytes)
        new = NewTask(
            id=next_id(tx, "task"),
            account=place.account,
            run_id=place.run_id,
            uuid=str(uuid.uuid4()),
            incarnation=place.incarnation,
            key=submission.key,
            attempt=submission.attempt,
            try_=try_,
            name=submission.name,
            cpus=cpus,
            memory_gib=memory_gib,
            gpus=submission.accelerator_count,
            instance_type=resources.instance_type(
                cpus, memory_gib, submission.accelerator_type, submission.accelerator_count
            ),
            image=submission.image,
            created_ms=now_ms,
        )
        return task_rows.insert_tasks(tx, [new])[0]

    def _may_retry(self, row: TaskRow) -> bool:
        return row.reason is not None and Reason(row.reason) in RETRIED_BY_SERVICE and row.try_ <= self._policy.retries

    def _take(self, run: _Run, submission: Submission, row: TaskRow, now_ms: int) -> None:
        place = run.place
        attempt = _Attempt(
            run=run,
            row=row,
            submission=submission,
            directory=_directory(place, row),
            cpus=float(row.cpus),
            memory_bytes=row.memory_gib * GIB,
            since_ms=now_ms,
            outputs=_outputs_of(submission),
        )
        if row.status in ENDED_TASKS:
            attempt.end = _end_of_row(row)
            attempt.settled = True
            with self._lock:
                run.attempts[(submission.key, submission.attempt)] = attempt
            self._tell_state(attempt)
            return
        with self._lock:
            run.attempts[(submission.key, submission.attempt)] = attempt
            run.unsettled += 1
            self._by_directory[attempt.directory] = attempt
        self._tell(attempt, {"op": "queued"})
        refusal = self._refusal(attempt)
        if refusal is not None:
            self._ended(attempt, refusal)
            return
        self._clamp(attempt)
        with self._lock:
            # The limits may have been lowered a moment ago: whoever stands in a line must be able to leave it.
            why = self._lines.refusal(attempt)
            # Its row took a while: what stands in no line by the time its run is stopped is not taken out of one.
            stopping = run.stopping
            if why is None and not stopping:
                self._lines.join(attempt)
        if stopping:
            self._ended(attempt, TaskEnd(Reason.CANCELLED, None, "The run was stopped."))
        elif why is not None:
            self._ended(attempt, TaskEnd(Reason.REFUSED, None, why))

    def _refusal(self, attempt: _Attempt) -> TaskEnd | None:
        """Why this attempt can never run here, None when it can."""
        row, submission = attempt.row, attempt.submission
        if submission is None:
            return None
        if row.instance_type is None:
            wanted = f"{row.cpus} CPUs, {row.memory_gib} GiB" + (f", {row.gpus} GPUs" if row.gpus else "")
            return TaskEnd(Reason.REFUSED, None, f"No instance type has {wanted}.")
        with self._lock:
            why = self._lines.refusal(attempt)
        if why is not None:
            return TaskEnd(Reason.REFUSED, None, why)
        if submission.image is not None and self._policy.unknown_images != "host":
            return TaskEnd(
                Reason.IMAGE,
                None,
                f"The image {submission.image} cannot be had: this server runs tasks on its own root. "
                "Set unknown_images to host to run such tasks there.",
            )
        if submission.accelerator_count:
            return TaskEnd(Reason.REFUSED, None, "This server has no accelerators.")
        fits = attempt.cpus <= self._policy.host_cpus and attempt.memory_bytes <= self._policy.host_memory_bytes
        if fits or self._policy.oversize == "clamp":
            return None
        return TaskEnd(
            Reason.REFUSED,
            None,
            f"It asks for {row.cpus} CPUs and {row.memory_gib} GiB; this host gives at most {self._policy.host_cpus:g} CPUs and "
            f"{self._policy.host_memory_bytes // GIB} GiB, and oversize_tasks is fail.",
        )

    def _clamp(self, attempt: _Attempt) -> None:
        cpus = min(attempt.cpus, self._policy.host_cpus)
        memory_bytes = min(attempt.memory_bytes, self._policy.host_memory_bytes)
        if (cpus, memory_bytes) == (attempt.cpus, attempt.memory_bytes):
            return
        attempt.cpus, attempt.memory_bytes = cpus, memory_bytes
        self._run_note(
            attempt.place,
            f"Task {attempt.row.name} (task ID {attempt.row.id}) asks for {attempt.row.cpus} CPUs and {attempt.row.memory_gib} GiB "
            f"and gets {cpus:g} CPUs and {memory_bytes // GIB} GiB, all that this host gives.",
        )

    def _admit(self) -> None:
        with self._lock:
            if self._closed:
                return
            starting = self._lines.admit(self._room, now_ms=self._clock.now_ms())
            for attempt in starting:
                self._hold(attempt)
        for attempt in starting:
            self._start(attempt)

    def _hold(self, attempt: _Attempt) -> None:
        attempt.holds_room = True
        self._lines.hold(attempt)
        self._room = Room(self._room.cpus - attempt.cpus, self._room.memory_bytes - attempt.memory_bytes)

    def _start(self, attempt: _Attempt) -> None:
        if attempt.row.status is TaskStatus.PENDING:
            attempt.row = self._move(attempt.row, TaskEvent.ADMITTED)
        try:
            self._runner.prepare(attempt.directory, self._spec(attempt))
        except OSError as error:
            self._ended(attempt, TaskEnd(Reason.RUNTIME, None, f"The attempt could not be prepared: {error}"))
            return
        self._runner.start(attempt.directory, self._on_running, self._on_end)

    def _spec(self, attempt: _Attempt) -> dict[str, Any]:
        place, row, submission = attempt.place, attempt.row, attempt.submission
        if submission is None:
            raise OSError("the engine has not sent its submission again")
        task_arn = place.environment["AWS_WORKFLOW_RUN"].rsplit(":", 1)[0] + f":task/{row.id}"
        return {
            "run_uuid": place.run_uuid,
            "task_id": str(row.id),
            "try": row.try_,
            "name": f"run-{place.run_id}-task-{row.id}-{row.try_}",
            "argv": list(submission.argv),
            "cwd": submission.cwd,
            "stdin": submission.stdin,
            "stdout": None if submission.stdout is None else beneath(submission.stdout),
            "stderr": None if submission.stderr is None else beneath(submission.stderr),
            "env": {
                **submission.env,
                **place.environment,
                "AWS_WORKFLOW_TASK": task_arn,
                "AWS_WORKFLOW_TASK_ID": str(row.id),
                "AWS_WORKFLOW_TASK_UUID": row.uuid,
            },
            "volume": str(place.volume),
            "inputs": str(place.run_directory / "inputs"),
            "definition": str(place.definition),
            "scratch": f".scratch/{row.id}.{row.try_}",
            "rootfs": None,
            "rootless": place.rootless,
            "network": submission.network,
            "cpus": attempt.cpus,
            "memory_bytes": attempt.memory_bytes,
            "pids": 4096,
            "timeout_seconds": submission.timeout_seconds,
            "grace_seconds": self._policy.grace_seconds,
        }

    def _adopt(self, run: _Run, row: TaskRow) -> None:
        """Take over an attempt that an earlier server started."""
        attempt = _Attempt(
            run=run,
            row=row,
            submission=None,
            directory=_directory(run.place, row),
            cpus=min(float(row.cpus), self._policy.host_cpus),
            memory_bytes=min(row.memory_gib * GIB, self._policy.host_memory_bytes),
            since_ms=row.created_ms,
            outputs=_outputs_of_spec(_directory(run.place, row)),
        )
        if row.status is TaskStatus.PENDING:
            # It was started, and the server died before that was written.
            attempt.row = self._move(row, TaskEvent.ADMITTED)
        with self._lock:
            run.attempts[(row.key, row.attempt)] = attempt
            run.unsettled += 1
            self._by_directory[attempt.directory] = attempt
            self._hold(attempt)
        self._runner.start(attempt.directory, self._on_running, self._on_end)

    def _abandon(self, attempt: _Attempt) -> None:
        """End an attempt of an engine that is gone."""
        with self._lock:
            self._lines.leave(attempt)
        self._runner.kill(attempt.directory)
        self._ended(attempt, TaskEnd(Reason.CANCELLED, None, "The engine was started again."))

    def _close_row(self, place: RunPlace, row: TaskRow, why: str) -> None:
        self._runner.kill(_directory(place, row))
        self._move(row, TaskEvent.CANCELLED, status_message=why, reason=str(Reason.CANCELLED))

    def _stop(self, attempt: _Attempt) -> None:
        if attempt.row.status in (TaskStatus.STARTING, TaskStatus.RUNNING):
            attempt.row = self._move(attempt.row, TaskEvent.STOP_REQUESTED)
        self._runner.cancel(attempt.directory)

    # ---- what the runner reports ---------------------------------------------------------------------------------

    def _on_running(self, directory: Path, started_ms: int) -> None:
        with self._lock:
            attempt = self._by_directory.get(directory)
            if attempt is None or attempt.end is not None or attempt.status_is_running:
                return
            attempt.status_is_running = True
            if attempt.row.status is TaskStatus.STARTING:
                attempt.row = self._move(attempt.row, TaskEvent.STARTED, started_ms=started_ms)
        self._follow_log(attempt)
        self._tell(attempt, {"op": "running"})

    def _on_end(self, directory: Path, end: TaskEnd) -> None:
        with self._lock:
            attempt = self._by_directory.get(directory)
        if attempt is None:
            return
        self._ended(attempt, end)
        self._admit()

    def _ended(self, attempt: _Attempt, end: TaskEnd) -> None:
        with self._lock:
            if attempt.end is not None or self._closed:
                return
            attempt.end = end
            if attempt.holds_room:
                attempt.holds_room = False
                self._lines.release(attempt)
                self._room = Room(self._room.cpus + attempt.cpus, self._room.memory_bytes + attempt.memory_bytes)
            run = attempt.run
            again = (
                end.reason in RETRIED_BY_SERVICE
                and attempt.submission is not None
                and attempt.row.try_ <= self._policy.retries
                and not run.stopping
            )
        if not again:
            self._tell_state(attempt)
        self._settlers.submit(self._settle, attempt, end, again)

    def _settle(self, attempt: _Attempt, end: TaskEnd, again: bool) -> None:
        """Write the end of an attempt: its log's rest, its row, and the next try when there is one."""
        place = attempt.place
        try:
            if attempt.row.status is TaskStatus.STARTING and end.started_ms is not None:
                self._follow_log(attempt)
                attempt.row = self._move(attempt.row, TaskEvent.STARTED, started_ms=end.started_ms)
            has_log = place.keeps_logs and self._logs.end_task(place.account, _stream(attempt))
            failure = self._failure(attempt, end)
            attempt.row = self._move(
                attempt.row,
                end_event(end.reason),
                reason=str(end.reason),
                exit_code=end.exit_code,
                cpu_seconds=end.cpu_seconds,
                peak_memory_bytes=end.peak_memory_bytes,
                has_log=int(has_log),
                stopped_ms=end.stopped_ms or self._clock.now_ms(),
                failure_reason=None if failure is None else failure.reason,
                status_message=end.message or None if failure is None else failure.message,
            )
            if again and attempt.submission is not None:
                self._try_again(attempt, attempt.submission)
        except Exception:
            log.exception("task.settle_failed", run_id=place.run_id, task_id=attempt.row.id)
        finally:
            self._settled(attempt)

    def _settled(self, attempt: _Attempt) -> None:
        with self._lock:
            if attempt.settled:
                return
            attempt.settled = True
            attempt.run.unsettled -= 1
            quiet = attempt.run.unsettled == 0
        if quiet:
            self._on_quiet(attempt.place.run_id)

    def _try_again(self, attempt: _Attempt, submission: Submission) -> None:
        place, now_ms = attempt.place, self._clock.now_ms()
        row = self._insert_patiently(lambda tx: self._insert(tx, place, submission, attempt.row.try_ + 1, now_ms))
        log.info("task.tried_again", run_id=place.run_id, task_id=row.id, after=attempt.row.id)
        self._take(attempt.run, submission, row, now_ms)
        self._admit()

    def _insert_patiently(self, unit: Callable[[Tx], TaskRow]) -> TaskRow:
        """Until the store takes it: an engine waits for this task.

        Raises:
            StoreUnavailable: the server is closing.
        """
        while True:
            try:
                return self._store.write(unit)
            except StoreUnavailable:
                if self._closing.wait(AGAIN_SECONDS):
                    raise

    def _failure(self, attempt: _Attempt, end: TaskEnd) -> failures.Failure | None:
        usage = None
        if end.reason is Reason.EXIT and attempt.place.storage_capacity_gib is not None:
            usage = self._storage.usage(attempt.place.run_uuid)
        return failures.of_task(
            reason=end.reason,
            name=attempt.row.name,
            task_id=attempt.row.id,
            exit_code=end.exit_code,
            message=end.message,
            memory_gib=attempt.row.memory_gib,
            timeout_seconds=None if attempt.submission is None else attempt.submission.timeout_seconds,
            volume_was_full=usage is not None and usage.was_full,
        )

    # ---- rows, logs, listeners -----------------------------------------------------------------------------------

    def _follow_log(self, attempt: _Attempt) -> None:
        place = attempt.place
        if place.keeps_logs and attempt.outputs is not None:
            self._logs.follow_task(place.account, _stream(attempt), place.volume, *attempt.outputs)

    def _tell(self, attempt: _Attempt, message: Mapping[str, Any]) -> None:
        self._listener(attempt.place.run_id, attempt.row.key, attempt.row.attempt, message)

    def _tell_state(self, attempt: _Attempt) -> None:
        if attempt.end is None:
            self._tell(attempt, {"op": "running" if attempt.status_is_running else "queued"})
            return
        end = attempt.end
        self._tell(
            attempt,
            {"op": "exited", "exit_code": end.exit_code, "reason": str(end.reason), "message": end.message},
        )

    def _tell_refused(self, run_id: int, submission: Submission, message: str, reason: Reason) -> None:
        self._listener(
            run_id,
            submission.key,
            submission.attempt,
            {"op": "exited", "exit_code": None, "reason": str(reason), "message": message},
        )


def _nobody(run_id: int, key: str, attempt: int, message: Mapping[str, Any]) -> None:
    """The listener before there is one."""


def _is_in(run: _Run, group_id: int) -> bool:
    return run.place.group is not None and run.place.group.group_id == group_id


def _directory(place: RunPlace, row: TaskRow) -> Path:
    return place.run_directory / "tasks" / f"{row.id}.{row.try_}"


def _stream(attempt: _Attempt) -> str:
    return f"run/{attempt.place.run_id}/task/{attempt.row.id}"


def _outputs_of(submission: Submission) -> tuple[str, str] | None:
    """Where the attempt prints, relative to the volume."""
    if submission.stdout is None or submission.stderr is None:
        return None
    return beneath(submission.stdout), beneath(submission.stderr)


def _outputs_of_spec(directory: Path) -> tuple[str, str] | None:
    """The same, from the spec.json an earlier server wrote."""
    try:
        spec = orjson.loads((directory / "spec.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    stdout, stderr = spec.get("stdout"), spec.get("stderr")
    return (stdout, stderr) if stdout and stderr else None


def _end_of_row(row: TaskRow) -> TaskEnd:
    return TaskEnd(
        reason=Reason(row.reason) if row.reason else Reason.CANCELLED,
        exit_code=row.exit_code,
        message=row.status_message or "",
        started_ms=row.started_ms,
        stopped_ms=row.stopped_ms,
    )
