"""Runs one CWL workflow with cwltool inside the run process: parameters in, tasks through the gateway, outputs or a failure out."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Mapping
from typing import Any

import cwltool.process
import cwltool.stdfsaccess
from cwl_utils import sandboxjs
from cwltool.errors import WorkflowException
from cwltool.loghandler import _logger as cwltool_logger
from cwltool.pathmapper import PathMapper
from cwltool.process import Process, shortname
from cwltool.utils import visit_class
from schema_salad.exceptions import ValidationException

from runomics.engines import engine_log, stager
from runomics.engines import outcome as outcomes
from runomics.engines.cwl import definition, executor, failures, javascript, job, needs, outputs, schema, staging, tool
from runomics.engines.cwl.conduct import DEFINITION, ERRORS, Conduct, Context, Ended
from runomics.engines.gateway_client import Cancelled, Gateway, GatewayLost, StageFailed
from runomics.engines.language import AlreadyBegan, Stop
from runomics.engines.outcome import Failure, Outcome
from runomics.engines.plan import Plan
from runomics.engines.task_words import shortened

VERSION = importlib.metadata.version("cwltool")

EVALUATION_SECONDS = 60


def run(plan: Plan, gateway: Gateway, stop: Stop, kept: bytes | None) -> Outcome:
    """Execute the plan's workflow to its end.

    Raises:
        GatewayLost: the server will not come back. AlreadyBegan: another incarnation must be started.
    """
    _log()
    interpreter = javascript.Interpreter()
    sandboxjs.set_js_engine(interpreter)
    if needs.probably_javascript(f"{DEFINITION}/{plan.main.partition('#')[0]}"):
        interpreter.start()
    cwltool.process._names.clear()
    try:
        process = definition.load(DEFINITION, plan.main, tool.make)
    except Exception as error:
        return _engine_failure(failures.of_document(error, plan.main))
    if needs.javascript(process):
        if javascript.node() is None:
            return _engine_failure(needs.NO_NODE)
        interpreter.start()
    stage = stager.Stager(gateway, plan.staged, lambda: stop.requested)
    conduct = Conduct(gateway, stop, stage, _workdirs(plan))
    staging.Access.stage = stage
    try:
        order = staging.localized(parameters(plan.parameters, process), stage)
    except stager.RefusedUri as error:
        return failures.refused(error)
    except StageFailed as error:
        return Outcome(outcomes.FAILED, failure=failures.of_stage(error))
    except Cancelled:
        return Outcome(outcomes.CANCELLED)
    try:
        os.makedirs(plan.workdir)
    except FileExistsError:
        raise AlreadyBegan(f"{plan.workdir} exists") from None
    return _executed(process, order, conduct, plan)


def _executed(process: Process, order: dict[str, Any], conduct: Conduct, plan: Plan) -> Outcome:
    context = Context(
        {
            "basedir": DEFINITION,
            "outdir": plan.workdir,
            "tmp_outdir_prefix": "/tmp/",  # noqa: S108 - the sandbox's own
            "tmpdir_prefix": "/tmp/",  # noqa: S108 - the same
            "use_container": False,
            "rm_tmpdir": False,
            "move_outputs": "leave",
            "make_fs_access": staging.Access,
            "path_mapper": PathMapper,
            "eval_timeout": EVALUATION_SECONDS,
        }
    )
    context.conduct = conduct
    failed: BaseException | None = None
    found: Any = None
    status = ""
    try:
        found, status = executor.Executor(conduct, plan.task_concurrency)(process, order, context, cwltool_logger)
    except Exception as error:
        failed = error
    if isinstance(conduct.lost, GatewayLost):
        raise conduct.lost
    if conduct.stop.requested:
        return Outcome(outcomes.CANCELLED)
    if conduct.failure is not None:
        return Outcome(outcomes.FAILED, failure=conduct.failure)
    if failed is not None or status != "success":
        return _failed(failed, process)
    collector = outputs.Collector(conduct.workdir, conduct.stage)
    try:
        document = collector.document(found or {})
    except (stager.RefusedUri, StageFailed) as error:
        return _failed(error, process)
    return Outcome(outcomes.SUCCEEDED, outputs=document, exports=collector.exports)


def parameters(given: Mapping[str, Any], process: Process) -> dict[str, Any]:
    """The run's parameters as cwltool wants them: files as objects, formats in full.

    Raises:
        RefusedUri: a File or Directory that is no URI of a bucket.
    """
    schemas = definition.named_types(process)
    kinds = {shortname(one["id"]): one["type"] for one in process.tool["inputs"]}
    order = {name: staging.parameter_value(value, kinds.get(name), schemas) for name, value in given.items()}
    namespaces: Any = process.metadata.get("$namespaces") or {}

    def expand(one: Any) -> None:
        prefix, colon, rest = str(one.get("format", "")).partition(":")
        if colon and prefix in namespaces:
            one["format"] = f"{namespaces[prefix]}{rest}"

    visit_class(order, ("File",), expand)
    return order


def _failed(error: BaseException | None, process: Process) -> Outcome:
    """What ended the workflow, when it was no task."""
    if isinstance(error, StageFailed):
        return Outcome(outcomes.FAILED, failure=failures.of_stage(error))
    said = failures.text(error) if error is not None and not isinstance(error, Ended) else ""
    if not said and ERRORS.said():
        said = failures.text(ERRORS.said()[0])
    if said.startswith("Invalid job input record") or isinstance(error, stager.RefusedUri):
        return failures.refused(WorkflowException(said))
    kind = (
        ""
        if error is None or isinstance(error, WorkflowException | ValidationException)
        else f"{type(error).__name__}: "
    )
    return _engine_failure(f"{kind}{said or 'the workflow could not be brought to its end'}")


def _engine_failure(message: str) -> Outcome:
    return Outcome(outcomes.FAILED, failure=Failure("engine", shortened(message)))


def _workdirs(plan: Plan) -> list[str]:
    """This incarnation's working directory and those of the ones before, newest first."""
    first = plan.workdir.removesuffix(f"-{plan.incarnation}") if plan.incarnation > 1 else plan.workdir
    return [first if number == 1 else f"{first}-{number}" for number in range(plan.incarnation, 0, -1)]


def _log() -> None:
    engine_log.begin()
    for name in ("cwltool", "salad", "cwl_utils", "rdflib.term"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(logging.INFO if name == "cwltool" else logging.WARNING)
    cwltool_logger.addHandler(ERRORS)


def warm() -> None:
    """In the launcher, before the first fork: put our parts in, parse the schemas, load what is loaded late.

    Raises:
        RuntimeError: this cwltool is not the one that was tested.
    """
    job.register()
    schema.prepare()
    javascript.node()
    schema.exercise(tool.make)
