"""What the tests of run storage look at from outside: mounts, loop devices, and processes that write."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runomics.run_storage import linux

UID = 1_879_100_000
MIB = 1 << 20
GIB = 1 << 30

WRITE_AND_DELETE = """
import os, sys
volume, mebibytes, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
name, block = volume + "/burst", os.urandom(1 << 20)
file = os.open(name, os.O_CREAT | os.O_WRONLY)
for _ in range(mebibytes):
    os.write(file, block)
os.close(file)
if how == "unlink":
    os.unlink(name)
elif how == "truncate":
    os.close(os.open(name, os.O_WRONLY | os.O_TRUNC))
elif how == "replace":
    os.close(os.open(volume + "/other", os.O_CREAT | os.O_WRONLY))
    os.rename(volume + "/other", name)
"""

FILL = """
import os, sys
taken, block = 0, os.urandom(int(sys.argv[2]))
file = os.open(sys.argv[1] + "/filled", os.O_CREAT | os.O_WRONLY)
try:
    while True:
        taken += os.write(file, block)
except OSError as error:
    print(taken, error.errno)
"""

SMALL_FILES = """
import os, sys
for number in range(int(sys.argv[2])):
    file = os.open(f"{sys.argv[1]}/file{number}", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"x" * 4096)
    os.close(file)
"""


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether the condition comes true in time."""
    tick, deadline = threading.Event(), time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        tick.wait(0.02)
    return True


def mounts_below(path: Path) -> list[str]:
    """Mount points beneath `path`."""
    return [point for point, _, _ in linux.mounts() if point.startswith(f"{os.path.realpath(path)}/")]


def volume_mounts(data: Path) -> list[str]:
    """Mount points of volumes of the data directory; `runs` itself is one mount more."""
    return mounts_below(data / "runs")


def loops_below(path: Path) -> list[str]:
    """Backing files beneath `path` of all loop devices."""
    real, found = os.path.realpath(path), []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            name = entry.read_text().strip()
        except OSError:
            continue
        if name.startswith(f"{real}/"):
            found.append(name)
    return found


def images_below(path: Path) -> list[Path]:
    """Images that belong to a run or to nobody; those kept ready are not in it."""
    return [file for file in (path / "volumes").rglob("image") if ".ready" not in file.parts]


def run_python(code: str, *arguments: str | int | Path) -> str:
    """Run `code` in a process of its own; what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def as_user(uid: int, act: Callable[[], None]) -> None:
    """Do `act` in a forked process of another user; raises when it fails."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            act()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
