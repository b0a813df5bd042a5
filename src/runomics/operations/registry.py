"""Every operation this server has, by the name the API gives it. Server process; read once at start.

What is not here is answered with NotSupportedOperationException by the edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runomics.operations import (
    batches,
    configurations,
    definitions,
    run_caches,
    run_groups,
    runs,
    shares,
    tags,
    tasks,
    versions,
    workflows,
)
from runomics.operations.caller import Caller
from runomics.store.dialect import hold_account, share_account
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class Registered:
    """An operation as data. `writes`: it is a writing unit. `prepare(caller, request)` does file work before, on a pool thread,
    and gives the request that `function` gets.

    Where the database runs units side by side, one that writes holds its account to its end: what it looked up (a name, a quota, who
    uses what it removes) stays true. `side_by_side`: it looks up nothing that others of its kind could change under it but by rows
    that are unique or counted, so that they need not wait for each other.
    """

    name: str
    function: Callable[[Tx, Caller, Any], dict[str, Any] | None]
    writes: bool = False
    side_by_side: bool = False
    prepare: Callable[[Caller, Any], Any] | None = None


OPERATIONS: tuple[Registered, ...] = (
    Registered("AcceptShare", shares.accept_share, writes=True),
    Registered("CancelRun", runs.cancel_run, writes=True),
    Registered("CancelRunBatch", batches.cancel_run_batch, writes=True),
    Registered("CreateConfiguration", configurations.create_configuration, writes=True),
    Registered("CreateRunCache", run_caches.create_run_cache, writes=True),
    Registered("CreateRunGroup", run_groups.create_run_group, writes=True),
    Registered("CreateShare", shares.create_share, writes=True),
    Registered("CreateWorkflow", workflows.create_workflow, writes=True, prepare=definitions.store_definition),
    Registered(
        "CreateWorkflowVersion",
        versions.create_workflow_version,
        writes=True,
        prepare=definitions.store_definition,
    ),
    Registered("DeleteBatch", batches.delete_batch, writes=True),
    Registered("DeleteConfiguration", configurations.delete_configuration, writes=True),
    Registered("DeleteRun", runs.delete_run, writes=True),
    Registered("DeleteRunBatch", batches.delete_run_batch, writes=True),
    Registered("DeleteRunCache", run_caches.delete_run_cache, writes=True),
    Registered("DeleteRunGroup", run_groups.delete_run_group, writes=True),
    Registered("DeleteShare", shares.delete_share, writes=True),
    Registered("DeleteWorkflow", workflows.delete_workflow, writes=True),
    Registered("DeleteWorkflowVersion", versions.delete_workflow_version, writes=True),
    Registered("GetBatch", batches.get_batch),
    Registered("GetConfiguration", configurations.get_configuration),
    Registered("GetRun", runs.get_run),
    Registered("GetRunCache", run_caches.get_run_cache),
    Registered("GetRunGroup", run_groups.get_run_group),
    Registered("GetRunTask", tasks.get_run_task),
    Registered("GetShare", shares.get_share),
    Registered("GetWorkflow", workflows.get_workflow),
    Registered("GetWorkflowVersion", versions.get_workflow_version),
    Registered("ListBatch", batches.list_batch),
    Registered("ListConfigurations", configurations.list_configurations),
    Registered("ListRunCaches", run_caches.list_run_caches),
    Registered("ListRunGroups", run_groups.list_run_groups),
    Registered("ListRunTasks", tasks.list_run_tasks),
    Registered("ListRuns", runs.list_runs),
    Registered("ListRunsInBatch", batches.list_runs_in_batch),
    Registered("ListShares", shares.list_shares),
    Registered("ListTagsForResource", tags.list_tags_for_resource),
    Registered("ListWorkflowVersions", versions.list_workflow_versions),
    Registered("ListWorkflows", workflows.list_workflows),
    Registered("StartRun", runs.start_run, writes=True, side_by_side=True),
    Registered("StartRunBatch", batches.start_run_batch, writes=True, prepare=batches.find_settings),
    Registered("TagResource", tags.tag_resource, writes=True),
    Registered("UntagResource", tags.untag_resource, writes=True),
    Registered("UpdateRunCache", run_caches.update_run_cache, writes=True),
    Registered("UpdateRunGroup", run_groups.update_run_group, writes=True),
    Registered("UpdateWorkflow", workflows.update_workflow, writes=True),
    Registered("UpdateWorkflowVersion", versions.update_workflow_version, writes=True),
)


def handlers() -> Mapping[str, Registered]:
    """Operation name → what serves it."""
    return {operation.name: _holding_account(operation) if operation.writes else operation for operation in OPERATIONS}


def _holding_account(operation: Registered) -> Registered:
    hold = share_account if operation.side_by_side else hold_account
    act = operation.function

    def function(tx: Tx, caller: Caller, request: Any) -> dict[str, Any] | None:
        hold(tx, caller.account)
        return act(tx, caller, request)

    return replace(operation, function=function)
