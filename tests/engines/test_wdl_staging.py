"""Inputs named by URI: staged before, staged when met, refused."""

from __future__ import annotations

import pytest
from engine_world import World

pytestmark = pytest.mark.needs("bwrap", "userns")


def test_a_uri_made_while_the_workflow_runs_is_staged_wherever_it_is_used(world: World) -> None:
    run = world.folder("""
        version 1.1
        struct Box { File inner  Array[File] more }
        task cat { input { File f  Box box  String bucket  String key = "e" }
          File own = "s3://" + bucket + "/" + key
          Box built = Box { inner: "s3://" + bucket + "/f", more: [] }
          Int bytes = ceil(size("s3://" + bucket + "/f"))
          String direct = read_string("s3://" + bucket + "/g")
          command <<< cat ~{f} ~{box.inner} ~{sep=" " box.more} ~{own} ~{built.inner}; echo -n ~{bytes}~{direct} >>>
          output { String o = read_string(stdout()) } }
        workflow w { input { String bucket  File lit = "s3://k/lit" }
          File decl = "s3://" + bucket + "/a"
          String text = read_string(decl)
          Float n = size("s3://" + bucket + "/a")
          call cat { input: f = "s3://" + bucket + "/b", bucket = bucket,
                     box = Box { inner: "s3://" + bucket + "/c", more: ["s3://" + bucket + "/d"] } }
          call cat as again { input: f = decl, bucket = bucket, box = Box { inner: lit, more: [] } }
          output { String o = cat.o  String p = again.o  String t = text  Float size = n  File passed = decl  String l = read_string(lit) }
        }""")
    run.server.objects = {f"s3://k/{name}": name.encode() for name in "abcdefg"} | {"s3://k/lit": b"L"}
    result = world.execute(run, parameters={"bucket": "k"})
    assert result.failure is None
    assert result.outputs == {
        "w.o": "bcdef1g",
        "w.p": "aLef1g",
        "w.t": "a",
        "w.size": 1.0,
        "w.passed": {"__export__": "out/passed/a"},
        "w.l": "L",
    }
    assert sorted(run.server.staged) == sorted([f"s3://k/{name}" for name in "abcdefg"] + ["s3://k/lit"])


def test_parameters_that_were_not_staged_are_staged_before_the_workflow_starts(world: World) -> None:
    run = world.folder("""
        version development
        workflow w { input { Array[File] files  Directory d  File? none  String text }
          output { Array[String] all = [read_string(files[0]), read_string(files[1])]  String s = text  File? n = none } }""")
    run.server.objects = {"s3://k/1": b"1", "s3://k/dir/x": b"x"}
    staged = {"s3://k/2": run.put_input("s3://k/2", b"2")}
    parameters = {"files": ["s3://k/1", "s3://k/2"], "d": "s3://k/dir/", "text": "s3://k/never"}
    result = world.execute(run, parameters=parameters, staged=staged)
    assert result.failure is None
    assert result.outputs == {"w.all": ["1", "2"], "w.s": "s3://k/never", "w.n": None}
    assert sorted(run.server.staged) == ["s3://k/1", "s3://k/dir/"]


@pytest.mark.parametrize(
    "body",
    [
        'workflow w { input { File f = "s3://k/no" } call t { input: f = f } }',
        'workflow w { input { String b = "k" } call t { input: f = "s3://" + b + "/no" } }',
        'workflow w { input { String b = "k" } output { String s = read_string("s3://" + b + "/no") } }',
    ],
)
def test_an_object_that_does_not_exist_fails_the_run_as_a_stage_failure(world: World, body: str) -> None:
    run = world.folder("version 1.0\ntask t { input { File f } command <<< cat ~{f} >>> }\n" + body)
    result = world.execute(run)
    assert result.failure == {
        "kind": "stage",
        "message": "s3://k/no does not exist",
        "uri": "s3://k/no",
        "code": "INPUT_URI_NOT_FOUND",
    }
    assert run.server.keys() == []


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    "uri", ["https://x.org/f", "http://x/f", "ftp://x/f", "gs://b/f", "file:///etc/passwd", "/etc/passwd", "f.txt"]
)
def test_other_places_than_s3_and_omics_are_refused(world: World, uri: str) -> None:
    run = world.folder("version 1.0\nworkflow w { input { File f } output { String s = read_string(f) } }")
    result = world.execute(run, parameters={"f": uri})
    assert result.failure is not None
    assert result.failure["kind"] == "input"
    assert uri in result.failure["message"]
    assert run.server.staged == []


def test_a_file_of_the_sandbox_that_was_not_given_cannot_be_read_by_the_workflow(world: World) -> None:
    run = world.folder('version 1.0\nworkflow w { output { String s = read_string("/etc/passwd") } }')
    result = world.execute(run)
    assert result.failure is not None
    assert result.failure["kind"] == "engine"
    assert "/etc/passwd" in result.failure["message"]
