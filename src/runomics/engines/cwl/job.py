"""A job of a CWL tool: its command handed to the service, tried again where that helps, its failure kept. Runs on a thread of its own."""

from __future__ import annotations

import copy
import os
import shlex
import shutil
import threading
import types
from collections.abc import Mapping, MutableMapping
from typing import Any

import cwltool.builder
import cwltool.job
from cwltool.context import RuntimeContext
from cwltool.errors import WorkflowException
from cwltool.job import CommandLineJob, relink_initialworkdir
from cwltool.process import stage_files

from runomics.engines import task_words
from runomics.engines.cwl import resources
from runomics.engines.cwl.conduct import ERRORS, Conduct, Context, Place
from runomics.engines.gateway_client import TaskEnd

MOST_TEMPORARY_RETRIES = 2
"""As often as the service repeats its own errors. Assumed."""

_ENDED_BY_ITSELF = frozenset({"OK", "EXIT", "OOM"})
_MOST_ARGUMENTS = 250
_MOST_ARGUMENT_BYTES = 64 * 1024
_here = threading.local()

# mypy: disable-error-code="misc"


class TaskEndedBadly(WorkflowException):
    """The service ended the task or could not start it."""


class Job(CommandLineJob):
    """One job. Its attempts share a directory: what the command line names must not move."""

    conduct: Conduct
    place: Place
    directory: str
    end: TaskEnd | None = None
    attempt = 0
    exit_code = 0
    stderr_path = ""

    def begin(self, context: Context, directory: str) -> None:
        """Told once, before `run`."""
        self.conduct, self.place, self.directory = context.conduct, context.place, directory
        self.outdir = context.outdir or ""  # builder.outdir is what the container calls it

    def run(self, runtimeContext: RuntimeContext, tmpdir_lock: threading.Lock | None = None) -> None:  # noqa: N803
        """Stage, submit, collect; calls back in any case."""
        ERRORS.forget()
        self.base_context = runtimeContext
        self._setup(runtimeContext)
        stage_files(self.pathmapper, ignore_writable=True, symlink=True)
        self._stage_initial()
        _here.job = self
        try:
            self._execute([], self.environment, runtimeContext, None)
        finally:
            _here.job = None

    def _required_env(self) -> dict[str, str]:
        return {"HOME": self.builder.outdir, "TMPDIR": self.tmpdir}

    @property
    def accepted(self) -> bool:
        """Whether the exit code is one of success."""
        if self.exit_code in self.successCodes:
            return True
        return self.exit_code == 0 and self.exit_code not in (*self.temporaryFailCodes, *self.permanentFailCodes)

    # ---- files ---------------------------------------------------------------------------------------------------

    def _stage_initial(self) -> None:
        """What InitialWorkDirRequirement lists, in the directory where the container sees it as its own."""
        mapper = self.generatemapper
        if mapper is None:
            return
        inside = self.builder.outdir
        self.links: dict[str, str] = {}
        for key, entry in list(mapper.items()):
            if inside != self.outdir and entry.target.startswith(f"{inside}/"):
                target = self.outdir + entry.target[len(inside) :]
            elif entry.target.startswith(f"{self.outdir}/"):
                continue
            else:
                target = f"{self.directory}/absolute/{len(self.links)}/{os.path.basename(entry.target)}"
                self.links[entry.target] = target
            mapper.update(key, entry.resolved, target, entry.type, entry.staged)
        stage_files(mapper, ignore_writable=self.inplace_update, symlink=True)
        relink_initialworkdir(mapper, self.outdir, self.outdir, inplace_update=self.inplace_update)

    def _begin_again(self) -> None:
        """An empty directory for the next attempt: what the failed one wrote would be taken for its outputs."""
        shutil.rmtree(self.outdir, ignore_errors=True)
        shutil.rmtree(f"{self.directory}/absolute", ignore_errors=True)
        os.makedirs(self.outdir)
        self._setup(self.base_context)
        self._stage_initial()

    # ---- the command ---------------------------------------------------------------------------------------------

    def submit(self, command: list[str], env: Mapping[str, str], stdio: Mapping[str, str | None]) -> int:
        """Have the command run until it is done or no attempt is left; its exit code.

        Raises:
            TaskEndedBadly: it did not end by itself. WorkflowException: it asks for what cannot be.
        """
        retry = resources.memory_retry(self)
        memory_bytes = int(self.builder.resources["ram"]) << 20
        memory_left, temporary_left = retry.retries, MOST_TEMPORARY_RETRIES
        task = self._task(command, env, stdio)
        while True:
            self.attempt += 1
            end = self._submit({**task, "attempt": self.attempt, "memory_bytes": memory_bytes})
            code = self.exit_code = _exit_code(end)
            more = int(memory_bytes * retry.multiplier)
            if end.reason == "OOM" and memory_left and more <= resources.MOST_MEMORY_BYTES:
                memory_left -= 1
                memory_bytes = more
            elif end.reason == "EXIT" and code in self.temporaryFailCodes and temporary_left:
                temporary_left -= 1
            else:
                return code
            self._begin_again()

    def _task(self, command: list[str], env: Mapping[str, str], stdio: Mapping[str, str | None]) -> dict[str, Any]:
        needed = self.builder.resources
        return {
            "key": self.place.key,
            "name": self.place.name,
            "argv": self._argv(command),
            "cwd": self.outdir,
            "stdin": stdio["stdin"],
            "stdout": stdio["stdout"] or f"{self.directory}/stdout.txt",
            "stderr": stdio["stderr"] or f"{self.directory}/stderr.txt",
            "env": dict(env),
            "image": resources.image(self, self.builder.do_eval),
            "cpus": float(needed["cores"]),
            "disk_bytes": resources.disk_bytes(self, needed),
            "accelerators": resources.accelerators(self, needed),
            "timeout_seconds": self.timelimit or None,
            "network": self.networkaccess,
            "service_retries": resources.service_retries(self),
        }

    def _submit(self, task: Mapping[str, Any]) -> TaskEnd:
        self.stderr_path = str(task["stderr"])
        try:
            end = self.end = self.conduct.gateway.submit(task, self.conduct.terminating)
        except BaseException as error:
            self.conduct.lost = self.conduct.lost or error
            raise
        if end.reason not in _ENDED_BY_ITSELF:
            raise TaskEndedBadly(task_words.badly(self.place.name, end))
        return end

    def _argv(self, command: list[str]) -> list[str]:
        """The command itself, or a script of it where it is long or the container needs links to what lies elsewhere."""
        links = dict(getattr(self, "links", {}))
        if self.builder.outdir != self.outdir:
            links = {self.builder.outdir: self.outdir} | links
        long = len(command) > _MOST_ARGUMENTS or sum(map(len, command)) > _MOST_ARGUMENT_BYTES
        if not links and not long:
            return command
        lines = ["set -e"] if links else []
        for name, target in links.items():
            quoted, above = shlex.quote(name), shlex.quote(os.path.dirname(name))
            lines.append(
                f"mkdir -p {above}; [ ! -d {quoted} ] || rmdir {quoted}; ln -sfn {shlex.quote(target)} {quoted}"
            )
        if self.builder.outdir != self.outdir:
            lines.append(f"cd {shlex.quote(self.builder.outdir)}")
        lines.append("exec " + shlex.join(command))
        path = f"{self.directory}/command"
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return ["/bin/bash", path]


