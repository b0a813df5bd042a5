"""What a Nextflow definition says of itself: its parameters, or why it is wrong. Runs in a sandboxed process, with a JVM in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runomics.engines.nextflow import definition, installation, jvm, process

FORMAT = 1

_MOST_MESSAGE_CHARACTERS = 64 * 1024
_HEAP_MIB = 256
_OPTIONS = ("-Duser.dir=/tmp", "-Djava.io.tmpdir=/tmp", "-XX:CompressedClassSpaceSize=64m", "-Xss512k")


def inspect(root: str, main: str) -> tuple[dict[str, Any], None]:
    """interface.json of the pipeline `main` below `root`. Never raises for what the definition contains."""
    found: dict[str, Any] = {
        "format": FORMAT,
        "engine": "NEXTFLOW",
        "main": main,
        "inputs": [],
        "outputs": [],
        "message": "",
        "failure": None,
    }
    try:
        failure = _wrong(root, main)
        if failure is None:
            return found | {"inputs": definition.inputs(root, main)}, None
    except (OSError, ValueError) as error:
        failure = str(error)
    except RecursionError:
        failure = f"({main}) the definition is nested too deeply"
    except MemoryError:
        failure = f"({main}) the definition needs too much memory to be read"
    return found | {"failure": failure[:_MOST_MESSAGE_CHARACTERS]}, None


def _wrong(root: str, main: str) -> str | None:
    """The first thing that keeps the pipeline from being compiled; None when everything that is named literally is there and compiles."""
    scripts, missing = definition.scripts(root, main)
    if missing:
        return "\n".join(
            f"({one.file} Ln {one.line}) No such file or directory: include from '{one.wanted}'" for one in missing
        )
    errors = _compile(root, scripts, definition.configurations(root, main))
    return "\n".join(errors) or None


def _compile(root: str, scripts: Sequence[str], configurations: Sequence[str]) -> list[str]:
    """Have Nextflow's own parser compile everything, nothing of it is run; the errors, with file and line."""
    installed = installation.read()
    if installed is None:
        return [f"Nextflow is not installed: {installation.why_not()}"]
    jvm_process = process.start(
        jvm.command(installed, arguments=("{reports}",), options=_OPTIONS, heap_mib=_HEAP_MIB),
        jvm.environment(installed, plugins=Path("/tmp")),  # noqa: S108 - the sandbox's own
        cwd="/tmp",  # noqa: S108 - the same
    )
    jvm_process.order({"op": "inspect", "root": root, "scripts": list(scripts), "configurations": list(configurations)})
    ended = jvm_process.wait(lambda: False)
    if ended.verdict is None:
        return [f"the definition could not be read: {ended.tail.strip()[-500:] or f'Nextflow ended with {ended.code}'}"]
    errors = ended.verdict.get("errors")
    return [str(one) for one in errors] if isinstance(errors, list) else []
