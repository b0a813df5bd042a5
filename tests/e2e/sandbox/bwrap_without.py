#!/usr/bin/python3 -I
"""bubblewrap with layers of isolation taken away: stands in the place of bwrap in a test's spec.json, and changes the options on their way.

WITHOUT (a JSON object beside this file's name: layers, the real bwrap, the canaries' place, …) says which. Never part of the product.
"""

import json
import os
import sys

ARGUMENTS = {
    0: "--unshare-ipc --unshare-pid --unshare-uts --unshare-cgroup-try --unshare-user --unshare-net --disable-userns --die-with-parent "
    "--new-session --clearenv",
    1: "--hostname --uid --gid --cap-drop --cap-add --seccomp --proc --remount-ro --dev --perms --size --tmpfs --json-status-fd --chdir "
    "--block-fd --unsetenv",
    2: "--bind --ro-bind --ro-bind-try --dev-bind --symlink --bind-fd --setenv",
}
COUNTS = {name: count for count, names in ARGUMENTS.items() for name in names.split()}


def parsed(words):
    options = []
    while words:
        count = COUNTS[words[0]]
        options.append(words[: count + 1])
        words = words[count + 1 :]
    return options


def without(options, layers, place, shown):
    dropped = {
        "seccomp": ("--seccomp",),
        "capabilities": ("--cap-drop", "--cap-add"),
        "network": ("--unshare-net",),
        "ipc": ("--unshare-ipc",),
        "pid": ("--unshare-pid",),
        "session": ("--new-session",),
        "userns": ("--disable-userns",),
        "environment": ("--clearenv",),
    }
    gone = {name for layer in layers for name in dropped.get(layer, ())}
    kept = []
    for option in options:
        name, target = option[0], option[-1]
        if name in gone:
            continue
        if {"pid", "proc"} & layers and target == "/proc":
            option = ["--dev-bind", "/proc", "/proc"] if name == "--proc" else None
        elif "frozen" in layers and name == "--remount-ro" and target in ("/", "/dev"):
            option = None
        elif "devices" in layers and target == "/dev":
            option = ["--dev-bind", "/dev", "/dev"] if name == "--dev" else None
        elif "read-only" in layers and name == "--ro-bind" and target.startswith((shown, "/mnt/workflow")):
            option = ["--bind", *option[1:]]
        elif "nodev" in layers and name == "--bind" and target == "/mnt/workflow":
            option = ["--dev-bind", *option[1:]]
        elif ("shm" in layers and target == "/dev/shm") or ("scratch" in layers and target == "/mnt/workflow/.scratch"):
            while kept[-1][0] in ("--perms", "--size"):
                kept.pop()
            option = ["--bind", "/dev/shm", "/dev/shm"] if "shm" in layers else None
        if option is not None:
            kept.append(option)
    if "capabilities" in layers:
        kept.append(["--cap-add", "ALL"])
    if "tree" in layers:
        root = [at for at, option in enumerate(kept) if option == ["--remount-ro", "/"]]
        kept.insert(root[0] if root else len(kept), ["--dev-bind", place, place])
    return kept


def main():
    with open(os.path.splitext(sys.argv[0])[0] + ".json") as file:
        told = json.load(file)
    layers = set(told["layers"])
    command = sys.argv[sys.argv.index("--") + 1 :]
    with os.fdopen(int(sys.argv[2]), "rb", closefd=False) as given:
        words = [word.decode() for word in given.read().split(b"\0")[:-1]]
    if not words:
        sys.exit(1)
    if "environment" in layers:
        os.environ["CANARY_KEY"] = "key"
    if "descriptors" in layers:
        os.set_inheritable(os.open(told["place"], os.O_RDONLY), True)
    if "all" in layers:
        os.execv(command[0], command)
    options = without(parsed(words), layers, told["place"], told["shown"])
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.write(writer, b"".join(word.encode() + b"\0" for option in options for word in option))
    os.close(writer)
    os.execv(told["bwrap"], [told["bwrap"], "--args", str(reader), "--", *command])


main()
