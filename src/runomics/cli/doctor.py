"""`runomics doctor`: asks every room to try what it needs, and prints what works and what to install. Runs in the user's process."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runomics.engines.nextflow import installation as nextflow
from runomics.images.probe import probe as probe_images
from runomics.ports import Finding
from runomics.run_storage import probe as probe_run_storage
from runomics.runners import accelerators
from runomics.runners.local import LocalRunner
from runomics.sandbox.probe import probe as probe_sandbox
from runomics.settings import Settings
from runomics.store import choice
from runomics.store.transaction import StoreUnavailable

EXIT_SOUND, EXIT_UNFIT = 0, 1


class FindingShape(Protocol):
    """`ports.Finding`, or the sandbox's own, which may import nothing of ours."""

    @property
    def name(self) -> str: ...
    @property
    def works(self) -> bool: ...
    @property
    def detail(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def required(self) -> bool: ...


def examine(settings: Settings, console: Console) -> int:
    """Print every finding; 1 when something required does not work, else 0."""
    findings = list(findings_of(settings))
    console.print(drawing(findings))
    unfit = [finding.name for finding in findings if finding.required and not finding.works]
    if unfit:
        console.print(f"runs cannot work here without: {', '.join(unfit)}", markup=False, highlight=False)
        return EXIT_UNFIT
    return EXIT_SOUND


def findings_of(settings: Settings) -> Iterable[FindingShape]:
    """What each room found, in the order a run meets them. A probe that itself breaks is a finding too."""
    probes: tuple[tuple[str, Callable[[], Sequence[FindingShape]]], ...] = (
        ("data", lambda: [_data_directory(settings.data)]),
        ("database", lambda: _database(settings.database_url)),
        ("run storage", lambda: _run_storage(settings.data)),
        ("sandbox", probe_sandbox),
        ("tasks", lambda: _tasks(settings.data)),
        ("accelerators", lambda: [accelerators.probe()]),
        ("images", lambda: _images(settings.data)),
        ("engines", lambda: [_wdl(), _nextflow()]),
        ("clients", lambda: [_aws_cli()]),
    )
    for name, probe in probes:
        try:
            yield from probe()
        except Exception as error:  # a broken probe must not hide the others
            yield Finding(name, works=False, detail=f"the probe broke: {error!r}", remedy="report this", required=False)


def drawing(findings: Sequence[FindingShape]) -> Table:
    """The table: works, what, detail, and the remedy where it does not."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("detail")
    table.add_column("remedy")
    for finding in findings:
        word, style = ("ok", "green") if finding.works else ("missing", "bold red" if finding.required else "yellow")
        remedy = "" if finding.works else finding.remedy
        table.add_row(Text(word, style), Text(finding.name), Text(finding.detail), Text(remedy))
    return table


def _place(data: Path) -> Path:
    """The data directory, or the folder in which it would be made: the same file system."""
    return next(path for path in (data, *data.parents) if path.exists())


def _run_storage(data: Path) -> Sequence[FindingShape]:
    with tempfile.TemporaryDirectory(prefix=".runomics-doctor-", dir=_place(data)) as scratch:
        return probe_run_storage(Path(scratch) / "volumes", Path(scratch) / "runs")


def _tasks(data: Path) -> Sequence[FindingShape]:
    with tempfile.TemporaryDirectory(prefix=".runomics-doctor-", dir=_place(data)) as scratch:
        return LocalRunner(Path(scratch), cgroup_parent=f"runomics-doctor-{os.getpid()}").probe()


def _images(data: Path) -> Sequence[FindingShape]:
    with tempfile.TemporaryDirectory(prefix=".runomics-doctor-", dir=_place(data)) as scratch:
        return probe_images(Path(scratch))


def _data_directory(data: Path) -> Finding:
    place = _place(data)
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        return Finding(
            "data directory",
            works=False,
            detail=f"{place} is no folder that can be written",
            remedy="choose another with --data",
            required=True,
        )
    free_gib = shutil.disk_usage(place).free / 1024**3
    return Finding("data directory", works=True, detail=f"{data}, {free_gib:.0f} GiB free", required=True)


def _database(url: str | None) -> Sequence[Finding]:
    """Nothing to try where the database is a file in the data directory."""
    if url is None:
        return ()
    try:
        version = choice.try_out(url)
    except StoreUnavailable as error:
        remedy = "set `database` to a PostgreSQL database that this host reaches (14 or newer, UTF8)"
        return (Finding("database", works=False, detail=str(error).strip(), remedy=remedy, required=True),)
    return (Finding("database", works=True, detail=f"PostgreSQL {version}", required=True),)


def _wdl() -> Finding:
    return Finding("WDL engine", works=True, detail=f"miniwdl {importlib.metadata.version('miniwdl')}", required=True)


def _nextflow() -> Finding:
    why_not = nextflow.why_not()
    return Finding(
        "Nextflow engine",
        works=not why_not,
        detail="" if why_not else f"Nextflow {nextflow.VERSION}",
        remedy=why_not.partition(", then ")[0],
    )


def _aws_cli() -> Finding:
    beside = Path(sys.executable).with_name("aws")
    found = str(beside) if beside.is_file() else shutil.which("aws")
    return Finding("AWS CLI", works=found is not None, detail=found or "", remedy="pip install awscli")
