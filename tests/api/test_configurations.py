"""The operations on configurations, and StartRun with one."""

from __future__ import annotations

from typing import Any

import pytest
from server_in_a_box import ACCOUNT, OTHER, Box

from runomics.domain.limits import Limits
from runomics.domain.network import Network
from runomics.scheduler.configurations import Configurations
from runomics.scheduler.networks import Networks
from runomics.store.configurations import KIND, creating_configurations
from runomics.wire.errors import (
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)

ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:configuration/"
VPC = {"securityGroupIds": ["sg-1"], "subnetIds": ["subnet-1", "subnet-2"], "vpcOwnerAccountId": OTHER}
NETWORKS = Networks((Network("lab", "host", subnet_ids=("subnet-1", "subnet-2")),))


def create(box: Box, name: str = "net", *, account: str = ACCOUNT, **request: Any) -> dict[str, Any]:
    usual = {"requestId": f"configuration-{box.next_number()}", "name": name, "runConfigurations": {"vpcConfig": VPC}}
    return box.call("CreateConfiguration", account=account, **{**usual, **request})


def activate(box: Box, networks: Networks = NETWORKS) -> None:
    """What the scheduler does when configurations are woken."""
    mover = Configurations(box.store, networks)
    for row_id in box.store.read(creating_configurations):
        mover.step(row_id)


def get(box: Box, name: str = "net") -> dict[str, Any]:
    return box.call("GetConfiguration", name=name)


@pytest.mark.source("model")
def test_a_configuration_is_creating_and_then_active(box: Box) -> None:
    made = create(box, description="d", tags={"a": "b"})
    assert made == {
        "arn": ARN + "net",
        "uuid": made["uuid"],
        "name": "net",
        "description": "d",
        "runConfigurations": {"vpcConfig": VPC},
        "status": "CREATING",
        "creationTime": "2025-11-24T16:00:00.001000Z",
        "tags": {"a": "b"},
    }
    assert get(box) == made
    box.store.write(lambda tx: None)
    assert [kind for kind, _ in box.woken] == [KIND]
    activate(box)
    assert get(box) == {**made, "status": "ACTIVE"}
    activate(box)
    assert get(box)["status"] == "ACTIVE"


def test_a_step_for_a_configuration_that_is_gone_does_nothing(box: Box) -> None:
    Configurations(box.store).step(77)
    assert box.call("ListConfigurations") == {"items": []}


@pytest.mark.source("assumed")
def test_a_configuration_that_means_no_network_of_the_server_is_failed_says_why_and_can_be_deleted(box: Box) -> None:
    create(box)
    activate(box, Networks())
    assert get(box)["status"] == "FAILED"
    with pytest.raises(
        ConflictException, match=r"Configuration net is FAILED and cannot be used. No network .*\[networks.net\]"
    ):
        box.start_run(box.registered_workflow(), configurationName="net", networkingMode="VPC")
    box.call("DeleteConfiguration", name="net")
    create(box, runConfigurations={})
    activate(box, Networks())
    assert get(box)["status"] == "ACTIVE"


@pytest.mark.source("assumed")
def test_the_same_request_again_gets_the_first_answer_word_for_word(box: Box) -> None:
    first = create(box, requestId="token")
    activate(box)
    assert create(box, requestId="token") == first
    with pytest.raises(ConflictException, match="was used for another CreateConfiguration request"):
        create(box, requestId="token", description="other")


@pytest.mark.source("assumed")
def test_a_name_is_used_once_and_free_again_after_deletion(box: Box) -> None:
    first = create(box)
    activate(box)
    create(box, account=OTHER)
    with pytest.raises(ConflictException, match="has a configuration net already"):
        create(box)
    box.call("DeleteConfiguration", name="net")
    with pytest.raises(ResourceNotFoundException, match="Configuration net not found"):
        get(box)
    assert create(box)["uuid"] != first["uuid"]


