"""What finished calls of a run leave for its next incarnation, on the run's volume: miniwdl's own cache entries. Runs in the run process.

An incarnation reads only what those before it wrote: two calls alike within one are two tasks. A task sees the volume, so an entry may
be forged; it can only spoil its own run: the server exports nothing that lies outside of the run's own files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import WDL
from WDL.runtime.cache import CallCacheAddPaths, _check_add_paths_coherence, _check_files_coherence

FORMAT = 1


def directories(workdir: str, incarnation: int) -> list[str]:
    """Where entries lie: of this incarnation, then of those before, newest first."""
    above = os.path.dirname(workdir)
    return [f"{above}/finished-{number}" for number in range(incarnation, 0, -1)]


def name(key: str, inputs: Any) -> str:
    """The file of a call's entry. miniwdl's own `key` counts the links that an incarnation makes; this counts what they lead to."""
    real = WDL.Value.rewrite_env_paths(
        inputs, lambda value: os.path.realpath(value.value) if _is_local(value) else str(value.value)
    )
    text = json.dumps(WDL.values_to_json(real), sort_keys=True)
    return f"{key.rpartition('/')[0]}/{hashlib.sha256(text.encode()).hexdigest()}.json"


def _is_local(value: Any) -> bool:
    return "://" not in value.value


def keep(path: str, outputs: Any, add_paths: CallCacheAddPaths) -> None:
    """Write the entry of a call. A volume without room for it costs no more than the entry."""
    content = {
        "format": FORMAT,
        "outputs": WDL.values_to_json(outputs),
        "sizes": _sizes(outputs),
        "add_paths": sorted(add_paths.add_paths),
        "absent_paths": sorted(add_paths.absent_paths),
    }
    temporary = f"{path}.{os.urandom(4).hex()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(temporary, path)
    except OSError:
        return


def found(
    paths: Sequence[str], output_types: Any, *, configuration: Any, logger: logging.Logger
) -> tuple[Any, CallCacheAddPaths] | None:
    """The outputs in the first entry of `paths` whose files are still what they were, and its additional paths."""
    for path in paths:
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="utf-8") as file:
                content = json.load(file)
            outputs = WDL.values_from_json(content["outputs"], output_types)
            add_paths = CallCacheAddPaths(content["add_paths"], content["absent_paths"])
            if content["format"] != FORMAT or _sizes(outputs) != content["sizes"]:
                continue
        except (OSError, ValueError, TypeError, KeyError, AttributeError, WDL.Error.InputError):
            continue
        if _check_files_coherence(configuration, logger, path, outputs) and _check_add_paths_coherence(
            logger, path, add_paths
        ):
            return outputs, add_paths
    return None


def _sizes(outputs: Any) -> dict[str, int]:
    """Of every file: after a crash of the host one may be shorter than it was."""
    sizes: dict[str, int] = {}

    def look(value: WDL.Value.File | WDL.Value.Directory) -> str:
        if isinstance(value, WDL.Value.File) and _is_local(value):
            sizes[value.value] = os.path.getsize(value.value)
        return str(value.value)

    WDL.Value.rewrite_env_paths(outputs, look)
    return sizes
