"""WDL_LENIENT: what it takes that WDL refuses, each tried with both; what would lose something fails when it happens."""

from __future__ import annotations

from typing import Any

import pytest
from engine_world import World

pytestmark = [pytest.mark.needs("userns"), pytest.mark.source("guide")]

SAY = """
task say { input { Int number } command <<< echo ~{number} >>> output { Int said = read_int(stdout()) } }
"""
CASES: dict[str, tuple[str, Any]] = {
    "float to int": ("workflow w { input { Float x = 3.0 } Int y = x output { Int o = y } }", 3),
    "float to int of a call": ("workflow w { call say { input: number = 7.0 } output { Int o = say.said } }", 7),
    "map to pairs": (
        'workflow w { Map[String, Int] x = {"a": 1, "b": 2} Array[Pair[String, Int]] y = x output { Array[Pair[String, Int]] o = y } }',
        [{"left": "a", "right": 1}, {"left": "b", "right": 2}],
    ),
    "pairs to map": (
        'workflow w { Array[Pair[String, Int]] x = [("a", 1), ("b", 2)] Map[String, Int] y = x output { Map[String, Int] o = y } }',
        {"a": 1, "b": 2},
    ),
}  # fmt: skip
STRINGS: dict[str, tuple[str, Any]] = {
    "string to int": ('workflow w { input { String x = "5" } Int y = x output { Int o = y } }', 5),
    "string to float": ('workflow w { input { String x = "2.5" } Float y = x output { Float o = y } }', 2.5),
    "array of strings to ints": ('workflow w { Array[String] x = ["1", "2"] Array[Int] y = x output { Array[Int] o = y } }', [1, 2]),
}  # fmt: skip
POINT = 'workflow w { input { String x = "5.0" } Int y = x output { Int o = y } }'
LOSSY = {
    "a fraction": ('workflow w { input { String x = "3.7" } Int y = x output { Int o = y } }', "'\"3.7\"' cannot become Int without loss"),
    "a fraction as a float": ("workflow w { input { Float x = 3.7 } Int y = x output { Int o = y } }", "cannot become Int without loss"),
    "a word": ('workflow w { input { String x = "many" } Int y = x output { Int o = y } }', "'\"many\"' cannot become Int without loss"),
    "a key twice": (
        'workflow w { Array[Pair[String, Int]] x = [("a", 1), ("a", 2)] Map[String, Int] y = x output { Map[String, Int] o = y } }',
        "without loss",
    ),
}  # fmt: skip


def text(body: str) -> str:
    return f"version 1.0\n{SAY}\n{body}"


@pytest.mark.parametrize("case", CASES)
def test_what_wdl_refuses_is_coerced(world: World, case: str) -> None:
    body, output = CASES[case]
    run = world.folder(text(body))
    assert world.host.inspect("WDL", run.definition, "main.wdl", 20).failure is not None
    found = world.host.inspect("WDL_LENIENT", run.definition, "main.wdl", 20)
    assert (found.failure, found.engine) == (None, "WDL_LENIENT")
    result = world.execute(run, engine="WDL_LENIENT")
    assert (result.failure, result.outputs) == (None, {"w.o": output})


@pytest.mark.parametrize("engine", ["WDL", "WDL_LENIENT"])
@pytest.mark.parametrize("case", STRINGS)
def test_strings_that_are_numbers_become_numbers_with_both(world: World, case: str, engine: str) -> None:
    body, output = STRINGS[case]
    result = world.execute(world.folder(text(body)), engine=engine)
    assert (result.failure, result.outputs) == (None, {"w.o": output})


def test_a_string_with_a_point_is_a_whole_number_only_leniently(world: World) -> None:
    strict = world.execute(world.folder(text(POINT)), engine="WDL")
    assert strict.failure is not None
    assert "coercing 'String' to 'Int'" in strict.failure["message"]
    assert world.execute(world.folder(text(POINT)), engine="WDL_LENIENT").outputs == {"w.o": 5}


@pytest.mark.parametrize("case", LOSSY)
def test_a_loss_is_accepted_when_the_workflow_is_made_and_fails_when_it_happens(world: World, case: str) -> None:
    body, message = LOSSY[case]
    run = world.folder(text(body))
    assert world.host.inspect("WDL_LENIENT", run.definition, "main.wdl", 20).failure is None
    result = world.execute(run, engine="WDL_LENIENT")
    assert result.failure is not None
    assert message in result.failure["message"]


def test_both_engines_keep_their_own_parsed_form_of_one_definition(world: World) -> None:
    run = world.folder(text(CASES["float to int"][0]))
    for engine in ("WDL", "WDL_LENIENT"):
        world.host.inspect(engine, run.definition, "main.wdl", 20)
    kept = [path.name.rpartition("-")[0] for path in run.definition.parent.glob("parsed-*")]
    assert kept == ["parsed-lenient-1.16.0"]


@pytest.mark.parametrize("engine", ["WDL", "WDL_LENIENT"])
def test_mixed_numbers_stay_what_they_are_and_directives_of_cromwell_are_taken(world: World, engine: str) -> None:
    run = world.folder("""version 1.0
        task t {
          command <<< exit 4 >>>
          runtime { docker: "x" cpu: "2" memory: "1500 MB" disks: "local-disk 20 HDD" bootDiskSizeGb: 15 preemptible: 1 zones: "us-east1-b"
                    cpuPlatform: "Intel" noAddress: true failOnStderr: false continueOnReturnCode: 4 gpuCount: 0 }
        }
        workflow w { call t Array[Float] x = [1, 2.5] output { Array[Float] o = x } }""")
    result = world.execute(run, engine=engine)
    assert (result.failure, result.outputs) == (None, {"w.o": [1.0, 2.5]})
    ((_, asked),) = run.server.tasks.items()
    assert (asked.submit["cpus"], asked.submit["memory_bytes"], asked.submit["service_retries"]) == (
        2.0,
        1_500_000_000,
        1,
    )
