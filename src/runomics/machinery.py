"""What works behind the API: run storage, engines, tasks, transfers, logs and the scheduler, composed, begun and ended in order.

Part of the composition root beside `app`; lives in the server process. The API answers before this has begun, so that a restart is short.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from runomics import isolation
from runomics.domain.admission import StorageQuotas
from runomics.domain.event import Webhook
from runomics.domain.image import CONVENTIONAL_IMAGE_MAP
from runomics.domain.limits import Limits
from runomics.domain.network import Network
from runomics.domain.repository import Connection
from runomics.engines.host import ForkedEngineHost
from runomics.events.outbox import Outbox
from runomics.images.pulled import ImageLimits, PulledImages
from runomics.images.skopeo import Skopeo
from runomics.logs.streams import FileLogs
from runomics.logs.unfailing import UnfailingLogs
from runomics.ports import Clock, EventSink
from runomics.repositories.git import GitRepositories
from runomics.run_storage import StorageSettings, open_storage, release_shared_mount
from runomics.runners import bridges
from runomics.runners.accelerators import open_pool
from runomics.runners.local import LocalRunner
from runomics.sandbox import seccomp, volume_path
from runomics.scheduler import register
from runomics.scheduler.batches import Batches, RunMaker
from runomics.scheduler.configurations import Configurations
from runomics.scheduler.engine_requests import EngineRequests
from runomics.scheduler.gateway import Gateway
from runomics.scheduler.groups import Groups
from runomics.scheduler.host_guard import HostGuard
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.loop import Kind, Lane, LoopPolicy, Scheduler, runs_left
from runomics.scheduler.networks import Networks
from runomics.scheduler.object_access import ObjectAccess
from runomics.scheduler.ready2run import Ready2Run
from runomics.scheduler.register import Register
from runomics.scheduler.repository_source import RepositorySource
from runomics.scheduler.retention import Retention, RetentionPolicy
from runomics.scheduler.run_notes import RunNotes
from runomics.scheduler.run_plan import RunPlans, RunPolicy
from runomics.scheduler.shares import Shares
from runomics.scheduler.steps import Steps
from runomics.scheduler.task_attempt import Attempt
from runomics.scheduler.task_images import ImagePolicy, TaskImages
from runomics.scheduler.task_policy import TaskPolicy
from runomics.scheduler.tasks import Tasks
from runomics.scheduler.transfer import Transfers
from runomics.settings import Settings
from runomics.store import batches, catalog, configurations, groups, runs, shares, versions
from runomics.store.database import Store, Tx
from runomics.store.definitions import Definitions
from runomics.store.runs import RunRow
from runomics.store.tasks import TaskRow
from runomics.store.webhooks import WebhookQueues
from runomics.web.metrics import Figures, LiveTask
from runomics.wire.model import ServiceModel
from runomics.wire.validate import checker

log = structlog.get_logger()

INSPECTION_SLOT = 65_535
GIB = 1 << 30
MEMORY_LEFT_TO_HOST_GIB = 2
WAITING_TASK = "waiting-task"
"""What is stepped when the time to wait for a task's turn with one of its profiles is over."""


