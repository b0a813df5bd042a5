"""What a pipeline's text alone tells: which files it includes, which parameters it names. Pure; runs in the inspection process.

Nothing is executed: what a definition computes (an include path from a variable, a parameter set in a loop) is not seen here.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""
    (?P<comment> //[^\n]* | /\*.*?\*/ | \A\#![^\n]* )
  | (?P<string> \"\"\"(?:\\.|[^\\])*?\"\"\" | '''(?:\\.|[^\\])*?''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r"\binclude\b\s*\{[^}]*\}\s*from\s*\(?\s*(['\"])(.*?)\1")
_INCLUDE_CONFIG = re.compile(r"\bincludeConfig\b\s*\(?\s*(['\"])(.*?)\1")
_PARAMETER = re.compile(r"(?<![\w.$])params\.([A-Za-z_]\w*)")
_ASSIGNED = re.compile(r"(?<![\w.$])params\.([A-Za-z_]\w*)\s*\??=(?![=~])")
_BLOCK = re.compile(r"(?<![\w.])params\s*\{")
_ENTRY = re.compile(r"(?:^|[\n;{])\s*(?:params\.)?([A-Za-z_]\w*|'[^'\n]+'|\"[^\"\n]+\")\s*=(?![=~])")
_IN_TEXT = re.compile(r"\$\{?\s*params\.([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Missing:
    """An include of something that is not in the definition: where it stands, what it names."""

    file: str
    line: int
    wanted: str


def read(root: str, path: str) -> str:
    """A file of the definition. Raises: OSError."""
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def without_comments(text: str) -> str:
    """The text with comments blanked, line breaks kept."""
    return _TOKEN.sub(lambda found: _blank(found[0]) if found["comment"] is not None else found[0], text)


def without_strings(text: str) -> str:
    """The text with comments and the insides of strings blanked: what is left is code."""
    return _TOKEN.sub(
        lambda found: (
            _blank(found[0]) if found["comment"] is not None else found[0][0] + _blank(found[0][1:-1]) + found[0][-1]
        ),
        text,
    )


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


# ---- includes ----------------------------------------------------------------------------------------------------


def scripts(root: str, main: str) -> tuple[list[str], list[Missing]]:
    """The main script and all it includes by a literal path, each once; and what is missing."""
    found: list[str] = [main]
    missing: list[Missing] = []
    for path in found:
        text = without_comments(read(root, path))
        for include in _INCLUDE.finditer(text):
            wanted = include[2]
            if wanted.startswith("plugin/") or "$" in wanted:
                continue
            target = _module(root, posixpath.dirname(path), wanted)
            if target is None:
                missing.append(Missing(path, text.count("\n", 0, include.start(2)) + 1, wanted))
            elif target not in found:
                found.append(target)
    return found, missing


def _module(root: str, directory: str, wanted: str) -> str | None:
    """The script that an include means: with its extension, without, or a directory with a main.nf."""
    base = (
        wanted.removeprefix("/mnt/workflow/definition/")
        if wanted.startswith("/")
        else posixpath.join(directory, wanted)
    )
    base = posixpath.normpath(base)
    if base.startswith(("../", "/")):
        return None
    for candidate in (base, f"{base}.nf", f"{base}/main.nf"):
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def configurations(root: str, main: str) -> list[str]:
    """nextflow.config beside the main script, and what it includes by a literal path and is there."""
    first = posixpath.join(posixpath.dirname(main), "nextflow.config")
    found = [first] if os.path.isfile(os.path.join(root, first)) else []
    for path in found:
        for include in _INCLUDE_CONFIG.finditer(without_comments(read(root, path))):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), include[2]))
            inside = not target.startswith(("../", "/")) and "$" not in target
            if inside and target not in found and os.path.isfile(os.path.join(root, target)):
                found.append(target)
    return found


# ---- parameters --------------------------------------------------------------------------------------------------


def inputs(root: str, main: str) -> list[dict[str, Any]]:
    """The parameters as interface.json has them: from nextflow_schema.json beside the main script, else from what the texts name.

    Source: guide, parameter-templates (both drafts; groups and top-level properties; only top-level parameters, only these two files).

    Raises:
        ValueError: nextflow_schema.json is no JSON object.
    """
    schema = posixpath.join(posixpath.dirname(main), "nextflow_schema.json")
    if os.path.isfile(os.path.join(root, schema)):
        return list(_from_schema(read(root, schema), schema))
    texts = [read(root, main)]
    texts += [read(root, path) for path in configurations(root, main)[:1]]
    return list(_from_texts(texts))


def _from_schema(text: str, name: str) -> Iterator[dict[str, Any]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{name} is no JSON object")
    groups: list[Mapping[str, Any]] = []
    for keyword in ("$defs", "definitions"):
        defined = document.get(keyword)
        groups += [
            group for group in (defined.values() if isinstance(defined, dict) else ()) if isinstance(group, dict)
        ]
    seen = set()
    for group in (*groups, document):
        properties, required = group.get("properties"), group.get("required")
        for parameter, described in properties.items() if isinstance(properties, dict) else ():
            if parameter in seen:
                continue
            seen.add(parameter)
            told = described if isinstance(described, dict) else {}
            text_of = told.get("description")
            yield _input(
                parameter,
                optional=not (isinstance(required, list) and parameter in required),
                description=text_of if isinstance(text_of, str) else None,
            )


def _from_texts(texts: list[str]) -> Iterator[dict[str, Any]]:
    named: dict[str, bool] = {}
    for text in texts:
        code = without_strings(text)
        for name, assigned in _named(code):
            named[name] = named.get(name, False) or assigned
        for interpolated in _IN_TEXT.finditer(without_comments(text)):
            named.setdefault(interpolated[1], False)
    for name, assigned in named.items():
        yield _input(name, optional=assigned, description=None)


def _named(code: str) -> Iterator[tuple[str, bool]]:
    """Names of parameters in order, and whether the place gives it a value."""
    places: list[tuple[int, str, bool]] = []
    blocks: list[tuple[int, int]] = []
    for block in _BLOCK.finditer(code):
        end = _end_of_block(code, block.end())
        blocks.append((block.start(), end))
        inside = _without_nested(code[block.end() : end])
        places += [
            (block.end() + entry.start(1), entry[1].strip("'\""), True) for entry in _ENTRY.finditer("\n" + inside)
        ]
    for found in _PARAMETER.finditer(code):
        places.append((found.start(), found[1], _ASSIGNED.match(code, found.start()) is not None))
    for _, name, assigned in sorted(places):
        if name.strip():
            yield name, assigned


def _end_of_block(code: str, start: int) -> int:
    depth = 1
    for position in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[position], 0)
        if depth == 0:
            return position
    return len(code)


def _without_nested(code: str) -> str:
    """A block's own text: what lies in braces and brackets inside it is blanked."""
    kept, depth = [], 0
    for letter in code:
        depth -= letter in "}])"
        kept.append(letter if depth <= 0 or letter == "\n" else " ")
        depth += letter in "{[("
    return "".join(kept)


def _input(name: str, *, optional: bool, description: str | None) -> dict[str, Any]:
    """Any parameter may name objects: what is a URI in a run is staged when it exists."""
    return {"name": name, "type": "", "optional": optional, "description": description, "files": True}
