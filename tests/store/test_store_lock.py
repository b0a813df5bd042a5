"""The lock of the one active scheduler, and of the DATA directory."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from runomics.store.lock import acquire_scheduler_lock

HOLD = """
import sys
from pathlib import Path
from runomics.store.lock import acquire_scheduler_lock
lock = acquire_scheduler_lock(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""


def hold_elsewhere(path: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_only_one_process_holds_the_lock_and_the_next_gets_it_when_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder, answer = hold_elsewhere(path)
    assert answer == "held"
    assert acquire_scheduler_lock(path) is None
    assert path.read_text() == f"{holder.pid}\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=10)

    lock = acquire_scheduler_lock(path)
    assert lock is not None
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.release()


def test_a_released_lock_is_free_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = acquire_scheduler_lock(path)
    assert lock is not None
    other, answer = hold_elsewhere(path)
    other.communicate("", timeout=10)
    assert answer == "refused"
    lock.release()
    lock.release()
    other, answer = hold_elsewhere(path)
    other.communicate("", timeout=10)
    assert answer == "held"


def test_programs_started_by_the_holder_do_not_inherit_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = acquire_scheduler_lock(path)
    assert lock is not None
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    lock.release()
    again = acquire_scheduler_lock(path)
    child.communicate(timeout=10)
    assert again is not None
    again.release()
