"""What users get wrong, and what they are told: each ends clearly, and no other run notices."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from server import wait_until
from workflows import ONE_TASK

pytestmark = pytest.mark.needs("bwrap", "userns")

HEADER = "version 1.0\n"


def task(command: str, *, outputs: str = "", inputs: str = "", call: str = "call t") -> str:
    return (
        f"{HEADER}task t {{\n  input {{ {inputs} }}\n  command <<< {command} >>>\n  output {{ {outputs} }}\n}}\n"
        f"workflow main {{\n  input {{ {inputs} }}\n  {call}\n}}\n"
    )


def created(site: Any, files: dict[str, str], **more: Any) -> dict[str, Any]:
    """CreateWorkflow with these files, and what GetWorkflow says once it is decided."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    client, found = site.client, {}
    workflow_id = client.create_workflow(name="bad", definitionZip=archive.getvalue(), **more)["id"]

    def decided() -> bool:
        found.update(client.get_workflow(id=workflow_id))
        return found["status"] != "CREATING"

    assert wait_until(decided, 40, every_seconds=0.02)
    return found


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"main.wdl": HEADER + "workflow main { call nothing }"}, "nothing"),
        ({"main.wdl": HEADER + "workflow main {"}, "main.wdl"),
        ({"main.wdl": HEADER + 'import "other.wdl"\nworkflow main {}'}, "other.wdl"),
        ({"main.wdl": HEADER + 'import "http://example.com/x.wdl"\nworkflow main {}'}, "http://example.com/x.wdl"),
        ({"a.wdl": ONE_TASK, "b.wdl": ONE_TASK}, "main"),
        ({"readme.txt": "no workflow"}, "wdl"),
    ],
    ids=["unknown call", "syntax error", "missing import", "http import", "two mains", "no definition"],
)
@pytest.mark.source("guide")
def test_a_definition_that_cannot_run_is_failed_with_the_reason(site: Any, files: dict[str, str], says: str) -> None:
    found = created(site, files)
    assert found["status"] == "FAILED"
    assert says in found["statusMessage"]


@pytest.mark.source("observed")
def test_an_archive_that_is_no_zip_is_failed(site: Any) -> None:
    client = site.client
    workflow_id = client.create_workflow(name="bad", definitionZip=b"version 1.0\nworkflow w {}")["id"]
    assert wait_until(lambda: client.get_workflow(id=workflow_id)["status"] == "FAILED", 20)
    assert "zip" in client.get_workflow(id=workflow_id)["statusMessage"].lower()


@pytest.mark.source("guide")
def test_missing_and_unknown_parameters_are_refused_at_once(site: Any) -> None:
    client = site.client
    workflow_id = site.register(task("true", inputs="String needed", call="call t { input: needed = needed }"))
    for parameters in ({}, {"needed": "x", "unknown": 1}):
        with pytest.raises(client.exceptions.ValidationException) as refused:
            site.start(workflow_id, parameters=parameters)
        assert ("needed" if not parameters else "unknown") in str(refused.value)


@pytest.mark.source("observed")
def test_a_parameter_of_the_wrong_type_fails_the_run_with_its_name(site: Any) -> None:
    text = task("true", inputs="Int number", call="call t { input: number = number }")
    run = site.run(text, parameters={"number": "three"})
    assert (run["status"], run["failureReason"]) == ("FAILED", "WORKFLOW_RUN_FAILED")
    assert "number" in run["statusMessage"]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://runomics/no/such/object", "INPUT_URI_NOT_FOUND"),
        ("s3://no-such-bucket/object", "INPUT_URI_NOT_FOUND"),
        ("http://example.com/file", "INVALID_URI_INPUT"),
        ("/etc/passwd", "INVALID_URI_INPUT"),
    ],
)
@pytest.mark.source("guide")
def test_an_input_that_cannot_be_had_fails_the_run_with_its_uri(site: Any, uri: str, reason: str) -> None:
    run = site.run(task("true", inputs="File file", call="call t { input: file = file }"), parameters={"file": uri})
    assert (run["status"], run["failureReason"]) == ("FAILED", reason)
    assert uri in run["statusMessage"]


@pytest.mark.source("guide")
def test_an_output_bucket_that_does_not_exist_fails_before_anything_runs(site: Any) -> None:
    run = site.run(ONE_TASK, outputUri="s3://no-such-bucket/x")
    assert (run["status"], run["failureReason"]) == ("FAILED", "EXPORT_FAILED")
    assert "no-such-bucket" in run["statusMessage"]
    assert site.client.list_run_tasks(id=run["id"])["items"] == []


@pytest.mark.source("guide")
def test_a_task_that_exits_3_fails_its_run_with_task_and_code(site: Any) -> None:
    run = site.run(task("echo broken >&2; exit 3"))
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert "exit code 3" in run["statusMessage"]
    (item,) = site.client.list_run_tasks(id=run["id"])["items"]
    found = site.client.get_run_task(id=run["id"], taskId=item["taskId"])
    assert found["status"] == "FAILED"
    assert "exit code 3" in found["statusMessage"]
    assert site.log(run["id"], f"task-{item['taskId']}") == ["broken"]
    assert site.object(f"{run['runOutputUri']}/logs/engine.log").exists()


@pytest.mark.source("guide")
def test_a_task_that_kills_itself_is_told_apart_from_one_out_of_memory(site: Any) -> None:
    run = site.run(task("kill -9 $$"))
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert "137" in run["statusMessage"]


