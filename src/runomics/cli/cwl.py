"""A CWL file on disk as a workflow definition, and its inputs.json as run parameters. Reads YAML only: no engine. In the user's process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from runomics.cli.definition import BadDefinition, Definition, pack, rooted
from runomics.cli.inputs import BadInputs, Uploads

_REFERENCES = ("run", "$import", "$include", "$mixin")
_CLASSES = ("File", "Directory")


@dataclass(frozen=True, slots=True)
class CwlInput:
    """What the command line must know of an input: the patterns of files that lie beside it."""

    secondary: tuple[str, ...] = ()


def is_cwl(path: Path) -> bool:
    """Whether `path` is to be taken for CWL: by its name, or a folder with main.cwl and no main.wdl."""
    if path.is_dir():
        return (path / "main.cwl").is_file() and not (path / "main.wdl").exists()
    return str(path).partition("#")[0].endswith(".cwl")


def load_cwl(path: Path) -> Definition:
    """Pack `path`: a CWL file, perhaps with `#id`, and all it names, or a folder with main.cwl, of which every visible file is packed.

    Raises:
        BadDefinition: it is no YAML, it names a URL, or it is missing.
    """
    name, mark, fragment = str(path).partition("#")
    main = Path(name) / "main.cwl" if Path(name).is_dir() else Path(name)
    if not main.is_file():
        raise BadDefinition(f"{main} is not there")
    sources = {file.resolve() for file in _with_references(main.resolve())}
    root, sources = rooted(Path(name), sources)
    document = _process(_read(main), fragment or "main")
    return Definition(
        name=fragment or (main.resolve().parent.name if main.name == "main.cwl" else main.stem),
        main=str(main.resolve().relative_to(root)) + mark + fragment,
        archive=pack(root, sources),
        input_types={str(key): CwlInput(_patterns(one)) for key, one in _inputs(document)},
        engine="CWL",
    )


def cwl_parameters(given: Mapping[str, Any], types: Mapping[str, Any], uploads: Uploads) -> dict[str, Any]:
    """`given` with every local file replaced by its uploaded copy, with those beside it that the workflow wants there.

    Raises:
        BadInputs: a File or Directory is neither a URI nor there.
    """
    return {name: _uploaded(value, types.get(name, CwlInput()), name, uploads) for name, value in given.items()}


# ---- the definition ----------------------------------------------------------------------------------------------


def _read(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadDefinition(f"{path}: {error}") from None


def _with_references(main: Path) -> list[Path]:
    seen: list[Path] = []
    ahead = [main]
    while ahead:
        path = ahead.pop()
        if path in seen:
            continue
        seen.append(path)
        if path.suffix not in (".cwl", ".yml", ".yaml", ".json"):
            continue
        for name in _references(_read(path)):
            if "://" in name:
                raise BadDefinition(f"{path} names {name}: a definition holds all its files")
            found = (path.parent / name.partition("#")[0]).resolve()
            if name.partition("#")[0] and found.is_file():
                ahead.append(found)
    return seen


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in _REFERENCES and isinstance(item, str):
                yield item
            elif value.get("class") in _CLASSES and name in ("location", "path") and isinstance(item, str):
                yield from [item] if "://" not in item else []
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _process(document: Any, fragment: str) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        return {}
    for one in document.get("$graph") or ():
        if isinstance(one, Mapping) and str(one.get("id", "")).lstrip("#") == fragment:
            return one
    return document


def _inputs(process: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    inputs = process.get("inputs") or {}
    if isinstance(inputs, Mapping):
        yield from inputs.items()
        return
    for one in inputs:
        if isinstance(one, Mapping):
            yield str(one.get("id", "")).lstrip("#"), one


def _patterns(one: Any) -> tuple[str, ...]:
    wanted = one.get("secondaryFiles") if isinstance(one, Mapping) else None
    entries = wanted if isinstance(wanted, list) else [wanted] if wanted else []
    texts = [entry.get("pattern") if isinstance(entry, Mapping) else entry for entry in entries]
    return tuple(
        text.removesuffix("?") for text in texts if isinstance(text, str) and "$(" not in text and "${" not in text
    )


# ---- the inputs --------------------------------------------------------------------------------------------------


def _uploaded(value: Any, kind: CwlInput, name: str, uploads: Uploads) -> Any:
    if isinstance(value, list):
        return [_uploaded(one, kind, f"{name}[{index}]", uploads) for index, one in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if value.get("class") not in _CLASSES:
        return {key: _uploaded(one, kind, f"{name}.{key}", uploads) for key, one in value.items()}
    new = dict(value)
    for member in ("secondaryFiles", "listing"):
        if member in value:
            new[member] = [_uploaded(one, CwlInput(), f"{name}.{member}", uploads) for one in value[member]]
    location = value.get("location", value.get("path"))
    if not isinstance(location, str) or ("://" in location and not location.startswith("file://")):
        return new
    named = unquote(location.removeprefix("file://")) if location.startswith("file://") else location
    path = uploads.folder / Path(named).expanduser()
    new.pop("path", None)
    if value["class"] == "Directory":
        if not path.is_dir():
            raise BadInputs(f"{name}: there is no folder {path}")
        return new | {"location": uploads.directory(path)}
    if not path.is_file():
        raise BadInputs(f"{name}: there is no file {path}")
    new["location"] = uploads.file(path)
    given = {Path(str(one.get("basename") or one.get("location", ""))).name for one in new.get("secondaryFiles", [])}
    beside = [
        file
        for file in (_beside(path, pattern) for pattern in kind.secondary)
        if file.is_file() and file.name not in given
    ]
    if beside:
        new["secondaryFiles"] = [
            *new.get("secondaryFiles", []),
            *({"class": "File", "location": uploads.file(file)} for file in beside),
        ]
    return new


def _beside(path: Path, pattern: str) -> Path:
    """`^` takes one ending away before the rest is put on."""
    name = path.name
    while pattern.startswith("^"):
        name, pattern = name.rpartition(".")[0] or name, pattern[1:]
    return path.with_name(name + pattern)
