"""What a WDL definition says of itself: inputs, outputs, an outline, or why it is wrong. Runs in a sandboxed process of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import WDL
from WDL import Lint
from WDL.CLI import outline as print_outline

from runomics.engines.wdl import definition, fallback_order, parsed
from runomics.engines.wdl.failures import located

FORMAT = 1

_MOST_MESSAGE_CHARACTERS = 64 * 1024
_SHOWN_WARNINGS = frozenset({"MissingVersion"})
_TOO_DEEP = "the definition is nested too deeply"


def inspect(root: str, main: str) -> tuple[dict[str, Any], bytes | None]:
    """interface.json of the definition `main` below `root`, and its parsed form. Never raises for what the definition contains."""
    found: dict[str, Any] = {"format": FORMAT, "engine": "WDL", "main": main, "inputs": [], "outputs": []}
    try:
        document = definition.load(root, main)
        fallback_order.check(document)
        executable = definition.entry(document)
        kept = parsed.dump(document)  # before the outline adds its remarks to it
        interface = found | {
            "inputs": [_input(binding, executable) for binding in executable.available_inputs if _is_own(binding.name)],
            "outputs": [_output(binding) for binding in executable.effective_outputs],
            "message": _outline(document, main),
            "failure": None,
        }
        return interface, kept
    except RecursionError:
        failure = f"({main}) {_TOO_DEEP}"
    except definition.BadImport as error:
        failure = f"main file {main} cannot be used: {error}"
    except MemoryError:
        failure = f"({main}) the definition needs too much memory to be read"
    except Exception as error:
        failure = "\n".join(_lines(error))
    return found | {"message": "", "failure": failure[:_MOST_MESSAGE_CHARACTERS]}, None


def _is_own(name: str) -> bool:
    """Inputs of calls (`call.x`) and of their runtime sections may be set too, but are no inputs of the workflow's interface."""
    return "." not in name and not name.startswith("_")


def _input(binding: Any, executable: Any) -> dict[str, Any]:
    declared = binding.value
    return {
        "name": binding.name,
        "type": str(declared.type),
        "optional": bool(declared.type.optional or declared.expr is not None),
        "description": _description(executable.parameter_meta.get(binding.name)),
        "files": _holds_files(declared.type),
    }


def _output(binding: Any) -> dict[str, Any]:
    kind = getattr(binding.value, "type", binding.value)
    return {"name": binding.name, "type": str(kind), "files": _holds_files(kind)}


def _description(meta: Any) -> str:
    """`parameter_meta`: a text, or an object with `description` or `help`."""
    plain = WDL.Expr._meta_value_to_json(meta) if meta is not None else None
    if isinstance(plain, dict):
        plain = plain.get("description", plain.get("help"))
    return plain if isinstance(plain, str) else ""


def _holds_files(kind: Any) -> bool:
    if isinstance(kind, (WDL.Type.File, WDL.Type.Directory)):
        return True
    return any(_holds_files(inner) for inner in _inner_types(kind))


def _inner_types(kind: Any) -> Iterator[Any]:
    if isinstance(kind, WDL.Type.StructInstance):
        yield from (kind.members or {}).values()
        return
    yield from kind.parameters


def _outline(document: Any, main: str) -> str:
    """What `miniwdl check` prints, with the one warning that clients look for."""
    Lint._shellcheck_available = False
    Lint.lint(document)
    unwanted = {linter.__name__ for linter in Lint._all_linters} - _SHOWN_WARNINGS
    text = io.StringIO()
    text.write(main.rpartition("/")[2] + "\n")
    print_outline(  # type: ignore[no-untyped-call]
        document, 0, file=text, show_called=document.workflow is not None, suppress=unwanted
    )
    return text.getvalue()[:_MOST_MESSAGE_CHARACTERS]


def _lines(error: BaseException) -> Iterator[str]:
    """The error, what caused it, and the line of source it is about."""
    if isinstance(error, WDL.Error.MultipleValidationErrors):
        for one in error.exceptions:
            yield from _lines(one)
        return
    if isinstance(error, WDL.Error.ImportError):
        yield from _import_lines(error)
        return
    yield located(error)
    source = getattr(error, "source_text", None)
    place = getattr(error, "pos", None)
    if source and place is not None and 0 < place.line <= len(lines := source.split("\n")):
        yield "    " + lines[place.line - 1].replace("\t", " ").rstrip()


def _import_lines(error: WDL.Error.ImportError) -> Iterator[str]:
    chain: list[BaseException] = [error]
    while isinstance(chain[-1], WDL.Error.ImportError) and chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    files = [link.pos.abspath for link in chain if isinstance(link, WDL.Error.ImportError)]
    if len(set(files)) < len(files):
        yield f"{located(error)}: circular import"
        return
    cause = chain[-1]
    if isinstance(cause, definition.BadImport):
        yield f"{located(chain[-2])}: {cause}"
        return
    yield located(error)
    if cause is not error:
        yield from _lines(error.__cause__ or cause)