class Machinery:
    """Composed by the constructor, which looks at the machine; at work between `begin` and `end`."""

    _steps: Steps
    _scheduler: Scheduler

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        definitions: Definitions,
        access: ObjectAccess,
        run_maker: RunMaker,
        connections: Sequence[Connection],
        networks: Sequence[Network],
        model: ServiceModel,
        clock: Clock,
    ) -> None:
        """Choose the back ends and wire them together. Nothing runs yet. Objects are touched through `access` alone.

        `connections` and `networks` are the operator's; definitions that come by no request are held to `model`.

        Raises:
            StorageUnavailable: the run storage that was set does not work here.
        """
        self._store, self._definitions = store, definitions
        self._data = data = settings.data
        self._max_active_runs = settings.max_active_runs
        self._requires_sandbox = settings.requires_sandbox
        rootless = os.geteuid() != 0
        memory_gib = settings.host_memory_gib or max(1.0, _memory_gib() - MEMORY_LEFT_TO_HOST_GIB)
        cpus = settings.host_cpus or float(len(os.sched_getaffinity(0)))
        self.storage = open_storage(
            data / "volumes",
            data / "runs",
            StorageSettings(
                backend=settings.storage_backend,
                reserve_bytes=_reserve_bytes(settings),
                ready_static_gib=(settings.default_static_capacity_gib,),
            ),
            on_full=lambda run_uuid: self._steps.volume_full(run_uuid),
            on_host_low=lambda pool: self._host_guard.low(pool),
        )
        self.logs = FileLogs(
            data / "logs",
            open_beneath=_open_for_reading,
            max_bytes_per_task=settings.log_max_bytes_per_task,
            now_ms=clock.now_ms,
        )
        logs = UnfailingLogs(self.logs)
        notes = RunNotes(logs, clock)
        seccomp_program = data / "seccomp.bpf"
        seccomp.write_program(seccomp_program)
        self._runner = LocalRunner(
            data,
            cgroup_parent=f"runomics-{hashlib.sha256(str(data).encode()).hexdigest()[:8]}",
            cpus=cpus,
            memory_bytes=int(memory_gib * GIB),
            seccomp_program=seccomp_program,
            container_runtime=settings.container_runtime,
        )
        self._engines = ForkedEngineHost(data=data, inspection_uid=settings.sandbox_uid_base + INSPECTION_SLOT)
        self.transfers = Transfers(
            objects=access.nothing(),
            cache=InputCache(data / "cache", access.nothing(), max_bytes=settings.cache_max_bytes),
            open_export=volume_path.resolve_in_volume,
        )
        accelerators = open_pool(data)
        self._images = TaskImages(
            store=store,
            images=_image_store(settings),
            clock=clock,
            policy=ImagePolicy(
                region=settings.region,
                image_map={**CONVENTIONAL_IMAGE_MAP, **settings.image_map},
                strict=settings.strict_images,
                default=settings.default_image,
                unknown=settings.unknown_images,
            ),
            note=notes.of_task,
        )
        self._tasks = Tasks(
            store=store,
            runner=self._runner,
            storage=self.storage,
            logs=logs,
            clock=clock,
            policy=TaskPolicy(
                host_cpus=cpus,
                host_memory_bytes=int(memory_gib * GIB),
                host_gpus=accelerators.total,
                oversize=settings.oversize_tasks,
                retries=settings.task_retries,
                grace_seconds=settings.grace_seconds,
                most_of_a_run=settings.task_concurrency,
            ),
            on_quiet=lambda run_id: self._scheduler.wake(run_id),
            run_note=notes.of_task,
            accelerators=accelerators,
            images=self._images,
            look_at=lambda task_id, at_ms: self._scheduler.step_at(WAITING_TASK, task_id, at_ms),
        )
        self._gateway = Gateway(
            desk=self._tasks,
            stage=lambda run_id, uri: self._requests.stage(run_id, uri),
            note=lambda run_id, message: self._requests.note(run_id, message),
            listing=lambda run_id, uri: self._requests.list_objects(run_id, uri),
        )
        self._tasks.set_listener(self._gateway.tell)
        self._scheduler = Scheduler(
            store=store,
            clock=clock,
            policy=LoopPolicy(
                max_active_runs=settings.max_active_runs,
                quotas=StorageQuotas(settings.max_active_static_runs, settings.max_active_dynamic_runs),
            ),
            has_room=self.storage.has_room,
        )
        given = Networks(networks, bridges.problem)
        check = checker(
            model.shapes, "CreateWorkflowRequest", "CreateWorkflowVersionRequest", "WorkflowParameterTemplate"
        )
        plans = RunPlans(
            store=store,
            definitions=definitions,
            access=access,
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
        )
        self._requests: EngineRequests = EngineRequests(
            store=store, plans=plans, transfers=self.transfers, gateway=self._gateway, notes=notes
        )
        self._steps = Steps(
            store=store,
            plans=plans,
            notes=notes,
            storage=self.storage,
            engines=self._engines,
            transfers=self.transfers,
            tasks=self._tasks,
            gateway=self._gateway,
            logs=logs,
            clock=clock,
            wake=self._scheduler.wake,
            wake_at=self._scheduler.wake_at,
            on_ended=self._scheduler.run_ended,
            networks=given,
        )
        self._host_guard: HostGuard = HostGuard(
            store=store, storage=self.storage, clock=clock, note=notes.note, fail=self._steps.fail
        )
        self._register = Register(
            store=store,
            definitions=definitions,
            engine_host=self._engines,
            objects_of=access.of_account,
            source=_repository_source(settings, connections, definitions, partial(check, "WorkflowParameterTemplate")),
            hand_over=lambda kind, row_id: self._scheduler.step_at(kind, row_id, clock.now_ms()),
            now_ms=clock.now_ms,
        )
        self._ready2run = Ready2Run(
            settings.ready2run_directory,
            store=store,
            definitions=definitions,
            check_workflow=partial(check, "CreateWorkflowRequest"),
            check_version=partial(check, "CreateWorkflowVersionRequest"),
            now_ms=clock.now_ms,
        )
        self._shares = Shares(store, now_ms=clock.now_ms)
        self._outbox = Outbox(
            queues=WebhookQueues(store, now_ms=clock.now_ms),
            sink_of=partial(_webhook_sink, region=settings.region, clock=clock),
            clock=clock,
        )
        self._batches = Batches(
            store=store,
            maker=run_maker,
            objects_as=access.of_run,
            scratch=data,
            clock=clock,
            step_at=partial(self._scheduler.step_at, batches.KIND),
        )
        self._retention = Retention(
            store=store,
            definitions=definitions,
            clock=clock,
            policy=RetentionPolicy(token_days=settings.token_days, event_days=settings.event_days),
            collect_images=self._images.collect,
        )
        self._configurations = Configurations(store, given)
        self._groups = Groups(
            store,
            set_limits=self._tasks.set_limits,
            wake=self._scheduler.wake,
            admit=self._scheduler.run_ended,
        )

    def begin(self) -> None:
        """Start threads and launchers, remove what belongs to no live run, and take up what is open.

        Raises:
            SandboxMissing: the settings require a layer of isolation that does not work here. Nothing was begun.
        """
        if self._requires_sandbox:
            isolation.require(self.storage.caps, self._runner.probe())
        self._engines.open()
        self._runner.begin()
        self._sweep()
        self._gateway.start()
        self._store.set_on_wake(self._scheduler.woken)
        self._scheduler.start(
            {
                "run": Kind(self._steps.step, runs_left, Lane.RUNS),
                "workflow": Kind(self._register.step, catalog.creating_workflows, Lane.REGISTER),
                versions.KIND: Kind(self._register.step_version, versions.creating_versions, Lane.REGISTER),
                register.FETCH_KIND: Kind(self._register.fetch, _none_left, Lane.FETCH),
                register.VERSION_FETCH_KIND: Kind(self._register.fetch_version, _none_left, Lane.FETCH),
                shares.KIND: Kind(self._shares.step, shares.moving_shares),
                batches.KIND: Kind(self._batches.step, batches.open_batches, Lane.BATCHES),
                configurations.KIND: Kind(self._configurations.step, configurations.creating_configurations),
                WAITING_TASK: Kind(self._tasks.waited, lambda tx: ()),
                groups.KIND: Kind(self._groups.step, lambda tx: ()),
            }
        )
        self._scheduler.run_ended()
        self._ready2run.offer()
        self._outbox.start()
        self._retention.start()

    def end(self) -> None:
        """Leave in order: no new steps, then nobody to report to. Engines and tasks go on."""
        self._retention.stop()
        self._outbox.stop()
        self._store.set_on_wake(None)
        self._batches.give_up()
        self._engines.give_up_inspections()
        self._scheduler.stop()
        self._batches.close()
        self._gateway.stop()
        self._tasks.close()
        self._engines.close()
        self._runner.close()
        self.transfers.close()
        self.logs.close()
        self.storage.close()
        release_shared_mount(self._data / "runs")

    def waiting_reason(self, run: RunRow) -> str:
        """Why a PENDING run waits."""
        return self._scheduler.waiting_reason(run)

    def task_waiting_reason(self, task: TaskRow) -> str | None:
        """Why a PENDING task waits."""
        return self._tasks.waiting_reason(task)

    def figures(self) -> Figures:
        """What `/metrics` tells."""
        pending, active = self._store.read(lambda tx: (runs.count_pending(tx), runs.count_active(tx)))
        return Figures(
            runs_pending=pending,
            runs_active=active,
            max_active_runs=self._max_active_runs,
            pool=self.storage.pool(),
            tasks=self._tasks.figures(),
            live=tuple(self._live_task(attempt) for attempt in self._tasks.running()),
        )

    def _live_task(self, attempt: Attempt) -> LiveTask:
        cpu_seconds, memory_bytes = self._runner.live_usage(attempt.directory)
        return LiveTask(
            run_id=attempt.place.run_id,
            task_id=attempt.row.id,
            name=attempt.row.name,
            cpus=attempt.cpus,
            memory_limit_bytes=attempt.memory_bytes,
            cpu_seconds=cpu_seconds,
            memory_bytes=memory_bytes,
        )

    def _sweep(self) -> None:
        active = frozenset(self._store.read(runs.active_run_uuids))
        destroyed = self.storage.sweep(active)
        if destroyed:
            log.warning("service.orphaned_volumes_destroyed", runs=destroyed)
        self._definitions.sweep()
        self._steps.sweep_directories(active)
        self._runner.sweep(active)


