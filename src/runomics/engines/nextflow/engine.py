"""Nextflow as one of the languages of the run process."""

from __future__ import annotations

from runomics.engines.language import Engine
from runomics.engines.nextflow import host, inspect, installation


def warm() -> None:
    """Nothing: what is warm is in a JVM."""


def kept_name(main: str) -> str:
    """A file that no inspection leaves: the parsed form lives in a JVM only."""
    return "parsed-nextflow-0-none"


ENGINE = Engine(
    version=installation.VERSION,
    warm=warm,
    run=host.run,
    inspect=inspect.inspect,
    kept_name=kept_name,
    shown=installation.shown,
)
