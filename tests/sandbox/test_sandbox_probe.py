"""The probe says what works by doing it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable

import pytest

from runomics.sandbox import linux, probe

NAMES = ["kernel", "namespaces", "mount /proc", "mount_setattr", "pivot_root", "openat2", "seccomp filter"]


@pytest.mark.needs("userns")
def test_everything_a_run_process_needs_is_tried_and_works_here() -> None:
    left = set(os.listdir(tempfile.gettempdir()))
    found = probe.probe()
    assert [one.name for one in found] == NAMES
    assert [(one.name, one.works, one.remedy) for one in found] == [(name, True, "") for name in NAMES], found
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - left if name.startswith("runomics-probe-")]
    assert threading.active_count() >= 1


def test_a_machine_that_forbids_namespaces_is_told_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(linux, "unshare", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = {one.name: one for one in probe.probe()}
    assert not found["namespaces"].works
    assert "Operation not permitted" in found["namespaces"].detail
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in found["namespaces"].remedy
    assert not found["pivot_root"].works
    assert found["openat2"].works


def test_a_child_that_dies_is_a_finding_and_not_a_crash() -> None:
    def die() -> None:
        os.kill(os.getpid(), 9)

    attempt: Callable[[Callable[[], None]], str] = probe._in_child
    assert attempt(die) == "the child ended with -9"
    assert attempt(lambda: None) == ""