def _exit_code(end: TaskEnd) -> int:
    if end.reason == "OOM":
        return 137 if end.exit_code in (None, 0) else end.exit_code or 137
    return end.exit_code or 0


def _popen(
    commands: list[str],
    stdin_path: str | None,
    stdout_path: str | None,
    stderr_path: str | None,
    env: MutableMapping[str, str],
    **_: Any,
) -> int:
    """In place of cwltool's own, which starts a process here."""
    job: Job = _here.job
    return job.submit(commands, env, {"stdin": stdin_path, "stdout": stdout_path, "stderr": stderr_path})


def _binding_copy(value: Any) -> Any:
    """cwltool copies a whole array with the binding of each of its items, and then puts the item in its place."""
    if not isinstance(value, dict) or not isinstance(value.get("datum"), list):
        return copy.deepcopy(value)
    array = value.pop("datum")
    try:
        return copy.deepcopy(value)
    finally:
        value["datum"] = array


def register() -> None:
    """Let every job's command go to the service.

    Raises:
        RuntimeError: this cwltool is not the one that the replacements were written for.
    """
    for name in ("_job_popen", "cuda_check"):
        if not callable(getattr(cwltool.job, name, None)) or not hasattr(cwltool.job, "__file__"):
            raise RuntimeError(f"cwltool has no {name}; runomics must be adapted to this version")
    if not str(cwltool.job.__file__).endswith(".py"):
        raise RuntimeError("this cwltool is compiled: its functions cannot be replaced")
    setattr(cwltool.job, "_job_popen", _popen)  # noqa: B010 - its type is narrower than what is called
    setattr(cwltool.builder, "copy", types.SimpleNamespace(copy=copy.copy, deepcopy=_binding_copy))  # noqa: B010 - not exported
    setattr(cwltool.job, "cuda_check", lambda *_: 1)  # noqa: B010 - not exported
