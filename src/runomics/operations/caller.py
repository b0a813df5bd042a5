"""Who asks, when, and of which server: everything an operation may know besides the request and the database. Server process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from runomics.domain.limits import Limits
from runomics.domain.storage import RunStorage
from runomics.ports import ObjectStore
from runomics.store.definitions import Definitions
from runomics.store.runs import RunRow
from runomics.store.tasks import TaskRow


def _no_problem(account: str, configuration_name: str, run_configurations: str) -> str | None:
    return None


def _no_reason(row: RunRow | TaskRow) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Site:
    """One server, the same for every request.

    `page_key` signs page tokens. `export_url(path, expires_ms)` makes a URL that anyone may GET until then; its path starts with
    `definition/` or `readme/`. `objects_as(account, role ARN)` is what that role may read and write. `waiting_reason(run)` says
    why a PENDING run waits, for GetRun's statusMessage; `task_waiting_reason(task)` the same for GetRunTask.
    `network_problem(account, name, runConfigurations)` says why a configuration means no network of this server.
    """

    region: str
    definitions: Definitions
    page_key: bytes
    export_url: Callable[[str, int], str]
    objects_as: Callable[[str, str], ObjectStore]
    default_storage_type: str = "STATIC"
    default_static_capacity_gib: int = 1200
    export_seconds: int = 3600
    limits: Limits = field(default_factory=Limits)
    waiting_reason: Callable[[RunRow], str | None] = _no_reason
    task_waiting_reason: Callable[[TaskRow], str | None] = _no_reason
    network_problem: Callable[[str, str, str], str | None] = _no_problem

    @property
    def default_storage(self) -> RunStorage:
        return RunStorage(self.default_storage_type, self.default_static_capacity_gib)


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's signer and moment. `now_ms` is UTC epoch milliseconds, `account` 12 digits."""

    account: str
    principal_arn: str
    access_key_id: str
    request_id: str
    now_ms: int
    site: Site
