"""What a definition archive may look like and which of its files is the workflow. Pure; used by register on a worker thread.

Every refusal is a `Refused` whose message is the statusMessage of the FAILED workflow: it names the entry and says what to do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

EXTENSIONS: Mapping[str, str] = {"WDL": ".wdl", "NEXTFLOW": ".nf", "CWL": ".cwl"}
"""Engine → extension of its definition files. Source: guide, workflow-defn-packaging."""

MAIN_BYTES = 200
"""Of the main file's path: it stands in the name of another file."""

_SHOWN = 5


class Refused(Exception):
    """The archive cannot become a workflow. The message is for the person who made it."""


class EntryKind(StrEnum):
    """What an archive entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    SPECIAL = "device, pipe or socket"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as the archive's directory declares it; sizes in bytes. `readable` False: encrypted or an unusual compression."""

    name: str
    size_bytes: int = 0
    compressed_bytes: int = 0
    kind: EntryKind = EntryKind.FILE
    readable: bool = True


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What unpacking may cost. The ratio counts only for archives that unpack to more than `ratio_from_bytes`."""

    entries: int = 10_000
    directory_bytes: int = 4 * 1024 * 1024
    unpacked_bytes: int = 512 * 1024 * 1024
    file_bytes: int = 256 * 1024 * 1024
    ratio: int = 100
    ratio_from_bytes: int = 32 * 1024 * 1024
    name_bytes: int = 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine and the path of the main file inside the archive."""

    engine: str
    main: str


def host_engine(engine: str) -> str:
    """The language it is: WDL_LENIENT is WDL, read and run with more coercions."""
    return "WDL" if engine == "WDL_LENIENT" else engine


def file_of(main: str) -> str:
    """The file of a workflow's main: a CWL main may also name a process in it, `file.cwl#id`."""
    path, mark, _ = main.rpartition("#")
    return path if mark and path.endswith(EXTENSIONS["CWL"]) else main


def shown(names: Iterable[str]) -> str:
    """A few names for a message."""
    every = sorted(names)
    text = ", ".join(f"'{name}'" for name in every[:_SHOWN])
    return f"{text} and {len(every) - _SHOWN} more" if len(every) > _SHOWN else text


# ---- the archive -------------------------------------------------------------------------------------------------


def check_entries(entries: Sequence[Entry], limits: ArchiveLimits) -> tuple[Entry, ...]:
    """The files to unpack, in the archive's order. Directories are made as files need them.

    Raises:
        Refused: the first thing that makes the archive unsafe or unusable.
    """
    if len(entries) > limits.entries:
        raise Refused(
            f"The archive has {len(entries)} entries; the limit is {limits.entries}. Leave out what the workflow does not need."
        )
    for entry in entries:
        _check_entry(entry, limits)
    files = tuple(entry for entry in entries if entry.kind is EntryKind.FILE)
    if not files:
        raise Refused("The archive has no files. Put the workflow's definition files into it.")
    _check_sizes(files, limits)
    _check_collisions(entries)
    return files


def _check_entry(entry: Entry, limits: ArchiveLimits) -> None:
    name = entry.name
    path = name.removesuffix("/") if entry.kind is EntryKind.DIRECTORY else name
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or (len(path) > 1 and path[1] == ":"):
        raise Refused(
            f"The archive entry '{name}' is not a relative path with '/'. Make the archive with relative paths."
        )
    if any(part in ("", ".", "..") for part in parts):
        raise Refused(
            f"The archive entry '{name}' leaves the archive's root or has an empty step. Make the archive with plain relative paths."
        )
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
        raise Refused(f"The archive entry {name!r} has a control character in its name. Rename the file.")
    if len(path.encode()) > limits.name_bytes or any(len(part.encode()) > 255 for part in parts):
        raise Refused(f"The archive entry '{path[:80]}…' has a longer name than a file may have. Rename it.")
    if entry.kind in (EntryKind.SYMLINK, EntryKind.SPECIAL):
        raise Refused(
            f"The archive entry '{name}' is a {entry.kind}. Archives hold plain files and folders: put the file itself in."
        )
    if not entry.readable:
        raise Refused(
            f"The archive entry '{name}' is encrypted or not compressed by 'deflate'. Make a plain zip archive."
        )


