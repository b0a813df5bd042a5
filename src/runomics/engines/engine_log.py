"""How engines write engine.log: lines with UTC times on stderr, where the run process has it. In the run process."""

from __future__ import annotations

import logging
import sys
import time

_FORMAT = "%(asctime)s.%(msecs)03dZ %(name)s %(levelname)s %(message)s"


def begin() -> None:
    """Make stderr the one place of log lines; of warnings alone, until a logger's own level says otherwise."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
