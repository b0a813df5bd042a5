"""A task's container as miniwdl knows it, with the service behind it: same paths, commands by the gateway. Runs in the run process."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import WDL
import WDL.runtime.task as miniwdl_task
from WDL.runtime.error import Interrupted, OutputError, Terminated
from WDL.runtime.task_container import TaskContainer

from runomics.engines.gateway_client import Gateway
from runomics.engines.task_words import badly
from runomics.engines.wdl import runtime_section
from runomics.engines.wdl.staging import Stager, is_uri

DEFAULT_CPUS = 1
DEFAULT_MEMORY_BYTES = 1 << 30

_ENDED_BY_ITSELF = frozenset({"OK", "EXIT", "OOM"})


class TaskEndedBadly(WDL.Error.RuntimeError):
    """The service ended the task or could not start it. `more_info` has its key, attempt, reason and exit code."""


class Container(TaskContainer):
    """One call of a task. `gateway`, `stager` and `workdir` are set on the class once, before the run starts."""

    gateway: Gateway
    stager: Stager
    workdir: str

    def __init__(self, cfg: Any, run_id: str, host_dir: str) -> None:
        super().__init__(cfg, run_id, host_dir)
        self.container_dir = host_dir  # identical paths: what the engine calls /mnt/workflow/x is that in the task too
        self.extras = runtime_section.Extras()
        self.memory_factor = 1
        self.memory_retries_left = 0

    @classmethod
    def global_init(cls, cfg: Any, logger: Any) -> None:
        """Nothing to prepare."""

    @classmethod
    def detect_resource_limits(cls, cfg: Any, logger: Any) -> dict[str, int]:
        """What a task that asks for nothing has; nothing is clamped here, the service decides."""
        return {"cpu": DEFAULT_CPUS, "mem_bytes": DEFAULT_MEMORY_BYTES}

    def add_paths(self, host_paths: Iterable[str]) -> None:
        """Every input is already where the task sees it."""
        for path in host_paths:
            if path in self.input_path_map:
                continue
            if not os.path.exists(path.rstrip("/")):
                raise WDL.Error.InputError("input path not found: " + path)
            self.input_path_map[path] = path
            self.input_path_map_rev[path] = path

    def host_work_dir(self) -> str:
        """The same for each attempt: the path inside must not move."""
        return os.path.join(self.host_dir, "work")

    def reset(self, logger: Any) -> None:
        """Begin another attempt with an empty working directory; what the failed one wrote would fill the run's storage."""
        shutil.rmtree(self.host_work_dir())
        super().reset(logger)

    def host_path(self, container_path: str, inputs_only: bool = False) -> str | None:
        """As in the base class, and: a URI is staged, and a link to one of the task's inputs is a good output."""
        if is_uri(container_path):
            return self.stage(container_path.rstrip("/"), directory=container_path.endswith("/"))
        try:
            return super().host_path(container_path, inputs_only)
        except OutputError:
            link = os.path.join(self.host_work_dir(), container_path)
            if not inputs_only and self._is_input(os.path.realpath(link)):
                return link  # and not its target: the output is named after the link
            raise

    def _is_input(self, path: str) -> bool:
        return any(
            path == os.path.realpath(known) or (known.endswith("/") and path.startswith(os.path.realpath(known) + "/"))
            for known in self.input_path_map
        )

    def _input_host_path(self, container_path: str) -> tuple[bool, str | None]:
        """As in the base class, which looks for input directories only at the depth where other backends mount them."""
        found, path = super()._input_host_path(container_path)
        if found or not os.path.isabs(container_path):
            return found, path
        for known in self.input_path_map_rev:
            if not (known.endswith("/") and container_path.startswith(known)):
                continue
            if not WDL._util.path_really_within(container_path, known):
                raise WDL.Error.InputError(
                    f"task inputs attempted to use a non-input or non-existent path {container_path}"
                )
            return True, container_path
        return False, None

    def stage(self, uri: str, *, directory: bool) -> str:
        """Bring a URI here and allow the task to use it."""
        path = self.stager.path(uri, directory=directory)
        self.add_paths([path + "/" if directory else path])
        return path

    def process_runtime(self, logger: Any, runtime_eval: dict[str, WDL.Value.Base]) -> None:
        """The service's own keys, and its meaning of `maxRetries` (out of memory only, each with twice the memory)."""
        values = dict(runtime_eval)
        if "returnCodes" not in values and "continueOnReturnCode" in values:
            values["returnCodes"] = _return_codes(values["continueOnReturnCode"])
        self.extras = runtime_section.extras(values)
        # preemptible counts retries after errors of the service, which makes them itself; miniwdl would repeat other attempts by it.
        for unused in ("preemptible", "gpu"):
            values.pop(unused, None)
        super().process_runtime(logger, values)
        self.memory_retries_left = self.runtime_values.pop("maxRetries", 0)
        # miniwdl repeats interrupted attempts this often, and nothing else: _run interrupts when memory ran out.
        self.runtime_values["preemptible"] = self.memory_retries_left

    def _run(self, logger: Any, terminating: Callable[[], bool], command: str) -> int:
        path = os.path.join(self.host_dir, "command")
        with open(path, "w", encoding="utf-8") as file:
            file.write(command)
        task = self._submission(path)
        with self.task_running_context():
            end = self.gateway.submit(task, terminating)
        if terminating():
            raise Terminated
        self.failure_info = {
            "task_key": task["key"],
            "task_attempt": task["attempt"],
            "task_reason": end.reason,
            "task_exit_code": end.exit_code,
            "task_name": task["name"],
            "task_message": end.message,
        }
        if end.reason == "CANCELLED":
            raise Terminated
        if end.reason not in _ENDED_BY_ITSELF:
            raise TaskEndedBadly(badly(task["name"], end), more_info=self.failure_info)
        if end.reason == "OOM":
            self._retry_with_more_memory(task["name"])
            return 137 if end.exit_code in (None, 0) else end.exit_code
        return 0 if end.exit_code is None else end.exit_code

    def _retry_with_more_memory(self, name: str) -> None:
        if not self.memory_retries_left:
            return
        self.memory_retries_left -= 1
        self.memory_factor *= 2
        raise Interrupted(f"task {name} ran out of memory; it is tried again with {self._memory_bytes()} bytes")

    def _memory_bytes(self) -> int:
        return self._with_factor(int(self.runtime_values.get("memory_reservation", 0)))

    def _with_factor(self, asked_bytes: int) -> int:
        return asked_bytes if self.memory_factor == 1 else (asked_bytes or DEFAULT_MEMORY_BYTES) * self.memory_factor

    def _profiles(self) -> list[dict[str, Any]] | None:
        """The fallback list, each profile with the memory that this attempt is to have."""
        if self.extras.profiles is None:
            return None
        return [{**each, "memory_bytes": self._with_factor(each["memory_bytes"])} for each in self.extras.profiles]

    def _submission(self, command: str) -> Mapping[str, Any]:
        values = self.runtime_values
        key = os.path.relpath(self.host_dir, self.workdir)
        return {
            "key": self.run_id if key == "." else key,
            "attempt": self.try_counter,
            "name": self.run_id.removeprefix("call-"),
            "argv": ["/bin/bash", command],
            "cwd": self.host_work_dir(),
            "stdin": None,
            "stdout": str(self.host_stdout_txt()),  # type: ignore[no-untyped-call]
            "stderr": str(self.host_stderr_txt()),  # type: ignore[no-untyped-call]
            "env": {name: str(value) for name, value in values.get("env", {}).items()},
            "image": values.get("docker"),
            "cpus": float(values.get("cpu", 0)),
            "memory_bytes": self._memory_bytes(),
            "disk_bytes": self.extras.disk_bytes,
            "accelerators": self.extras.accelerators,
            "timeout_seconds": self.extras.timeout_seconds,
            "network": False,
            "profiles": self._profiles(),
            "service_retries": self.extras.service_retries,
        }


