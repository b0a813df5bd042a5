"""A program that enters a sandbox as a run process does and makes attempts there. Argument: a JSON object; prints what became of them.

`tree`, `rootless`, `names`, `targets`; `without`: layers that are taken away here, by putting something else in the place of the
product's own functions. Never part of the product.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

import attacks

from runomics.sandbox import linux, rights, seccomp, tree

MOST_PROCESSES = 20
NAMESPACES = {"pid": linux.CLONE_NEWPID, "network": linux.CLONE_NEWNET, "ipc": linux.CLONE_NEWIPC}


def nothing(*arguments: Any, **options: Any) -> None:
    return


def take_away(layers: set[str], place: str) -> None:
    """Make the product's sandbox lack the layers."""
    unshare, mount, bind_run, capset, prctl = (
        linux.unshare, linux.mount, tree._bind_run, linux.set_capabilities, linux.prctl,
    )  # fmt: skip
    spared = sum(NAMESPACES.get(layer, 0) for layer in layers)
    every_capability = held_capabilities()

    def mount_less(source: str | None, target: str, **options: Any) -> None:
        if "frozen" in layers and target == "/" and options["flags"] & linux.MS_REMOUNT:
            return
        if {"pid", "proc"} & layers and options.get("filesystem") == "proc":
            mount("/proc", target, flags=linux.MS_BIND | linux.MS_REC)
            return
        mount(source, target, **options)

    def bind_more(shape: tree.Tree) -> None:
        bind_run(shape)
        tree._bind(place, shape.base + place, 0)
        linux.mount("/dev/shm", f"{shape.base}/dev/shm", flags=linux.MS_BIND | linux.MS_REC)

    replaced: dict[str, list[tuple[Any, str, Any]]] = {
        "network": [(linux, "loopback_up", nothing)],
        "seccomp": [(seccomp, "install", nothing)],
        "capabilities": [(linux, "set_capabilities", lambda mask: capset(every_capability))],
        "key": [(linux, "new_session_keyring", nothing)],
        "user": [(os, "setresuid", nothing), (os, "setresgid", nothing)],
        "no new privileges": [
            (linux, "prctl", lambda option, value: option != linux.PR_SET_NO_NEW_PRIVS and prctl(option, value))
        ],
        "descriptors": [(linux, "close_from", nothing)],
        "nodev": [(tree, "_READ_WRITE", linux.MOUNT_ATTR_NOSUID)],
        "nosuid": [(tree, "_READ_WRITE", linux.MOUNT_ATTR_NODEV)],
        "read-only": [(tree, "_READ_ONLY", linux.MOUNT_ATTR_NOSUID)],
        "tree": [(tree, "_bind_run", bind_more)],
    }
    for layer in layers:
        for module, name, value in replaced.get(layer, []):
            setattr(module, name, value)
    linux.mount = mount_less
    linux.unshare = lambda flags: unshare(flags & ~spared)


def held_capabilities() -> int:
    """What root has here, which may not be everything."""
    with open("/proc/self/status") as file:
        bounding = next(line for line in file if line.startswith("CapBnd"))
    return int(bounding.split()[1], 16)


def main() -> None:
    told = json.loads(sys.argv[1])
    layers = set(told["without"])
    shape = tree.Tree(**told["tree"])
    if "descriptors" in layers:
        os.open(told["targets"]["place"], os.O_RDONLY)
    take_away(layers, told["targets"]["place"])
    tree.enter_namespaces(rootless=told["rootless"])
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    try:
        linux.close_from(3)
        tree.build(shape)
        limits = rights.Limits(processes=4096 if "processes" in layers else MOST_PROCESSES)
        rights.drop(uid=shape.uid, gid=shape.gid, rootless=told["rootless"], limits=limits)
        print(json.dumps(attacks.outcomes(told["names"], told["targets"])), flush=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


main()
