"""Whether a CWL definition needs JavaScript. Plain functions; run in the run process and in inspection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cwl_utils.expression import scanner
from cwl_utils.sandboxjs import param_re
from cwltool.process import Process

NO_NODE = (
    "the workflow uses JavaScript expressions, which need node, and this server has none. Install Node.js (Debian: apt-get install nodejs) "
    "where the server's PATH finds it, and create the workflow again"
)
REQUIREMENT = "InlineJavascriptRequirement"
_SKIPPED = frozenset({"doc", "label", "id", "_tool_entry"})
_OUTER = re.compile(r"\$[({]")


def probably_javascript(path: str) -> bool:
    """Whether the file asks for JavaScript: a guess before it is parsed, to have node started meanwhile."""
    try:
        with open(path, "rb") as file:
            return REQUIREMENT.encode() in file.read(1 << 20)
    except OSError:
        return False


def javascript(process: Process) -> bool:
    """Whether some expression of the process, or of one below it, is more than a reference to a parameter."""
    return any(_uses(one) for one in _processes(process))


def _processes(process: Any) -> Iterator[Any]:
    yield process
    for step in getattr(process, "steps", ()):
        yield step
        yield from _processes(step.embedded_tool)


def _uses(process: Any) -> bool:
    if process.get_requirement(REQUIREMENT)[0] is None:
        return False
    own = {name: value for name, value in process.tool.items() if name not in ("steps", "run")}
    return process.tool.get("class") == "ExpressionTool" or any(_is_script(text) for text in _texts(own))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _SKIPPED:
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_script(text: str) -> bool:
    if not _OUTER.search(text):
        return False
    try:
        while found := scanner(text):
            expression = text[found[0] + 1 : found[1]]
            if text[found[0]] == "$" and param_re.match(expression) is None:
                return True
            text = text[found[1] :]
    except Exception:  # not closed: what it would say is said where it is used
        return True
    return False