def _return_codes(value: WDL.Value.Base) -> WDL.Value.Base:
    """`continueOnReturnCode` may also be a Boolean: true accepts every code, false none but 0."""
    if not isinstance(value, WDL.Value.Boolean):
        return value
    return WDL.Value.String("*") if value.value else WDL.Value.Int(0)


_DECLARATION_PATH = "_resolve_task_decl_path_into_container"
_original = getattr(miniwdl_task, _DECLARATION_PATH)


def _declaration_path(task: Any, decl_name: str, v: Any, container: Any, cache_add_paths: Any) -> str:
    if is_uri(v.value):
        return str(container.stage(v.value, directory=isinstance(v, WDL.Value.Directory)))
    return str(_original(task, decl_name, v, container, cache_add_paths))


def register() -> None:
    """Let declarations inside tasks name URIs made while the task is set up, which miniwdl has no hook for.

    Raises:
        RuntimeError: this miniwdl is not the one that the replacement was written for.
    """
    expected = ["task", "decl_name", "v", "container", "cache_add_paths"]
    if list(inspect.signature(_original).parameters) != expected:
        raise RuntimeError(f"miniwdl changed {_DECLARATION_PATH}; runomics must be adapted to this version")
    setattr(miniwdl_task, _DECLARATION_PATH, _declaration_path)
