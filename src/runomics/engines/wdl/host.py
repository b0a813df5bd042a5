"""Runs one WDL workflow with miniwdl inside the run process: parameters in, tasks through the gateway, outputs or a failure out."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import signal
import sys
import types
from collections.abc import Generator, Mapping
from typing import Any

import WDL
import WDL.runtime
import WDL.runtime.cache as miniwdl_cache
import WDL.runtime.config as miniwdl_config
import WDL.runtime.task_container as miniwdl_container

from runomics.engines import engine_log
from runomics.engines import outcome as outcomes
from runomics.engines.gateway_client import Gateway, GatewayLost
from runomics.engines.language import AlreadyBegan, Stop
from runomics.engines.outcome import Failure, Outcome
from runomics.engines.plan import Plan
from runomics.engines.wdl import container, definition, failures, finished, outputs, parsed, partial_outputs, staging

VERSION = importlib.metadata.version("miniwdl")

_BACKEND = "runomics"
_DEFINITION = "/mnt/workflow/definition"


def run(plan: Plan, gateway: Gateway, stop: Stop, kept: bytes | None) -> Outcome:
    """Execute the plan's workflow to its end; `kept` is its parsed form. On the main thread: miniwdl installs signal handlers.

    Raises:
        GatewayLost: the server will not come back. AlreadyBegan: another incarnation must be started.
    """
    logger = _log()
    try:
        document = (parsed.load(kept) if kept else None) or definition.load(_DEFINITION, plan.main)
        executable = definition.entry(document)
    except Exception as error:
        return Outcome(outcomes.FAILED, failure=Failure("engine", failures.located(error)))
    stager = staging.Stager(gateway, plan.staged, lambda: stop.requested)
    staging.Cache.stager = stager
    staging.Cache.entries = finished.directories(plan.workdir, plan.incarnation)
    container.Container.gateway = gateway
    container.Container.stager = stager
    container.Container.workdir = plan.workdir
    try:
        inputs = values(plan.parameters, executable)
    except (WDL.Error.InputError, WDL.Error.RuntimeError, ValueError) as error:
        return failures.input_refused(error)
    try:
        local = staging.localize(inputs, stager)
    except WDL.Error.InputError as error:
        return failures.input_refused(error)
    except WDL.Error.RuntimeError as error:
        return failures.outcome(error)
    try:
        os.makedirs(plan.workdir)
    except FileExistsError:
        raise AlreadyBegan(f"{plan.workdir} exists") from None
    _pass_on_early_stop(stop)
    try:
        directory, found = WDL.runtime.run(
            _configuration(logger, plan),
            executable,
            local,
            run_dir=os.path.join(plan.workdir, "."),  # type: ignore[arg-type]  # wrongly annotated
        )
        document_out, exports = outputs.collect(found, executable, directory)
    except Exception as error:
        _raise_if_lost(error)
        return partial_outputs.with_finished(failures.outcome(error), plan.workdir)
    return Outcome(outcomes.SUCCEEDED, outputs=document_out, exports=exports)


def values(parameters: Mapping[str, Any], executable: Any) -> Any:
    """The run's parameters as WDL values. Names may be bare or start with the workflow's; keys of pairs may be in any case.

    Source: guide (bare and fully qualified names; Pair keys case-insensitive).

    Raises:
        WDL.Error.InputError: an unknown or missing name, or a value that is not of the declared type.
    """
    available = executable.available_inputs
    prefix = f"{executable.name}."
    given: dict[str, Any] = {}
    for name, value in parameters.items():
        bare = name.removeprefix(prefix)
        declared = available.get(bare)
        kind = getattr(declared, "type", None)
        given[name] = value if kind is None else _with_pair_keys(kind, value)
    return WDL.values_from_json(given, available, executable.required_inputs, namespace=executable.name)


def _with_pair_keys(kind: Any, value: Any) -> Any:
    match kind:
        case WDL.Type.Array() if isinstance(value, list):
            return [_with_pair_keys(kind.item_type, item) for item in value]
        case WDL.Type.Map() if isinstance(value, dict):
            return {key: _with_pair_keys(kind.item_type[1], item) for key, item in value.items()}
        case WDL.Type.Pair() if isinstance(value, dict):
            lowered = {key.lower(): item for key, item in value.items()}
            sides = {"left": kind.left_type, "right": kind.right_type}
            return {key: _with_pair_keys(sides[key], item) if key in sides else item for key, item in lowered.items()}
        case WDL.Type.StructInstance() if isinstance(value, dict) and kind.members:
            members = kind.members
            return {key: _with_pair_keys(members[key], item) if key in members else item for key, item in value.items()}
    return value


def _raise_if_lost(error: BaseException) -> None:
    for link in failures.chain(error):
        if isinstance(link, GatewayLost):
            raise link


def _pass_on_early_stop(stop: Stop) -> None:
    """A stop that came before miniwdl listened is said again once it does."""

    def plugin(*arguments: Any, **received: Any) -> Generator[dict[str, Any], dict[str, Any], None]:
        if stop.requested:
            os.kill(os.getpid(), signal.SIGTERM)
        received = yield received
        received = yield received
        yield received

    _PLUGINS["workflow"] = [(_BACKEND, plugin)]
    _PLUGINS["task"] = [(_BACKEND, plugin)]


_PLUGINS: dict[str, list[tuple[str, Any]]] = {
    "container_backend": [(_BACKEND, container.Container)],
    "cache_backend": [(_BACKEND, staging.Cache)],
    "file_download": [(scheme, staging.downloader) for scheme in (*staging.SCHEMES, *staging.REFUSED_SCHEMES)],
    "directory_download": [(scheme, staging.downloader) for scheme in (*staging.SCHEMES, *staging.REFUSED_SCHEMES)],
}


def _plugins(configuration: Any, group: str) -> list[tuple[str, Any]]:
    """In place of a search through all installed packages, which costs time and would let any of them in."""
    return _PLUGINS.get(group, [])


def _configuration(logger: logging.Logger, plan: Plan) -> Any:
    options: dict[str, dict[str, str]] = {
        "scheduler": {
            "container_backend": _BACKEND,
            "task_concurrency": str(plan.task_concurrency),
            "subworkflow_concurrency": str(plan.task_concurrency),
        },
        "call_cache": {"backend": _BACKEND, "get": "false", "put": "false", "dir": "/tmp/call-cache"},  # noqa: S108
        "download_cache": {"get": "false", "put": "false", "dir": "/tmp/download-cache"},  # noqa: S108
        "task_runtime": {"cpu_max": "-1", "memory_max": "-1", "defaults": "{}"},
        # Links, not hard links: inputs are another mount. The service follows them when it exports.
        "file_io": {"root": "/mnt/workflow", "output_hardlinks": "false"},
    }
    return miniwdl_config.Loader(logger, filenames=[], overrides=options)


def _log() -> logging.Logger:
    engine_log.begin()
    logger = logging.getLogger("wdl")
    logger.setLevel(logging.INFO)
    return logger


_WARM = """version {version}
struct Pairing {{ String a Int b }}
task one {{
  input {{ Int i  String s = "x" }}
  command <<< echo ~{{i}} ~{{s}} >>>
  output {{ String o = read_string(stdout())  File? f = "x"  Array[File] g = glob("*") }}
  runtime {{ docker: "x" cpu: 1 memory: "1 GiB" }}
}}
workflow w {{
  input {{ Array[Int]+ numbers  Map[String, File]? files }}
  scatter (i in numbers) {{ call one {{ input: i = i }} }}
  if (length(numbers) > 1) {{ call one as two {{ input: i = numbers[0] }} }}
  output {{ Array[String] all = one.o  String? maybe = two.o }}
}}
"""


def warm() -> None:
    """In the launcher, before the first fork: replace miniwdl's search for plug-ins, build its parser tables, load what it loads late.

    Raises:
        RuntimeError: this miniwdl is not the one that was tested.
    """
    _stand_in_for_docker()
    miniwdl_config.load_plugins = _plugins  # type: ignore[assignment]
    miniwdl_container._backends[_BACKEND] = container.Container
    miniwdl_cache._backends[_BACKEND] = staging.Cache
    container.register()
    # miniwdl asks for its own version at the start of each run, and importlib reads the package's metadata each time.
    importlib.metadata.version = functools.cache(importlib.metadata.version)
    importlib.metadata.version("miniwdl")
    for version in ("1.0", "1.1", "1.2", "development"):
        WDL.parse_document(_WARM.format(version=version)).typecheck()
    WDL.parse_document("task t { Int i command { echo ${i} } output { Int o = i } }").typecheck()
    for name in ("concurrent.futures.thread", "multiprocessing", "encodings.idna", "glob", "WDL.Lint"):
        importlib.import_module(name)


def _stand_in_for_docker() -> None:
    """miniwdl imports one exception class of the docker package to except it; the package costs 10 MiB and 70 ms."""
    docker, errors = types.ModuleType("docker"), types.ModuleType("docker.errors")
    errors.BuildError = type("BuildError", (Exception,), {})  # type: ignore[attr-defined]
    docker.errors = errors  # type: ignore[attr-defined]
    sys.modules.setdefault("docker", docker)
    sys.modules.setdefault("docker.errors", errors)
