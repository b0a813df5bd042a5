"""What a Nextflow definition says of itself: its parameters, or why it is wrong. Runs in a sandboxed process, with a JVM in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runomics.engines.nextflow import definition, installation, jvm, process

FORMAT = 1

_MOST_MESSAGE_CHARACTERS = 64 * 1024
_HEAP_MIB = 256
_COMPILE_SECONDS = 14.0
"""Of the 20 that an inspection may take. A busy server, or a definition of hundreds of modules, must not make a good one fail."""

_NOT_COMPILED = (
    "The definition was not compiled: this server had no time for it. What is wrong in it will show when it runs."
)
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
        failure, message = _wrong(root, main)
        if failure is None:
            return found | {"inputs": definition.inputs(root, main), "message": message}, None
    except (OSError, ValueError) as error:
        failure = str(error)
    except RecursionError:
        failure = f"({main}) the definition is nested too deeply"
    except MemoryError:
        failure = f"({main}) the definition needs too much memory to be read"
    return found | {"failure": failure[:_MOST_MESSAGE_CHARACTERS]}, None


def _wrong(root: str, main: str) -> tuple[str | None, str]:
    """What keeps the pipeline from being compiled, None when everything named literally is there and compiles; and a remark."""
    scripts, missing = definition.scripts(root, main)
    if missing:
        lines = [
            f"({one.file} Ln {one.line}) No such file or directory: include from '{one.wanted}'" for one in missing
        ]
        return "\n".join(lines), ""
    errors = _compile(root, scripts, definition.configurations(root, main))
    if errors is None:
        return None, _NOT_COMPILED
    return "\n".join(errors) or None, ""


def _compile(root: str, scripts: Sequence[str], configurations: Sequence[str]) -> list[str] | None:
    """Have Nextflow's own parser compile everything, nothing of it is run; errors with file and line, None when it took too long."""
    installed = installation.read()
    if installed is None:
        return [f"Nextflow is not installed: {installation.why_not()}"]
    started = process.start(
        jvm.command(installed, arguments=("{reports}",), options=_OPTIONS, heap_mib=_HEAP_MIB),
        jvm.environment(installed, plugins=Path("/tmp")),  # noqa: S108 - the sandbox's own
        cwd="/tmp",  # noqa: S108 - the same
    )
    started.order({"op": "inspect", "root": root, "scripts": list(scripts), "configurations": list(configurations)})
    ended = started.wait(lambda: False, at_most_seconds=_COMPILE_SECONDS)
    if ended.stopped:
        return None
    if ended.verdict is None:
        return [f"the definition could not be read: {ended.tail.strip()[-500:] or f'Nextflow ended with {ended.code}'}"]
    errors = ended.verdict.get("errors")
    return [str(one) for one in errors] if isinstance(errors, list) else []
