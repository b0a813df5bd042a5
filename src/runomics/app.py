"""The composition root: settings → store, ports, scheduler, edge. With `machinery` the only place that names concrete classes.

Start: lock DATA, open the database, listen, then take up what an earlier server left. A stop leaves engines and tasks alone.
Runs in the server process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from runomics import data_directory
from runomics.auditing import auditing, page_call, resource_of
from runomics.connections_file import read_connections
from runomics.data_directory import CannotStart
from runomics.domain import request_rates
from runomics.domain.limits import Limits
from runomics.domain.network import InvalidNetwork, Network, networks_of
from runomics.domain.repository import Connection, ConnectionsError
from runomics.domain.roles import Credentials, RolesError
from runomics.domain.run import RunStatus
from runomics.isolation import SandboxMissing
from runomics.key_ring import KeyRing
from runomics.logs.audit import AuditLog
from runomics.machinery import Machinery
from runomics.objects.directory import DirectoryObjects
from runomics.objects.s3 import S3Objects
from runomics.operations import registry
from runomics.operations.access import Authorizer
from runomics.operations.batch_submission import BatchSubmission
from runomics.operations.caller import Caller, Site
from runomics.operations.resource_facts import Read, facts_of
from runomics.operations.throttle import Authorize, Throttle, throttled
from runomics.ports import ObjectStore, StorageUnavailable
from runomics.roles_file import read_roles
from runomics.scheduler.networks import Networks
from runomics.scheduler.object_access import ObjectAccess
from runomics.server_pages import Pages
from runomics.settings import Settings
from runomics.store import accounts, versions
from runomics.store.choice import Lock, lock_database, open_store
from runomics.store.database import Overloaded
from runomics.store.definitions import Definitions
from runomics.store.lock import acquire_scheduler_lock
from runomics.store.migrate import NewerDatabase
from runomics.store.runs import RunRow
from runomics.store.tasks import TaskRow
from runomics.store.transaction import StoreUnavailable as DatabaseUnavailable
from runomics.store.transaction import Tx
from runomics.web.exports import Exports
from runomics.web.management import Management, folders_below
from runomics.web.metrics import Metrics
from runomics.web.operator import Operator
from runomics.wire.asgi import Edge, Handler, MustNotWait
from runomics.wire.errors import ApiError, InternalServerException, ThrottlingException
from runomics.wire.model import ServiceModel
from runomics.wire.server import HttpServer, bind, settle
from runomics.wire.signing import AccessKey
from runomics.wire.validate import checker

log = structlog.get_logger()

STANDARD_ERROR = 2
EXIT_CANNOT_START = 1
START_SECONDS = 20.0


class ServerLog:
    """Where structlog's lines go: standard error. A line that it does not take (a file on a full disk) is lost, and nobody fails of it."""

    def msg(self, line: str) -> None:
        """Write one line, whole."""
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, line.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = error = critical = msg


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
        self._networks = _networks(settings)
        self._connections = _connections(settings)
        try:
            self._database_lock = self._locked_database()
            self._store = open_store(data, settings.database_url, connections=settings.database_connections)
            is_used = settings.database is not None and bool(self._store.read(accounts.list_keys))
        except (NewerDatabase, DatabaseUnavailable) as error:
            raise CannotStart(str(error)) from error
        self._secrets = data_directory.load_secrets(data, is_used=is_used)
        data_directory.keys(self._store, data, account=settings.account, now_ms=self._clock.now_ms())
        self._keys = KeyRing(lambda: self._store.read(accounts.list_keys))
        self._authorize = Authorizer(self._keys.policies, facts_of(self._read_facts(), settings.region))
        self._audit = _audit_log(settings)
        self._definitions = Definitions(data / "definitions")
        self._url = ""
        self._access = self._object_access()
        self._machinery: Machinery | None = None
        self._working = threading.Event()
        self._taking_up = threading.Thread(target=self._take_up, name="take-up", daemon=True)
        self._model = ServiceModel.load()
        self._edge = self._make_edge()
        self._http = HttpServer(self._edge, sockets=[self._socket], started=self._started)

    def run(self) -> None:
        """Serve until a signal; then leave in order. Engines and tasks go on."""
        settle()
        try:
            self._http.run()
        finally:
            self._stop()

    def _locked_database(self) -> Lock | None:
        url = self._settings.database_url
        if url is None:
            return None
        lock = lock_database(url, lost=_leave)
        if lock is None:
            raise CannotStart("another server uses this database; stop it first, or give --database another one")
        return lock

    def _read_facts(self) -> Read:
        """How authorization reads. The main thread is the loop's: a database behind a socket is asked from another one."""
        read = self._store.read
        if self._settings.database is None:
            return read

        def read_off_loop(work: Callable[[Tx], Any]) -> Any:
            if threading.current_thread() is threading.main_thread():
                raise MustNotWait
            return read(work)

        return read_off_loop

    # ---- composition ---------------------------------------------------------------------------------------------

    def _make_edge(self) -> Edge:
        exports = Exports(
            key=self._secrets.export_key,
            endpoint=lambda: self._url,
            archive=self._definitions.archive,
            readme=self._readme,
            now_ms=self._clock.now_ms,
        )
        self._site = site = Site(
            region=self._settings.region,
            definitions=self._definitions,
            page_key=self._secrets.page_key,
            export_url=exports.url,
            objects_as=self._access.of_run,
            default_storage_type=self._settings.default_storage_type,
            default_static_capacity_gib=self._settings.default_static_capacity_gib,
            limits=_limits(self._settings),
            waiting_reason=self._waiting_reason,
            task_waiting_reason=self._task_waiting_reason,
            network_problem=Networks(self._networks).problem,
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

        return Edge(
            model=self._model,
            handlers={
                name: Handler(function=found.function, writes=found.writes, prepare=found.prepare)
                for name, found in registry.handlers().items()
            },
            store=self._store,
            find_key=self._keys.keys.get,
            make_caller=make_caller,
            authorize=_with_rates(self._settings, self._authorize),
            region=self._settings.region,
            now=time.time,
            pages=self._pages(exports, lambda key: make_caller(key, "")).by_path(),
            translate=_translate,
            audit=None if self._audit is None else auditing(self._audit),
            max_body_bytes=self._settings.max_body_bytes,
        )

    def _pages(self, exports: Exports, caller_of: Callable[[AccessKey], Caller]) -> Pages:
        operator_key_id = data_directory.operator_key_id(self._data)
        folders = self._data / "objects"
        management = Management(
            store=self._store,
            now_ms=self._clock.now_ms,
            operator_key_id=operator_key_id,
            keep=lambda account, key: data_directory.keep_key(self._data, account, key, self._keys.keys),
            changed=self._keys.reload,
            folders=folders_below(folders) if self._settings.s3_endpoint is None else None,
        )
        audit = self._audit
        return Pages(
            exports=exports,
            operator=self._operator,
            metrics=Metrics(
                look=lambda: self._at_work().figures(),
                token=None if self._settings.metrics_token is None else self._settings.metrics_token.get_secret_value(),
                is_open=self._settings.is_local,
            ),
            management=management,
            operator_key_id=operator_key_id,
            caller_of=caller_of,
            authorize=self._authorize,
            audit=(lambda *_: None) if audit is None else lambda *page: audit.add(page_call(*page)),
        )

    def _object_access(self) -> ObjectAccess:
        settings = self._settings
        try:
            roles = read_roles(settings.roles_file)
        except RolesError as error:
            raise CannotStart(str(error)) from error
        return ObjectAccess(
            store=self._store,
            objects=_objects(settings),
            roles=roles,
            objects_as=lambda credentials: _objects(settings, credentials),
            owners_count=settings.s3_endpoint is None,
            clock=self._clock,
        )

    def _readme(self, account: str, workflow_id: int, version_name: str | None) -> str | None:
        return self._store.read(lambda tx: versions.find_readme(tx, account, workflow_id, version_name))

    def _waiting_reason(self, run: RunRow) -> str | None:
        if run.status is not RunStatus.PENDING:
            return None
        if self._machinery is None:
            return "Waiting: the server is starting."
        return self._machinery.waiting_reason(run)

    def _task_waiting_reason(self, task: TaskRow) -> str | None:
        return None if self._machinery is None else self._machinery.task_waiting_reason(task)

    def _operator(self) -> Operator:
        """What looks at runs in flight; waits for the machinery in the first moments of a server."""
        machinery = self._at_work()
        return Operator(
            store=self._store,
            storage=machinery.storage,
            logs=machinery.logs,
            runs_directory=self._data / "runs",
            moved=machinery.transfers.progress,
        )

    def _at_work(self) -> Machinery:
        self._working.wait(START_SECONDS)
        if self._machinery is None:
            raise ThrottlingException("The server is starting; ask again in a moment.")
        return self._machinery

    # ---- start and stop ------------------------------------------------------------------------------------------

    def _started(self, port: int) -> None:
        """Connections are accepted: say where, and take up the work behind the API."""
        host = self._settings.address.host
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        data_directory.write_private(
            self._data / "endpoint.json",
            {"url": self._url, "pid": os.getpid(), "region": self._settings.region},
        )
        self._taking_up.start()
        log.info("service.ready", url=self._url, data=str(self._data))
        print(f"runomics is ready at {self._url}", flush=True)

    def _take_up(self) -> None:
        try:
            machinery = Machinery(
                self._settings,
                store=self._store,
                definitions=self._definitions,
                access=self._access,
                connections=self._connections,
                networks=self._networks,
                model=self._model,
                run_maker=BatchSubmission(self._site, checker(self._model.shapes, "InlineSetting", "RunSettingId")),
                clock=self._clock,
            )
            machinery.begin()
        except (StorageUnavailable, SandboxMissing) as error:
            print(f"runomics serve: {error}", file=sys.stderr, flush=True)
            os._exit(EXIT_CANNOT_START)
        except Exception:
            log.exception("service.take_up_failed")
            os._exit(EXIT_CANNOT_START)
        self._machinery = machinery
        self._working.set()

    def _stop(self) -> None:
        """The scheduler first, the database last."""
        log.info("service.stopping")
        self._edge.close()
        self._taking_up.join()
        if self._machinery is not None:
            self._machinery.end()
        self._store.close()
        if self._audit is not None:
            self._audit.close()
        (self._data / "endpoint.json").unlink(missing_ok=True)
        if self._database_lock is not None:
            self._database_lock.release()
        if self._lock is not None:
            self._lock.release()


# ---- pieces ------------------------------------------------------------------------------------------------------


def _leave() -> None:
    """Another server moves the runs now: this one must not do anything more, not even in order. Engines and tasks go on."""
    print("runomics serve: another server has taken the database; this one ends", file=sys.stderr, flush=True)
    os._exit(EXIT_CANNOT_START)


def _audit_log(settings: Settings) -> AuditLog | None:
    if not settings.audit_log:
        return None
    return AuditLog(
        settings.data / "audit.log",
        max_bytes=settings.audit_log_max_bytes,
        files=settings.audit_log_files,
        describe=resource_of(settings.region),
    )


def _networks(settings: Settings) -> tuple[Network, ...]:
    try:
        return networks_of(settings.networks)
    except InvalidNetwork as error:
        raise CannotStart(str(error)) from error


def _connections(settings: Settings) -> tuple[Connection, ...]:
    try:
        return read_connections(settings.git_connections_file)
    except ConnectionsError as error:
        raise CannotStart(str(error)) from error


def _limits(settings: Settings) -> Limits:
    return Limits(
        stored_runs=settings.max_stored_runs,
        workflows=settings.max_workflows,
        versions_per_workflow=settings.max_versions_per_workflow,
        shares_per_workflow=settings.max_shares_per_workflow,
        run_groups=settings.max_run_groups,
        run_caches=settings.max_run_caches,
        configurations=settings.max_configurations,
    )


def _with_rates(settings: Settings, authorize: Authorize) -> Authorize:
    if settings.request_rates == "off":
        return authorize
    return throttled(authorize, Throttle(request_rates.AWS, now=time.monotonic))


def _translate(error: Exception) -> ApiError | None:
    if isinstance(error, Overloaded):
        return ThrottlingException("Rate exceeded")
    if isinstance(error, DatabaseUnavailable):
        # AWS's clients try a 500 again by themselves, with the same request token.
        log.error("api.database_unavailable", error=str(error))
        return InternalServerException("The database of this server is not available; nothing was done. Try again.")
    return None


def _objects(settings: Settings, credentials: Credentials | None = None) -> ObjectStore:
    """The folder store, or the S3 service as the server's own key sees it, or as `credentials` do."""
    if settings.s3_endpoint is None:
        return DirectoryObjects(settings.data / "objects")
    if credentials is None and settings.s3_access_key_id is not None and settings.s3_secret_access_key is not None:
        credentials = Credentials(settings.s3_access_key_id, settings.s3_secret_access_key.get_secret_value())
    return S3Objects(
        endpoint=settings.s3_endpoint,
        region=settings.region,
        access_key_id=None if credentials is None else credentials.access_key_id,
        secret_access_key=None if credentials is None else credentials.secret_access_key,
    )


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
        logger_factory=ServerLog,
        cache_logger_on_first_use=True,
    )
