"""The pipelines below `pipelines/`: each as files, run by a bare Nextflow and by the engine, with what came of it in one form."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_world import RunFolder, World, sandbox_path

from runomics.engines.nextflow import installation, jvm
from runomics.ports import EngineResult

PIPELINES = Path(__file__).parent / "pipelines"
_CASE_FILES = frozenset({"params.json", "profile", "fails", "bare.config"})
_SAID = re.compile(r"^OUT: .*$", re.MULTILINE)
_ERROR = re.compile(r"^ERROR ~ (.*)$", re.MULTILINE)
_WHERE = re.compile(r"/\S+/")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left: whether it succeeded, every published file with its text, what the pipeline said, how the error begins."""

    succeeded: bool
    published: Mapping[str, str]
    said: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True)
class Case:
    """A folder of `pipelines/`. `objects/` is what the bucket `data` holds; for the bare engine it is a folder."""

    name: str

    @property
    def folder(self) -> Path:
        return PIPELINES / self.name

    @property
    def parameters(self) -> dict[str, Any]:
        path = self.folder / "params.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @property
    def profile(self) -> str | None:
        path = self.folder / "profile"
        return path.read_text().strip() if path.exists() else None

    @property
    def fails(self) -> bool:
        return (self.folder / "fails").exists()

    def copy_definition(self, target: Path) -> None:
        """The files of the pipeline itself, with their modes."""
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if path.is_file() and name.parts[0] not in {*_CASE_FILES, "objects"}:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / name)


CASES = [Case(path.name) for path in sorted(PIPELINES.iterdir()) if path.is_dir()]


def run_bare(case: Case, scratch: Path) -> Outcome:
    """Nextflow's own launcher on the stock jars, its own executor, objects as files."""
    installed = installation.read()
    assert installed is not None
    project, published = scratch / "project", scratch / "published"
    case.copy_definition(project)
    if (case.folder / "objects").exists():
        shutil.copytree(case.folder / "objects", scratch / "data")
    # What is in samplesheets names objects too.
    for path in scratch.rglob("*"):
        if path.is_file() and path.suffix == ".csv":
            path.write_text(path.read_text().replace("s3://data/", f"{scratch}/data/"))
    text = json.dumps(case.parameters | {"outdir": str(published)}).replace("s3://data/", f"{scratch}/data/")
    (scratch / "params.json").write_text(text)
    environment = jvm.environment(installed) | {"HOME": str(scratch), "NXF_HOME": str(scratch / "home")}
    stock = [str(path) for path in installed.jars if path.parent.name == "lib"]
    command = [
        str(installed.java),
        *(part for part in jvm.command(installed, arguments=()) if part.startswith("--add-opens")),
        *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-cp", ":".join(stock), "nextflow.cli.Launcher"),
        *("-log", str(scratch / "log"), "run", str(project / "main.nf"), "-ansi-log", "false", "-name", "bare"),
        *("-params-file", str(scratch / "params.json"), "-w", str(scratch / "work"), "-output-dir", str(published)),
        *(("-profile", case.profile) if case.profile else ()),
        *(("-c", str(case.folder / "bare.config")) if (case.folder / "bare.config").exists() else ()),
    ]
    scratch.joinpath("launch").mkdir()
    done = subprocess.run(
        command,
        cwd=scratch / "launch",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return _outcome(done.returncode == 0, published, done.stdout)


def prepare(world: World, case: Case) -> tuple[RunFolder, dict[str, Any]]:
    """A run of the case that can be executed, and what its plan says."""
    run = world.folder({})
    case.copy_definition(run.definition)
    objects = case.folder / "objects"
    for path in objects.rglob("*") if objects.exists() else ():
        if path.is_file():
            run.server.objects[f"s3://data/{path.relative_to(objects)}"] = path.read_bytes()
    parameters = case.parameters | {"outdir": "/mnt/workflow/pubdir"}
    # As the service does: objects that parameters name are there before the engine begins.
    staged = {
        value: run.put_input(value, run.server.objects[value])
        for value in parameters.values()
        if isinstance(value, str) and value in run.server.objects
    }
    settings = {"profile": case.profile} if case.profile else {}
    return run, {
        "engine": "NEXTFLOW",
        "main": "main.nf",
        "parameters": parameters,
        "staged": staged,
        "engine_settings": settings,
    }


def run_engine(world: World, case: Case) -> tuple[RunFolder, EngineResult, Outcome]:
    """The same through the run process, its sandbox and a gateway."""
    run, plan = prepare(world, case)
    result = world.execute(run, 90, **plan)
    return run, result, _outcome(result.succeeded, run.volume / "pubdir", run.engine_log, run)


def _outcome(succeeded: bool, published: Path, log: str, run: RunFolder | None = None) -> Outcome:
    files: dict[str, str] = {}
    for directory, folders, names in os.walk(published, followlinks=True):
        for name in [*names, *(folder for folder in folders if os.path.islink(os.path.join(directory, folder)))]:
            path = os.path.join(directory, name)
            real = _resolved(path, run)
            relative = os.path.relpath(path, published)
            if os.path.isdir(real):
                for inner in Path(real).rglob("*"):
                    files[f"{relative}/{inner.relative_to(real)}"] = "" if inner.is_dir() else inner.read_text()
            else:
                files[relative] = Path(real).read_text()
    error = _ERROR.findall(log)
    return Outcome(
        succeeded,
        {name: _WHERE.sub("", text) for name, text in files.items()},
        tuple(sorted(_WHERE.sub("", line) for line in _SAID.findall(log))),
        _WHERE.sub("", error[-1]) if error else "",
    )


def _resolved(path: str, run: RunFolder | None) -> str:
    """Where a link leads; in a run's storage absolute ones are those of the sandbox."""
    for _ in range(10):
        if not os.path.islink(path):
            break
        target = os.readlink(path)
        if run is not None and target.startswith("/mnt/workflow/"):
            path = str(run.on_host(target))
        else:
            path = os.path.join(os.path.dirname(path), target)
    return path


__all__ = ["CASES", "Case", "Outcome", "prepare", "run_bare", "run_engine", "sandbox_path"]
