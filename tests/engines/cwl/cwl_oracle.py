"""One CWL case twice: by stock cwltool and through a run process, both outcomes in one form that can be compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from engine_world import RunFolder, World

OPTIONS = ["--no-container", "--enable-ext", "--disable-js-validation", "--quiet", "--relax-path-checks"]


@dataclass(frozen=True)
class Case:
    """A definition, parameters whose files are `s3://in/…`, and what those objects hold."""

    name: str
    files: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    objects: Mapping[str, bytes] = field(default_factory=dict)
    main: str = "main.cwl"
    fails: bool = False
    unordered: bool = False


def case(name: str, text: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> Case:
    """A case of one file, or of more with `others`."""
    files = {"main.cwl": textwrap.dedent(text)}
    files |= {path: textwrap.dedent(text) for path, text in more.pop("others", {}).items()}
    return Case(name, files, parameters or {}, **more)


class BareCwltool:
    """The stock cwltool."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(Path(__file__).with_name("bare_cwltool.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def execute(self, what: Case) -> tuple[Any, str]:
        """Normal form of the outputs, None when it failed; and its log."""
        place = self._directory / what.name
        shutil.rmtree(place, ignore_errors=True)
        for path, text in what.files.items():
            (place / "definition" / path).parent.mkdir(parents=True, exist_ok=True)
            (place / "definition" / path).write_text(text)
        for uri, data in what.objects.items():
            path = place / uri.removeprefix("s3://")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        local = json.loads(json.dumps(what.parameters).replace("s3://", f"file://{place}/"))
        (place / "job.json").write_text(json.dumps(local))
        (place / "out").mkdir()
        request = {
            "cwd": str(place),
            "arguments": [*OPTIONS, "--outdir", str(place / "out"), f"definition/{what.main}", "job.json"],
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["code"]:
            return None, answer["log"]
        outputs = json.loads(answer["outputs"])
        return _normal(outputs, lambda location: Path(unquote(location.removeprefix("file://")))), answer["log"]


def through_the_service(world: World, what: Case, **plan: Any) -> tuple[Any, RunFolder, Any]:
    """Normal form of the outputs, None when the run failed; the run; its result."""
    run = world.folder(what.files)
    run.server.objects.update(what.objects)
    result = world.execute(run, engine="CWL", main=what.main, parameters=dict(what.parameters), **plan)
    if not result.succeeded:
        return None, run, result
    places: dict[str, Path] = {}
    for export in result.exports:
        places[export["target"]] = resolved(run, export["source"])

    def place(location: Any) -> Path:
        target = location["__export__"]
        if target in places:
            return places[target]
        above = max((known for known in places if target.startswith(f"{known}/")), key=len, default=None)
        return Path("/nowhere") if above is None else places[above] / target[len(above) + 1 :]

    return _normal(result.outputs, place), run, result


def resolved(run: RunFolder, path: str) -> Path:
    """The host's path of a file in the sandbox, links followed as the sandbox would."""
    seen = Path(path)
    for _ in range(10):
        on_host = run.on_host(str(seen))
        if not on_host.is_symlink():
            return on_host
        target = on_host.readlink()
        seen = target if target.is_absolute() else seen.parent / target
    raise AssertionError(f"{path} leads in circles")


def _normal(value: Any, place: Any) -> Any:
    """Files by what they hold; directories by what lies in them; no paths."""
    if isinstance(value, list):
        return [_normal(item, place) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class") == "File":
        path = place(value["location"])
        new = {
            "class": "File",
            "basename": value["basename"],
            "holds": path.read_bytes(),
            "name": _name(value["location"]),
        }
        new |= {name: value[name] for name in ("size", "checksum", "format") if name in value}
        if value.get("secondaryFiles"):
            new["secondaryFiles"] = _sorted(_normal(value["secondaryFiles"], place))
        return new
    if value.get("class") == "Directory":
        return {
            "class": "Directory",
            "basename": value["basename"],
            "listing": _sorted(_normal(value.get("listing", []), place)),
        }
    return {name: _normal(item, place) for name, item in value.items()}


def _name(location: Any) -> str:
    path = location["__export__"] if isinstance(location, dict) else unquote(location)
    return str(path).rpartition("/")[2]


def _sorted(values: list[Any]) -> list[Any]:
    return sorted(values, key=lambda one: one["basename"])
