"""The seams: what the core asks of the world, one Protocol per capability, with the values that cross it. Read this page first.

Nothing here runs. `app` chooses the implementations; `scheduler` and `operations` know only these names. Every call may be
repeated with the same arguments (a step may run twice after a crash) unless its docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol

from runomics.domain.event import StatusEvent, Webhook
from runomics.domain.image import Reference
from runomics.domain.repository import SourceReference, TreeEntry
from runomics.domain.task import Reason
from runomics.domain.usage import Minute

# ---- time --------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The only source of time; tests inject their own."""

    def now_ms(self) -> int:
        """UTC epoch milliseconds."""
        ...


# ---- run storage -------------------------------------------------------------------------------------------------


class StorageType(StrEnum):
    """Source: model, shape StorageType."""

    STATIC = "STATIC"
    DYNAMIC = "DYNAMIC"


@dataclass(frozen=True, slots=True)
class StorageCaps:
    """What a back end can do on this machine, found by doing it once. `why_not` is empty when it works."""

    name: str
    works: bool
    enforces_static: bool = False
    gives_back: bool = False
    needs_root: bool = False
    why_not: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """A run's storage. `path` is the mount point (or directory) `runs/<run uuid>/volume` on the host."""

    run_uuid: str
    backend: str
    storage_type: StorageType
    capacity_gib: int | None
    path: Path


@dataclass(frozen=True, slots=True)
class Usage:
    """A look at a volume, in bytes. `used_bytes` excludes what an empty file system takes; `peak_bytes` is the most ever seen."""

    used_bytes: int
    peak_bytes: int
    available_bytes: int
    limit_bytes: int | None
    was_full: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """The disk that holds the volumes, in bytes."""

    size_bytes: int
    free_bytes: int
    reserve_bytes: int


class VolumeLost(Exception):
    """The volume cannot be read or flushed any more (EIO, ENOSPC of the host)."""


class RunStorage(Protocol):
    """Where runs keep their files: one volume per run, measured always, limited when STATIC."""

    def create(self, run_uuid: str, storage_type: StorageType, capacity_gib: int | None, uid: int) -> Volume:
        """Make and mount the run's volume; the root is owned by `uid`, mode 0755. Idempotent by uuid.

        Raises:
            StorageUnavailable: the host has no room for it, or the back end failed; the message says what to do.
        """
        ...

    def find(self, run_uuid: str) -> Volume | None:
        """The run's volume, attached again if a reboot detached it; None when there is none."""
        ...

    def usage(self, run_uuid: str) -> Usage | None:
        """The latest sample, refreshed now. None when there is no volume."""
        ...

    def flush(self, run_uuid: str) -> Usage:
        """syncfs, then an exact reading that the peak takes in.

        Raises:
            VolumeLost: data did not reach the disk; nothing may be exported.
        """
        ...

    def destroy(self, run_uuid: str) -> Usage | None:
        """Last reading, unmount, remove. Idempotent; None when nothing was left. The caller has ended all processes.

        Raises:
            OSError: still busy; a later sweep tries again.
        """
        ...

    def sweep(self, keep: frozenset[str]) -> list[str]:
        """Destroy every volume whose run uuid is not in `keep`; the uuids destroyed. Called at start."""
        ...

    def pool(self) -> Pool:
        """The host's room."""
        ...


class StorageUnavailable(Exception):
    """A volume cannot be made now. The message is fit for an operator."""


# ---- objects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object. `etag` has no quotes; `uri` is s3://bucket/key."""

    uri: str
    size_bytes: int
    etag: str


class ObjectMissing(Exception):
    """No such object or bucket. `uri` is in the message."""


class ObjectForbidden(Exception):
    """The store refuses access. `uri` is in the message."""


class ObjectChanged(Exception):
    """The object is no longer the one that was looked at (another ETag)."""


class ObjectsUnreachable(OSError):
    """The object store does not answer, or says that it cannot now. Later it may."""


