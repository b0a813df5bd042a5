"""The audit log: a line for every call, in order, in files of bounded size that nobody else reads."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from runomics.logs import audit
from runomics.logs.audit import AuditLog, Call

AT_NS = 1_764_000_000_123_456_789


def call(number: int = 0, **changes: Any) -> Call:
    usual = Call(
        at_ns=AT_NS,
        principal="arn:aws:iam::123456789012:user/ana",
        account="123456789012",
        access_key_id="AKIA",
        operation="GetRun",
        subject=f"run/{number}",
        outcome="Success",
        request_id=str(number),
    )
    return usual._replace(**changes)


def open_log(path: Path, *, max_bytes: int = 1 << 20, files: int = 3) -> AuditLog:
    return AuditLog(path, max_bytes=max_bytes, files=files, describe=lambda one: one.subject)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_line_says_who_what_on_what_and_with_which_outcome(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log")
    log.add(call(7))
    log.close()
    assert lines(tmp_path / "audit.log") == [
        {
            "event": "audit",
            "timestamp": "2025-11-24T16:00:00.123Z",
            "principal": "arn:aws:iam::123456789012:user/ana",
            "account": "123456789012",
            "access_key_id": "AKIA",
            "operation": "GetRun",
            "resource": "run/7",
            "outcome": "Success",
            "request_id": "7",
        }
    ]


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log")
    log.add(call())
    log.close()
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


def test_calls_of_many_threads_are_all_there_each_threads_in_order(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log", max_bytes=1 << 30)

    def ask(thread: int) -> None:
        for number in range(500):
            log.add(call(number, account=str(thread)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found = lines(tmp_path / "audit.log")
    for thread in range(4):
        assert [line["request_id"] for line in found if line["account"] == str(thread)] == [
            str(number) for number in range(500)
        ]


def test_it_goes_on_where_an_earlier_server_stopped(tmp_path: Path) -> None:
    for number in range(2):
        log = open_log(tmp_path / "audit.log")
        log.add(call(number))
        log.close()
    assert [line["request_id"] for line in lines(tmp_path / "audit.log")] == ["0", "1"]


def test_full_files_are_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    for number in range(5):
        log = open_log(tmp_path / "audit.log", max_bytes=100, files=3)
        log.add(call(number))
        log.close()
    kept = {path.name: [line["request_id"] for line in lines(path)] for path in tmp_path.iterdir()}
    assert kept == {"audit.log.1": ["4"], "audit.log.2": ["3"]}


def test_with_one_file_a_full_one_is_begun_anew(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log", max_bytes=100, files=1)
    log.add(call())
    log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hostile", ['run/1"}\n{"event":"forged"', "run/\udcff", "run/\x00", "ä漢"])
def test_no_request_can_write_a_line_of_its_own(tmp_path: Path, hostile: str) -> None:
    log = open_log(tmp_path / "audit.log")
    log.add(call(subject=hostile))
    log.close()
    [line] = lines(tmp_path / "audit.log")
    assert (line["event"], line["resource"]) == ("audit", hostile.encode("utf-8", "backslashreplace").decode())


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")
    with structlog.testing.capture_logs() as said:
        log = open_log(tmp_path / "audit.log")
        log.add(call())
        log.close()
    assert [entry["event"] for entry in said] == ["audit.cannot_be_written"]
    assert (tmp_path / "elsewhere").read_text() == ""


def test_what_could_not_be_written_is_counted_once_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    monkeypatch.setattr(audit, "GATHER_SECONDS", 0.0)
    failed = threading.Event()
    with structlog.testing.capture_logs():
        log = AuditLog(folder / "audit.log", max_bytes=1 << 20, files=2, describe=lambda one: one.subject)
        monkeypatch.setattr(log, "_gap", _telling(log, failed))
        log.add(call(1))
        assert failed.wait(10)
        log.add(call(2))
        log.close()
    told = [line for line in lines(folder / "audit.log") if line["event"] == "audit.gap"]
    assert [line["calls"] for line in told] == [1]


def _telling(log: AuditLog, failed: threading.Event) -> Any:
    """The gap's line as it is; once the first write has failed, the folder is there."""
    gap = AuditLog._gap

    def wrapped() -> bytes:
        line = gap(log)
        if line:
            os.makedirs(log._path.parent, exist_ok=True)
        failed.set()
        return line

    return wrapped


def test_too_many_that_wait_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "WAITING_LIMIT", 2)
    monkeypatch.setattr(audit, "GATHER_SECONDS", 60.0)
    log = open_log(tmp_path / "audit.log")
    for number in range(10):
        log.add(call(number))
    log.close()
    found = lines(tmp_path / "audit.log")
    left_out = sum(line["calls"] for line in found if line["event"] == "audit.gap")
    assert left_out + sum(line["event"] == "audit" for line in found) == 10
    assert left_out >= 7
