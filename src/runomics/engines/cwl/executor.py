"""Runs the jobs of a CWL workflow: a thread for each that waits for its task, up to a number. Runs in the run process."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

from cwltool.errors import WorkflowException
from cwltool.executors import JobExecutor
from cwltool.job import JobBase

from runomics.engines.cwl import failures
from runomics.engines.cwl.conduct import ERRORS, Conduct, Context, Ended
from runomics.engines.cwl.job import Job
from runomics.engines.gateway_client import Cancelled, StageFailed
from runomics.engines.outcome import Failure
from runomics.engines.task_words import shortened

# mypy: disable-error-code="misc,override"


class Executor(JobExecutor):
    """One run's. Not for use twice."""

    def __init__(self, conduct: Conduct, most_threads: int) -> None:
        super().__init__()
        self._conduct = conduct
        self._most_threads = most_threads
        self._waiting: deque[Job] = deque()
        self._in_flight = 0

    def run_jobs(self, process: Any, job_order_object: Any, logger: logging.Logger, runtime_context: Context) -> None:
        """Everything from the first job to the last.

        Raises:
            Ended: a job failed for good, or the run is being ended. WorkflowException and the like: the workflow itself cannot go on.
        """
        changed = runtime_context.workflow_eval_lock
        assert changed is not None  # noqa: S101 - execute() made it
        with changed:
            for job in process.job(job_order_object, self.output_callback, runtime_context):
                self._conduct.check()
                if isinstance(job, Job):
                    self._waiting.append(job)
                    self._start(runtime_context, changed)
                elif job is not None:
                    job.run(runtime_context)
                elif self._in_flight:
                    changed.wait()
                else:
                    break
            while self._in_flight:
                self._conduct.check()
                changed.wait()
            self._conduct.check()

    def _start(self, context: Context, changed: threading.Condition) -> None:
        while self._waiting and self._in_flight < self._most_threads:
            self._in_flight += 1
            job = self._waiting.popleft()
            threading.Thread(target=self._run, args=(job, context, changed), name=job.place.key, daemon=True).start()

    def _run(self, job: Job, context: Context, changed: threading.Condition) -> None:
        status: list[str] = []
        deliver = job.output_callback

        def delivered(outputs: Any, how: str) -> None:
            status.append(how)
            if how != "success":
                self._conduct.fail(_failure(job))
            if deliver is not None:
                deliver(outputs, how)

        job.output_callback = delivered
        error: BaseException | None = None
        try:
            job.run(context)
        except BaseException as raised:
            error = raised
        with changed:
            self._in_flight -= 1
            if error is not None:
                self._conduct.fail(_raised(job, error))
            self._start(context, changed)
            changed.notify_all()


def _failure(job: JobBase) -> Failure:
    """Why a job's status is not success; on its own thread."""
    said = failures.text(ERRORS.said()[-1]) if ERRORS.said() else ""
    if not isinstance(job, Job) or job.end is None:
        return Failure("engine", shortened(f"task {getattr(job, 'place', job).name}: {said}"))
    return failures.of_task(
        key=job.place.key,
        name=job.place.name,
        attempt=job.attempt,
        end=job.end,
        code=job.exit_code,
        accepted=job.accepted,
        stderr=job.stderr_path,
        said=said.removeprefix(f"[job {job.name}] Job error:").strip(),
    )


def _raised(job: Job, error: BaseException) -> Failure:
    if isinstance(error, StageFailed):
        return failures.of_stage(error)
    if isinstance(error, Ended | Cancelled):
        return Failure("engine", "the run was ended")
    kind = "" if isinstance(error, WorkflowException) else f"{type(error).__name__}: "
    return Failure("engine", shortened(f"task {job.place.name}: {kind}{failures.text(error)}"))
