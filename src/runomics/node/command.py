"""The command line of the packed `node` folder: launch, supervise, detect, probe. Runs in a process of its own.

`launch RUNS FD` is the task launcher on the socket FD, for runs whose volumes are mounted in RUNS; `supervise DIRECTORY` supervises one
attempt in the foreground (the body of a batch job); `detect PARENT` prints the cgroup driver as JSON; `probe PARENT BWRAP DIRECTORY`
prints what `doctor` wants to know; `forget NETWORKS` removes the bridges that no task is on.
"""

from __future__ import annotations

import json
import sys

USAGE = "usage: node.pyz launch RUNS FD | supervise DIRECTORY | detect PARENT | probe PARENT BWRAP DIRECTORY | forget NETWORKS"


def main(arguments: list[str]) -> int:
    """The exit code of the command in `arguments`.

    Each command imports what it needs and no more: the launcher's memory is what every supervisor starts with.
    """
    if len(arguments) == 3 and arguments[0] == "launch":
        from . import launcher  # noqa: PLC0415 see above

        return launcher.main(arguments[1], int(arguments[2]))
    if len(arguments) == 2 and arguments[0] == "supervise":
        from . import supervisor  # noqa: PLC0415 see above

        return supervisor.main(arguments[1])
    if len(arguments) == 2 and arguments[0] == "detect":
        from . import delegation  # noqa: PLC0415 see above

        json.dump(delegation.detect(arguments[1])._asdict(), sys.stdout)
        return 0
    if len(arguments) == 4 and arguments[0] == "probe":
        from . import probe  # noqa: PLC0415 see above

        json.dump(probe.findings(*arguments[1:]), sys.stdout)
        return 0
    if len(arguments) == 2 and arguments[0] == "forget":
        from . import bridge  # noqa: PLC0415 see above

        json.dump(bridge.forget(arguments[1]), sys.stdout)
        return 0
    sys.stderr.write(USAGE + "\n")
    return 2
