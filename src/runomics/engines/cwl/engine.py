"""CWL as one of the languages of the run process."""

from __future__ import annotations

from collections.abc import Sequence

from runomics.engines.cwl import host, inspect, javascript
from runomics.engines.language import Engine


def _shown() -> Sequence[str]:
    """Node, when it is not among what every sandbox shows."""
    program = javascript.node()
    return () if program is None else (program,)


ENGINE = Engine(version=host.VERSION, warm=host.warm, run=host.run, inspect=inspect.inspect, shown=_shown)
