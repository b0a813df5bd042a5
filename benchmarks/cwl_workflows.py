"""The CWL twins of the timed WDL workflows, and stock cwltool's command line on the same text."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ONE_TASK = """cwlVersion: v1.2
class: Workflow
inputs: {name: {type: string, default: world}}
steps:
  hello:
    in: {name: name}
    out: [greeting]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo "hello $1" > greeting.txt', x]
      inputs: {name: {type: string, inputBinding: {position: 1}}}
      outputs: {greeting: {type: File, outputBinding: {glob: greeting.txt}}}
outputs: {greeting: {type: File, outputSource: hello/greeting}}
"""

FIRST_TASK = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: [date, +%s%N]
inputs: []
stdout: at.txt
outputs: {at: stdout}
"""

SCATTER = """cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {numbers: "int[]"}
steps:
  nothing:
    scatter: number
    in: {number: numbers}
    out: []
    run: {class: CommandLineTool, baseCommand: "true", inputs: {number: int}, outputs: []}
outputs: []
"""


def bare_seconds(text: str, parameters: Mapping[str, Any]) -> float:
    """One run of the same text by cwltool's own command line, tasks as plain processes, as many at once as it likes."""
    with tempfile.TemporaryDirectory(prefix="bare-cwl-") as folder:
        (Path(folder) / "main.cwl").write_text(text)
        (Path(folder) / "job.json").write_text(json.dumps(parameters))
        began = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "cwltool",
                "--no-container",
                "--parallel",
                "--outdir",
                "out",
                "main.cwl",
                "job.json",
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began
