"""The kept form of a definition: the same runs, without parsing, and nothing else can be hidden in it."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
from pathlib import Path

import pytest
from engine_world import World

from runomics.engines.wdl import definition, parsed

SOURCES = {
    "main.wdl": """
        version 1.2
        import "lib.wdl" as lib
        struct Sample { String name  Array[Int]+ sizes  Map[String, Int?] more }
        task show {
          input { Sample s  Boolean b = true && !false }
          meta { volatile: true  author: { a: [1, "x"] } }
          parameter_meta { s: { help: "a sample" } }
          command <<< echo ~{s.name} ~{sep(",", s.sizes)} ~{if b then "yes" else 'no'} ~{task.attempt} >>>
          output { Array[String] o = read_lines(stdout())  Pair[Int, Float] p = (1 + 2 * 3 % 4, -1.5) }
          requirements { memory: "1 GiB" }
        }
        workflow w {
          input { Array[Sample] samples }
          scatter (s in samples) { if (length(s.sizes) > 1) { call show { input: s = s } } }
          call lib.one as other after show
          output { Array[Array[String]] o = select_all(show.o)  Int n = other.n }
        }""",
    "lib.wdl": "version 1.1\ntask one { command <<< echo 1 >>> output { Int n = read_int(stdout()) } }",
}
SAMPLES = [{"name": "a", "sizes": [1, 2], "more": {"x": None}}, {"name": "b", "sizes": [1], "more": {}}]


@pytest.mark.needs("bwrap", "userns")
@pytest.mark.parametrize("kept", ["kept", "not kept", "damaged"])
def test_a_run_is_the_same_with_and_without_the_kept_form(world: World, kept: str) -> None:
    run = world.folder(SOURCES)
    path = run.definition.parent / parsed.file_name("main.wdl")
    if kept != "not kept":
        assert world.host.inspect("WDL", run.definition, "main.wdl", 20).failure is None
        assert path.is_file()
    if kept == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    if kept == "kept":
        for name in SOURCES:
            (run.definition / name).write_text("nobody reads this")
    result = world.execute(run, parameters={"samples": SAMPLES})
    assert result.failure is None, run.engine_log
    assert result.outputs == {"w.o": [["a 1,2 yes 0"]], "w.n": 1}


def test_a_definition_that_fails_inspection_leaves_nothing(world: World) -> None:
    run = world.folder("version 1.0\nworkflow w { Int x = nope }")
    assert world.host.inspect("WDL", run.definition, "main.wdl", 20).failure is not None
    assert [path.name for path in run.definition.parent.iterdir()] == ["tree"]


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    "evil",
    [
        Calls(os.system, "touch {}"),
        Calls(subprocess.check_call, ["touch", "{}"]),
        Calls(eval, "open('{}', 'w')"),
        Calls(getattr, "text", "upper"),
        Calls(definition.load, "/", "x"),
    ],
)
def test_a_kept_form_that_calls_anything_is_not_taken(evil: Calls, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil.call = (evil.call[0], tuple(part.format(mark) if isinstance(part, str) else part for part in evil.call[1]))
    assert parsed.load(pickle.dumps(evil)) is None
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["os.system", "_util.os", "WDLVersion", "asyncio.run", "parse_document", "Document.typecheck"]
)
@pytest.mark.parametrize("module", ["WDL.Tree", "WDL.Expr", "WDL._util", "WDL.CLI", "WDL"])
def test_functions_and_dotted_names_of_miniwdls_modules_are_refused(module: str, name: str) -> None:
    stack_global = (
        b"\x80\x05\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(name)])
        + name.encode()
        + b"\x93."
    )
    assert parsed.load(stack_global) is None
    with pytest.raises(pickle.UnpicklingError, match=r"no part of a document|no class of a document"):
        parsed._Parts(io.BytesIO(stack_global)).load()


def test_bytes_that_are_no_document_are_not_taken() -> None:
    for kept in (b"", b"text", pickle.dumps({"a": 1}), pickle.dumps([1])):
        assert parsed.load(kept) is None
