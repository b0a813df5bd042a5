"""The life of a run process from its fork to its result: claim, log, sandbox, engine, result.json. Also of an inspection process.

Forked by the launcher as pid 1 of a new pid namespace. Whatever happens after the claim ends in result.json or, when the
process is killed, in nothing, which the server takes as a lost engine.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from runomics.engines import outcome as outcomes
from runomics.engines import plan as plans
from runomics.engines.cwl.engine import ENGINE as CWL
from runomics.engines.gateway_client import Gateway, GatewayLost
from runomics.engines.language import AlreadyBegan, Engine
from runomics.engines.nextflow.engine import ENGINE as NEXTFLOW
from runomics.engines.outcome import Failure, Outcome
from runomics.engines.plan import Plan
from runomics.engines.wdl.engine import ENGINE as WDL
from runomics.engines.wdl.leniency import ENGINE as WDL_LENIENT
from runomics.sandbox import linux, rights, tree

NO_ROOM_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """Set by TERM, INT or HUP. Without a handler pid 1 of a pid namespace never sees them."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Listen from now on; the engine may put its own handlers on top later."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


ENGINES: Mapping[str, Engine] = {"WDL": WDL, "WDL_LENIENT": WDL_LENIENT, "CWL": CWL, "NEXTFLOW": NEXTFLOW}


def warm() -> None:
    """Do in the launcher, once, what every engine would do first."""
    for engine in ENGINES.values():
        engine.warm()


def claim(run_directory: str, incarnation: int) -> bool:
    """Make `pid.<incarnation>`; False when another process has it already.

    Must be called while /proc is still the host's: the file holds the pid the server can signal. Not flushed to disk: after a
    crash of the host the claim's owner is dead whatever the file says, and an fsync would cost each run milliseconds.
    """
    me = linux.own_identity()
    final = f"{run_directory}/pid.{incarnation}"
    temporary = f"{final}.{me.pid}.tmp"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{me.pid} {me.start_time} {me.boot_id} {incarnation}\n")
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def run(plan_path: str) -> int:
    """The whole of a run process; its exit code. Leaves silently when this incarnation was claimed before."""
    stop = StopRequest()
    stop.install()
    plan = plans.read(plan_path)
    if not claim(plan.run_directory, plan.incarnation):
        return 0
    _log_to(plan.log)
    linux.set_process_name(f"run-{plan.run_id}")
    inside = _Place(plan.engine_directory)
    engine = ENGINES.get(plan.engine)
    version = engine.version if engine else ""
    try:
        kept = (
            None if engine is None or engine.kept_name is None else _kept(plan.definition, engine.kept_name(plan.main))
        )
        _prepare_engine_directory(plan.engine_directory, uid=plan.uid, gid=plan.gid, rootless=plan.rootless)
        tree.build(
            _run_tree(plan, () if engine is None else engine.shown()), after_pivot=lambda: inside.move(tree.ENGINE)
        )
        rights.drop(uid=plan.uid, gid=plan.gid, rootless=plan.rootless, limits=rights.Limits())
        _settle(dict(plan.environment))
        if engine is None:
            raise LookupError(f"engine {plan.engine} is not part of this server")
        gateway = Gateway(
            tree.GATEWAY,
            engine=plan.engine,
            version=version,
            incarnation=plan.incarnation,
            patience_seconds=plan.gateway_patience_seconds,
        )
        ended = engine.run(plan, gateway, stop, kept)
    except (GatewayLost, AlreadyBegan) as error:
        sys.stderr.write(f"leaving without a result: {error}\n")
        return 1
    except BaseException as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        what = "the engine could not be isolated" if isinstance(error, OSError) else "the engine failed unexpectedly"
        ended = Outcome(outcomes.FAILED, failure=Failure("engine", f"{what}: {error}"))
    written = outcomes.document(ended, incarnation=plan.incarnation, engine_version=version)
    _leave(written, f"{inside.directory}/result.json", stop)
    return 0


def _leave(written: Mapping[str, Any], path: str, stop: StopRequest) -> None:
    """On a full disk the result waits for room: a run whose result is lost is done again."""
    while True:
        try:
            outcomes.write_durably(path, written)
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or stop.requested:
                raise
        time.sleep(NO_ROOM_SECONDS)


def inspect(request_path: str) -> int:
    """The whole of an inspection process; leaves interface.json, or nothing when it was cut short."""
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    engine = ENGINES[request["engine"]]
    uid, gid, rootless = request["uid"], request["gid"], request["rootless"]
    _log_to(request["log"])
    linux.set_process_name("inspect")
    _prepare_engine_directory(request["engine_directory"], uid=uid, gid=gid, rootless=rootless)
    shown = tree.Tree(
        base=request["base"],
        engine=request["engine_directory"],
        uid=uid,
        gid=gid,
        definition=request["definition"],
        shown=engine.shown(),
    )
    tree.build(shown)
    limits = rights.Limits(
        open_files=256,
        processes=64,
        address_space_bytes=request["address_space_bytes"],
        cpu_seconds=request["cpu_seconds"],
        file_bytes=64 * 1024 * 1024,
    )
    rights.drop(uid=uid, gid=gid, rootless=rootless, limits=limits, capabilities=0)
    _settle({})
    found, kept = engine.inspect(tree.DEFINITION, request["main"])
    if kept is not None and engine.kept_name is not None:
        with open(f"{tree.ENGINE}/{engine.kept_name(request['main'])}", "wb") as file:
            file.write(kept)
    outcomes.write_durably(f"{tree.ENGINE}/interface.json", found)
    return 0


def _kept(definition: str, name: str) -> bytes | None:
    """What inspection left beside the definition; read while it can be, used only in the sandbox."""
    try:
        with open(os.path.join(os.path.dirname(definition), name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


class _Place:
    """A directory whose path changes when the process moves into its own tree."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def move(self, directory: str) -> None:
        self.directory = directory


def _run_tree(plan: Plan, shown: Sequence[str]) -> tree.Tree:
    return tree.Tree(
        base=plan.base,
        engine=plan.engine_directory,
        uid=plan.uid,
        gid=plan.gid,
        volume=plan.volume,
        definition=plan.definition,
        inputs=plan.inputs,
        gateway=plan.gateway,
        shown=shown,
    )


def _prepare_engine_directory(path: str, *, uid: int, gid: int, rootless: bool) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    if not rootless:
        os.chown(path, uid, gid)


def _log_to(path: str) -> None:
    """Send everything printed from now on to the run's log, and keep no other descriptor of the launcher."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    linux.close_from(3)


def _settle(environment: dict[str, str]) -> None:
    """The engine's view of the world: a clean environment, a fresh temporary directory, garbage collection on."""
    os.environ.clear()
    os.environ.update(environment)
    home = "/tmp"  # noqa: S108 - the sandbox's own
    os.environ.update(PATH="/usr/local/bin:/usr/bin:/bin", HOME=home, TMPDIR=home, LANG="C.UTF-8", USER="engine")
    tempfile.tempdir = None
    os.chdir(tree.WORKFLOW)
    gc.enable()
