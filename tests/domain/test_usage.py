"""Averages and maxima of a task from its minutes."""

from __future__ import annotations

import pytest

from runomics.domain.usage import Minute, TaskUsage, task_usage


@pytest.mark.source("guide")
def test_maxima_are_those_of_one_minute_intervals_and_averages_those_of_the_whole_time() -> None:
    minutes = [Minute(0, 10.0, 100, 50), Minute(60_000, 120.0, 300, 200), Minute(120_000, 3.0, 90, 80)]
    assert task_usage(minutes, started_ms=40_000, stopped_ms=130_000) == TaskUsage(
        running_seconds=90.0,
        cpus_average=133.0 / 90,
        cpus_maximum=2.0,
        memory_average_bytes=round((50 * 20 + 200 * 60 + 80 * 10) / 90),
        memory_maximum_bytes=300,
    )


def test_an_interval_counts_for_as_long_as_the_task_ran_in_it() -> None:
    usage = task_usage([Minute(0, 0.5, 10, 10)], started_ms=59_000, stopped_ms=60_000)
    assert (usage.cpus_maximum, usage.cpus_average) == (0.5, 0.5)


def test_a_task_that_took_no_time_divides_by_none() -> None:
    assert task_usage([], started_ms=5, stopped_ms=5) == TaskUsage(0.0, 0.0, 0.0, 0, 0)
