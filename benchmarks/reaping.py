"""Runs a command and waits for all that it leaves behind: `python reaping.py COMMAND …` prints the seconds of time and of CPU as JSON.

What a container runtime sends into the background (conmon) becomes a child of this process, so its time is counted, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sys.stderr, check=False)
    seconds = time.perf_counter() - began
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"seconds": seconds, "cpu_seconds": spent.ru_utime + spent.ru_stime}))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
