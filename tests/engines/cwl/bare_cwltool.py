"""Stock cwltool in a process of its own, its schemas kept warm: one JSON line of arguments in, one of exit code, outputs and log out."""

from __future__ import annotations

import io
import json
import os
import sys

from cwltool.main import main


def serve() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        os.chdir(request["cwd"])
        out, log = io.StringIO(), io.StringIO()
        try:
            code = main(request["arguments"], stdout=out, stderr=log)
        except SystemExit as ended:
            code = int(ended.code or 0)
        answer = {"code": code, "outputs": out.getvalue(), "log": log.getvalue()}
        print(json.dumps(answer), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    serve()