def _check_sizes(files: Sequence[Entry], limits: ArchiveLimits) -> None:
    for entry in files:
        if entry.size_bytes > limits.file_bytes:
            raise Refused(
                f"The archive entry '{entry.name}' unpacks to {entry.size_bytes} bytes; the limit is {limits.file_bytes}."
            )
    unpacked = sum(entry.size_bytes for entry in files)
    packed = sum(entry.compressed_bytes for entry in files)
    if unpacked > limits.unpacked_bytes:
        raise Refused(
            f"The archive unpacks to {unpacked} bytes; the limit is {limits.unpacked_bytes}. Pass large files as inputs of the run."
        )
    if unpacked > limits.ratio_from_bytes and unpacked > limits.ratio * max(1, packed):
        raise Refused(
            f"The archive unpacks to {unpacked} bytes from {packed}, more than {limits.ratio} times as much: it looks like a "
            "decompression bomb. Pass large files as inputs of the run."
        )


def _check_collisions(entries: Sequence[Entry]) -> None:
    files: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        path = entry.name.removesuffix("/")
        if entry.kind is EntryKind.DIRECTORY:
            folders.add(path)
        elif path in files:
            raise Refused(f"The archive has two entries named '{path}'. Make the archive anew.")
        else:
            files.add(path)
        while "/" in path:
            path = path.rpartition("/")[0]
            folders.add(path)
    if both := files & folders:
        raise Refused(f"The archive has {shown(both)} both as a file and as a folder. Make the archive anew.")


# ---- engine and main ---------------------------------------------------------------------------------------------


def choose(names: Iterable[str], *, engine: str | None, main: str | None) -> Choice:
    """Engine and main file of the archive whose files are `names`, given what the client asked for.

    Source: guide, workflow-defn-packaging; assumed: a given engine is looked for first, whatever other files lie above.

    Raises:
        Refused: no definition file, several engines' files, or several candidates for main.
    """
    choice = _choose(list(names), engine, main)
    if len(choice.main.encode()) > MAIN_BYTES:
        raise Refused(
            f"The path of the main file '{choice.main}' is longer than {MAIN_BYTES} bytes. Move it nearer to the root."
        )
    return choice


def _choose(files: Sequence[str], engine: str | None, main: str | None) -> Choice:
    if main is not None:
        return _given_main(files, engine, main)
    candidates = _candidates(files, engine)
    engines = sorted(
        {name for name, extension in EXTENSIONS.items() for path in candidates if path.endswith(extension)}
    )
    if len(engines) > 1:
        raise Refused(
            f"The archive holds definition files of {' and '.join(engines)} at the same level ({shown(candidates)}). "
            "Say which engine to use with 'engine', or which file with 'main'."
        )
    if len(candidates) == 1:
        return Choice(engine or engines[0], candidates[0])
    named = f"main{EXTENSIONS[engines[0]]}"
    mains = [path for path in candidates if path.rpartition("/")[2] == named]
    if len(mains) == 1:
        return Choice(engine or engines[0], mains[0])
    if mains:
        raise Refused(
            f"The archive has several files named {named} at the same level ({shown(mains)}). Say which one with 'main'."
        )
    raise Refused(
        f"The archive has multiple definition files at the top level ({shown(candidates)}) and none is named {named}. "
        f"Name one of them {named}, or say which one with 'main'."
    )


def _candidates(files: Sequence[str], engine: str | None) -> list[str]:
    extensions = (EXTENSIONS[host_engine(engine)],) if engine else tuple(EXTENSIONS.values())
    definitions = [path for path in files if path.endswith(extensions) and not _is_hidden(path)]
    if not definitions:
        what = extensions[0] if engine else "definition (.wdl, .nf, .cwl)"
        raise Refused(
            f"The archive has no {what} file. It holds {shown(files)}. Add the workflow's definition or set 'engine' and 'main'."
        )
    level = min(path.count("/") for path in definitions)
    return [path for path in definitions if path.count("/") == level]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _given_main(files: Sequence[str], engine: str | None, main: str) -> Choice:
    whole = main.removeprefix("./")
    path = file_of(whole)
    if path not in files:
        similar = [name for name in files if name.rpartition("/")[2] == path.rpartition("/")[2]]
        hint = f" Did you mean {shown(similar)}?" if similar else f" It holds {shown(files)}."
        raise Refused(f"The main file '{main}' is not in the archive.{hint}")
    owner = next((name for name, extension in EXTENSIONS.items() if path.endswith(extension)), None)
    if engine is None and owner is None:
        raise Refused(f"The engine of the main file '{main}' cannot be told from its name. Say it with 'engine'.")
    if engine is not None and owner not in (None, host_engine(engine)):
        raise Refused(
            f"The main file '{main}' is a {owner} definition, but the engine asked for is {engine}. Change one of them."
        )
    return Choice(engine or str(owner), whole)
