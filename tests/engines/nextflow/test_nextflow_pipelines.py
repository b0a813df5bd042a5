"""Every feature, run by a bare Nextflow and by the engine: the same files, the same words, the same end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_world import World
from pipeline_cases import CASES, Case, Outcome, run_bare, run_engine

pytestmark = [pytest.mark.needs("nextflow", "bwrap", "userns"), pytest.mark.slow]

AT_ONCE = 2


@pytest.fixture(scope="module")
def bare(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """The bare engine's outcomes of the cases that were asked for, computed meanwhile."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {one.params.get("case") for one in chosen if one is not None}
    scratch = Path(tempfile.mkdtemp(prefix="ro-"))
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        futures = {}
        for case in filter(wanted.__contains__, CASES):
            (scratch / case.name).mkdir()
            futures[case.name] = pool.submit(run_bare, case, scratch / case.name)
        yield futures
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_pipeline_does_what_it_does_under_a_bare_nextflow(
    world: World, case: Case, bare: dict[str, Future[Outcome]]
) -> None:
    run, result, ours = run_engine(world, case)
    theirs = bare[case.name].result(180)
    assert theirs.succeeded is not case.fails, theirs
    assert theirs.published or theirs.said or theirs.error, "a case that shows nothing compares nothing"
    assert ours == theirs, run.engine_log
    assert result.succeeded is ours.succeeded
    assert result.engine_version == "25.04.4"
