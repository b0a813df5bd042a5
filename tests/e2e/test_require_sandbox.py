"""A server that is to run nothing without the whole sandbox."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.needs("root", "bwrap", "loop", "xfs", "cgroup"), pytest.mark.slow]


def test_a_server_with_every_layer_runs_and_one_that_lacks_a_layer_says_which_and_ends(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    run = serve(require_sandbox="true").run("version 1.0\nworkflow main {}\n")
    assert run["status"] == "COMPLETED", run
    command = [sys.executable, "-m", "runomics", "serve", f"--data={tmp_path}", "--listen=127.0.0.1:0"]
    without = [*command, "--storage-backend=directory", "--require-sandbox=true", "--storage-reserve-gib=1"]
    ended = subprocess.run(without, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    said = ended.stderr[ended.stderr.index("runomics serve: ") :].splitlines()
    assert said[0].endswith("require_sandbox is true (which it is unless listen is loopback). Missing:")
    assert [line.split(":")[0].strip() for line in said[1:-1:2]] == ["run storage directory"]
    assert said[-1].endswith("or set require_sandbox to false to run without.")
