"""CWL by cwltool: reading a definition, running it with tasks handed to the service, and saying what a definition declares.

Imported before anything of cwltool: it puts a stand-in where cwltool would import cwl_utils' generated parsers, which serve a mode of
reading that is never switched on here and cost each idle server 5 MiB.
"""

from __future__ import annotations

import sys
import types


class _Parser(types.ModuleType):
    """Has a class of every name: cwltool's annotations mention some."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _stand_in() -> None:
    package = _Parser("cwl_utils.parser")
    sys.modules["cwl_utils.parser"] = package
    for name in ("cwl_v1_2", "cwl_v1_2_utils"):
        module = sys.modules[f"cwl_utils.parser.{name}"] = _Parser(f"cwl_utils.parser.{name}")
        setattr(package, name, module)


if "cwl_utils.parser" not in sys.modules:
    _stand_in()
