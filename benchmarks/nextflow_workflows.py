"""The Nextflow twins of the timed WDL workflows, and a bare Nextflow, its stock launcher on the same jars, on the same text."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runomics.engines.nextflow import installation, jvm

_OUT = "params.outdir = '/mnt/workflow/pubdir'\n"

ONE_TASK = (
    _OUT
    + """params.name = 'world'
process HELLO { publishDir params.outdir, mode: 'copy'
  input: val name
  output: path 'greeting.txt'
  script: "echo hello $name > greeting.txt" }
workflow { HELLO(params.name) }
"""
)

FIRST_TASK = (
    _OUT
    + """process STAMP { publishDir "${params.outdir}/out", mode: 'copy'
  output: path 'at.txt'
  script: "date +%s%N > at.txt" }
workflow { STAMP() }
"""
)

SCATTER = (
    _OUT
    + """params.width = 100
process NOTHING { input: val number
  script: "true" }
workflow { NOTHING(Channel.of(1..params.width)) }
"""
)


def bare_seconds(text: str, parameters: Mapping[str, Any]) -> float:
    """One run as its own command line does it: stock options and launcher, local executor, no container.

    Raises:
        RuntimeError: Nextflow is not installed.
    """
    installed = installation.read()
    if installed is None:
        raise RuntimeError(installation.why_not())
    opened = [part for part in jvm.command(installed, arguments=()) if part.startswith("--add-opens")]
    stock = ":".join(str(path) for path in installed.jars if path.parent.name == "lib")
    with tempfile.TemporaryDirectory(prefix="bare-nextflow-") as folder:
        (Path(folder) / "main.nf").write_text(text)
        given = [word for name, value in parameters.items() for word in (f"--{name}", str(value))]
        environment = jvm.environment(installed) | {"HOME": folder, "NXF_HOME": f"{folder}/home"}
        began = time.perf_counter()
        subprocess.run(
            [
                str(installed.java),
                *opened,
                "-cp",
                stock,
                "nextflow.cli.Launcher",
                "run",
                "main.nf",
                "--outdir",
                "out",
                *given,
            ],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began
