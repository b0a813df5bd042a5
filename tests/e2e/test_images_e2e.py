"""Workflows whose tasks run in images of a real registry that needs a login: by tag and by digest, through bubblewrap and crun."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from image_pipeline import SAID, furnish, pipeline

from image_registry import Registry, file, layer, registry
from server import wait_until

pytestmark = pytest.mark.needs("root", "cgroup", "bwrap", "crun", "registry")

ONE_TASK = """version 1.0
task only {
  command <<< echo in; cat /opt/name >>>
  output { Array[String] said = read_lines(stdout()) }
  runtime { docker: "IMAGE" maxRetries: 2 }
}
workflow main { call only output { Array[String] said = only.said } }
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Registry]:
    """A registry with a login and the images of the tests."""
    with registry() as made:
        tools = furnish(made)
        made.push("lab/bare:1", [layer(file("opt/name", "bare\n"))])
        made.push("lab/broken:1", [tools, layer(file("opt/name", "broken\n"))])
        blob = made.blob(made.manifest("lab/broken", "1")["layers"][1]["digest"])
        blob.write_bytes(bytes(len(blob.read_bytes())))
        yield made


def settings_for(lab: Registry, **more: Any) -> dict[str, Any]:
    return {"registry_auth_file": lab.auth_file, "insecure_registries": lab.host, **more}


def images_of(site: Any, run_id: str) -> dict[str, Any]:
    """imageDetails of each task."""
    client = site.client
    tasks = client.list_run_tasks(id=run_id)["items"]
    found = {task["name"]: client.get_run_task(id=run_id, taskId=task["taskId"]) for task in tasks}
    assert len(found) == len(tasks)
    return {name: task.get("imageDetails") for name, task in found.items()}


def check_pipeline(site: Any, lab: Registry, run: dict[str, Any]) -> None:
    assert run["status"] == "COMPLETED", (run.get("statusMessage"), site.log(run["id"], "run"))
    outputs = site.outputs(run)
    assert outputs["main.said"] == SAID
    assert site.object(outputs["main.kept"]).read_text() == SAID + "\n"
    assert images_of(site, run["id"]) == {
        "first": {"image": f"{lab.host}/lab/one:1", "imageDigest": lab.digests["lab/one:1"]},
        "second": {"image": f"{lab.host}/lab/two@{lab.digests['lab/two:1']}", "imageDigest": lab.digests["lab/two:1"]},
        "third": {"image": f"{lab.host}/lab/three:1", "imageDigest": lab.digests["lab/three:1"]},
    }


@pytest.mark.source("guide")
@pytest.mark.parametrize("runtime", ["bwrap", "crun"])
def test_a_pipeline_of_three_images_gives_the_same_through_each_runtime(
    serve: Callable[..., Any], lab: Registry, runtime: str
) -> None:
    site = serve(**settings_for(lab, container_runtime=runtime))
    run = site.run(pipeline(lab))
    check_pipeline(site, lab, run)
    said = "\n".join(site.log(run["id"], "run"))
    assert f"Image {lab.host}/lab/one:1 is {lab.digests['lab/one:1']} in this run." in said
    assert f"Pulled image {lab.host}/lab/three@{lab.digests['lab/three:1']}" in said


def test_a_server_killed_in_the_middle_runs_nothing_twice(serve: Callable[..., Any], lab: Registry) -> None:
    site = serve(**settings_for(lab))
    run_id = site.start(site.register(pipeline(lab)), parameters={"waits": True})
    client = site.client
    assert wait_until(lambda: bool(client.list_run_tasks(id=run_id, status="RUNNING")["items"]), 20)
    before = len(lab.requests())
    site.server.kill()
    site.server.start()
    uuid = site.client.get_run(id=run_id)["uuid"]
    (site.data / "runs" / uuid / "volume" / "go").touch()
    run = site.end_of(run_id)
    check_pipeline(site, lab, run)
    first = next(task for task in site.client.list_run_tasks(id=run_id)["items"] if task["name"] == "first")
    assert site.log(run_id, f"task-{first['taskId']}") == ["once", "one 1 0 /root"]
    # The image that was here is neither asked for nor pulled again.
    assert [request for request in lab.requests()[before:] if "lab/one" in request] == []


UNUSABLE = {
    "lab/none:1": ("IMAGE_VERIFICATION_FAILURE", "was not found in its registry"),
    "lab/bare:1": ("CANNOT_START_CONTAINER_ERROR", "has no /bin/bash"),
    "lab/broken:1": ("CANNOT_START_CONTAINER_ERROR", "is damaged"),
    "Lab/Broken": ("INVALID_ECR_IMAGE_URI", "has an invalid structure"),
}


@pytest.mark.source("guide")
def test_an_image_that_cannot_be_used_fails_its_run_once_and_says_why(serve: Callable[..., Any], lab: Registry) -> None:
    site = serve(**settings_for(lab))
    runs = {image: site.start(site.register(ONE_TASK.replace("IMAGE", f"{lab.host}/{image}"))) for image in UNUSABLE}
    for image, (reason, says) in UNUSABLE.items():
        run = site.end_of(runs[image])
        assert (run["status"], run["failureReason"]) == ("FAILED", reason), run
        assert says in run["statusMessage"]
        assert image.split(":")[0] in run["statusMessage"]
        (task,) = site.client.list_run_tasks(id=run["id"])["items"]
        assert site.client.get_run_task(id=run["id"], taskId=task["taskId"])["failureReason"] == reason


@pytest.mark.source("guide")
def test_a_workflows_registry_map_leads_to_ecr_and_the_operators_map_from_there(
    serve: Callable[..., Any], lab: Registry, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "runomics.toml").write_text(f'[image_map]\n"local/" = "{lab.host}/"\n')
    site = serve(data, **settings_for(lab))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("main.wdl", ONE_TASK.replace("IMAGE", "quay.io/lab/one:1"))
    made = site.client.create_workflow(
        name="mapped",
        definitionZip=archive.getvalue(),
        containerRegistryMap={"registryMappings": [{"upstreamRegistryUrl": "quay.io", "ecrRepositoryPrefix": "local"}]},
    )
    site.client.get_waiter("workflow_active").wait(id=made["id"], WaiterConfig={"Delay": 1})
    run = site.end_of(site.start(made["id"]))
    assert (run["status"], "containerRegistryMap" in run) == ("COMPLETED", False)
    assert site.outputs(run) == {"main.said": ["in", "one"]}
    assert images_of(site, run["id"]) == {
        "only": {
            "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/local/lab/one:1",
            "imageDigest": lab.digests["lab/one:1"],
            "sourceImage": "quay.io/lab/one:1",
        }
    }
    again = site.client.start_run(runId=run["id"], roleArn=run["roleArn"], outputUri="s3://runomics/again")
    assert site.end_of(again["id"])["status"] == "COMPLETED"
