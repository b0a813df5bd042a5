"""A workflow with a version, shared between two accounts of a real server: the scheduler registers, activates and revokes; the runs run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from runomics.store.accounts import AccessKeyRow, add_account, add_key
from runomics.store.database import SqliteStore, Tx
from server import wait_until
from workflows import ENDED, ONE_TASK

OTHER = "210987654321"
ROLE = f"arn:aws:iam::{OTHER}:role/theirs"
SLOW = ONE_TASK.replace("echo", "until test -e /mnt/workflow/never; do sleep 0.1; done; echo")

pytestmark = pytest.mark.needs("bwrap", "userns")


@pytest.fixture
def sides(serve: Any) -> Iterator[tuple[Any, Any]]:
    """Clients of the owner and of the subscriber, whose bucket is `theirs`."""
    site = serve()
    site.server.stop()
    store = SqliteStore(site.data / "database.sqlite")

    def add(tx: Tx) -> None:
        add_account(tx, OTHER, "theirs", 1)
        add_key(tx, AccessKeyRow("AKIATHEIRS", OTHER, "secret", f"arn:aws:iam::{OTHER}:user/bea", 1))

    store.write(add)
    store.close()
    (site.data / "objects" / "theirs").mkdir(parents=True)
    site.server.start()
    subscriber = boto3.client(
        "omics",
        endpoint_url=f"http://127.0.0.1:{site.server.port}",
        region_name="us-east-1",
        aws_access_key_id="AKIATHEIRS",
        aws_secret_access_key="secret",
        config=Config(inject_host_prefix=False, retries={"max_attempts": 0}),
    )
    yield site, subscriber
    for item in subscriber.list_runs()["items"]:
        if item["status"] not in ENDED:
            subscriber.cancel_run(id=item["id"])
            assert end_of(subscriber, item["id"])["status"] == "CANCELLED"


def end_of(client: Any, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.clear()
        found.update(client.get_run(id=run_id))
        return found["status"] in ENDED

    assert wait_until(ended, 60, every_seconds=0.02), f"run {run_id} is still {found.get('status')}"
    return found


def add_version(client: Any, workflow_id: str, name: str, text: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("main.wdl", text)
    client.create_workflow_version(workflowId=workflow_id, versionName=name, definitionZip=archive.getvalue())
    client.get_waiter("workflow_version_active").wait(
        workflowId=workflow_id, versionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )


def becomes(client: Any, share_id: str, status: str) -> bool:
    return wait_until(lambda: client.get_share(shareId=share_id)["share"]["status"] == status, 10, every_seconds=0.01)


def test_the_subscriber_runs_workflow_and_version_and_revoking_leaves_its_run_alone(sides: tuple[Any, Any]) -> None:
    site, subscriber = sides
    owner = site.client
    workflow_id = site.register(ONE_TASK, name="hello")
    add_version(owner, workflow_id, "slow", SLOW)
    share_id = owner.create_share(
        resourceArn=owner.get_workflow(id=workflow_id)["arn"], principalSubscriber=OTHER, shareName="hello"
    )["shareId"]
    subscriber.accept_share(shareId=share_id)
    assert becomes(owner, share_id, "ACTIVE")

    (share,) = subscriber.list_shares(resourceOwner="OTHER", filter={"status": ["ACTIVE"]})["shares"]
    add_version(owner, workflow_id, "later", ONE_TASK.replace("hello ~", "goodbye ~"))
    usual = {
        "workflowId": share["resourceId"],
        "workflowOwnerId": share["ownerId"],
        "roleArn": ROLE,
        "outputUri": "s3://theirs/out",
        "parameters": {"name": "bea"},
    }
    plain = subscriber.start_run(**usual)["id"]
    later = subscriber.start_run(workflowVersionName="later", **usual)["id"]
    for run_id, said in ((plain, "hello bea\n"), (later, "goodbye bea\n")):
        assert end_of(subscriber, run_id)["status"] == "COMPLETED"
        (greeting,) = (site.data / "objects" / "theirs" / "out" / run_id / "out").rglob("greeting.txt")
        assert greeting.read_text() == said
    assert owner.list_runs()["items"] == []

    slow = subscriber.start_run(workflowVersionName="slow", **usual)["id"]
    assert wait_until(
        lambda: any(task["status"] == "RUNNING" for task in subscriber.list_run_tasks(id=slow)["items"]),
        30,
        every_seconds=0.02,
    )
    owner.delete_share(shareId=share_id)
    assert becomes(subscriber, share_id, "DELETED")
    for name in ("slow", "later"):
        owner.delete_workflow_version(workflowId=workflow_id, versionName=name)
    owner.delete_workflow(id=workflow_id)
    with pytest.raises(subscriber.exceptions.ResourceNotFoundException):
        subscriber.start_run(**usual)
    assert [task["status"] for task in subscriber.list_run_tasks(id=slow)["items"]] == ["RUNNING"]
    assert subscriber.get_run(id=slow)["status"] == "RUNNING"
