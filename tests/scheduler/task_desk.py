"""Tasks with everything around them: a stand-in runner that the test speaks for, the real store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runomics.domain.image import ImageUnavailable, Reference
from runomics.domain.task import Reason
from runomics.ports import Image, Pool, StorageType, TaskCapacity, TaskEnd, Usage, Volume
from runomics.runners.accelerators import GpuPool
from runomics.scheduler.submission import Submission
from runomics.scheduler.task_attempt import RunPlace
from runomics.scheduler.task_images import ImagePolicy, TaskImages
from runomics.scheduler.task_policy import TaskPolicy
from runomics.scheduler.tasks import Tasks
from runomics.store import tasks as task_rows
from runomics.store.database import SqliteStore
from runomics.store.tasks import TaskRow

GIB = 1 << 30
RUN_ID = 1_000_000
ACCOUNT = "123456789012"


class Clock:
    """Stands still until told."""

    now = 1_000

    def now_ms(self) -> int:
        return self.now


class Runner:
    """Starts nothing; the test says what became of each attempt."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[Path, Callable[[Path, int], None], Callable[[Path, TaskEnd], None]]] = {}
        self.cancelled: list[str] = []
        self.killed: list[str] = []
        self.specs: dict[str, Mapping[str, Any]] = {}

    def records(self, run_directory: Path) -> Path:
        return run_directory / "tasks"

    def discard(self, run_directory: Path) -> None:
        return

    def sweep(self, keep: frozenset[str]) -> None:
        return

    def prepare(self, task_directory: Path, spec: Mapping[str, Any]) -> None:
        task_directory.mkdir(parents=True, exist_ok=True)
        (task_directory / "spec.json").write_text("{}")
        self.specs[task_directory.name] = spec

    def start(
        self, task_directory: Path, on_running: Callable[[Path, int], None], on_end: Callable[[Path, TaskEnd], None]
    ) -> None:
        self.started[task_directory.name] = (task_directory, on_running, on_end)

    def cancel(self, task_directory: Path) -> None:
        self.cancelled.append(task_directory.name)

    def kill(self, task_directory: Path) -> None:
        self.killed.append(task_directory.name)

    def capacity(self) -> TaskCapacity:
        return TaskCapacity(2, 4 * GIB)

    def running(self, name: str) -> None:
        directory, on_running, _ = self.started[name]
        on_running(directory, 2_000)

    def ends(self, name: str, reason: Reason, exit_code: int | None = 0) -> None:
        directory, _, on_end = self.started[name]
        on_end(directory, TaskEnd(reason, exit_code, started_ms=2_000, stopped_ms=3_000))


class Storage:
    """A volume that is full or not."""

    full = False

    def create(self, run_uuid: str, storage_type: StorageType, capacity_gib: int | None, uid: int) -> Volume:
        raise AssertionError("tasks make no volumes")

    def find(self, run_uuid: str) -> Volume | None:
        return None

    def usage(self, run_uuid: str) -> Usage | None:
        return Usage(0, 0, 0, 1, was_full=self.full)

    def flush(self, run_uuid: str) -> Usage:
        return Usage(0, 0, 0, 1)

    def destroy(self, run_uuid: str) -> Usage | None:
        return None

    def sweep(self, keep: frozenset[str]) -> list[str]:
        return []

    def pool(self) -> Pool:
        return Pool(1, 1, 0)