@pytest.mark.source("model")
def test_ten_configurations_make_a_page(tmp_path: Any) -> None:
    box = Box(tmp_path, limits=Limits(configurations=12))
    for number in range(12):
        create(box, f"c{number}", **({"description": "d"} if number == 0 else {}))
    create(box, account=OTHER)
    page = box.call("ListConfigurations")
    rest = box.call("ListConfigurations", startingToken=page["nextToken"])
    assert [len(page["items"]), len(rest["items"])] == [10, 2]
    assert [item["name"] for item in (*page["items"], *rest["items"])] == [f"c{number}" for number in range(12)]
    assert page["items"][0] == {
        "arn": ARN + "c0",
        "name": "c0",
        "description": "d",
        "status": "CREATING",
        "creationTime": "2025-11-24T16:00:00.001000Z",
    }
    with pytest.raises(ServiceQuotaExceededException, match="has 12 configurations"):
        create(box, "c12")
    box.close()


@pytest.mark.source("assumed")
def test_a_configuration_is_neither_used_nor_deleted_while_it_is_creating(box: Box) -> None:
    create(box)
    with pytest.raises(ConflictException, match="Configuration net is CREATING and cannot be used"):
        box.start_run(box.registered_workflow(), configurationName="net")
    with pytest.raises(ConflictException, match="Configuration net is CREATING and cannot be deleted"):
        box.call("DeleteConfiguration", name="net")


@pytest.mark.source("guide")
def test_a_configuration_is_not_deleted_while_an_open_run_uses_it(box: Box) -> None:
    create(box)
    activate(box)
    run_id = box.start_run(box.registered_workflow(), configurationName="net", networkingMode="VPC")["id"]
    with pytest.raises(ConflictException, match=rf"Configuration net is used by runs .* \(run {run_id}\)"):
        box.call("DeleteConfiguration", name="net")
    before = box.call("GetRun", id=run_id)
    box.set_run(run_id, status="COMPLETED")
    box.call("DeleteConfiguration", name="net")
    after = box.call("GetRun", id=run_id)
    assert [after[name] for name in ("configuration", "vpcConfig")] == [before["configuration"], before["vpcConfig"]]


@pytest.mark.source("model")
def test_a_run_shows_its_configuration_and_its_network(box: Box) -> None:
    workflow_id = box.registered_workflow()
    made = create(box)
    activate(box)
    details = {name: made[name] for name in ("name", "arn", "uuid")}
    in_vpc = box.start_run(workflow_id, configurationName="net", networkingMode="VPC")
    assert (in_vpc["configuration"], in_vpc["networkingMode"]) == (details, "VPC")
    shown = box.call("GetRun", id=in_vpc["id"])
    assert (shown["configuration"], shown["vpcConfig"], shown["networkingMode"]) == (details, VPC, "VPC")
    without = box.call("GetRun", id=box.start_run(workflow_id, configurationName="net")["id"])
    assert without["configuration"] == details
    assert "vpcConfig" not in without


@pytest.mark.source("guide")
def test_a_run_that_is_repeated_is_repeated_with_its_configuration(box: Box) -> None:
    create(box)
    create(box, "other")
    activate(box)
    run_id = box.start_run(box.registered_workflow(), configurationName="net", networkingMode="VPC")["id"]
    again = box.call("GetRun", id=box.start_run(None, runId=run_id)["id"])
    changed = box.call("GetRun", id=box.start_run(None, runId=run_id, configurationName="other")["id"])
    assert (again["configuration"]["name"], again["vpcConfig"]) == ("net", VPC)
    assert changed["configuration"]["name"] == "other"


@pytest.mark.source("assumed")
def test_a_configuration_without_a_network_is_none_for_a_run_in_a_vpc(box: Box) -> None:
    create(box, runConfigurations={})
    activate(box)
    assert get(box)["runConfigurations"] == {}
    with pytest.raises(ValidationException, match="configuration net has none"):
        box.start_run(box.registered_workflow(), configurationName="net", networkingMode="VPC")


@pytest.mark.parametrize("operation", ["GetConfiguration", "DeleteConfiguration"])
def test_what_is_another_s_reads_as_what_is_not_there(box: Box, operation: str) -> None:
    create(box)
    with pytest.raises(ResourceNotFoundException) as foreign:
        box.call(operation, account=OTHER, name="net")
    with pytest.raises(ResourceNotFoundException) as missing:
        box.call(operation, account=OTHER, name="none")
    assert str(foreign.value).replace("Configuration net ", "Configuration none ") == str(missing.value)


def test_reserved_tags_are_refused(box: Box) -> None:
    with pytest.raises(ValidationException, match="may not begin with 'aws:'"):
        create(box, tags={"AWS:x": "y"})
