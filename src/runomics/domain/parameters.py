"""The parameter template of a workflow: how it is derived, and whether a run's parameters fit it. Pure; server side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DESCRIPTION_LETTERS = 256
"""Source: model, shape WorkflowParameterDescription."""

_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a template asks for: every name, and those that are not optional."""

    names: frozenset[str]
    required: frozenset[str]


def signature(template: Mapping[str, Mapping[str, Any]]) -> Signature:
    """The signature of a parameter template in the API's form."""
    return Signature(
        names=frozenset(template),
        required=frozenset(name for name, entry in template.items() if not entry.get("optional", False)),
    )


def derive_template(inputs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The template of a definition, from the inputs that inspection found (docs/dev/formats.md, interface.json).

    `optional` stands only where true; descriptions are cut to what the API can carry.

    Source: guide, parameter-templates; observed: `optional` is left out when false.
    """
    template: dict[str, dict[str, Any]] = {}
    for item in inputs:
        entry: dict[str, Any] = {}
        if item.get("description") is not None:
            entry["description"] = _BLANK.sub(" ", str(item["description"])).strip()[:DESCRIPTION_LETTERS]
        if item.get("optional"):
            entry["optional"] = True
        template[str(item["name"])] = entry
    return template


def disagreements(wanted: Signature, given: Iterable[str], workflow_name: str = "") -> str | None:
    """Everything wrong with the names of a run's parameters, as one sentence each; None when they fit.

    A WDL parameter may be written `name` or `Workflow.name` when `workflow_name` is the workflow's own, on either side.

    Source: model (all required, none undefined); guide, workflow-languages-wdl (qualified names).
    Deviation: wrong names are refused by StartRun itself; AWS may accept them and fail the run minutes later.
    """
    names = list(given)
    if wanted.names.issuperset(names) and wanted.required.issubset(names):
        return None
    prefix = f"{workflow_name}." if workflow_name else None
    defined = {_bare(name, prefix) for name in wanted.names}
    seen: dict[str, str] = {}
    unknown: list[str] = []
    twice: list[str] = []
    for name in names:
        bare = _bare(name, prefix)
        if bare not in defined:
            unknown.append(name)
        elif bare in seen:
            twice.append(f"'{seen[bare]}' and '{name}'")
        else:
            seen[bare] = name
    missing = sorted(name for name in wanted.required if _bare(name, prefix) not in seen)
    sentences = [
        f"Missing required parameters: {', '.join(missing)}." if missing else "",
        f"Parameters that the template does not define: {', '.join(sorted(unknown))}." if unknown else "",
        f"Parameters given twice: {', '.join(twice)}." if twice else "",
    ]
    return " ".join(filter(None, sentences)) or None


def _bare(name: str, prefix: str | None) -> str:
    return name.removeprefix(prefix) if prefix else name


def read_parameters(data: bytes, wanted: Signature, workflow_name: str) -> tuple[str | None, str | None]:
    """A run's parameters from a file that the client named: the JSON text, or None and what is wrong with it."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        return None, f"The parameters file is not JSON: {error}."
    if not isinstance(document, dict):
        return None, "The parameters file is not a JSON object of names and values."
    wrong = disagreements(wanted, document, workflow_name)
    return (None, wrong) if wrong else (json.dumps(document), None)
