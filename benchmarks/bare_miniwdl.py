"""The peer of numbers 4 and 5: miniwdl's own command line, tasks as plain processes. Run as `python bare_miniwdl.py run …`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from logging import Logger
from typing import Any

import WDL.CLI
import WDL.runtime.config
import WDL.runtime.task_container as containers


class PlainProcess(containers.TaskContainer):  # type: ignore[misc]
    """The cheapest container there can be: none. Paths are the host's."""

    def __init__(self, cfg: Any, run_id: str, host_dir: str) -> None:
        super().__init__(cfg, run_id, host_dir)
        self.container_dir = host_dir

    @classmethod
    def global_init(cls, cfg: Any, logger: Logger) -> None:
        """Nothing to prepare."""

    @classmethod
    def detect_resource_limits(cls, cfg: Any, logger: Logger) -> dict[str, int]:
        return {"cpu": 2, "mem_bytes": 16 << 30}

    def _run(self, logger: Logger, terminating: Callable[[], bool], command: str) -> int:
        with open(self.host_stdout_txt(), "wb") as out, open(self.host_stderr_txt(), "wb") as err:
            return subprocess.run(
                ["/bin/bash", "-c", command], cwd=self.host_work_dir(), stdout=out, stderr=err, check=False
            ).returncode


containers._backends["plain"] = PlainProcess

if __name__ == "__main__":
    sys.exit(WDL.CLI.main(sys.argv[1:]))
