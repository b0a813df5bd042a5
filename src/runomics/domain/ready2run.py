"""What an operator's catalogue says of a Ready2Run workflow: the members of its file, and which are wrong. Pure; server process.

A folder of the catalogue is one workflow, a folder of its `versions` one version:

    workflow.toml              id, name; may have description, engine, main, storageType, storageCapacity, accelerators, metadata
    definition.zip, or the folder definition
    parameter-template.json    as CreateWorkflow's parameterTemplate; without it, it is derived
    README.md
    versions/NAME/             version.toml, which may be missing, and the same files
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACCOUNT = ""
"""Whose they are: nobody's. Source: observed (the account in their ARNs is empty)."""

WORKFLOW_TYPE = "READY2RUN"

MEMBERS = frozenset(
    {"description", "engine", "main", "storageType", "storageCapacity", "accelerators", "metadata", "name", "id"}
)
OF_WORKFLOW = frozenset({"name", "id"})
"""Members that a version does not have."""

MAX_ID = 10**18 - 1


class EntryRefused(Exception):
    """The entry cannot be offered. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class EntryFile:
    """One workflow.toml or version.toml. `members` are members of CreateWorkflow; `workflow_id` is None for a version."""

    workflow_id: int | None
    members: Mapping[str, Any]
    metadata: Mapping[str, str]


def parse_workflow(text: str) -> EntryFile:
    """A workflow.toml.

    Raises:
        EntryRefused: not TOML, an unknown member, no id or no name.
    """
    document = _document(text, MEMBERS)
    identifier = document.pop("id", None)
    if isinstance(identifier, str) and identifier.isascii() and identifier.isdecimal():
        identifier = int(identifier)
    if isinstance(identifier, bool) or not isinstance(identifier, int) or not 0 < identifier <= MAX_ID:
        raise EntryRefused("id must be a number of 1 to 18 digits: clients name the workflow by it")
    if "name" not in document:
        raise EntryRefused("name is missing: clients list the workflow under it")
    return EntryFile(identifier, document, _metadata(document))


def parse_version(text: str) -> EntryFile:
    """A version.toml.

    Raises:
        EntryRefused: not TOML, or an unknown member.
    """
    document = _document(text, MEMBERS - OF_WORKFLOW)
    return EntryFile(None, document, _metadata(document))


def _document(text: str, known: frozenset[str]) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise EntryRefused(f"it is not TOML: {error}") from None
    unknown = sorted(document.keys() - known)
    if unknown:
        raise EntryRefused(f"unknown member {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return document


def _metadata(document: dict[str, Any]) -> Mapping[str, str]:
    metadata = document.pop("metadata", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise EntryRefused("metadata must be a table of texts")
    return metadata
