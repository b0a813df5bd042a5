"""A setting that nothing reads is a promise that is not kept."""

from __future__ import annotations

import ast

from source_tree import Module

from runomics.settings import Settings

READ_BY_SETTINGS = {"listen", "require_sandbox"}
"""Read through a property of Settings."""


def test_every_setting_is_read_somewhere(modules: list[Module]) -> None:
    read: set[str] = set()
    for module in modules:
        if module.name == "runomics.settings":
            continue
        read |= {
            node.attr
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2].strip("_") == "settings"
        }
    assert sorted(set(Settings.model_fields) - read - READ_BY_SETTINGS) == []
