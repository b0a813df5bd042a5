"""WDL as one of the languages of the run process."""

from __future__ import annotations

from runomics.engines.language import Engine
from runomics.engines.wdl import host, inspect, parsed

ENGINE = Engine(version=host.VERSION, warm=host.warm, run=host.run, inspect=inspect.inspect, kept_name=parsed.file_name)