class ObjectStore(Protocol):
    """s3:// for the service: a folder, or any S3 endpoint. Synchronous; used from transfer threads, never inside a transaction.

    Every call may raise ObjectsUnreachable.
    """

    def head(self, uri: str) -> ObjectInfo:
        """Raises: ObjectMissing, ObjectForbidden."""
        ...

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with the prefix, recursively, sorted by key. Raises: ObjectMissing (no bucket), ObjectForbidden."""
        ...

    def bucket_exists(self, bucket: str) -> bool: ...

    def download(self, info: ObjectInfo, descriptor: int, on_bytes: Callable[[int], None] | None = None) -> str:
        """Write the object to the open file `descriptor` from offset 0; its lower-case hex sha256.

        Raises:
            ObjectChanged: the ETag differs from `info.etag`. ObjectMissing, ObjectForbidden.
        """
        ...

    def upload(self, descriptor: int, uri: str, on_bytes: Callable[[int], None] | None = None) -> ObjectInfo:
        """Store the whole open file `descriptor` as `uri`, atomically (never half an object), verified by size.

        Raises:
            ObjectMissing: no such bucket. ObjectForbidden.
        """
        ...

    def upload_bytes(self, data: bytes, uri: str) -> ObjectInfo:
        """Store `data` as `uri`. Raises: as `upload`."""
        ...

    def read_bytes(self, uri: str, limit_bytes: int) -> bytes:
        """The object's content. Raises: ObjectMissing, ObjectForbidden; ValueError when larger than the limit."""
        ...


# ---- engines -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process that outlives us, by pid, start time (field 22 of /proc/PID/stat) and boot id."""

    pid: int
    start_time: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class EngineResult:
    """engine/result.json. `outputs` is the tagged output document, `exports` what to copy (docs/dev/formats.md)."""

    incarnation: int
    succeeded: bool
    cancelled: bool = False
    outputs: Mapping[str, Any] | None = None
    exports: Sequence[Mapping[str, Any]] = ()
    failure: Mapping[str, Any] | None = None
    engine_version: str | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a definition says of itself. `failure` set means the workflow is FAILED with that text.

    `message` of a WDL definition is its outline as `miniwdl check` prints it: what is to be run stands indented by four blanks,
    `workflow NAME`, or `task NAME` where there is no workflow.
    """

    engine: str
    main: str
    inputs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()
    message: str = ""
    failure: str | None = None


class InspectionGivenUp(Exception):
    """The server stops before the definition was read; the next one reads it."""


class RepositoryUnavailable(Exception):
    """A commit cannot be had. The message says why in words for a client: it names no URL."""


class Snapshot(Protocol):
    """The files of one commit, as long as it is held. Nothing of it is checked out."""

    commit: str
    entries: Sequence[TreeEntry]

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """The bytes of a file, or a link's target; one at a time. Raises: RepositoryUnavailable."""
        ...


class Repositories(Protocol):
    """Repositories with definitions. Synchronous; used from worker threads, never inside a transaction."""

    def fetch(self, url: str, reference: SourceReference | None) -> AbstractContextManager[Snapshot]:
        """The commit that is wanted, the default branch's newest without `reference`. Raises: RepositoryUnavailable."""
        ...


class EngineHost(Protocol):
    """Starts run processes from the warm launcher and knows which are alive. Callbacks come on its own thread."""

    def engines(self) -> Mapping[str, str]:
        """Engine name (WDL, CWL, NEXTFLOW) → '' when installed, else why not."""
        ...

    def start(self, run_directory: Path, on_end: Callable[[Path], None]) -> None:
        """Start the engine that `run_directory/plan.json` describes, or adopt the one that already claimed it.

        `on_end(run_directory)` is called once it is gone (with or without a result). Idempotent.
        """
        ...

    def is_alive(self, run_directory: Path) -> bool:
        """Whether the process that claimed this run's `pid` file for the plan's incarnation still lives."""
        ...

    def result(self, run_directory: Path, incarnation: int) -> EngineResult | None:
        """The result of that incarnation, None when it left none."""
        ...

    def stop(self, run_directory: Path, *, kill: bool) -> None:
        """TERM (the engine cancels its tasks and writes a result) or KILL the run process."""
        ...

    def inspect(self, engine: str, tree: Path, main: str, timeout_seconds: float) -> Inspection:
        """Read the definition below `tree` in a sandboxed process; blocks. Never raises for what the definition contains.

        Raises:
            InspectionGivenUp: the server is stopping.
        """
        ...


