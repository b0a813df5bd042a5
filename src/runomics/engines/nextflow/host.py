"""Runs one Nextflow pipeline inside the run process: files for it, a JVM, its verdict as an outcome."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runomics.engines import outcome as outcomes
from runomics.engines.gateway_client import PROTOCOL, Gateway, GatewayLost
from runomics.engines.language import Stop
from runomics.engines.nextflow import failures, installation, jvm, process
from runomics.engines.outcome import Failure, Outcome
from runomics.engines.plan import Plan
from runomics.sandbox import tree

PUBLISHED = "/mnt/workflow/pubdir"
REPORTED = "/mnt/workflow/output"

_GATEWAY_LOST = 75
_PROCESSES = 1024
_MOST_DATA_BYTES = 3 << 30
"""Of one process: the heap is limited by the JVM itself, this is for what a pipeline takes beside it."""

_CONFIGURATION = """\
process.executor = 'runomics'
docker.enabled = false
podman.enabled = false
singularity.enabled = false
apptainer.enabled = false
charliecloud.enabled = false
sarus.enabled = false
shifter.enabled = false
udocker.enabled = false
conda.enabled = false
spack.enabled = false
wave.enabled = false
fusion.enabled = false
tower.enabled = false
weblog.enabled = false
cleanup = false
report.overwrite = true
timeline.overwrite = true
trace.overwrite = true
dag.overwrite = true
"""
"""Comes after everything the pipeline configures: containers, places and clusters are the service's."""


def run(plan: Plan, gateway: Gateway, stop: Stop, kept: bytes | None) -> Outcome:
    """Execute the plan's pipeline to its end. A later incarnation resumes what earlier ones left.

    Raises:
        GatewayLost: the server will not come back.
    """
    installed = installation.read()
    if installed is None or installation.why_not():
        return Outcome(
            outcomes.FAILED, failure=Failure("engine", f"Nextflow is not installed any more: {installation.why_not()}")
        )
    place = _Place(plan)
    place.make()
    _limit()
    if not plan.rootless:
        # The result belongs to the service: the JVM, of the same user but without our rights, must not reach it, or fill that disk.
        os.chown(tree.ENGINE, 0, 0)
        os.chmod(tree.ENGINE, 0o700)
    plugins = jvm.gather_plugins(installed, Path("/tmp/plugins"))  # noqa: S108 - the sandbox's own
    started = process.start(
        jvm.command(
            installed, arguments=("{reports}",), options=(f"-Duser.dir={place.launch}", "-Djava.io.tmpdir=/tmp")
        ),
        jvm.environment(installed, plugins=plugins) | dict(plan.environment),
        cwd=place.launch,
    )
    if not plan.rootless:
        started.take_over = process.take_over
    started.order(_order(plan, place))
    ended = started.wait(lambda: stop.requested)
    if ended.code == _GATEWAY_LOST and ended.verdict is None:
        raise GatewayLost("the server did not come back")
    if ended.code == 0 and not ended.stopped:
        return Outcome(outcomes.SUCCEEDED, outputs=None, exports=_exports())
    return failures.outcome(ended)


class _Place:
    """The pipeline's directories in the run's storage, the same for every incarnation: that is what resuming needs."""

    def __init__(self, plan: Plan) -> None:
        self.base = os.path.dirname(plan.workdir)
        self.work = f"{self.base}/workdir"
        self.launch = f"{self.base}/launch"
        self.parameters = f"{self.base}/parameters.json"
        self.configuration = f"{self.base}/service.config"
        self.staged = f"{self.base}/staged.json"
        self._plan = plan

    def make(self) -> None:
        """Make what is not there yet."""
        for path in (self.work, self.launch, PUBLISHED, REPORTED):
            os.makedirs(path, exist_ok=True)
        for path, text in (
            (self.parameters, json.dumps(self._plan.parameters)),
            (self.staged, json.dumps(dict(self._plan.staged))),
            (self.configuration, _CONFIGURATION),
        ):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)


def _order(plan: Plan, place: _Place) -> Mapping[str, Any]:
    settings = plan.engine_settings
    profile = settings.get("profile")
    arguments = [
        *("-log", f"{place.launch}/.nextflow.log"),
        *("run", f"{tree.DEFINITION}/{plan.main}"),
        *("-name", f"run-{plan.run_id}-{plan.incarnation}"),
        *("-ansi-log", "false"),
        *("-c", place.configuration),
        *("-params-file", place.parameters),
        *("-w", place.work),
        *("-output-dir", PUBLISHED),
        *(("-profile", profile) if isinstance(profile, str) and profile else ()),
        *_resumed(place),
    ]
    return {
        "op": "run",
        "arguments": arguments,
        "staged": place.staged,
        "socket": f"{tree.GATEWAY}/sock",
        "hello": {
            "op": "hello",
            "protocol": PROTOCOL,
            "engine": "NEXTFLOW",
            "version": installation.VERSION,
            "incarnation": plan.incarnation,
        },
        "patience_seconds": plan.gateway_patience_seconds,
        "notes": _notes(settings),
    }


def _resumed(place: _Place) -> Sequence[str]:
    """The session of an earlier incarnation, by the name of its cache; `-resume` alone takes none that was killed."""
    try:
        sessions = sorted(os.scandir(f"{place.launch}/.nextflow/cache"), key=lambda entry: entry.stat().st_mtime_ns)
    except FileNotFoundError:
        return ()
    return ("-resume", sessions[-1].name) if sessions else ()


def _notes(settings: Mapping[str, Any]) -> list[str]:
    """What a run asks for and does not get.

    Deviation: one version of Nextflow runs every pipeline; engineSettings.engineVersion of another is told in the run's log.
    """
    wanted = settings.get("engineVersion")
    if not isinstance(wanted, str) or not wanted or installation.VERSION.startswith(wanted):
        return []
    return [f"engineVersion {wanted} was asked for; this server runs Nextflow {installation.VERSION}."]


def _exports() -> list[Mapping[str, Any]]:
    """What was published and reported, when there is any of it."""
    found: list[Mapping[str, Any]] = []
    for source in (PUBLISHED, REPORTED):
        if os.path.isdir(source) and os.listdir(source):
            found.append({"source": source, "target": os.path.basename(source), "directory": True})
    return found


def _limit() -> None:
    """For the JVM and whatever it starts."""
    for kind, value in ((resource.RLIMIT_NPROC, _PROCESSES), (resource.RLIMIT_DATA, _MOST_DATA_BYTES)):
        hard = resource.getrlimit(kind)[1]
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (ceiling, ceiling))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
