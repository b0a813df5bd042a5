"""Registration: every definition ends in ACTIVE or FAILED, with a statusMessage to act on. WDL is read by the real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from server_in_a_box import ACCOUNT, HELLO, Box, zip_of

from runomics.domain.limits import Limits
from runomics.domain.packaging import ArchiveLimits
from runomics.ports import Inspection, InspectionGivenUp, ObjectChanged
from runomics.scheduler.register import MESSAGE_LETTERS
from runomics.store.database import StoreUnavailable
from runomics.store.events import undelivered


def failure(box: Box, files: dict[str, str | bytes] | None = None, **request: Any) -> str:
    """The statusMessage of a workflow that must end FAILED."""
    found = box.call("GetWorkflow", id=box.registered_workflow(files, **request))
    assert found["status"] == "FAILED"
    message: str = found["statusMessage"]
    return message


# ---- ACTIVE ------------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_engine_main_template_and_outline_are_found(box: Box) -> None:
    files = {"flow/align.wdl": HELLO, "flow/tasks/other.wdl": "version 1.0\n", "README.md": "x"}
    found = box.call("GetWorkflow", id=box.registered_workflow(files))
    assert (found["status"], found["engine"], found["main"]) == ("ACTIVE", "WDL", "flow/align.wdl")
    assert found["parameterTemplate"]["name"] == {"description": "Who is greeted", "optional": True}
    assert found["statusMessage"].startswith("align.wdl\n    workflow Hello\n")


@pytest.mark.source("model")
def test_a_given_template_replaces_the_found_one(box: Box) -> None:
    template = {"reads": {"description": "mine", "optional": False}}
    assert (
        box.call("GetWorkflow", id=box.registered_workflow(parameterTemplate=template))["parameterTemplate"] == template
    )


@pytest.mark.source("observed")
def test_a_definition_without_inputs_says_so(box: Box) -> None:
    found = box.call("GetWorkflow", id=box.registered_workflow({"main.wdl": "version 1.0\nworkflow w {}\n"}))
    assert found["statusMessage"].endswith("No input parameters were found in the workflow definition.")
    assert found["parameterTemplate"] == {}


@pytest.mark.source("observed")
def test_a_definition_without_a_version_is_active_with_a_warning(box: Box) -> None:
    found = box.call("GetWorkflow", id=box.registered_workflow({"main.wdl": "workflow w { String x = 'a' }\n"}))
    assert found["status"] == "ACTIVE"
    assert "MissingVersion, document should declare WDL version; draft-2 assumed" in found["statusMessage"]


def test_imports_inside_the_archive_are_followed(box: Box) -> None:
    main = 'version 1.0\nimport "tasks/t.wdl" as t\nworkflow w { call t.one }\n'
    task = "version 1.0\ntask one { command {} }\n"
    assert (
        box.call("GetWorkflow", id=box.registered_workflow({"main.wdl": main, "tasks/t.wdl": task}))["status"]
        == "ACTIVE"
    )


def test_what_was_inspected_once_by_an_engine_is_not_inspected_again(box: Box) -> None:
    for engine in ("WDL", "WDL_LENIENT"):
        for _ in range(2):
            box.registered_workflow(engine=engine)
    assert box.engine.asked == [("WDL", "main.wdl"), ("WDL_LENIENT", "main.wdl")]


def test_two_mains_of_one_archive_have_an_interface_each(box: Box) -> None:
    files = {"a.wdl": HELLO, "b.wdl": "version 1.0\nworkflow b { input { Int n } }\n"}
    a, b = (box.registered_workflow(files, main=main) for main in ("a.wdl", "b.wdl"))
    rows = [box.workflow_row(identifier) for identifier in (a, b)]
    assert rows[0].definition_sha256 == rows[1].definition_sha256
    interfaces = [box.definitions.interface(row.definition_sha256, "WDL", row.main) for row in rows]
    assert [[item["name"] for item in found["inputs"]] for found in interfaces if found] == [
        ["reads", "name", "copies"],
        ["n"],
    ]


def test_the_tree_holds_the_archives_files_for_everyone_to_read(box: Box) -> None:
    files = {"main.wdl": HELLO, "tasks/tool.sh": "x", "bin/tool.sh": "x"}
    row = box.workflow_row(box.registered_workflow(files))
    tree = box.definitions.tree(row.definition_sha256)
    modes = {str(path.relative_to(tree)): oct(path.stat().st_mode & 0o7777) for path in tree.rglob("*")}
    folders, programs = dict.fromkeys(("tasks", "bin"), "0o755"), {"bin/tool.sh": "0o755"}
    assert modes == {"main.wdl": "0o644", "tasks/tool.sh": "0o644", **folders, **programs}
    assert oct(tree.stat().st_mode & 0o7777) == "0o755"


def test_an_inspection_that_a_stopping_server_gives_up_is_left_to_the_next(box: Box) -> None:
    def give_up(engine: str, tree: Path, main: str) -> Inspection:
        raise InspectionGivenUp("the server is stopping")

    box.engine.answer = give_up
    workflow_id = box.registered_workflow()
    assert box.workflow_row(workflow_id).status == "CREATING"
    box.engine.answer = None
    box.register.step(int(workflow_id))
    assert box.workflow_row(workflow_id).status == "ACTIVE"


def test_each_status_leaves_an_event(box: Box) -> None:
    box.registered_workflow()
    box.registered_workflow({"README.md": ""})
    events = [(event.resource_id, event.status) for event in box.store.read(lambda tx: undelivered(tx, 10))]
    assert sorted(events) == [
        ("1000000", "ACTIVE"),
        ("1000000", "CREATING"),
        ("1000001", "CREATING"),
        ("1000001", "FAILED"),
    ]


# ---- FAILED: the archive -----------------------------------------------------------------------------------------


@pytest.mark.source("observed")
def test_a_bare_definition_is_no_archive(box: Box) -> None:
    assert failure(box, definitionZip=HELLO.encode()).startswith("Invalid zip file: ")


def test_an_archive_that_climbs_out_is_refused(box: Box) -> None:
    assert "'../evil.wdl' leaves the archive's root" in failure(box, {"main.wdl": HELLO, "../evil.wdl": "x"})
    assert not (box.definitions.root.parent / "evil.wdl").exists()


def test_an_archive_of_several_definitions_without_a_main_is_refused(box: Box) -> None:
    assert "none is named main.wdl" in failure(box, {"a.wdl": HELLO, "b.wdl": HELLO})


def test_a_main_that_is_not_there_is_refused(box: Box) -> None:
    assert failure(box, main="flow.wdl") == "The main file 'flow.wdl' is not in the archive. It holds 'main.wdl'."


def test_the_limits_of_the_server_count(tmp_path: Path) -> None:
    small = Box(tmp_path, limits=Limits(archive=ArchiveLimits(unpacked_bytes=100), template_entries=1))
    try:
        assert "unpacks to" in failure(small)
        many = {"main.wdl": "version 1.0\nworkflow w{input{Int a Int b}}"}
        assert failure(small, many).startswith("The workflow has 2 input parameters; the limit is 1.")
    finally:
        small.close()


def test_a_refused_archive_still_shows_its_digest_and_leaves_nothing_half_done(box: Box) -> None:
    found = box.call("GetWorkflow", id=box.registered_workflow({"main.wdl": HELLO, "a//b": "x"}))
    assert found["digest"].startswith("sha256:")
    assert [path.name for path in box.definitions.root.rglob("*") if path.name.startswith(".")] == []


# ---- FAILED: the definition --------------------------------------------------------------------------------------


@pytest.mark.source("observed")
def test_an_error_in_wdl_names_file_line_and_column(box: Box) -> None:
    message = failure(box, {"main.wdl": "version 1.0\nworkflow w {\n  Int n = no_such(1)\n}\n"})
    assert message.startswith("(main.wdl Ln 3 Col 11) No such function: no_such")
    assert "Int n = no_such(1)" in message


@pytest.mark.source("guide")
@pytest.mark.parametrize("uri", ["https://example.com/t.wdl", "/etc/t.wdl", "../../t.wdl", "missing.wdl"])
def test_an_import_from_elsewhere_or_of_nothing_names_the_line(box: Box, uri: str) -> None:
    message = failure(box, {"main.wdl": f'version 1.0\n\nimport "{uri}" as t\nworkflow w {{}}\n'})
    assert "main.wdl Ln 3" in message
    assert uri.rpartition("/")[2] in message


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"main.cwl": "x"}, "engine CWL is not installed on this server: cwltool is missing"),
        ({"main.nf": "x"}, "engine NEXTFLOW is not installed on this server: there is no java"),
    ],
)
def test_an_engine_that_is_not_installed_says_so(box: Box, files: dict[str, str | bytes], says: str) -> None:
    assert failure(box, files) == says
    assert box.engine.asked == []


def test_a_failed_inspection_is_tried_again_for_the_next_workflow(box: Box) -> None:
    box.engine.answer = lambda engine, tree, main: Inspection(engine, main, failure="it took longer than 20 seconds")
    assert failure(box) == "it took longer than 20 seconds"
    box.engine.answer = None
    assert box.call("GetWorkflow", id=box.registered_workflow())["status"] == "ACTIVE"


def test_a_message_of_any_length_is_cut(box: Box) -> None:
    box.engine.answer = lambda engine, tree, main: Inspection(
        engine, main, failure="the error first\n" + "warning\n" * 10_000
    )
    message = failure(box)
    assert message.startswith("the error first\n")
    assert len(message) == MESSAGE_LETTERS + 1


def test_a_fault_of_ours_ends_in_failed_and_names_the_workflow_in_the_log(box: Box) -> None:
    def broken(engine: str, tree: Path, main: str) -> Inspection:
        raise RuntimeError("launcher is gone")

    box.engine.answer = broken
    message = failure(box)
    assert "fault of this server (launcher is gone). Create the workflow again" in message
    assert "workflow 1000000" in message


# ---- what lies in buckets ----------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_a_definition_is_fetched_from_a_bucket(box: Box) -> None:
    archive = zip_of({"main.wdl": HELLO})
    box.objects.upload_bytes(archive, "s3://bucket/flow.zip")
    sent = box.workflow_row(box.registered_workflow())
    fetched = box.workflow_row(box.registered_workflow(definitionUri="s3://bucket/flow.zip"))
    assert (fetched.status, fetched.definition_sha256) == ("ACTIVE", sent.definition_sha256)


@pytest.mark.parametrize("uri", ["s3://bucket/missing.zip", "s3://nobucket/flow.zip"])
def test_a_definition_that_is_not_there_is_named(box: Box, uri: str) -> None:
    assert failure(box, definitionUri=uri) == (
        f"definitionUri {uri} does not exist. Put the object there, or allow this server to read it, and create the workflow again."
    )


def test_a_definition_in_a_bucket_has_a_limit_of_its_own(tmp_path: Path) -> None:
    small = Box(tmp_path, limits=Limits(definition_uri_bytes=100))
    try:
        small.objects.upload_bytes(b"x" * 101, "s3://bucket/flow.zip")
        assert failure(small, definitionUri="s3://bucket/flow.zip").startswith(
            "definitionUri s3://bucket/flow.zip has 101 bytes; the limit is 100."
        )
    finally:
        small.close()


def test_a_definition_that_changes_while_it_is_read_is_read_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.objects.upload_bytes(zip_of({"main.wdl": HELLO}), "s3://bucket/flow.zip")
    download, calls = box.objects.download, []

    def changing(info: Any, descriptor: int, on_bytes: Any = None) -> str:
        calls.append(info)
        if len(calls) == 1:
            raise ObjectChanged(info.uri)
        return download(info, descriptor, on_bytes)

    monkeypatch.setattr(box.objects, "download", changing)
    assert (
        box.call("GetWorkflow", id=box.registered_workflow(definitionUri="s3://bucket/flow.zip"))["status"] == "ACTIVE"
    )
    assert len(calls) == 2


def test_a_readme_and_a_registry_map_are_fetched_from_a_bucket(box: Box) -> None:
    registry_map = {"registryMappings": [{"upstreamRegistryUrl": "quay.io", "ecrRepositoryPrefix": "quay"}]}
    box.objects.upload_bytes("# Größe".encode(), "s3://bucket/README.md")
    box.objects.upload_bytes(orjson.dumps(registry_map), "s3://bucket/map.json")
    workflow_id = box.registered_workflow(
        readmeUri="s3://bucket/README.md", containerRegistryMapUri="s3://bucket/map.json"
    )
    found = box.call("GetWorkflow", id=workflow_id, export=["README"])
    assert found["containerRegistryMap"] == registry_map
    assert f"readme/{ACCOUNT}/{workflow_id}" in found["readme"]
    assert box.workflow_row(workflow_id).readme == "# Größe"


@pytest.mark.parametrize(
    ("member", "content", "says"),
    [
        ("readmeUri", None, "readmeUri s3://bucket/x does not exist."),
        ("readmeUri", b"\xff", "readmeUri s3://bucket/x is not UTF-8 text."),
        ("readmeUri", b"x" * 512_001, "readmeUri s3://bucket/x has more than 512000 bytes."),
        ("containerRegistryMapUri", b"{", "containerRegistryMapUri s3://bucket/x is not JSON"),
        ("containerRegistryMapUri", b"[]", "containerRegistryMapUri s3://bucket/x is not a JSON object"),
    ],
)
def test_what_cannot_be_used_from_a_bucket_is_named(box: Box, member: str, content: bytes | None, says: str) -> None:
    if content is not None:
        box.objects.upload_bytes(content, "s3://bucket/x")
    assert failure(box, **{member: "s3://bucket/x"}).startswith(says)


# ---- again, and after a crash ------------------------------------------------------------------------------------


def test_a_step_on_a_workflow_that_is_through_or_gone_does_nothing(box: Box) -> None:
    workflow_id = box.registered_workflow()
    before = box.workflow_row(workflow_id)
    box.register.step(int(workflow_id))
    assert box.workflow_row(workflow_id) == before
    box.register.step(7)


def test_a_step_that_was_cut_short_is_simply_made_again(box: Box) -> None:
    workflow_id = box.create_workflow()
    sha256 = box.workflow_row(workflow_id).definition_sha256
    half = box.definitions.root / ".incoming-crashed"
    half.mkdir()
    (half / "main.wdl").write_text("half")
    box.reopen()
    box.definitions.sweep()
    box.register.step(int(workflow_id))
    assert box.workflow_row(workflow_id).status == "ACTIVE"
    assert (box.definitions.tree(sha256) / "main.wdl").read_text() == HELLO
    assert not half.exists()


def test_an_outcome_that_cannot_be_written_leaves_the_workflow_creating(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = box.create_workflow()

    def full(work: Any) -> Any:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(box.store, "write", full)
        with pytest.raises(StoreUnavailable):
            box.register.step(int(workflow_id))
    assert box.workflow_row(workflow_id).status == "CREATING"
    box.register.step(int(workflow_id))
    assert box.workflow_row(workflow_id).status == "ACTIVE"


@pytest.mark.parametrize(
    "uri", ["s3://bucket", "s3://bucket/a/", "s3://bucket/../x", "s3://bucket//a", "s3://bucket/.runomics/x"]
)
def test_a_uri_that_names_no_object_of_the_store_ends_in_failed(box: Box, uri: str) -> None:
    message = failure(box, definitionUri=uri)
    assert message.startswith(f"definitionUri {uri} ")
    assert "fault of this server" not in message


def test_a_link_out_of_a_bucket_is_not_followed(box: Box) -> None:
    secret = box.directory / "secret.zip"
    secret.write_bytes(zip_of({"main.wdl": HELLO}))
    (box.directory / "objects" / "bucket" / "link.zip").symlink_to(secret)
    assert failure(box, definitionUri="s3://bucket/link.zip").startswith("definitionUri s3://bucket/link.zip ")
