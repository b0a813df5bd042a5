"""The task attempts of all live runs: admission to the runner, their rows, their ends. Runs in the server, called from several threads.

The row and its id are durable before a supervisor starts. After that the attempt's directory is the truth about how it ended, and the
row follows, moved without waiting for the commit (task_moves).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from runomics.domain.admission import GroupLimits, Room
from runomics.domain.image import ImageUnavailable
from runomics.domain.profile import Profile
from runomics.domain.task import ENDED as ENDED_TASKS
from runomics.domain.task import RETRIED_BY_SERVICE, Reason, TaskEvent, TaskStatus
from runomics.ports import Accelerators, Clock, LogStore, RunStorage, TaskEnd, TaskRunner
from runomics.scheduler import task_attempt, task_policy, task_spec
from runomics.scheduler.submission import Submission
from runomics.scheduler.task_attempt import Attempt, OpenRun, RunPlace
from runomics.scheduler.task_ends import TaskEnds
from runomics.scheduler.task_image import TaskImage
from runomics.scheduler.task_images import TaskImages
from runomics.scheduler.task_lines import TaskLines
from runomics.scheduler.task_moves import TaskMoves
from runomics.scheduler.task_news import Listener, TaskNews
from runomics.scheduler.task_policy import GIB, TaskPolicy
from runomics.scheduler.task_rows import TaskRows, profile_of, shown
from runomics.scheduler.task_totals import TaskFigures, TaskTotals
from runomics.store.database import Store
from runomics.store.tasks import TaskRow

log = structlog.get_logger()

LOOK_AGAIN_MS = 60_000


class Tasks:
    """All task attempts of the runs that execute here."""

    def __init__(
        self,
        *,
        store: Store,
        runner: TaskRunner,
        storage: RunStorage,
        logs: LogStore,
        clock: Clock,
        policy: TaskPolicy,
        on_quiet: Callable[[int], None],
        run_note: Callable[[RunPlace, str], None],
        accelerators: Accelerators,
        images: TaskImages,
        look_at: Callable[[int, int], None],
    ) -> None:
        """`look_at(task id, UTC epoch ms)` has `waited` called at that time."""
        self._runner = runner
        self._clock = clock
        self._policy = policy
        self._on_quiet = on_quiet
        self._news = TaskNews(run_note)
        self._accelerators = accelerators
        self._images = images
        self._look_at = look_at
        self._moves = TaskMoves(store=store, clock=clock, on_written=on_quiet)
        self._move = self._moves.move
        self._closing = threading.Event()
        self._totals = TaskTotals()
        self._ends = TaskEnds(moves=self._moves, totals=self._totals, storage=storage, logs=logs, clock=clock)
        self._rows = TaskRows(store, policy, self._closing)
        self._lock = threading.RLock()
        self._runs: dict[int, OpenRun] = {}
        self._by_directory: dict[Path, Attempt] = {}
        self._lines: TaskLines[Attempt] = TaskLines()
        self._room = Room(policy.host_cpus, policy.host_memory_bytes)
        self._settlers = ThreadPoolExecutor(2, thread_name_prefix="task-end")
        self._closed = False

    def set_listener(self, listener: Listener) -> None:
        """Who hears of queued, running and exited."""
        self._news.listener = listener

    def close(self) -> None:
        """Stop taking part; supervisors live on and are adopted by the next server."""
        with self._lock:
            self._closed = True
        self._closing.set()
        self._images.close()
        self._settlers.shutdown(wait=True, cancel_futures=False)
        self._moves.close()

    # ---- runs ----------------------------------------------------------------------------------------------------

    def open_run(self, place: RunPlace, open_rows: Sequence[TaskRow] = ()) -> None:
        """Take a run's submissions from now on, and adopt what is still open of it. Idempotent by (run, incarnation)."""
        with self._lock:
            known = self._runs.get(place.run_id)
            if known is not None and known.place.incarnation == place.incarnation:
                return
            run = self._runs[place.run_id] = OpenRun(place)
            if place.group is not None:
                self._lines.know(place.group)
        capacity = self._runner.capacity()
        if capacity.limits_are_soft:
            self._news.note_soft_limits(place, capacity.why_soft)
        left = [] if known is None else [attempt for attempt in known.attempts.values() if attempt.end is None]
        for attempt in left:
            self._abandon(attempt)
        tracked = {attempt.row.id for attempt in left}
        for row in open_rows:
            if row.id in tracked:
                continue
            if row.incarnation != place.incarnation:
                self._close_row(place, row, "The engine was started again.")
            elif (self._directory_of(place, row) / "spec.json").exists():
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
            queued += [attempt for attempt in run.attempts.values() if attempt.awaits_image]
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
            self._images.forget(run_id)
            group = run.place.group
            if group is not None and not any(other.is_in(group.group_id) for other in self._runs.values()):
                self._lines.forget(group.group_id)
        self._runner.discard(run.place.run_directory)

    def find_row(self, run_id: int, key: str, attempt: int) -> TaskRow | None:
        """The row of the latest try of a submission, as this process last moved it."""
        with self._lock:
            run = self._runs.get(run_id)
            found = None if run is None else run.attempts.get((key, attempt))
            return None if found is None else found.row

    def figures(self) -> TaskFigures:
        """Tasks as they are now and what ended ones used."""
        with self._lock:
            policy, running = (
                self._policy,
                [each for run in self._runs.values() for each in run.attempts.values() if each.holds_room],
            )
            waiting = self._lines.count()
        return TaskFigures(
            waiting=waiting,
            running=len(running),
            cpus=policy.host_cpus,
            cpus_held=sum(each.cpus for each in running),
            memory_bytes=policy.host_memory_bytes,
            memory_held_bytes=sum(each.memory_bytes for each in running),
            gpus=self._accelerators.total,
            gpus_held=self._accelerators.total - self._accelerators.free(),
            ended=self._totals.ended(),
            cpu_seconds=self._totals.cpu_seconds,
            running_seconds=self._totals.running_seconds,
        )

    def running(self) -> list[Attempt]:
        """The attempts that run now."""
        with self._lock:
            every = [each for run in self._runs.values() for each in run.attempts.values()]
        return [each for each in every if each.status_is_running and each.end is None]

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
            if found is not None and found.row.id == row.id and found.awaits_image:
                return f"Waiting for its image {row.image}."
            if found is None or found.row.id != row.id or not self._lines.has(found):
                return None
            group = self._lines.missing(found)
            if group is not None:
                return group
            most, started = self._policy.most_of_a_run, self._lines.started_of(row.run_id)
            if most is not None and started >= most:
                return f"Waiting: {started} of at most {most} tasks of this run are running (task_concurrency)."
            return replace(self._room, gpus=self._accelerators.free()).missing(found.waiting)

    # ---- submissions ---------------------------------------------------------------------------------------------

    def submit(self, submissions: Sequence[tuple[int, Submission]]) -> None:
        """Take in what engines ask for (run id, submission), as one transaction. A repeat is the same task."""
        fresh: list[tuple[OpenRun, Submission]] = []
        with self._lock:
            for run_id, submission in submissions:
                run = self._runs.get(run_id)
                if run is None or run.stopping:
                    self._news.tell_cancelled(run_id, submission, "The run is ending.")
                    continue
                known = run.attempts.get((submission.key, submission.attempt))
                if known is None:
                    fresh.append((run, submission))
                    continue
                if known.submission is None:
                    known.submission = submission
                    known.outputs = task_attempt.outputs_of(submission)
                self._news.tell_state(known)
        if not fresh:
            return
        now_ms = self._clock.now_ms()
        for (run, submission), row in zip(fresh, self._rows.of(fresh, now_ms), strict=True):
            self._take(run, submission, row, now_ms)
        self._admit()

    def cancel(self, run_id: int, key: str, attempt: int) -> None:
        """End one submission, waiting or running."""
        with self._lock:
            run = self._runs.get(run_id)
            found = None if run is None else run.attempts.get((key, attempt))
            if found is None or found.end is not None:
                return
            is_waiting = self._lines.leave(found) or found.awaits_image
        if is_waiting:
            self._ended(found, TaskEnd(Reason.CANCELLED, None, "Cancelled by the engine."))
            return
        self._stop(found)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _directory_of(self, place: RunPlace, row: TaskRow) -> Path:
        """Where the attempt's records lie."""
        return self._runner.records(place.run_directory) / task_attempt.name_of(row)

    def _take(self, run: OpenRun, submission: Submission, row: TaskRow, now_ms: int) -> None:
        profile = profile_of(self._policy, submission, row)
        cpus, memory_bytes = self._policy.share(profile)
        attempt = Attempt(
            run=run,
            row=row,
            submission=submission,
            directory=self._directory_of(run.place, row),
            cpus=cpus,
            memory_bytes=memory_bytes,
            since_ms=now_ms,
            profile=profile,
            outputs=task_attempt.outputs_of(submission),
        )
        if row.status in ENDED_TASKS:
            attempt.end = task_attempt.end_of_row(row)
            attempt.settled = True
            with self._lock:
                run.attempts[(submission.key, submission.attempt)] = attempt
            self._news.tell_state(attempt)
            return
        with self._lock:
            run.attempts[(submission.key, submission.attempt)] = attempt
            run.unsettled += 1
            self._by_directory[attempt.directory] = attempt
        self._news.note_no_network(run, submission)
        self._news.tell(attempt, {"op": "queued"})
        refusal = self._policy.refusal(submission)
        if refusal is not None:
            self._ended(attempt, refusal)
            return
        if profile != submission.profiles[0]:
            self._news.note(attempt, f"runs with {profile.text}: the profiles before it cannot be had on this server.")
        self._news.note_scratch(attempt)
        self._get_image(attempt, submission)

    def _get_image(self, attempt: Attempt, submission: Submission) -> None:
        """Let it wait for its image, if it has one and that is not here, and stand then."""
        name = self._images.name_of(submission.image)
        if name is None:
            self._stand(attempt)
            return
        with self._lock:
            attempt.awaits_image = not attempt.run.stopping
        found = self._images.want(attempt.place, name, partial(self._image_came, attempt))
        if found is not None:
            self._image_found(attempt, found)

    def _image_came(self, attempt: Attempt, found: TaskImage | ImageUnavailable) -> None:
        """On a thread that pulls."""
        self._image_found(attempt, found)
        self._admit()

    def _image_found(self, attempt: Attempt, found: TaskImage | ImageUnavailable) -> None:
        with self._lock:
            attempt.awaits_image = False
            if attempt.end is not None:
                return
        if isinstance(found, ImageUnavailable):
            self._ended(attempt, TaskEnd(Reason.IMAGE, None, str(found), found.failure_reason))
            return
        attempt.image = found
        self._stand(attempt)

    def _stand(self, attempt: Attempt) -> None:
        """Let it wait for its turn in the line of its group, if it can ever have one."""
        if self._policy.is_short(attempt.profile):
            self._news.note_short_share(attempt)
        with self._lock:
            # The limits may have been lowered a moment ago: whoever stands in a line must be able to leave it.
            why = self._lines.refusal(attempt)
            # Its row took a while: what stands in no line by the time its run is stopped is not taken out of one.
            stopping = attempt.run.stopping
            if why is None and not stopping:
                self._lines.join(attempt)
        if stopping:
            self._ended(attempt, TaskEnd(Reason.CANCELLED, None, "The run was stopped."))
        elif why is not None:
            self._ended(attempt, TaskEnd(Reason.REFUSED, None, why))
        elif attempt.profile.wait_seconds is not None:
            self._look_at(attempt.row.id, self._clock.now_ms() + attempt.profile.wait_seconds * 1000)

    def waited(self, task_id: int) -> None:
        """A task's time to wait for its turn with one of its profiles may be over: it stands with the next, or fails.

        A limit of its group holds it back as long as it likes.
        """
        with self._lock:
            attempt = self._lines.find(task_id)
            if attempt is None or attempt.submission is None or attempt.profile.wait_seconds is None:
                return
            left_ms = attempt.since_ms + attempt.profile.wait_seconds * 1000 - self._clock.now_ms()
            if left_ms > 0 or self._lines.missing(attempt) is not None:
                self._look_at(task_id, self._clock.now_ms() + max(left_ms, LOOK_AGAIN_MS))
                return
            self._lines.leave(attempt)
            following = self._policy.following(attempt.submission, attempt.profile)
            if following is not None:
                attempt.profile, attempt.since_ms = following, self._clock.now_ms()
                attempt.cpus, attempt.memory_bytes = self._policy.share(following)
                attempt.row = self._moves.change(attempt.row, **shown(following))
        if following is None:
            self._ended(attempt, task_policy.exhausted(attempt.submission))
            return
        self._news.note(attempt, f"waited in vain and now waits with its next profile: {following.text}.")
        self._stand(attempt)
        self._admit()

    def _admit(self) -> None:
        with self._lock:
            if self._closed:
                return
            room = replace(self._room, gpus=self._accelerators.free())
            most = self._policy.most_of_a_run
            starting = self._lines.admit(room, now_ms=self._clock.now_ms(), most_of_a_run=most)
            for attempt in starting:
                self._hold(attempt)
                if attempt.row.gpus:
                    self._accelerators.take(attempt.directory, attempt.row.gpus)
        for attempt in starting:
            self._start(attempt)

    def _hold(self, attempt: Attempt) -> None:
        attempt.holds_room = True
        self._lines.hold(attempt)
        self._room = self._room.less(attempt.waiting)

    def _start(self, attempt: Attempt) -> None:
        if attempt.row.status is TaskStatus.PENDING:
            shown_image = {} if attempt.image is None else attempt.image.columns
            gib = task_attempt.scratch_of(attempt)
            scratch = {} if gib is None else {"scratch_gib": gib}
            attempt.row = self._move(attempt.row, TaskEvent.ADMITTED, **shown_image, **scratch)
        try:
            spec = task_spec.spec_of(attempt, grace_seconds=self._policy.grace_seconds)
            if attempt.row.gpus:
                spec = task_spec.with_devices(spec, self._accelerators.members(attempt.directory))
            self._runner.prepare(attempt.directory, spec)
        except OSError as error:
            self._ended(attempt, TaskEnd(Reason.RUNTIME, None, f"The attempt could not be prepared: {error}"))
            return
        self._runner.start(attempt.directory, self._on_running, self._on_end)

    def _adopt(self, run: OpenRun, row: TaskRow) -> None:
        """Take over an attempt that an earlier server started."""
        directory = self._directory_of(run.place, row)
        profile = Profile(row.cpus, row.memory_gib * GIB, None, row.gpus)
        cpus, memory_bytes = self._policy.share(profile)
        attempt = Attempt(
            run=run,
            row=row,
            submission=None,
            directory=directory,
            cpus=cpus,
            memory_bytes=memory_bytes,
            since_ms=row.created_ms,
            profile=profile,
            outputs=task_attempt.outputs_of_spec(task_attempt.left_spec(directory)),
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

    def _abandon(self, attempt: Attempt) -> None:
        """End an attempt of an engine that is gone."""
        with self._lock:
            self._lines.leave(attempt)
        self._runner.kill(attempt.directory)
        self._ended(attempt, TaskEnd(Reason.CANCELLED, None, "The engine was started again."))

    def _close_row(self, place: RunPlace, row: TaskRow, why: str) -> None:
        self._runner.kill(self._directory_of(place, row))
        self._accelerators.release(self._directory_of(place, row))
        self._move(row, TaskEvent.CANCELLED, status_message=why, reason=str(Reason.CANCELLED))

    def _stop(self, attempt: Attempt) -> None:
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
        self._ends.follow_log(attempt)
        self._news.tell(attempt, {"op": "running"})

    def _on_end(self, directory: Path, end: TaskEnd) -> None:
        with self._lock:
            attempt = self._by_directory.get(directory)
        if attempt is None:
            return
        if end.reason is Reason.IMAGE:
            end = replace(end, message=f"Image {attempt.row.image}: {end.message}")
        self._ended(attempt, end)
        self._admit()

    def _ended(self, attempt: Attempt, end: TaskEnd) -> None:
        with self._lock:
            if attempt.end is not None or self._closed:
                return
            attempt.end = end
            if attempt.holds_room:
                attempt.holds_room = False
                self._lines.release(attempt)
                self._room = self._room.more(attempt.waiting)
            self._accelerators.release(attempt.directory)
            run = attempt.run
            again = (
                end.reason in RETRIED_BY_SERVICE
                and attempt.submission is not None
                and attempt.row.try_ <= self._policy.retries_of(attempt.submission)
                and not run.stopping
            )
        if not again:
            self._news.tell_state(attempt)
        self._settlers.submit(self._settle, attempt, end, again)

    def _settle(self, attempt: Attempt, end: TaskEnd, again: bool) -> None:
        """Write the end of an attempt: its log's rest, its row, and the next try when there is one."""
        try:
            self._ends.write(attempt, end)
            if again and attempt.submission is not None:
                self._try_again(attempt, attempt.submission)
        except Exception:
            log.exception("task.settle_failed", run_id=attempt.place.run_id, task_id=attempt.row.id)
        finally:
            self._settled(attempt)

    def _settled(self, attempt: Attempt) -> None:
        with self._lock:
            if attempt.settled:
                return
            attempt.settled = True
            attempt.run.unsettled -= 1
            quiet = attempt.run.unsettled == 0
        if quiet:
            self._on_quiet(attempt.place.run_id)

    def _try_again(self, attempt: Attempt, submission: Submission) -> None:
        place, now_ms = attempt.place, self._clock.now_ms()
        row = self._rows.next_try(place, submission, attempt.row, now_ms)
        log.info("task.tried_again", run_id=place.run_id, task_id=row.id, after=attempt.row.id)
        self._take(attempt.run, submission, row, now_ms)
        self._admit()
