"""`runomics doctor`: what it finds by doing, and that one broken probe hides nothing."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from runomics.cli import doctor
from runomics.ports import Finding
from runomics.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"data": tmp_path / "data"})


def shown(settings: Settings) -> tuple[int, str]:
    """The exit code and what is printed."""
    output = StringIO()
    code = doctor.examine(settings, Console(file=output, width=200))
    return code, output.getvalue()


@pytest.mark.needs("root", "loop", "xfs", "cgroup", "bwrap", "awscli")
def test_everything_works_where_everything_is_there_and_nothing_is_left_behind(
    settings: Settings, tmp_path: Path
) -> None:
    # Few hosts have a GPU, and forwarding packets is for an operator to decide.
    optional = {"GPUs", "network bridges"}
    missing = [
        finding for finding in doctor.findings_of(settings) if not finding.works and finding.name not in optional
    ]
    assert missing == []
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def test_a_required_thing_that_is_missing_ends_with_1_and_its_remedy(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Finding("namespaces", works=False, detail="EPERM", remedy="sysctl something", required=True)
    monkeypatch.setattr(doctor, "findings_of", lambda _: [Finding("kernel", works=True), lost])
    code, text = shown(settings)
    assert code == 1
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["missing", "namespaces", "EPERM", "sysctl", "something"],
        ["runs", "cannot", "work", "here", "without:", "namespaces"],
    ]


def test_an_optional_thing_that_is_missing_ends_with_0(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "findings_of", lambda _: [Finding("AWS CLI", works=False, remedy="pip install awscli")])
    assert shown(settings)[0] == 0


def test_a_probe_that_breaks_is_a_finding_and_the_others_are_made(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(doctor, "probe_sandbox", broken)
    findings = list(doctor.findings_of(settings))
    assert [(one.works, one.detail) for one in findings if one.name == "sandbox"] == [
        (False, "the probe broke: RuntimeError('out of luck')")
    ]
    assert {"data directory", "run storage directory", "WDL engine"} <= {finding.name for finding in findings}


def test_a_data_directory_that_cannot_be_made_is_required(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = next(iter(doctor.findings_of(load({"data": tmp_path / "file" / "data"}))))
    assert (found.works, found.required, found.remedy) == (False, True, "choose another with --data")
