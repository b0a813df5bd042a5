"""A status changes only through the guarded apply functions of the store."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from source_tree import ROOT, Module

from runomics.store import catalog, versions

UPDATE = re.compile(
    r"update\s+(?:run|run_batch|task|workflow|workflow_version|share|configuration)\s+set\b(.*?)(?:\bwhere\b|;|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def assigns_status(text: str) -> bool:
    """Whether SQL text sets a status (a status in the where clause is a condition, not a change)."""
    changes = UPDATE.finditer(text)
    return any(re.search(r"(?:^|,|\s)(status|phase|outcome)\s*=", change[1]) for change in changes)


def test_no_statement_sets_a_status(tracked: list[Path]) -> None:
    sources = [path for path in tracked if path.suffix in (".py", ".sql") and path.is_relative_to(ROOT / "src")]
    assert [str(path.relative_to(ROOT)) for path in sources if assigns_status(path.read_text())] == []


def test_a_statement_that_sets_a_status_would_be_found() -> None:
    assert assigns_status("update run set name = :name,\n status = :status where id = :id;")
    assert not assigns_status("update run set name = :name where status = 'PENDING';")


def test_the_guarded_update_is_called_by_apply_functions_alone(modules: list[Module]) -> None:
    callers = set()
    for module in modules:
        for function in (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef)):
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
            if any(ast.unparse(call.func).rpartition(".")[2] == "update_guarded" for call in calls):
                callers.add(f"{module.name}.{function.name}")
    assert callers, "the guarded update has another name now: name it here"
    others = {name for name in callers if not re.match(r"runomics\.store\.\w+\.apply_", name)}
    assert others <= {"runomics.store.catalog.update_workflow", "runomics.store.versions.update_version"}


def test_what_a_client_updates_of_a_workflow_leaves_its_status_alone() -> None:
    assert catalog.UPDATED.isdisjoint({"status", "status_message"})
    assert versions.UPDATED.isdisjoint({"status", "status_message"})


def test_operations_never_move_a_run_or_a_task(modules: list[Module]) -> None:
    moving = []
    for module in modules:
        if not module.name.startswith("runomics.operations"):
            continue
        for node in ast.walk(module.tree):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in ("apply_run", "apply_task", "apply_share", "apply_batch", "advance"):
                moving.append(f"{module.name}:{node.lineno} uses {name}")
    assert moving == []
