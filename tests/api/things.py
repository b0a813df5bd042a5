"""What requests of all operations are about, made when it is needed: for the tests that go over the whole API."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from access_world import AccessWorld
from server_in_a_box import ACCOUNT, NOW_MS, OTHER, ROLE, Box

from runomics.store.database import next_id
from runomics.store.tasks import NewTask, insert_tasks

ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:"
STRANGER, REVOKED = "333333333333", "444444444444"
_numbers = itertools.count(1)


class Things:
    """Things of ACCOUNT. Its workflows are shared with OTHER, and were with REVOKED."""

    def __init__(self, world: AccessWorld) -> None:
        self.world = world
        self.box: Box = world.box
        self._workflow = ""

    def token(self) -> str:
        return f"token-{next(_numbers)}"

    def name(self) -> str:
        return f"name-{next(_numbers)}"

    def made(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.box.call(operation, requestId=self.token(), **request)

    def workflow(self) -> str:
        """The one that is shared; whoever deletes it gets one of its own."""
        if not self._workflow:
            self._workflow = self.box.registered_workflow()
            self.box.registered_version(self._workflow, "v1")
            self.box.shared(self._workflow, OTHER)
            self.revoked_share(self._workflow)
        return self._workflow

    def lonely_workflow(self) -> str:
        return self.box.registered_workflow()

    def revoked_share(self, workflow_id: str | None = None) -> str:
        share = self.box.shared(workflow_id or self.lonely_workflow(), REVOKED)
        self.box.call("DeleteShare", shareId=share)
        self.box.move_shares()
        return share

    def offered_share(self) -> str:
        return self.box.offered(self.lonely_workflow(), OTHER)

    def version(self) -> str:
        name = f"v{next(_numbers)}"
        self.box.registered_version(self.workflow(), name)
        return name

    def run(self, status: str = "PENDING") -> str:
        run_id: str = self.box.start_run(self.workflow(), requestId=self.token())["id"]
        if status != "PENDING":
            self.box.set_run(run_id, status=status)
        return run_id

    def task(self, run_id: str) -> str:
        def unit(tx: Any) -> int:
            number = next_id(tx, "task")
            task = NewTask(
                id=number,
                account=ACCOUNT,
                run_id=int(run_id),
                uuid=f"00000000-0000-4000-8000-{number:012}",
                incarnation=1,
                created_ms=NOW_MS,
                key=f"call-{number}",
                attempt=1,
                name="greet",
                cpus=1,
                memory_gib=2,
            )
            insert_tasks(tx, [task])
            return number

        return str(self.box.store.write(unit))

    def group(self) -> str:
        identifier: str = self.made("CreateRunGroup", name=self.name())["id"]
        return identifier

    def cache(self) -> str:
        identifier: str = self.made("CreateRunCache", cacheS3Location="s3://bucket/cache")["id"]
        return identifier

    def configuration(self) -> str:
        name: str = self.made("CreateConfiguration", name=self.name(), runConfigurations={})["name"]
        self.box.store.write(lambda tx: tx.change("update configuration set status = 'ACTIVE'", {}))
        return name

    def batch(self, status: str = "INPROGRESS") -> str:
        batch_id: str = self.made("StartRunBatch", **batch_request(self.workflow()))["id"]
        self.box.store.write(
            lambda tx: tx.change(
                "update run_batch set status = :status where id = :id", {"status": status, "id": int(batch_id)}
            )
        )
        return batch_id


def batch_request(workflow_id: str, **more: Any) -> dict[str, Any]:
    setting = {
        "workflowId": workflow_id,
        "roleArn": ROLE,
        "outputUri": "s3://bucket/out",
        "parameters": {"reads": "s3://bucket/r"},
    }
    return {
        "defaultRunSetting": {**setting, **more},
        "batchRunSettings": {"inlineSettings": [{"runSettingId": "one"}]},
    }


def _version(things: Things, **more: Any) -> dict[str, Any]:
    return {"workflowId": things.workflow(), "versionName": "v1", **more}


def _task(things: Things) -> dict[str, Any]:
    run_id = things.run()
    return {"id": run_id, "taskId": things.task(run_id)}


def _start(things: Things) -> dict[str, Any]:
    return {
        "workflowId": things.workflow(),
        "roleArn": ROLE,
        "outputUri": "s3://bucket/out",
        "parameters": {"reads": "s3://bucket/r"},
        "requestId": things.token(),
    }


REQUESTS: Mapping[str, Callable[[Things], dict[str, Any]]] = {
    "AcceptShare": lambda t: {"shareId": t.offered_share()},
    "CancelRun": lambda t: {"id": t.run()},
    "CancelRunBatch": lambda t: {"batchId": t.batch()},
    "CreateConfiguration": lambda t: {"name": t.name(), "runConfigurations": {}, "requestId": t.token()},
    "CreateRunCache": lambda t: {"cacheS3Location": "s3://bucket/cache", "requestId": t.token()},
    "CreateRunGroup": lambda t: {"name": t.name(), "requestId": t.token()},
    "CreateShare": lambda t: {"resourceArn": f"{ARN}workflow/{t.lonely_workflow()}", "principalSubscriber": "555555555555"},
    "CreateWorkflow": lambda t: {"definitionUri": "s3://bucket/x.zip", "requestId": t.token()},
    "CreateWorkflowVersion": lambda t: {
        "workflowId": t.workflow(), "versionName": t.name(), "definitionUri": "s3://bucket/x.zip", "requestId": t.token(),
    },
    "DeleteBatch": lambda t: {"batchId": t.batch("PROCESSED")},
    "DeleteConfiguration": lambda t: {"name": t.configuration()},
    "DeleteRun": lambda t: {"id": t.run("COMPLETED")},
    "DeleteRunBatch": lambda t: {"batchId": t.batch("PROCESSED")},
    "DeleteRunCache": lambda t: {"id": t.cache()},
    "DeleteRunGroup": lambda t: {"id": t.group()},
    "DeleteShare": lambda t: {"shareId": t.offered_share()},
    "DeleteWorkflow": lambda t: {"id": t.lonely_workflow()},
    "DeleteWorkflowVersion": lambda t: {"workflowId": t.workflow(), "versionName": t.version()},
    "GetBatch": lambda t: {"batchId": t.batch()},
    "GetConfiguration": lambda t: {"name": t.configuration()},
    "GetRun": lambda t: {"id": t.run()},
    "GetRunCache": lambda t: {"id": t.cache()},
    "GetRunGroup": lambda t: {"id": t.group()},
    "GetRunTask": _task,
    "GetShare": lambda t: {"shareId": t.offered_share()},
    "GetWorkflow": lambda t: {"id": t.workflow()},
    "GetWorkflowVersion": _version,
    "ListBatch": lambda t: {},
    "ListConfigurations": lambda t: {},
    "ListRunCaches": lambda t: {},
    "ListRunGroups": lambda t: {},
    "ListRunTasks": lambda t: {"id": t.run()},
    "ListRuns": lambda t: {},
    "ListRunsInBatch": lambda t: {"batchId": t.batch()},
    "ListShares": lambda t: {"resourceOwner": "OTHER"},
    "ListTagsForResource": lambda t: {"resourceArn": f"{ARN}run/{t.run()}"},
    "ListWorkflowVersions": lambda t: {"workflowId": t.workflow()},
    "ListWorkflows": lambda t: {},
    "StartRun": _start,
    "StartRunBatch": lambda t: {**batch_request(t.workflow()), "requestId": t.token()},
    "TagResource": lambda t: {"resourceArn": f"{ARN}workflow/{t.workflow()}", "tags": {"a": "b"}},
    "UntagResource": lambda t: {"resourceArn": f"{ARN}workflow/{t.workflow()}", "tagKeys": ["a"]},
    "UpdateRunCache": lambda t: {"id": t.cache(), "name": "x"},
    "UpdateRunGroup": lambda t: {"id": t.group(), "name": "x"},
    "UpdateWorkflow": lambda t: {"id": t.workflow(), "description": "x"},
    "UpdateWorkflowVersion": lambda t: _version(t, description="x"),
}  # fmt: skip
"""A request of each operation that its owner may make, about something that is there."""