class Images:
    """A registry without a network: names that have a digest are known, and images are here once the test says so."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.here: dict[str, Image] = {}
        self.asked: list[str] = []
        self.may_come = threading.Event()

    def resolve(self, reference: Reference) -> str:
        self.asked.append(str(reference))
        if str(reference) not in self.digests:
            raise ImageUnavailable("MISSING", f"Image {reference} was not found in its registry.")
        return self.digests[str(reference)]

    def find(self, digest: str) -> Image | None:
        return self.here.get(digest)

    def pull(self, reference: Reference, digest: str, say: Callable[[str], None]) -> Image:
        say(f"Pulling {reference}.")
        assert self.may_come.wait(10)
        image = Image(digest, (Path("/layers/upper"), Path("/layers/lower")), {"PATH": "/opt"}, "alice", 1)
        return self.here.setdefault(digest, image)

    def collect(self, keep: frozenset[str]) -> list[str]:
        return []

    def close(self) -> None:
        self.may_come.set()


class Logs:
    """Keeps no lines."""

    def append(self, account: str, stream: str, lines: Any) -> None: ...

    def follow_task(self, account: str, stream: str, volume: Path, stdout: str, stderr: str) -> None: ...

    def end_task(self, account: str, stream: str) -> bool:
        return True

    def follow_engine(self, account: str, stream: str, log: Path) -> None: ...

    def end_engine(self, account: str, stream: str) -> bool:
        return True

    def read(self, account: str, stream: str, offset: int, limit_bytes: int) -> tuple[list[tuple[int, str]], int]:
        return [], 0


class Desk:
    """Tasks with everything around them."""

    def __init__(self, directory: Path) -> None:
        self.store = SqliteStore(directory / "database.sqlite")
        self.runner, self.storage, self.clock = Runner(), Storage(), Clock()
        self.images = Images()
        self.told: list[tuple[str, int, str]] = []
        self.quiet = threading.Condition()
        self.notes: list[str] = []
        self.looks: list[tuple[int, int]] = []
        self.accelerators = GpuPool()
        self.place = RunPlace(
            run_id=RUN_ID,
            run_uuid="11111111-1111-4111-8111-111111111111",
            account=ACCOUNT,
            incarnation=1,
            priority=0,
            run_directory=directory / "run",
            definition=directory / "definition",
            rootless=False,
            storage_capacity_gib=1,
            environment={"AWS_WORKFLOW_RUN": f"arn:aws:omics:us-east-1:{ACCOUNT}:run/{RUN_ID}"},
            keeps_logs=True,
        )
        self.tasks = self.new_tasks()

    def new_tasks(self, image_policy: Mapping[str, Any] | None = None, **policy: Any) -> Tasks:
        """As a server that has just started has them."""
        tasks = Tasks(
            store=self.store,
            runner=self.runner,
            storage=self.storage,
            logs=Logs(),
            clock=self.clock,
            policy=replace(TaskPolicy(host_cpus=2, host_memory_bytes=4 * GIB), **policy),
            on_quiet=self._on_quiet,
            run_note=lambda place, text: self.notes.append(text),
            images=TaskImages(
                store=self.store,
                images=self.images,
                clock=self.clock,
                policy=ImagePolicy("us-east-1", **(image_policy or {})),
                note=lambda place, text: self.notes.append(text),
            ),
            accelerators=self.accelerators,
            look_at=lambda task_id, at_ms: self.looks.append((task_id, at_ms)),
        )
        tasks.set_listener(lambda run, key, attempt, message: self._hear(key, attempt, message))
        return tasks

    def submit(self, key: str, *, run_id: int = RUN_ID, **members: Any) -> None:
        given = Submission(
            key=key,
            attempt=1,
            name=key,
            argv=("true",),
            cwd="/mnt/workflow/w",
            stdin=None,
            stdout="/mnt/workflow/w/o",
            stderr="/mnt/workflow/w/e",
        )
        self.tasks.submit([(run_id, replace(given, **members))])

    def settle(self, run_id: int = RUN_ID) -> None:
        """Until every end is written."""
        with self.quiet:
            assert self.quiet.wait_for(lambda: self.tasks.is_quiet(run_id), 5)
        self.store.write(lambda tx: None)

    def rows(self, run_id: int = RUN_ID) -> list[TaskRow]:
        self.store.write(lambda tx: None)
        return self.store.read(lambda tx: task_rows.tasks_of_run(tx, run_id))

    def _hear(self, key: str, attempt: int, message: Mapping[str, Any]) -> None:
        self.told.append((key, attempt, str(message.get("reason") or message["op"])))

    def _on_quiet(self, run_id: int) -> None:
        with self.quiet:
            self.quiet.notify_all()


def name(row: TaskRow) -> str:
    return f"{row.id}.{row.try_}"


def wait(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return True
        pause.wait(0.01)
    return False
