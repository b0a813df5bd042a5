"""A finished workflow's outputs as result.json wants them: values, and which file goes where. Runs in the run process.

miniwdl leaves links in `out/<output>/[<index>/]<file>`, which is the layout of the service; they are taken as they are.
"""

from __future__ import annotations

import os
from typing import Any

import WDL
from WDL.Tree import Task, Workflow


def collect(
    outputs: WDL.Env.Bindings[WDL.Value.Base], executable: Workflow | Task, run_directory: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The output document with `{"__export__": target}` for files, and the exports (source, target, directory).

    Targets are relative to the run's prefix and start with `out/`.
    """
    exports: list[dict[str, Any]] = []

    def plain(value: WDL.Value.Base) -> Any:
        match value:
            case WDL.Value.File() | WDL.Value.Directory():
                return export(value)
            case WDL.Value.Array():
                return [plain(item) for item in value.value]
            case WDL.Value.Map():
                return {_key(key): plain(item) for key, item in value.value}
            case WDL.Value.Pair():
                return {"left": plain(value.value[0]), "right": plain(value.value[1])}
            case WDL.Value.Struct():
                return {name: plain(item) for name, item in value.value.items()}
        return value.json

    def export(value: WDL.Value.File | WDL.Value.Directory) -> dict[str, str]:
        source = value.value.rstrip("/")
        target = os.path.relpath(source, run_directory)
        if target.startswith("../"):
            target = f"out/{os.path.basename(source)}"
        exports.append({"source": source, "target": target, "directory": isinstance(value, WDL.Value.Directory)})
        return {"__export__": target}

    names = [
        declared.name for declared in executable.effective_outputs
    ]  # miniwdl hands the values back in another order
    document = {f"{executable.name}.{name}": plain(outputs[name]) for name in names}
    return document, exports


def _key(value: WDL.Value.Base) -> str:
    return str(value.coerce(WDL.Type.String()).value)
