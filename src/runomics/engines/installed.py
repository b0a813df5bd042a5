"""Which engines this server can run, and why not the others. Runs in the server: it imports no engine, only where one lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runomics.engines.nextflow import installation as nextflow


def _is_there() -> str:
    return ""


_CHECKS: Mapping[str, Callable[[], str]] = {
    "WDL": _is_there,
    "WDL_LENIENT": _is_there,
    "CWL": _is_there,
    "NEXTFLOW": nextflow.why_not,
}
"""Engine → why it cannot run here, empty when it can."""


def engines() -> Mapping[str, str]:
    """Every engine of the API with the reason why it cannot run here, empty when it can. Looked at anew each time."""
    return {name: why_not() for name, why_not in _CHECKS.items()}
