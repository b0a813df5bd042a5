"""JavaScript that leaves its context finds itself held: no other process, no socket, no file to write, a ceiling on memory and time."""

from __future__ import annotations

import textwrap

import pytest
from engine_world import World

from runomics.ports import EngineResult

pytestmark = pytest.mark.needs("bwrap", "userns", "javascript")

ESCAPE = "var p = (0,eval)('this').constructor.constructor('return process')(); var need = p.getBuiltinModule || p.mainModule.require;"


def evaluate(world: World, body: str) -> tuple[EngineResult, str]:
    """The result of a workflow that is one expression, and its engine's log."""
    text = f"""
        cwlVersion: v1.2
        class: ExpressionTool
        requirements: {{InlineJavascriptRequirement: {{}}}}
        inputs: []
        outputs: {{v: Any}}
        expression: |
          ${{ {body} }}
        """
    run = world.folder({"main.cwl": textwrap.dedent(text)})
    return world.execute(run, 40, engine="CWL", main="main.cwl"), run.engine_log


def value(world: World, body: str) -> object:
    result, log = evaluate(
        world, f"{ESCAPE} var v; try {{ {body} }} catch (e) {{ v = e.code || e.message; }} return {{v: v}};"
    )
    assert result.succeeded, (result.failure, log)
    assert result.outputs is not None
    return result.outputs["v"]


def test_the_environment_holds_nothing_of_the_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert value(world, "v = Object.keys(p.env).sort();") == ["LANG", "PATH"]


@pytest.mark.parametrize("path", ["/etc/shadow", "/var", "/proc/1/root/etc/shadow", "/home"])
def test_files_of_the_host_are_not_there(world: World, path: str) -> None:
    assert value(world, f"need('fs').statSync('{path}'); v = 'there';") in ("ENOENT", "EACCES")


@pytest.mark.parametrize("path", ["/tmp/x", "/mnt/workflow/x", "/run/engine/result.json", "/usr/x"])
def test_no_file_can_be_written(world: World, path: str) -> None:
    assert value(world, f"need('fs').writeFileSync('{path}', 'data'); v = 'written';") in (
        "EFBIG",
        "EROFS",
        "EACCES",
        "EPERM",
    )


@pytest.mark.parametrize(
    "body",
    [
        "var r = need('child_process').spawnSync('/bin/true'); v = r.error ? r.error.code : 'spawned';",
        "p.kill(1, 9); v = 'killed';",
        "p.kill(p.ppid, 9); v = 'killed';",
    ],
    ids=["spawn", "kill-1", "kill-parent"],
)
def test_no_process_can_be_made_or_reached(world: World, body: str) -> None:
    assert value(world, body) in ("EPERM", "EAGAIN")


@pytest.mark.parametrize(
    "body",
    [
        "var all = []; for (;;) all.push(new Array(10000).fill(all.length));",
        f"{ESCAPE} var all = []; for (;;) all.push(need('buffer').Buffer.alloc(50000000, 1));",
    ],
    ids=["heap", "buffers"],
)
def test_memory_has_a_ceiling(world: World, body: str) -> None:
    result, _ = evaluate(world, body)
    assert result.failure is not None
    assert "JavaScript failed" in result.failure["message"]


def test_the_gateway_cannot_be_reached(world: World) -> None:
    body = "need('net').connect('/run/gateway/sock').on('error', function () {}); v = 'asked';"
    assert value(world, body) == "asked"  # and the run is none the worse


def test_a_script_that_ends_its_interpreter_fails_alone(world: World) -> None:
    result, _ = evaluate(world, f"{ESCAPE} p.exit(3);")
    assert result.failure is not None
    assert "ended its interpreter" in result.failure["message"]


def test_expressions_see_no_names_but_theirs(world: World) -> None:
    result, _ = evaluate(world, "return {v: [typeof process, typeof require, typeof setTimeout, typeof inputs]};")
    assert result.outputs == {"v": ["undefined", "undefined", "undefined", "object"]}
