"""`runomics doctor`: what it finds by doing, and that one broken probe hides nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from itertools import islice
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from postgresql_cluster import Cluster
from runomics.cli import doctor
from runomics.cli.doctor import FindingShape
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


def database_finding(data: Path, url: str) -> FindingShape:
    """What is said right after the data directory; no later probe is made."""
    findings = iter(doctor.findings_of(load({"data": data, "database": url})))
    return next(islice(findings, 1, None))


@pytest.mark.postgresql
@pytest.mark.needs("postgresql")
def test_a_database_that_can_be_reached_is_named_and_left_as_it_is(
    tmp_path: Path, postgresql: Callable[[], Cluster]
) -> None:
    url = postgresql().empty()
    with psycopg.connect(url) as connection:
        version = connection.info.parameter_status("server_version")
        found = database_finding(tmp_path, url)
        tables = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
    assert found == Finding("database", works=True, detail=f"PostgreSQL {version}", required=True)
    assert tables == (0,)


@pytest.mark.postgresql
@pytest.mark.needs("postgresql")
def test_a_database_whose_server_is_too_old_is_said_to_be(
    tmp_path: Path, postgresql: Callable[[], Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runomics.store.postgresql.OLDEST_SERVER", 99)
    found = database_finding(tmp_path, postgresql().empty())
    assert (found.works, found.required) == (False, True)
    assert re.fullmatch(r"PostgreSQL \d+ is too old: 99 or newer is needed", found.detail)


def test_a_database_that_cannot_be_reached_is_required_and_its_password_is_not_shown(tmp_path: Path) -> None:
    found = database_finding(tmp_path, "postgresql://app:open-sesame@127.0.0.1:1/none")
    assert (found.name, found.works, found.required) == ("database", False, True)
    assert "127.0.0.1" in found.detail
    assert "open-sesame" not in found.detail + found.remedy


def test_a_database_in_the_data_directory_is_not_tried(settings: Settings) -> None:
    first, second = islice(doctor.findings_of(settings), 2)
    assert first.name == "data directory"
    assert second.name != "database"