# ---- tasks -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """result.json of a task attempt; times in UTC epoch milliseconds.

    `code`: the failureReason, where `reason` alone does not say which (domain.failures).
    """

    reason: Reason
    exit_code: int | None
    message: str = ""
    code: str | None = None
    started_ms: int | None = None
    stopped_ms: int | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    limits_are_soft: bool = False
    minutes: tuple[Minute, ...] = ()
    scratch_used_bytes: int | None = None


class TaskRunner(Protocol):
    """Where task attempts run. One directory per attempt, spec.json written before `start`. Callbacks come on the runner's thread."""

    def records(self, run_directory: Path) -> Path:
        """Below which the directories of the run's attempts lie: out of reach of tasks; they outlive the server, not the host."""
        ...

    def discard(self, run_directory: Path) -> None:
        """Remove the records of a run that is over; harmless when there are none."""
        ...

    def sweep(self, keep: frozenset[str]) -> None:
        """Remove the records of every run whose uuid is not in `keep`. Called at start."""
        ...

    def prepare(self, task_directory: Path, spec: Mapping[str, Any]) -> None:
        """Make the attempt's directory and write its spec.json by rename. `spec` has what the caller knows
        (docs/dev/formats.md); the runner adds what is its own: cgroup driver, bubblewrap's path, seccomp program.
        """
        ...

    def start(
        self,
        task_directory: Path,
        on_running: Callable[[Path, int], None],
        on_end: Callable[[Path, TaskEnd], None],
    ) -> None:
        """Start a supervisor for the attempt, or adopt the one that claimed it, or report the result it left.

        `on_running(directory, started_ms)` at most once, then `on_end` exactly once per call of `start`. A supervisor that
        died without a result is swept and reported as LOST.
        """
        ...

    def cancel(self, task_directory: Path) -> None:
        """TERM, grace, KILL by the supervisor; the end is reported as CANCELLED. Harmless when nothing runs."""
        ...

    def kill(self, task_directory: Path) -> None:
        """End everything of this attempt at once and forget it: used when its run is being taken down."""
        ...

    def capacity(self) -> TaskCapacity: ...


@dataclass(frozen=True, slots=True)
class TaskCapacity:
    """What the runner can give at once. `limits_are_soft`: memory is sampled and killed, cpu is not capped."""

    cpus: float
    memory_bytes: int
    limits_are_soft: bool = False
    why_soft: str = ""


class Accelerators(Protocol):
    """The host's GPUs, given to task attempts one by one. What is taken stays so when the server restarts: it stands in spec.json."""

    @property
    def total(self) -> int: ...

    def free(self) -> int: ...

    def take(self, task_directory: Path, count: int) -> None:
        """Give `count` of them to the attempt; nothing new when it has some.

        Raises:
            LookupError: fewer are free.
        """
        ...

    def members(self, task_directory: Path) -> Mapping[str, Any]:
        """What spec.json says of the attempt's own; empty when it has none (docs/dev/formats.md)."""
        ...

    def release(self, task_directory: Path) -> None:
        """Take back what the attempt has; harmless when it has none."""
        ...


# ---- images ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this host. `layers`: directories for an overlay, the uppermost first. `user` as its configuration says it, often ''."""

    digest: str
    layers: Sequence[Path]
    environment: Mapping[str, str]
    user: str
    size_bytes: int


