"""Tools, steps and jobs of a CWL run: cwltool's own with our directories and names. Run in the run process."""

from __future__ import annotations

import copy
import functools
import os
import threading
from collections.abc import Generator, Sequence
from typing import Any

import cwltool.workflow
from cwltool.command_line_tool import CommandLineTool
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.job import JobBase
from cwltool.process import Process, shortname
from cwltool.utils import JobsGeneratorType
from cwltool.workflow import Workflow, WorkflowStep
from cwltool.workflow_job import ReceiveScatterOutput, WorkflowJobLoopStep

from runomics.engines.cwl import finished, resources, staging
from runomics.engines.cwl.conduct import Context, Place
from runomics.engines.cwl.job import Job

Callback = Any

# cwltool's classes are typed, but not for a strict check of what is made from them.
# mypy: disable-error-code="misc,override,no-any-return"


class Tool(CommandLineTool):
    """A command line tool. Its job works in `<workdir>/<key>/work`, with links to its inputs in `<workdir>/<key>/inputs`."""

    def make_job_runner(self, runtimeContext: RuntimeContext) -> type[JobBase]:  # noqa: N803 - cwltool's name
        """Always ours: containers are the service's."""
        return Job

    def make_path_mapper(self, reffiles: Any, stagedir: str, runtimeContext: Context, separateDirs: bool) -> Any:  # noqa: N803
        """As in the base class, with what was only named while the job was made brought here first."""
        new = staging.localized(reffiles, runtimeContext.conduct.stage)
        if new is not reffiles:
            reffiles[:] = new
        return super().make_path_mapper(reffiles, stagedir, runtimeContext, separateDirs)

    def _init_job(self, joborder: Any, runtime_context: Context) -> Any:
        builder = super()._init_job(joborder, runtime_context)
        directory = (resources.requirement(self, "DockerRequirement") or {}).get("dockerOutputDirectory")
        if directory and os.path.isabs(directory):
            builder.outdir = directory
        return builder

    def job(
        self,
        job_order: Any,
        output_callbacks: Callback,
        runtimeContext: Context,  # noqa: N803
    ) -> Generator[Any, None, None]:
        """The tool's job, or what an earlier incarnation of the run has left of it."""
        context = copy.copy(runtimeContext)
        if not context.place.names:
            context.place = Place().below(_own_name(self.tool["id"]))
        conduct, place = context.conduct, context.place
        conduct.check()
        order = staging.localized(job_order, conduct.stage)
        reuse, _ = self.get_requirement("WorkReuse")
        record = finished.Record(conduct.workdirs, place.key, finished.fingerprint(order))
        if reuse is None or reuse.get("enableReuse", True):
            outputs = record.found()
            if outputs is not None:
                yield Reused(place.name, functools.partial(output_callbacks, outputs, "success"))
                return
        directory = f"{conduct.workdir}/{place.key}"
        context.outdir, context.stagedir, context.tmpdir = f"{directory}/work", f"{directory}/inputs", "/tmp"  # noqa: S108 - the task's
        context.name = place.name
        os.makedirs(context.outdir, exist_ok=True)

        def ended(outputs: Any, status: str) -> None:
            if status == "success":
                record.keep(outputs)
            output_callbacks(outputs, status)

        for job in super().job(order, ended, context):
            if isinstance(job, Job):
                job.begin(context, directory)
            yield job


class Reused:
    """Stands for a job whose outputs are there already."""

    def __init__(self, name: str, deliver: Any) -> None:
        self.name, self.outdir = name, None
        self._deliver = deliver

    def run(self, context: RuntimeContext, lock: threading.Lock | None = None) -> None:
        """Hand the outputs on."""
        self._deliver()


class Step(WorkflowStep):
    """A step of a workflow; tells what is below it where it is."""

    def job(self, job_order: Any, output_callbacks: Callback, runtimeContext: Context) -> JobsGeneratorType:  # noqa: N803
        """As in the base class."""
        context = copy.copy(runtimeContext)
        context.conduct.check()
        context.place = context.place.below(shortname(self.id), _indices(output_callbacks))
        yield from super().job(job_order, output_callbacks, context)


class Flow(Workflow):
    """A workflow of our steps, in the order of its document."""

    def __init__(self, toolpath_object: Any, loadingContext: LoadingContext) -> None:  # noqa: N803
        super().__init__(toolpath_object, loadingContext)
        order = {step["id"]: number for number, step in enumerate(toolpath_object["steps"])}
        self.steps.sort(key=lambda step: order.get(step.id, 0))

    def make_workflow_step(self, toolpath_object: Any, pos: int, *rest: Any, **named: Any) -> Step:
        """One of ours."""
        return Step(toolpath_object, pos, *rest, **named)


def make(document: Any, context: LoadingContext) -> Process:
    """The process of a document: ours where there is one."""
    kind = document.get("class") if hasattr(document, "get") else None
    if kind == "CommandLineTool":
        return Tool(document, context)
    if kind == "Workflow":
        return Flow(document, context)
    return cwltool.workflow.default_make_tool(document, context)


def _own_name(identity: str) -> str:
    """What a tool that is run by itself is called: its id, else its file."""
    name = shortname(identity)
    return name.removesuffix(".cwl") or "job"


def _indices(callback: Callback) -> Sequence[int]:
    """Which element of which scatter, or which round of a loop, a job is, outermost first; read from whom it reports to."""
    found: list[int] = []
    while isinstance(callback, functools.partial):
        owner = getattr(callback.func, "__self__", None)
        if isinstance(owner, ReceiveScatterOutput):
            found.append(callback.args[0])
            callback = owner.output_callback
        elif isinstance(owner, WorkflowJobLoopStep):
            found.append(owner.iteration)
            break
        else:
            break
    return found[::-1]
