"""Who may import whom. The table is the one of ARCHITECTURE.md."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from source_tree import Module

FREE = {"app", "auditing", "machinery", "server_pages", "cli", "__main__"}
"""These may import everything."""

MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "settings": set(),
    "data_directory": {"store"},
    "key_ring": {"domain", "store", "wire"},
    "roles_file": {"domain"},
    "connections_file": {"domain"},
    "isolation": {"ports"},
    "domain": set(),
    "wire": set(),
    "sandbox": set(),
    "node": set(),
    "ports": {"domain"},
    "store": {"domain"},
    "operations": {"domain", "ports", "store", "wire.errors"},
    "scheduler": {"domain", "ports", "store"},
    "web": {"domain", "ports", "store", "operations"},
    "engines": {"domain", "ports", "sandbox"},
    "runners": {"domain", "ports"},
    "images": {"domain", "ports"},
    "run_storage": {"domain", "ports"},
    "objects": {"domain", "ports"},
    "repositories": {"domain", "ports"},
    "logs": {"domain", "ports"},
    "events": {"domain", "ports"},
}

RUN_PROCESS = ("runomics.engines.launcher", "runomics.engines.run_process", "runomics.engines.wdl.host")
"""Where code begins that runs in the launcher or in a run process, next to other people's code."""

STANDARD_LIBRARY_ONLY = ("runomics.sandbox", "runomics.node")


def room_of(name: str) -> str:
    """`runomics.engines.wdl.host` → `engines`; the package itself → ``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def resolve(name: str, known: set[str]) -> str:
    """An imported name as the module that holds it: `runomics.ports.Clock` → `runomics.ports`."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def forbidden_imports(module: Module, known: set[str]) -> list[str]:
    """What `module` imports and may not."""
    room = room_of(module.name)
    if room in FREE:
        return []
    found = []
    for name in sorted({resolve(imported, known) for imported in module.imports()}):
        target = room_of(name)
        whole = name.removeprefix("runomics").removeprefix(".")
        if target not in ("", room) and target not in MAY_IMPORT[room] and whole not in MAY_IMPORT[room]:
            found.append(f"{module.name} imports {name}")
    return found


def test_every_room_has_its_place_in_the_table(modules: list[Module]) -> None:
    assert {room_of(module.name) for module in modules} - FREE <= set(MAY_IMPORT)


def test_no_module_imports_across_the_layers(modules: list[Module]) -> None:
    known = {module.name for module in modules}
    assert [line for module in modules for line in forbidden_imports(module, known)] == []


def test_what_runs_beside_foreign_code_never_loads_the_server(modules: list[Module]) -> None:
    known = {module.name: module for module in modules}
    reached: dict[str, str] = {}
    pending = [(name, name) for name in RUN_PROCESS if name in known]
    assert pending, "the entries of the run process have moved: name them here"
    while pending:
        name, origin = pending.pop()
        if name in reached or name not in known:
            continue
        reached[name] = origin
        pending += [(resolve(imported, set(known)), name) for imported in known[name].imports()]
    server_side = [
        f"{by} imports {name}"
        for name, by in reached.items()
        if room_of(name) not in ("", "engines", "sandbox", "domain")
    ]
    assert server_side == []


@pytest.mark.parametrize("package", STANDARD_LIBRARY_ONLY)
def test_sandbox_and_node_need_nothing_but_the_standard_library(modules: list[Module], package: str) -> None:
    foreign = set()
    for module in modules:
        if not module.name.startswith(package):
            continue
        for node in ast.walk(module.tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
            foreign |= {
                f"{module.name} imports {name}"
                for name in names
                if name.split(".")[0] not in {*sys.stdlib_module_names, "runomics"}
            }
    assert foreign == set()


def test_a_forbidden_import_would_be_found(modules: list[Module]) -> None:
    text = "from runomics.store import runs\nfrom ..scheduler import loop\n"
    module = Module("runomics.domain.run", Path("run.py"), ast.parse(text), text)
    known = {"runomics.store.runs", "runomics.scheduler.loop"}
    assert forbidden_imports(module, known) == [
        "runomics.domain.run imports runomics.scheduler.loop",
        "runomics.domain.run imports runomics.store.runs",
    ]
