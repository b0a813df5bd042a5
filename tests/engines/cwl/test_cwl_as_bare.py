"""Every case means the same to stock cwltool and through a run process: outputs are compared value by value, files by content."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cwl_oracle import BareCwltool, Case, through_the_service
from engine_world import World
from file_cases import FILES
from tool_cases import TOOLS
from workflow_cases import WORKFLOWS

pytestmark = pytest.mark.needs("bwrap", "userns", "javascript")

CASES = [*TOOLS, *FILES, *WORKFLOWS]


@pytest.fixture(scope="module")
def bare() -> Iterator[BareCwltool]:
    """Stock cwltool, its schemas read once."""
    directory = Path(tempfile.mkdtemp(prefix="bare-cwl-"))
    cwltool = BareCwltool(directory)
    yield cwltool
    cwltool.close()
    shutil.rmtree(directory)


@pytest.mark.parametrize("what", CASES, ids=[one.name for one in CASES])
def test_a_case_means_the_same_bare_and_through_the_service(world: World, bare: BareCwltool, what: Case) -> None:
    expected, log = bare.execute(what)
    assert (expected is None) == what.fails, log
    found, run, result = through_the_service(world, what)
    assert found == expected, (result.failure, run.engine_log)


def test_there_are_as_many_cases_as_were_promised_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 50
    assert len({one.name for one in CASES}) == len(CASES)