@pytest.mark.needs("root", "cgroup")
@pytest.mark.source("guide")
def test_a_task_over_its_memory_fails_with_out_of_memory(site: Any) -> None:
    run = site.run(task("python3 -c 'x = bytearray(3 << 30)'"))
    assert (run["status"], run["failureReason"]) == ("FAILED", "OUT_OF_MEMORY_ERROR")


@pytest.mark.source("observed")
def test_a_declared_output_that_was_not_written_fails_the_run_with_its_name(site: Any) -> None:
    run = site.run(task("true", outputs='File missing = "never-written.txt"'))
    assert (run["status"], run["failureReason"]) == ("FAILED", "WORKFLOW_RUN_FAILED")
    assert "never-written.txt" in run["statusMessage"] or "missing" in run["statusMessage"]


@pytest.mark.source("guide")
def test_an_image_that_cannot_be_had_fails_the_task_and_host_is_a_choice(site: Any, serve: Any) -> None:
    text = ONE_TASK.replace("runtime {", 'runtime { docker: "quay.io/lab/tool:1"')
    run = site.run(text)
    assert (run["status"], run["failureReason"]) == ("FAILED", "CANNOT_START_CONTAINER_ERROR")
    assert "quay.io/lab/tool:1" in run["statusMessage"]
    lenient = serve(unknown_images="host")
    assert lenient.run(text)["status"] == "COMPLETED"


@pytest.mark.source("guide")
def test_a_task_larger_than_any_instance_fails_and_one_larger_than_the_host_is_clamped(site: Any) -> None:
    too_large = site.run(ONE_TASK.replace("cpu: 1", "cpu: 500"))
    assert (too_large["status"], too_large["failureReason"]) == ("FAILED", "INVALID_TASK_RESOURCE_VALUE")
    clamped = site.run(ONE_TASK.replace("cpu: 1", "cpu: 96"))
    assert clamped["status"] == "COMPLETED"
    (item,) = site.client.list_run_tasks(id=clamped["id"])["items"]
    assert (item["cpus"], item["instanceType"]) == (96, "omics.c.24xlarge")
    assert any("96 CPUs" in line for line in site.log(clamped["id"], "run"))


@pytest.mark.slow
@pytest.mark.source("assumed")
def test_a_task_that_prints_100_mb_completes_and_its_log_is_whole(site: Any) -> None:
    line = "x" * 99
    run = site.run(task(f"yes {line} | head -n 1000000"), seconds=120)
    assert run["status"] == "COMPLETED", run
    (item,) = site.client.list_run_tasks(id=run["id"])["items"]
    lines = site.log(run["id"], f"task-{item['taskId']}")
    assert len(lines) == 1_000_000
    assert set(lines) == {line}


@pytest.mark.source("guide")
def test_a_file_named_by_a_text_at_run_time_is_staged(site: Any) -> None:
    site.put("s3://runomics/late/file.txt", b"late\n")
    text = """version 1.0
task show { input { File file } command <<< cat ~{file} >>> output { String text = read_string(stdout()) } }
workflow main {
  input { String bucket }
  File late = "s3://" + bucket + "/late/file.txt"
  call show { input: file = late }
  output { String text = show.text }
}
"""
    run = site.run(text, parameters={"bucket": "runomics"})
    assert run["status"] == "COMPLETED", run
    assert site.outputs(run) == {"main.text": "late"}


@pytest.mark.source("guide")
def test_a_cancelled_run_ends_cancelled_and_delivers_nothing(site: Any) -> None:
    client = site.client
    run_id = site.start(site.register(task("sleep 300")))
    assert wait_until(
        lambda: [each for each in client.list_run_tasks(id=run_id)["items"] if each["status"] == "RUNNING"], 20
    )
    client.cancel_run(id=run_id)
    run = site.end_of(run_id, 20)
    assert run["status"] == "CANCELLED"
    assert {item["status"] for item in client.list_run_tasks(id=run_id)["items"]} == {"CANCELLED"}
    assert not site.object(run["runOutputUri"]).exists()
    with pytest.raises(client.exceptions.ConflictException):
        client.cancel_run(id=run_id)


@pytest.mark.source("guide")
def test_a_run_of_the_same_server_goes_on_while_others_fail(site: Any) -> None:
    slow = site.start(site.register(task("sleep 2; echo done", outputs="String said = read_string(stdout())")))
    for text in (task("exit 1"), task("kill -9 $$"), task("true", outputs='File f = "none"')):
        assert site.run(text)["status"] == "FAILED"
    assert site.end_of(slow)["status"] == "COMPLETED"


@pytest.mark.source("model")
def test_parameters_named_by_a_uri_are_read_when_the_run_starts(site: Any) -> None:
    text = task("echo ~{said}", inputs="String said", call="call t { input: said = said }")
    workflow_id = site.register(text)
    site.put("s3://runomics/parameters/good.json", b'{"said": "from a file"}')
    site.put("s3://runomics/parameters/bad.json", b'{"unknown": 1}')
    good = site.end_of(site.start(workflow_id, parametersUri="s3://runomics/parameters/good.json"))
    assert (good["status"], good["parameters"]) == ("COMPLETED", {"said": "from a file"})
    for name, says in (("bad.json", "said"), ("none.json", "none.json")):
        failed = site.end_of(site.start(workflow_id, parametersUri=f"s3://runomics/parameters/{name}"))
        assert (failed["status"], failed["failureReason"]) == ("FAILED", "INVALID_RUN_PARAMETERS")
        assert says in failed["statusMessage"]
