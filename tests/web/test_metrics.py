"""What `/metrics` says, read by Prometheus' own parser, and to whom."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runomics.domain.task import Reason
from runomics.ports import Pool, TaskEnd
from runomics.scheduler.task_totals import TaskFigures, TaskTotals
from runomics.web.metrics import Figures, LiveTask, Metrics


def figures() -> Figures:
    totals = TaskTotals()
    totals.add(TaskEnd(Reason.OK, 0, started_ms=1_000, stopped_ms=3_500, cpu_seconds=1.25))
    totals.add(TaskEnd(Reason.OOM, 137, started_ms=1_000, stopped_ms=2_000))
    tasks = TaskFigures(
        3, 1, 2.0, 1.0, 8 << 30, 1 << 30, 0, 0, totals.ended(), totals.cpu_seconds, totals.running_seconds
    )
    live = LiveTask(1_000_001, 1_000_007, 'align "a"\n', 1.0, 1 << 30, 0.5, None)
    return Figures(100_000, 7, 100, Pool(100, 60, 5), tasks, (live,))


def read(text: bytes) -> dict[tuple[str, str], float]:
    samples = (sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples)
    return {(sample.name, ",".join(sample.labels.values())): sample.value for sample in samples}


def test_figures_are_read_by_prometheus_as_they_are() -> None:
    found = read(Metrics(look=figures, token=None, is_open=True).text())
    named = {name: value for (name, labels), value in found.items() if not labels}
    assert named["runomics_runs_pending"] == 100_000
    assert (named["runomics_tasks_waiting"], named["runomics_tasks_running"]) == (3, 1)
    assert (named["runomics_host_cpus"], named["runomics_host_cpus_held"]) == (2, 1)
    assert (named["runomics_task_cpu_seconds_total"], named["runomics_task_running_seconds_total"]) == (1.25, 3.5)
    assert found[("runomics_task_attempts_ended_total", "OOM")] == 1
    who = 'align "a"\n,1000001,1000007'
    assert found[("runomics_live_task_cpu_seconds", who)] == 0.5
    assert ("runomics_live_task_memory_bytes", who) not in found


@pytest.mark.parametrize(
    ("token", "is_open", "shown", "may"),
    [
        (None, True, b"", True),
        (None, False, b"", False),
        ("secret", True, b"", False),
        ("secret", True, b"Bearer other", False),
        ("secret", False, b"Bearer secret", True),
    ],
)
def test_metrics_are_for_this_host_or_for_who_shows_the_token(
    token: str | None, is_open: bool, shown: bytes, may: bool
) -> None:
    headers = [(b"host", b"x"), (b"authorization", shown)] if shown else [(b"host", b"x")]
    assert Metrics(look=figures, token=token, is_open=is_open).may_read(headers) is may


def test_a_server_that_nobody_asks_does_not_load_the_client() -> None:
    code = "import sys, runomics.app; print([name for name in sys.modules if name.startswith('prometheus')])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
