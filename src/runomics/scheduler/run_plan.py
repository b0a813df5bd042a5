"""What follows from a run's row for this host: its directory, user, place and engine's plan. In the server, on the scheduler's threads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from runomics.domain.network import Network
from runomics.ports import ObjectStore, StorageType
from runomics.scheduler.object_access import ObjectAccess
from runomics.scheduler.task_attempt import RunPlace
from runomics.store import groups as group_rows
from runomics.store.database import Store
from runomics.store.definitions import Definitions
from runomics.store.groups import GroupRow
from runomics.store.runs import RunRow

PLAN_FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What an operator decides about runs, and where things lie."""

    region: str
    data_directory: Path
    rootless: bool
    sandbox_uid_base: int
    task_concurrency: int = 500
    run_timeout_seconds: int = 604_800
    min_running_seconds: float = 0.0
    restarts_lost_engine: bool = True
    max_incarnations: int = 3
    gateway_patience_seconds: int = 86_400

    @property
    def runs_directory(self) -> Path:
        return self.data_directory / "runs"


@dataclass(frozen=True, slots=True)
class RunPlans:
    """Asked with a run's row; keeps nothing."""

    store: Store
    definitions: Definitions
    access: ObjectAccess
    policy: RunPolicy

    def directory(self, run: RunRow) -> Path:
        """Where everything of the run lies on this host."""
        return self.policy.runs_directory / run.uuid

    def objects(self, run: RunRow) -> ObjectStore:
        """What the run may touch with its role."""
        session_policy = orjson.loads(run.extra).get("sessionPolicy") if "sessionPolicy" in run.extra else None
        return self.access.of_run(run.account, run.role_arn, session_policy)

    def definition(self, run: RunRow) -> Path:
        """The unpacked definition of the run's workflow."""
        return self.definitions.tree(run.definition_sha256)

    def interface(self, run: RunRow) -> Mapping[str, Any]:
        """What inspection found of the run's main; empty when nothing is kept."""
        return self.definitions.interface(run.definition_sha256, run.engine, run.main) or {}

    def declared_inputs(self, run: RunRow) -> Sequence[Mapping[str, Any]]:
        """The inputs of the run's main."""
        inputs: Sequence[Mapping[str, Any]] = self.interface(run).get("inputs", ())
        return inputs

    def parameters(self, run: RunRow) -> Mapping[str, Any]:
        """The run's parameters."""
        found = orjson.loads(run.parameters) if run.parameters else {}
        return found if isinstance(found, dict) else {}

    def uid(self, run: RunRow) -> int:
        """Whom the run's engine and tasks run as."""
        if self.policy.rootless:
            return os.geteuid()
        return self.policy.sandbox_uid_base + (run.sandbox_slot or 0)

    def group(self, run: RunRow) -> GroupRow | None:
        """The run's group as it is now."""
        group_id = run.run_group_id
        return None if group_id is None else self.store.read(lambda tx: group_rows.load_group(tx, group_id))

    def place(self, run: RunRow, network: Network | None = None) -> RunPlace:
        """What the run's tasks must know of it."""
        group = self.group(run)
        kept = {} if run.extra == "{}" else orjson.loads(run.extra)
        return RunPlace(
            run_id=run.id,
            run_uuid=run.uuid,
            account=run.account,
            incarnation=run.incarnation,
            priority=run.priority or 0,
            run_directory=self.directory(run),
            definition=self.definition(run),
            rootless=self.policy.rootless,
            storage_capacity_gib=run.storage_capacity_gib if run.storage_type == StorageType.STATIC else None,
            environment=self._environment(run),
            keeps_logs=run.log_level != "OFF",
            group=None if group is None else group.limits,
            network=network,
            has_local_scratch=kept.get("scratchStorageMode") == "LOCAL",
            registry_map=kept.get("containerRegistryMap"),
        )

    def plan(self, run: RunRow, place: RunPlace) -> dict[str, Any]:
        """The members of plan.json. Reads the run's staged.json.

        Raises:
            OSError: inputs were not imported.
        """
        directory = place.run_directory
        uid = self.uid(run)
        suffix = "" if run.incarnation == 1 else f"-{run.incarnation}"
        return {
            "format": PLAN_FORMAT,
            "run_id": str(run.id),
            "run_uuid": run.uuid,
            "account": run.account,
            "incarnation": run.incarnation,
            "engine": run.engine,
            "main": run.main,
            "run_directory": str(directory),
            "base": str(self.policy.data_directory / "sandbox"),
            "volume": str(place.volume),
            "definition": str(place.definition),
            "inputs": str(directory / "inputs"),
            "gateway": str(directory / "gateway"),
            "engine_directory": str(directory / "engine"),
            "log": str(directory / "engine.log"),
            "uid": uid,
            "gid": uid if not self.policy.rootless else os.getegid(),
            "rootless": self.policy.rootless,
            "workdir": f"/mnt/workflow/{run.uuid}/workdir{suffix}",
            "parameters": self.parameters(run),
            "staged": orjson.loads((directory / "staged.json").read_bytes()),
            "environment": self._environment(run),
            "engine_settings": _mapping(orjson.loads(run.extra).get("engineSettings")),
            "task_concurrency": self.policy.task_concurrency,
            "gateway_patience_seconds": self.policy.gateway_patience_seconds,
        }

    def _environment(self, run: RunRow) -> dict[str, str]:
        return {
            "AWS_REGION": self.policy.region,
            "AWS_WORKFLOW_RUN": f"arn:aws:omics:{self.policy.region}:{run.account}:run/{run.id}",
            "AWS_WORKFLOW_RUN_ID": str(run.id),
            "AWS_WORKFLOW_RUN_UUID": run.uuid,
        }


def write(path: Path, data: bytes) -> None:
    """Replace a file of a run's directory in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
