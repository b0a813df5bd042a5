"""The operations behind the real edge, used with boto3: paginators, waiters, errors, and URLs fetched by a plain HTTP client."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError
from server_in_a_box import ACCOUNT, HELLO, OTHER, ROLE, Box, zip_of

from runomics.operations import registry
from runomics.operations.caller import Caller
from runomics.store.versions import creating_versions, find_readme
from runomics.web.exports import PREFIX, Exports
from runomics.wire.asgi import Edge, Handler, Page, PageAnswer, PageRequest
from runomics.wire.model import ServiceModel
from runomics.wire.server import HttpServer, bind
from runomics.wire.signing import AccessKey

KEY = AccessKey("AKIAEXAMPLE", ACCOUNT, b"secret", f"arn:aws:iam::{ACCOUNT}:user/ana")
OTHER_KEY = AccessKey("AKIAOTHER", OTHER, b"other", f"arn:aws:iam::{OTHER}:user/bea")
ARCHIVE = zip_of({"main.wdl": HELLO})


@dataclass
class Live:
    """A running server, its client, and what is behind it."""

    client: Any
    other_client: Any
    box: Box

    def active_workflow(self, **request: Any) -> str:
        """Registered by the thread that a server would have, found by the waiter that a client would use."""
        created = self.client.create_workflow(definitionZip=ARCHIVE, **request)
        self.box.register.step(int(created["id"]))
        self.client.get_waiter("workflow_active").wait(id=created["id"], WaiterConfig={"Delay": 0, "MaxAttempts": 1})
        identifier: str = created["id"]
        return identifier


@pytest.fixture
def live(box: Box) -> Iterator[Live]:
    ports: queue.Queue[int] = queue.Queue()
    port = 0

    def readme(account: str, workflow_id: int, version_name: str | None) -> str | None:
        return box.store.read(lambda tx: find_readme(tx, account, workflow_id, version_name))

    exports = Exports(
        key=b"k" * 32,
        endpoint=lambda: f"http://127.0.0.1:{port}",
        archive=box.definitions.archive,
        readme=readme,
        now_ms=lambda: int(time.time() * 1000),
    )
    box.with_site(export_url=exports.url)

    def export(request: PageRequest) -> PageAnswer:
        answer = exports.answer(request.method, request.path, request.query)
        return PageAnswer(answer.status, answer.content_type, answer.body, answer.headers)

    edge = Edge(
        model=ServiceModel.load(),
        handlers={
            name: Handler(function=found.function, writes=found.writes, prepare=found.prepare)
            for name, found in registry.handlers().items()
        },
        store=box.store,
        find_key={KEY.key_id: KEY, OTHER_KEY.key_id: OTHER_KEY}.get,
        make_caller=lambda key, request_id: Caller(
            key.account, key.principal_arn, key.key_id, request_id, int(time.time() * 1000), box.site
        ),
        authorize=lambda caller, operation, request: None,
        region="us-east-1",
        now=time.time,
        pages={PREFIX: Page(signed=False, respond=export)},
    )
    server = HttpServer(edge, sockets=[bind("127.0.0.1", 0)], started=ports.put, stop_seconds=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        port = ports.get(timeout=10)
        yield Live(*(_client(port, key) for key in (KEY, OTHER_KEY)), box)
    finally:
        server.stop()
        thread.join(timeout=10)
        edge.close()


def _client(port: int, key: AccessKey) -> Any:
    return boto3.client(
        "omics",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=key.key_id,
        aws_secret_access_key=key.secret.decode(),
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}),
    )


def start(live: Live, workflow_id: str, **request: Any) -> dict[str, Any]:
    usual = {
        "workflowId": workflow_id,
        "roleArn": ROLE,
        "outputUri": "s3://bucket/out",
        "parameters": {"reads": "s3://bucket/r"},
    }
    started: dict[str, Any] = live.client.start_run(**{**usual, **request})
    return started


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own loopback server
        content: bytes = answer.read()
        return content


def test_a_workflow_is_made_found_and_fetched_again(live: Live) -> None:
    workflow_id = live.active_workflow(name="hello", readmeMarkdown="# Größe")
    found = live.client.get_workflow(id=workflow_id, export=["DEFINITION", "README"])
    assert found["digest"] == f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}"
    assert fetch(found["definition"]) == ARCHIVE
    assert fetch(found["readme"]).decode() == "# Größe"
    listed = live.client.get_paginator("list_workflows").paginate(name="hello", type="PRIVATE").build_full_result()
    assert [item["id"] for item in listed["items"]] == [workflow_id]


def test_versions_are_waited_for_paged_and_fetched(live: Live) -> None:
    workflow_id = live.active_workflow()
    for name in ("v1", "v2", "v3"):
        live.client.create_workflow_version(
            workflowId=workflow_id, versionName=name, definitionZip=ARCHIVE, readmeMarkdown=f"# {name}"
        )
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        wait_for_version(live, workflow_id, "v2")
    for row_id in live.box.store.read(creating_versions):
        live.box.register.step_version(row_id)
    wait_for_version(live, workflow_id, "v2")
    pages = live.client.get_paginator("list_workflow_versions").paginate(
        workflowId=workflow_id, PaginationConfig={"PageSize": 1}
    )
    assert [[item["versionName"] for item in page["items"]] for page in pages] == [["v1"], ["v2"], ["v3"]]
    found = live.client.get_workflow_version(workflowId=workflow_id, versionName="v2", export=["DEFINITION", "README"])
    assert fetch(found["definition"]) == ARCHIVE
    assert fetch(found["readme"]) == b"# v2"
    live.client.delete_workflow_version(workflowId=workflow_id, versionName="v2")
    with pytest.raises(live.client.exceptions.ResourceNotFoundException):
        live.client.get_workflow_version(workflowId=workflow_id, versionName="v2")


def wait_for_version(live: Live, workflow_id: str, name: str) -> None:
    live.client.get_waiter("workflow_version_active").wait(
        workflowId=workflow_id, versionName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 1}
    )


def test_the_whole_life_of_a_share_between_two_accounts(live: Live) -> None:
    owner, subscriber = live.client, live.other_client
    workflow_id = live.active_workflow(name="hello", tags={"a": "1"})
    arn = owner.get_workflow(id=workflow_id)["arn"]
    offers = [
        owner.create_share(resourceArn=arn, principalSubscriber=account, shareName="lab")["shareId"]
        for account in (OTHER, "111122223333")
    ]
    pages = owner.get_paginator("list_shares").paginate(resourceOwner="SELF", PaginationConfig={"PageSize": 1})
    assert [[share["shareId"] for share in page["shares"]] for page in pages] == [[offer] for offer in offers]

    (offer,) = subscriber.list_shares(resourceOwner="OTHER", filter={"status": ["PENDING"]})["shares"]
    assert subscriber.accept_share(shareId=offer["shareId"])["status"] == "ACTIVATING"
    live.box.move_shares()
    assert subscriber.get_share(shareId=offer["shareId"])["share"]["status"] == "ACTIVE"

    shared = {"workflowOwnerId": offer["ownerId"]}
    assert subscriber.get_workflow(id=offer["resourceId"], **shared)["name"] == "hello"
    usual = {
        "workflowId": workflow_id,
        "roleArn": ROLE,
        "outputUri": "s3://theirs/out",
        "parameters": {"reads": "s3://b/r"},
    }
    run_id = subscriber.start_run(**usual, **shared)["id"]
    assert subscriber.get_run(id=run_id)["workflowOwnerId"] == ACCOUNT

    again = {"runId": run_id, "roleArn": ROLE, "outputUri": "s3://theirs/out"}
    with pytest.raises(subscriber.exceptions.ValidationException):
        subscriber.start_run(**again)
    with pytest.raises(subscriber.exceptions.AccessDeniedException):
        subscriber.get_workflow(id=workflow_id, export=["DEFINITION"], **shared)
    with pytest.raises(subscriber.exceptions.AccessDeniedException):
        subscriber.get_run(id=run_id, export=["DEFINITION"])
    with pytest.raises(owner.exceptions.ConflictException):
        owner.delete_workflow(id=workflow_id)

    for share_id in offers:
        assert owner.delete_share(shareId=share_id)["status"] == "DELETING"
    live.box.move_shares()
    assert subscriber.get_run(id=run_id)["status"] == "PENDING"
    with pytest.raises(subscriber.exceptions.ResourceNotFoundException):
        subscriber.start_run(**usual, **shared)
    owner.delete_workflow(id=workflow_id)


def test_what_an_answer_calls_its_arn_can_be_tagged_with_it(live: Live) -> None:
    """The ARN travels percent-encoded in the path: slashes and colons of a version's too."""
    client = live.client
    workflow_id = live.active_workflow()
    version = client.create_workflow_version(workflowId=workflow_id, versionName="v1.0-a", definitionZip=ARCHIVE)
    arns = [
        start(live, workflow_id)["arn"],
        client.create_run_group(name="g")["arn"],
        client.create_run_cache(cacheS3Location="s3://bucket/cache")["arn"],
        client.get_workflow(id=workflow_id)["arn"],
        version["arn"],
        client.create_configuration(name="c.1-x", runConfigurations={})["arn"],
    ]
    for arn in arns:
        tagged = client.tag_resource(resourceArn=arn, tags={"who": arn, "a b/c=d+@": ""})
        assert tagged["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"who": arn, "a b/c=d+@": ""}
        untagged = client.untag_resource(resourceArn=arn, tagKeys=["a b/c=d+@", "none"])
        assert untagged["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert [client.list_tags_for_resource(resourceArn=arn)["tags"] for arn in arns] == [{"who": arn} for arn in arns]


def test_an_export_url_with_another_signature_is_forbidden(live: Live) -> None:
    url = live.client.get_workflow(id=live.active_workflow(), export=["DEFINITION"])["definition"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(url[:-1] + ("A" if url[-1] != "A" else "B"))


def test_an_archive_of_the_full_size_goes_through(live: Live) -> None:
    noise = hashlib.shake_256(b"noise").digest(live.box.limits.definition_zip_bytes - 10_000)
    archive = zip_of({"main.wdl": HELLO, "noise": noise})
    created = live.client.create_workflow(definitionZip=archive)
    live.box.register.step(int(created["id"]))
    assert live.client.get_workflow(id=created["id"])["status"] == "ACTIVE"


def test_runs_are_started_listed_by_page_cancelled_and_deleted(live: Live) -> None:
    workflow_id = live.active_workflow()
    started = [start(live, workflow_id, name=f"run {number}")["id"] for number in range(5)]
    pages = list(live.client.get_paginator("list_runs").paginate(PaginationConfig={"PageSize": 2}))
    assert [[item["id"] for item in page["items"]] for page in pages] == [started[:2], started[2:4], started[4:]]
    assert live.client.cancel_run(id=started[0])["ResponseMetadata"]["HTTPStatusCode"] == 202
    live.box.set_run(started[1], status="FAILED", outcome="FAILED")
    assert live.client.delete_run(id=started[1])["ResponseMetadata"]["HTTPStatusCode"] == 202
    with pytest.raises(live.client.exceptions.ResourceNotFoundException, match=f"Run {started[1]} not found"):
        live.client.get_run(id=started[1])
    assert live.client.get_paginator("list_run_tasks").paginate(id=started[0]).build_full_result() == {"items": []}


def test_every_member_that_boto3_knows_passes_through(live: Live) -> None:
    given: dict[str, Any] = {
        "name": "n",
        "priority": 7,
        "storageType": "DYNAMIC",
        "logLevel": "FATAL",
        "retentionMode": "REMOVE",
        "tags": {"a": "1"},
        "networkingMode": "RESTRICTED",
        "scratchStorageMode": "LOCAL",
        "sessionPolicy": '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}',
        "outputUriPrefixMode": "NONE_WITH_OVERWRITE",
        "requesterPaysEnabled": True,
        "parameters": {"reads": "s3://bucket/r", "copies": 2, "name": None},
    }
    run_id = start(live, live.active_workflow(), **given)["id"]
    found = live.client.get_run(id=run_id)
    assert {name: found[name] for name in given} == given
    assert found["creationTime"].microsecond != 0


def test_a_request_sent_twice_is_answered_twice_and_done_once(live: Live) -> None:
    workflow_id = live.active_workflow()
    first, again = (start(live, workflow_id, requestId="token", tags={"a": "1"}) for _ in range(2))
    for answer in (first, again):
        answer.pop("ResponseMetadata")
    assert first == again
    assert len(live.client.list_runs()["items"]) == 1


def test_many_at_once_with_one_token_make_one_run(live: Live) -> None:
    workflow_id = live.active_workflow()
    answers: queue.Queue[str] = queue.Queue()
    threads = [
        threading.Thread(target=lambda: answers.put(start(live, workflow_id, requestId="token")["id"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    told = {answers.get(timeout=1) for _ in threads}
    assert [told] == [{run["id"]} for run in live.client.list_runs()["items"]]


@pytest.mark.parametrize(
    ("operation", "request_", "code", "status"),
    [
        ("get_workflow", {"id": "7"}, "ResourceNotFoundException", 404),
        ("create_workflow", {}, "ValidationException", 400),
        ("start_run", {"roleArn": ROLE, "outputUri": "s3://bucket/out"}, "ValidationException", 400),
        ("list_runs", {"startingToken": "x"}, "ValidationException", 400),
    ],
)
def test_refusals_are_the_errors_of_the_model(
    live: Live, operation: str, request_: dict[str, Any], code: str, status: int
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(live.client, operation)(**request_)
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert answer["Error"]["Message"]


def test_a_conflict_is_a_409(live: Live) -> None:
    created = live.client.create_workflow(definitionZip=ARCHIVE)
    with pytest.raises(live.client.exceptions.ConflictException, match="is CREATING and cannot be deleted"):
        live.client.delete_workflow(id=created["id"])
