"""The composition root: settings → store, ports, scheduler, edge. The only file that names concrete classes; runs in the server process.

Start: lock DATA, open the database, listen, then take up what an earlier server left. A stop leaves engines and tasks alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import structlog

from runomics import data_directory
from runomics.data_directory import CannotStart
from runomics.domain.run import RunStatus
from runomics.engines.host import ForkedEngineHost
from runomics.logs.streams import FileLogs
from runomics.objects.directory import DirectoryObjects
from runomics.objects.s3 import S3Objects
from runomics.operations import registry
from runomics.operations.caller import Caller, Site
from runomics.ports import ObjectStore
from runomics.run_storage import StorageSettings, open_storage, release_shared_mount
from runomics.runners.local import LocalRunner
from runomics.sandbox import seccomp, volume_path
from runomics.scheduler.gateway import Gateway
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.loop import LoopPolicy, Scheduler
from runomics.scheduler.register import Register
from runomics.scheduler.steps import RunPolicy, Steps
from runomics.scheduler.tasks import TaskPolicy, Tasks
from runomics.scheduler.transfer import Transfers
from runomics.settings import Settings
from runomics.store import catalog, runs
from runomics.store.database import Overloaded, SqliteStore, StoreUnavailable
from runomics.store.definitions import Definitions
from runomics.store.lock import acquire_scheduler_lock
from runomics.store.migrate import NewerDatabase
from runomics.store.runs import RunRow
from runomics.web.exports import PREFIX as EXPORT_PREFIX
from runomics.web.exports import Exports
from runomics.web.operator import NotFound, Operator
from runomics.wire.asgi import Edge, Handler, Page, PageAnswer, PageRequest
from runomics.wire.errors import ApiError, ResourceNotFoundException, ThrottlingException
from runomics.wire.model import ServiceModel
from runomics.wire.server import HttpServer, bind, settle
from runomics.wire.signing import AccessKey

log = structlog.get_logger()

EXIT_CANNOT_START = 1
INSPECTION_SLOT = 65_535
GIB = 1 << 30
MEMORY_LEFT_TO_HOST_GIB = 2


class SystemClock:
    """The real time."""

    def now_ms(self) -> int:
        """UTC epoch milliseconds."""
        return time.time_ns() // 1_000_000


def serve(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT; the exit code of the process."""
    _configure_log(settings.log_level)
    try:
        service = Service(settings)
    except CannotStart as error:
        print(f"runomics serve: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    service.run()
    return 0


class Service:
    """Everything one server is made of, from its lock to its listening socket."""

    _steps: Steps
    _scheduler: Scheduler
    _edge: Edge

    def __init__(self, settings: Settings) -> None:
        """Lock DATA, migrate, listen. Nothing of the scheduler runs before `run`.

        Raises:
            CannotStart: another server has DATA, it is newer, or the address is taken.
        """
        self._settings = settings
        self._clock = SystemClock()
        self._data = data = settings.data
        data_directory.make(data)
        self._lock = acquire_scheduler_lock(data / "lock")
        if self._lock is None:
            raise CannotStart(f"another server runs on {data}; stop it first, or give --data another directory")
        try:
            self._socket = bind(*settings.address)
        except OSError as error:
            raise CannotStart(f"{error.strerror}; give --listen another address, or port 0 for a free one") from error
        self._secrets = data_directory.load_secrets(data)
        try:
            self._store = SqliteStore(data / "database.sqlite")
        except (NewerDatabase, StoreUnavailable) as error:
            raise CannotStart(str(error)) from error
        self._keys = {
            row.key_id: AccessKey(row.key_id, row.account, row.secret.encode(), row.principal_arn)
            for row in data_directory.keys(self._store, data, account=settings.account, now_ms=self._clock.now_ms())
            if row.status == "ACTIVE"
        }
        self._definitions = Definitions(data / "definitions")
        self._url = ""
        self._objects = _objects(settings)
        self._build()
        self._http = HttpServer(self._edge, sockets=[self._socket], started=self._started)

    def run(self) -> None:
        """Serve until a signal; then leave in order. Engines and tasks go on."""
        settle()
        try:
            self._http.run()
        finally:
            self._stop()

    # ---- composition ---------------------------------------------------------------------------------------------

    def _build(self) -> None:
        settings, data, clock = self._settings, self._data, self._clock
        rootless = os.geteuid() != 0
        memory_gib = settings.host_memory_gib or max(1.0, _memory_gib() - MEMORY_LEFT_TO_HOST_GIB)
        cpus = settings.host_cpus or float(len(os.sched_getaffinity(0)))
        self._storage = open_storage(
            data / "volumes",
            data / "runs",
            StorageSettings(
                backend=settings.storage_backend,
                reserve_bytes=_reserve_bytes(settings),
                ready_static_gib=(settings.default_static_capacity_gib,),
            ),
            on_full=lambda run_uuid: self._steps.volume_full(run_uuid),
        )
        self._logs = FileLogs(
            data / "logs",
            open_beneath=_open_for_reading,
            max_bytes_per_task=settings.log_max_bytes_per_task,
            now_ms=clock.now_ms,
        )
        self._runner = LocalRunner(
            data,
            cgroup_parent=f"runomics-{hashlib.sha256(str(data).encode()).hexdigest()[:8]}",
            cpus=cpus,
            memory_bytes=int(memory_gib * GIB),
            seccomp_program=_seccomp_file(data),
        )
        self._engines = ForkedEngineHost(data=data, inspection_uid=settings.sandbox_uid_base + INSPECTION_SLOT)
        self._transfers = Transfers(
            objects=self._objects,
            cache=InputCache(data / "cache", self._objects, max_bytes=settings.cache_max_bytes),
            open_export=volume_path.resolve_in_volume,
        )
        self._tasks = Tasks(
            store=self._store,
            runner=self._runner,
            storage=self._storage,
            logs=self._logs,
            clock=clock,
            policy=TaskPolicy(
                host_cpus=cpus,
                host_memory_bytes=int(memory_gib * GIB),
                oversize=settings.oversize_tasks,
                unknown_images=settings.unknown_images,
                retries=settings.task_retries,
                grace_seconds=settings.grace_seconds,
            ),
            on_quiet=lambda run_id: self._scheduler.wake(run_id),
            run_note=lambda place, text: self._steps.task_note(place, text),
        )
        self._gateway = Gateway(
            desk=self._tasks,
            stage=lambda run_id, uri: self._steps.stage(run_id, uri),
            note=lambda run_id, message: self._steps.engine_note(run_id, message),
        )
        self._tasks.set_listener(self._gateway.tell)
        self._scheduler = Scheduler(
            store=self._store,
            clock=clock,
            policy=LoopPolicy(max_active_runs=settings.max_active_runs, token_days=settings.token_days),
            has_room=self._storage.has_room,
        )
        self._steps = Steps(
            store=self._store,
            definitions=self._definitions,
            storage=self._storage,
            engines=self._engines,
            objects=self._objects,
            transfers=self._transfers,
            tasks=self._tasks,
            gateway=self._gateway,
            logs=self._logs,
            clock=clock,
            policy=RunPolicy(
                region=settings.region,
                data_directory=data,
                rootless=rootless,
                sandbox_uid_base=settings.sandbox_uid_base,
                task_concurrency=settings.task_concurrency,
                run_timeout_seconds=settings.run_timeout_seconds,
                min_running_seconds=settings.min_running_seconds,
                restarts_lost_engine=settings.on_engine_loss == "restart",
            ),
            wake=self._scheduler.wake,
            wake_at=self._scheduler.wake_at,
            on_ended=self._scheduler.run_ended,
        )
        self._register = Register(
            store=self._store,
            definitions=self._definitions,
            engine_host=self._engines,
            objects=self._objects,
            now_ms=clock.now_ms,
        )
        self._edge = self._make_edge()

    def _make_edge(self) -> Edge:
        exports = Exports(
            key=self._secrets.export_key,
            endpoint=lambda: self._url,
            archive=self._definitions.archive,
            readme=self._readme,
            now_ms=self._clock.now_ms,
        )
        site = Site(
            region=self._settings.region,
            definitions=self._definitions,
            page_key=self._secrets.page_key,
            export_url=exports.url,
            default_storage_type=self._settings.default_storage_type,
            default_static_capacity_gib=self._settings.default_static_capacity_gib,
            waiting_reason=self._waiting_reason,
        )
        clock = self._clock

        def make_caller(key: AccessKey, request_id: str) -> Caller:
            return Caller(
                account=key.account,
                principal_arn=key.principal_arn,
                access_key_id=key.key_id,
                request_id=request_id,
                now_ms=clock.now_ms(),
                site=site,
            )

        operator = Operator(
            store=self._store,
            storage=self._storage,
            logs=self._logs,
            runs_directory=self._data / "runs",
            moved=self._transfers.progress,
        )
        return Edge(
            model=ServiceModel.load(),
            handlers={
                name: Handler(function=found.function, writes=found.writes, prepare=found.prepare)
                for name, found in registry.handlers().items()
            },
            store=self._store,
            find_key=self._keys.get,
            make_caller=make_caller,
            authorize=_allow,
            region=self._settings.region,
            now=time.time,
            pages=_pages(exports, operator),
            translate=_translate,
            max_body_bytes=self._settings.max_body_bytes,
        )

    def _readme(self, account: str, workflow_id: int) -> str | None:
        workflow = self._store.read(lambda tx: catalog.find_workflow(tx, account, workflow_id))
        return None if workflow is None else workflow.readme

    def _waiting_reason(self, run: RunRow) -> str | None:
        if run.status is not RunStatus.PENDING:
            return None
        return self._scheduler.waiting_reason(run.storage_type, run.storage_capacity_gib)

    # ---- start and stop ------------------------------------------------------------------------------------------

    def _started(self, port: int) -> None:
        """Connections are accepted: say where, and take up the work behind the API."""
        host = self._settings.address.host
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        data_directory.write_private(
            self._data / "endpoint.json",
            {"url": self._url, "pid": os.getpid(), "region": self._settings.region},
        )
        threading.Thread(target=self._take_up, name="take-up", daemon=True).start()
        log.info("service.ready", url=self._url, data=str(self._data))
        print(f"runomics is ready at {self._url}", flush=True)

    def _take_up(self) -> None:
        try:
            self._engines.open()
            self._runner.begin()
            self._sweep()
            self._gateway.start()
            self._scheduler.start(step_run=self._steps.step, step_workflow=self._register.step)
            self._store.set_on_wake(self._scheduler.woken)
            self._scheduler.run_ended()
        except Exception:
            log.exception("service.take_up_failed")
            os._exit(EXIT_CANNOT_START)

    def _sweep(self) -> None:
        """Remove what belongs to no live run."""
        active = frozenset(self._store.read(runs.active_run_uuids))
        destroyed = self._storage.sweep(active)
        if destroyed:
            log.warning("service.orphaned_volumes_destroyed", runs=destroyed)
        self._definitions.sweep()
        self._steps.sweep_directories(active)

    def _stop(self) -> None:
        """Leave in order: no new steps, then nobody to report to, then the database."""
        log.info("service.stopping")
        self._edge.close()
        self._store.set_on_wake(None)
        self._scheduler.stop()
        self._gateway.stop()
        self._tasks.close()
        self._engines.close()
        self._runner.close()
        self._transfers.close()
        self._logs.close()
        self._storage.close()
        release_shared_mount(self._data / "runs")
        self._store.close()
        (self._data / "endpoint.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()


# ---- pieces ------------------------------------------------------------------------------------------------------


def _allow(caller: Any, operation: str, request: Mapping[str, Any]) -> None:
    """Every key of an account may do everything in it."""


def _translate(error: Exception) -> ApiError | None:
    if isinstance(error, Overloaded):
        return ThrottlingException("Rate exceeded")
    return None


def _pages(exports: Exports, operator: Operator) -> dict[str, Page]:
    def export(request: PageRequest) -> PageAnswer:
        answer = exports.answer(request.method, request.path, request.query)
        return PageAnswer(answer.status, answer.content_type, answer.body, answer.headers)

    def health(request: PageRequest) -> PageAnswer:
        return PageAnswer(200, "application/json", b'{"status":"ok"}')

    return {
        EXPORT_PREFIX: Page(signed=False, respond=export),
        "/-/progress/": Page(signed=True, respond=_looked_up(operator.progress, "/-/progress/")),
        "/-/logs/": Page(signed=True, respond=_log_reader(operator)),
        "/healthz": Page(signed=False, respond=health),
    }


def _looked_up(look: Callable[[str, int], Mapping[str, Any]], prefix: str) -> Callable[[PageRequest], PageAnswer]:
    def respond(request: PageRequest) -> PageAnswer:
        return _json(lambda account: look(account, _run_id(request.path, prefix)), request)

    return respond


def _log_reader(operator: Operator) -> Callable[[PageRequest], PageAnswer]:
    def respond(request: PageRequest) -> PageAnswer:
        query = parse_qs(request.query.decode("latin-1"))
        stream = query.get("stream", ["run"])[0]
        offset = query.get("offset", ["0"])[0]
        run_id = _run_id(request.path, "/-/logs/")
        at = int(offset) if offset.isdecimal() and len(offset) < 19 else 0
        return _json(lambda account: operator.log(account, run_id, stream, at), request)

    return respond


def _json(look: Callable[[str], Mapping[str, Any]], request: PageRequest) -> PageAnswer:
    account = request.key.account if request.key is not None else ""
    try:
        return PageAnswer(200, "application/json", orjson.dumps(look(account)))
    except NotFound as error:
        raise ResourceNotFoundException(str(error)) from error


def _run_id(path: str, prefix: str) -> int:
    text = path.removeprefix(prefix)
    if not text.isdecimal() or len(text) > 18:
        raise ResourceNotFoundException(f"Run {text[:64]} not found")
    return int(text)


def _objects(settings: Settings) -> ObjectStore:
    if settings.s3_endpoint is None:
        return DirectoryObjects(settings.data / "objects")
    secret = settings.s3_secret_access_key
    return S3Objects(
        endpoint=settings.s3_endpoint,
        region=settings.region,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=None if secret is None else secret.get_secret_value(),
    )


def _seccomp_file(data: Path) -> Path:
    """The compiled filter that every task's sandbox gets."""
    file = data / "seccomp.bpf"
    file.write_bytes(seccomp.program_bytes())
    return file


def _reserve_bytes(settings: Settings) -> int:
    """What runs never get of the disk: the larger of the two settings."""
    status = os.statvfs(settings.data)
    percent_bytes = status.f_blocks * status.f_frsize * settings.storage_reserve_percent // 100
    return max(settings.storage_reserve_gib * GIB, percent_bytes)


def _open_for_reading(volume: Path, relative: str) -> int:
    return volume_path.open_beneath(volume, relative, os.O_RDONLY | os.O_NONBLOCK)


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB


def _configure_log(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
