"""The same tests again as a user without any rights, with the system's own Python: what a laptop without root has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import structlog

import runomics

TESTS = Path(__file__).parent.parent
NOBODY = "65534"


def _command() -> list[str]:
    paths = {Path(module.__file__ or "").parent.parent for module in (runomics, structlog)}
    setpriv = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
    clean = [
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
        "HOME=/tmp",
        "PYTHONDONTWRITEBYTECODE=1",
        f"PYTHONPATH={':'.join(map(str, paths))}",
    ]
    return [*setpriv, *clean, "/usr/bin/python3"]


@pytest.mark.slow
@pytest.mark.needs("root", "userns", "bwrap")
@pytest.mark.parametrize(
    "tests",
    [
        "engines/test_wdl_runs.py",
        "engines/test_wdl_failures.py",
        "engines/test_engine_host.py",
        "engines/test_wdl_staging.py",
        "sandbox",
    ],
)
def test_a_plain_user_can_do_all_of_it(tests: str) -> None:
    if shutil.which("setpriv") is None or not Path("/usr/bin/python3").exists():
        pytest.skip("there is no setpriv or no /usr/bin/python3")
    program = _command()
    able = subprocess.run(
        [*program, "-c", "import runomics.engines.launcher, pytest, structlog"], capture_output=True, text=True, cwd="/"
    )
    if able.returncode != 0:
        pytest.skip(f"a plain user cannot import the packages here: {able.stderr.strip().splitlines()[-1]}")
    arguments = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(TESTS.parent / "pyproject.toml"),
        str(TESTS / tests),
    ]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, cwd="/", timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
