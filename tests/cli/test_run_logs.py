"""Reading logs page by page, to the end or as they grow."""

from __future__ import annotations

import pytest
from listening import Listener

from runomics.__main__ import main
from runomics.cli.connection import connect
from runomics.cli.run_logs import lines, tail, time_text


def page(offset: int, *texts: str, ended: bool = False) -> dict[str, object]:
    return {
        "lines": [[1764000000000 + index, text] for index, text in enumerate(texts)],
        "offset": offset,
        "ended": ended,
    }


def test_all_pages_there_are_come_in_order(listener: Listener) -> None:
    listener.answers["/-/logs/7?stream=run&offset=0"] = [page(10, "a", "b")]
    listener.answers["/-/logs/7?stream=run&offset=10"] = [page(20, "c")]
    listener.answers["/-/logs/7?stream=run&offset=20"] = [page(20)]
    assert [text for _, text in lines(connect(listener.data), "7", "run")] == ["a", "b", "c"]


def test_following_waits_for_lines_to_come_until_the_log_has_ended(listener: Listener) -> None:
    listener.answers["/-/logs/7?stream=engine&offset=0"] = [page(0), page(0), page(5, "late")]
    listener.answers["/-/logs/7?stream=engine&offset=5"] = [page(5), page(5, ended=True)]
    assert [text for _, text in lines(connect(listener.data), "7", "engine", follow=True)] == ["late"]


def test_a_tail_is_the_last_lines(listener: Listener) -> None:
    listener.answers["/-/logs/7?stream=task%2F3&offset=0"] = [page(9, *"abcdefghi")]
    listener.answers["/-/logs/7?stream=task%2F3&offset=9"] = [page(9, ended=True)]
    assert tail(connect(listener.data), "7", "task/3", 3) == ["g", "h", "i"]


def test_timestamps_are_utc_with_milliseconds(listener: Listener, capfd: pytest.CaptureFixture[str]) -> None:
    listener.answers["/-/logs/7?stream=run&offset=0"] = [page(10, "a [bold]b")]
    listener.answers["/-/logs/7?stream=run&offset=10"] = [page(10, ended=True)]
    assert main(["logs", "7", "-t", "--data", str(listener.data)]) == 0
    assert capfd.readouterr().out == "2025-11-24T16:00:00.000Z a [bold]b\n"
    assert time_text(1764000000999) == "2025-11-24T16:00:00.999Z"


def test_a_task_is_found_by_its_name(listener: Listener, capfd: pytest.CaptureFixture[str]) -> None:
    listener.answers["/run/7/task?"] = [
        {"items": [{"taskId": "31", "name": "align-0"}, {"taskId": "32", "name": "align-1"}]}
    ]
    listener.answers["/-/logs/7?stream=task%2F32&offset=0"] = [page(0, "aligned", ended=True)]
    assert main(["logs", "7", "--task", "align-1", "--data", str(listener.data)]) == 0
    assert capfd.readouterr().out == "aligned\n"


def test_a_task_that_is_not_there_is_refused_with_those_that_are(
    listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    listener.answers["/run/7/task?"] = [{"items": [{"taskId": "31", "name": "align-0"}]}]
    assert main(["logs", "7", "--task", "sort", "--data", str(listener.data)]) == 1
    assert capfd.readouterr().err == "runomics: run 7 has no task sort; it has: align-0 (31)\n"


def test_a_name_that_several_tasks_have_is_refused_with_their_ids(
    listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    listener.answers["/run/7/task?"] = [{"items": [{"taskId": "31", "name": "x"}, {"taskId": "32", "name": "x"}]}]
    assert main(["logs", "7", "--task", "x", "--data", str(listener.data)]) == 1
    assert capfd.readouterr().err == "runomics: several tasks of run 7 are called x; say which by id: 31, 32\n"


def test_a_task_and_the_engine_at_once_are_wrong_usage(listener: Listener) -> None:
    assert main(["logs", "7", "--task", "x", "--engine", "--data", str(listener.data)]) == 2
