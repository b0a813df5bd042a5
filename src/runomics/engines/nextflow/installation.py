"""Where Nextflow lies on this machine and whether it is there. Read by the server, the launcher and run processes; written by `install`.

It belongs to the installation, not to the data directory: everything below the Python prefix is visible in the sandbox already.
`nextflow.json` names the directory in use and is replaced last, so that a run never sees half of one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "25.04.4"
INSTALL_COMMAND = "runomics engines install nextflow"

_ROOT = Path(sys.prefix) / "share" / "runomics"
POINTER = _ROOT / "nextflow.json"
PLUGINS = _ROOT / "nextflow-plugins"
"""Plugins that the operator added, unpacked: one directory `<id>-<version>` each."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One complete installation. `jars` are in the order of the class path; `shown` are paths of the JDK outside of /usr."""

    directory: Path
    java: Path
    jars: Sequence[Path]
    shown: Sequence[str]
    archive: Path | None

    @property
    def plugins(self) -> Path:
        """Our own plugins, as Nextflow wants them unpacked."""
        return self.directory / "plugins"

    @property
    def home(self) -> Path:
        """NXF_HOME: must exist with `plugins` and `secrets` in it, and is only read."""
        return self.directory / "home"


def root() -> Path:
    """Where installations and their pointer lie."""
    return _ROOT


def read(pointer: Path = POINTER) -> Installation | None:
    """The installation in use, None when there is none (or its pointer is damaged)."""
    try:
        document: Mapping[str, object] = json.loads(pointer.read_bytes())
        directory = pointer.parent / str(document["directory"])
        archive = document.get("archive")
        jars, shown = document["jars"], document["shown"]
        if not isinstance(jars, list) or not isinstance(shown, list):
            return None
        return Installation(
            directory=directory,
            java=Path(str(document["java"])),
            jars=tuple(directory / str(name) for name in jars),
            shown=tuple(map(str, shown)),
            archive=directory / str(archive) if archive else None,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def why_not() -> str:
    """Why Nextflow cannot run here, empty when it can."""
    found = read()
    if found is None:
        return f"install it with `{INSTALL_COMMAND}` (it needs maven and a JDK of at least version 17), then create the workflow again"
    if not os.access(found.java, os.X_OK):
        return f"its Java, {found.java}, is gone; install it again with `{INSTALL_COMMAND}`, then create the workflow again"
    if not found.directory.is_dir():
        return f"{found.directory} is gone; install it again with `{INSTALL_COMMAND}`, then create the workflow again"
    return ""


def shown() -> Sequence[str]:
    """What the sandbox must show for it, beside /usr and the Python prefix."""
    found = read()
    return () if found is None else found.shown