class ImageStore(Protocol):
    """Where container images come from. Calls that speak to a registry block; used from threads, never inside a transaction.

    They raise domain.image.ImageUnavailable when the image cannot be had, and have tried again by then what may pass.
    """

    def resolve(self, reference: Reference) -> str:
        """What the name means now, as sha256:<64 hex>. A name with a digest means that, unasked."""
        ...

    def find(self, digest: str) -> Image | None:
        """The image, when it is on this host; it counts as used now. Does not block."""
        ...

    def pull(self, reference: Reference, digest: str, say: Callable[[str], None]) -> Image:
        """The image, pulled if it is not here; calls for the same digest at the same time pull it once. `say` hears of its progress."""
        ...

    def collect(self, keep: frozenset[str]) -> list[str]:
        """Remove images that were not used for long, oldest first, while all take more than they may; none of `keep`. Their digests."""
        ...

    def close(self) -> None:
        """End pulls under way, with ImageUnavailable."""
        ...


# ---- logs --------------------------------------------------------------------------------------------------------


class LogStore(Protocol):
    """Log streams of runs as files of lines `epoch_ms TAB text`. A stream is named run/<id>, run/<id>/engine, run/<id>/task/<task id>."""

    def append(self, account: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        """Add lines (time in epoch ms, text without newline). Creates the stream."""
        ...

    def follow_task(self, account: str, stream: str, volume: Path, stdout: str, stderr: str) -> None:
        """Copy a task's output files (paths relative to the volume) into the stream until `end_task`. Idempotent; resumes after a crash."""
        ...

    def end_task(self, account: str, stream: str) -> bool:
        """Take in what is left of the task's output now and stop following; whether the stream has any line."""
        ...

    def follow_engine(self, account: str, stream: str, log: Path) -> None:
        """The same for an engine's log, a file outside the volume."""
        ...

    def end_engine(self, account: str, stream: str) -> bool: ...

    def read(self, account: str, stream: str, offset: int, limit_bytes: int) -> tuple[list[tuple[int, str]], int]:
        """Whole lines from byte `offset` on and the offset after them; an empty list at the end or for a missing stream."""
        ...


# ---- events ------------------------------------------------------------------------------------------------------


class NotTaken(Exception):
    """A sink did not take an event. `is_down`: it could not be asked, or asks to be left alone, so others will fare no better.

    `again_ms`: when it says it may be asked again, in ms from now. The message is fit for an operator.
    """

    def __init__(self, why: str, *, is_down: bool, again_ms: int | None = None) -> None:
        super().__init__(why)
        self.is_down = is_down
        self.again_ms = again_ms


class EventSink(Protocol):
    """One receiver of status changes. Called from several threads at once, never for two events of one resource."""

    def deliver(self, event: StatusEvent) -> None:
        """Hand over one event; it may be handed over again. Returns when the receiver has it.

        Raises:
            NotTaken: it may not have it.
        """
        ...

    def close(self) -> None:
        """Let go of connections that wait for more."""
        ...


class EventQueues(Protocol):
    """What is to be told to whom. Every change is durable when the call returns; called from threads, never within a unit."""

    def webhooks(self) -> Sequence[Webhook]:
        """Those that are set now."""
        ...

    def deal(self) -> int:
        """Put some of the new events into the queues; how many were looked at, 0 when there are no more."""
        ...

    def due(self, webhook_id: int, now_ms: int, limit: int) -> Sequence[StatusEvent]:
        """What the webhook may be told now: of each resource the first event it has not taken."""
        ...

    def next_due_ms(self, webhook_id: int) -> int | None:
        """When there will be something due (UTC epoch ms, possibly past); None when nothing waits."""
        ...

    def settle(self, webhook_id: int, *, taken: Sequence[int], held: Sequence[tuple[StatusEvent, int]]) -> None:
        """Note what was taken, by id, and until when (UTC epoch ms) the resources of other events are to wait."""
        ...

    def note(self, webhook_id: int, failure: str | None, now_ms: int) -> None:
        """Keep why the last attempt failed, None when it went well, for the operator to see."""
        ...


# ---- doctor ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing `runomics doctor` tried by doing it. `remedy` says what to install or set when it does not work."""

    name: str
    works: bool
    detail: str = ""
    remedy: str = ""
    required: bool = False