def _repository_source(
    settings: Settings,
    connections: Sequence[Connection],
    definitions: Definitions,
    check_template: Callable[[Any], Any],
) -> RepositorySource:
    return RepositorySource(
        connections=connections,
        repositories=GitRepositories(
            scratch=definitions.root, seconds=settings.git_seconds, limit_bytes=settings.git_max_bytes
        ),
        definitions=definitions,
        check_template=check_template,
        limits=Limits(),
    )


def _none_left(tx: Tx) -> Sequence[int]:
    """What is to be fetched is found as what is to be registered."""
    return ()


def _image_store(settings: Settings) -> PulledImages:
    directory = settings.image_directory or settings.data / "images"
    return PulledImages(
        directory,
        Skopeo(
            directory,
            auth_file=settings.registry_auth_file,
            insecure_registries=[name.strip() for name in settings.insecure_registries.split(",")],
            pull_seconds=settings.image_pull_seconds,
        ),
        limits=ImageLimits(
            image_bytes=int(settings.max_image_gib * GIB),
            cache_bytes=settings.image_max_bytes,
            unused_days=settings.image_days,
            pull_seconds=settings.image_pull_seconds,
        ),
    )


def _webhook_sink(webhook: Webhook, *, region: str, clock: Clock) -> EventSink:
    # The HTTP client costs 13 ms and 2 MB, which a server without webhooks need not pay.
    from runomics.events.webhook import WebhookSink  # noqa: PLC0415

    return WebhookSink(webhook, region=region, now_ms=clock.now_ms)


def _reserve_bytes(settings: Settings) -> int:
    """What runs never get of the disk: the larger of the two settings."""
    status = os.statvfs(settings.data)
    percent_bytes = status.f_blocks * status.f_frsize * settings.storage_reserve_percent // 100
    return max(settings.storage_reserve_gib * GIB, percent_bytes)


def _open_for_reading(volume: Path, relative: str) -> int:
    return volume_path.open_beneath(volume, relative, os.O_RDONLY | os.O_NONBLOCK)


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
