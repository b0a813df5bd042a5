"""The cgroup drivers on trees of plain files, where the live kernel has none of that version; and what is chosen where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runomics.node import cgroups, delegation
from runomics.node.cgroups import Counters, Inherited, Limits


@pytest.fixture
def v2_tree(tmp_path: Path) -> Path:
    """A v2 cgroup as the kernel makes it."""
    group = tmp_path / "parent" / "name"
    group.mkdir(parents=True)
    for name in (
        "memory.max",
        "memory.swap.max",
        "memory.oom.group",
        "cpu.max",
        "pids.max",
        "cgroup.procs",
        "cgroup.kill",
    ):
        (group / name).touch()
    return group


def read(group: Path, *names: str) -> list[str]:
    return [(group / name).read_text() for name in names]


def test_v2_limits_are_written_in_the_kernels_words(tmp_path: Path, v2_tree: Path) -> None:
    cgroups.V2("parent", "name", str(tmp_path)).make(Limits(cpus=1.5, memory_bytes=1 << 30, pids=100))
    assert read(v2_tree, "memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max") == [
        "1073741824", "0", "1", "150000 100000", "100",
    ]  # fmt: skip


def test_v2_without_swap_accounting_is_no_obstacle(tmp_path: Path, v2_tree: Path) -> None:
    (v2_tree / "memory.swap.max").unlink()
    cgroups.V2("parent", "name", str(tmp_path)).make(Limits(1, 1 << 20, 10))
    assert read(v2_tree, "memory.max") == ["1048576"]


def test_v2_without_a_memory_controller_is_an_error_and_no_silent_downgrade(tmp_path: Path, v2_tree: Path) -> None:
    (v2_tree / "memory.max").unlink()
    with pytest.raises(FileNotFoundError):
        cgroups.V2("parent", "name", str(tmp_path)).make(Limits(1, 1 << 20, 10))


def test_v2_counters(tmp_path: Path, v2_tree: Path) -> None:
    (v2_tree / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (v2_tree / "memory.current").write_text("100\n")
    (v2_tree / "memory.peak").write_text("200\n")
    (v2_tree / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert cgroups.V2("parent", "name", str(tmp_path)).counters() == Counters(1.5, 100, 200, 2)


def test_v2_before_linux_5_19_has_no_peak(tmp_path: Path, v2_tree: Path) -> None:
    (v2_tree / "cpu.stat").write_text("usage_usec 0\n")
    (v2_tree / "memory.current").write_text("100\n")
    assert cgroups.V2("parent", "name", str(tmp_path)).counters() == Counters(0.0, 100, None, 0)


def test_v2_enters_and_kills_through_its_own_files(tmp_path: Path, v2_tree: Path) -> None:
    group = cgroups.V2("parent", "name", str(tmp_path))
    group.kill()
    group.take_in(17)
    assert read(v2_tree, "cgroup.kill", "cgroup.procs") == ["1", "17"]


def test_inherited_v2_counts_from_where_it_began(tmp_path: Path) -> None:
    own = tmp_path / "job"
    own.mkdir()

    def now(cpu: int, peak: int, kills: int) -> None:
        (own / "cpu.stat").write_text(f"usage_usec {cpu}\n")
        (own / "memory.peak").write_text(f"{peak}\n")
        (own / "memory.current").write_text("50\n")
        (own / "memory.events").write_text(f"oom_kill {kills}\n")

    now(1_000_000, 500, 1)
    group = Inherited(str(tmp_path), "0::/job\n")
    now(3_000_000, 500, 1)
    assert group.counters() == Counters(2.0, 50, None, 0)
    now(3_000_000, 700, 2)
    assert group.counters() == Counters(2.0, 50, 700, 1)


def test_inherited_in_hybrid_mode_reads_the_controllers_and_not_the_unified_tree(tmp_path: Path) -> None:
    (tmp_path / "memory" / "job").mkdir(parents=True)
    (tmp_path / "memory" / "job" / "memory.usage_in_bytes").write_text("7\n")
    (tmp_path / "memory" / "job" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    group = Inherited(str(tmp_path), "4:memory:/job\n2:cpu,cpuacct:/\n0::/\n")
    assert group.counters().memory_bytes == 7


def test_no_tree_at_all_leaves_limits_soft_and_says_why(tmp_path: Path) -> None:
    choice = delegation.detect("parent", str(tmp_path))
    assert (choice.driver, "no cgroup file system" in choice.why_soft) == ("none", True)


def test_v1_without_a_controller_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    assert delegation.detect("parent", str(tmp_path)).why_soft == "cgroup v1 without cpu, cpuacct, pids"


def test_v2_is_given_controllers_from_the_top_down(tmp_path: Path) -> None:
    """The fake tree has no controllers to give: what was asked of it is what counts, and the refusal is not hidden."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "cgroup.subtree_control").touch()
    choice = delegation.detect("parent", str(tmp_path))
    asked = [(tmp_path / place / "cgroup.subtree_control").read_text().split() for place in (".", "parent")]
    assert [set(words) >= {"+memory", "+pids"} for words in asked] == [True, True]
    assert (choice.driver, "memory.max" in choice.why_soft) == ("none", True)


@pytest.mark.needs("root", "cgroup")
def test_this_machines_tree_is_recognised_and_left_clean() -> None:
    parent = f"runomics-detect-{os.getpid()}"
    choice = delegation.detect(parent)
    assert (choice.driver in ("v1", "v2"), choice.why_soft) == (True, "")
    left = [path for path in Path("/sys/fs/cgroup").rglob(f"{parent}/*") if path.is_dir()]
    for path in Path("/sys/fs/cgroup").rglob(parent):
        path.rmdir()
    assert left == []
