"""A program that enters a sandbox as a run process does and then runs a piece of Python there. Arguments: one JSON object.

`tree`: members of sandbox.tree.Tree; `rootless`; `code`: Python that sets `answer`; the answer goes to answer.json in the engine directory.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

from runomics.sandbox import linux, rights, tree


def main() -> None:
    request = json.loads(sys.argv[1])
    shape = tree.Tree(**request["tree"])
    tree.enter_namespaces(rootless=request["rootless"])
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    try:
        linux.close_from(3)
        tree.build(shape)
        rights.drop(uid=shape.uid, gid=shape.gid, rootless=request["rootless"], limits=rights.Limits())
        names = {"__name__": "inside"}
        exec(compile(request["code"], "inside", "exec"), names)  # noqa: S102 - the test's own code
        with open("/run/engine/answer.json", "w") as file:
            json.dump(names["answer"], file)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


main()
