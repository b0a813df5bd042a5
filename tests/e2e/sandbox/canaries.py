"""What the attempts are after: files, sockets, memory and processes outside a sandbox that a test made, and makes again for the next."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_PYTHON = "/usr/bin/python3"

PROCESS = r"""
import ctypes, json, os, select, signal, socket, sys
place, secret, key, shm, abstract = sys.argv[2:]
os.chdir(place)
signal.signal(signal.SIGUSR1, lambda *_: None)
descriptor = os.open("secret", os.O_RDONLY)
buffer = ctypes.create_string_buffer(secret.encode())
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(int(key), 4096, 0o1600)
ctypes.memmove(libc.shmat(segment, None, 0), buffer, len(secret))
with open("/dev/shm/" + shm, "w") as file: file.write(secret)
tcp = socket.create_server(("127.0.0.1", 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", tcp.getsockname()[1]))
local = socket.socket(socket.AF_UNIX); local.bind("sock"); local.listen()
name = socket.socket(socket.AF_UNIX); name.bind("\0" + abstract); name.listen()
print(json.dumps({"pid": os.getpid(), "address": ctypes.addressof(buffer), "fd": descriptor, "port": tcp.getsockname()[1]}), flush=True)
while True:
    for ready in select.select([sys.stdin, tcp, udp, local, name], [], [])[0]:
        if ready is sys.stdin:
            libc.shmctl(segment, 0, None)
            os.unlink("/dev/shm/" + shm)
            sys.exit(0)
        elif ready is udp:
            udp.sendto(b"pong", udp.recvfrom(16)[1])
        else:
            ready.accept()[0].close()
"""


@dataclass(frozen=True, slots=True)
class Canaries:
    """`place`: a directory of the host that no sandbox shows. `targets`: what attacks.outcomes is told."""

    place: Path
    targets: dict[str, Any]


def as_user(uid: int) -> list[str]:
    """A command that becomes the user, none for root."""
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if uid else []


@contextmanager
def canaries(place: Path, *, uid: int) -> Iterator[Canaries]:
    """Canaries of the user `uid`, whose process runs meanwhile. `place` is an empty directory."""
    secret = f"secret-{secrets.token_hex(8)}"
    marker, shm, abstract = (f"runomics-canary-{secrets.token_hex(8)}" for _ in range(3))
    key = secrets.randbelow(1 << 30) + 1
    for name, text in (("secret", secret), ("writable", "")):
        (place / name).write_text(text)
    (place / "read-only").mkdir()
    for path in (place, *place.iterdir()):
        os.chown(path, uid, uid)
    image = place.with_name(place.name + "-disk")
    image.write_bytes(secret.encode().ljust(1 << 20, b"\0"))
    loop = subprocess.run(
        ["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=True
    ).stdout.strip()
    command = [*as_user(uid), SYSTEM_PYTHON, "-I", "-c", PROCESS, marker, str(place), secret, str(key), shm, abstract]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"CANARY": secret})
    try:
        with process:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            device = os.stat(loop).st_rdev
            yield Canaries(
                place,
                {
                    **said,
                    "place": str(place),
                    "secret": secret,
                    "marker": marker,
                    "shm": shm,
                    "shm_key": key,
                    "abstract": abstract,
                    "disk": [os.major(device), os.minor(device)],
                    "disk_path": loop,
                    "handle": handle_of(place / "secret"),
                    "interface": next(name for _, name in socket.if_nameindex() if name != "lo"),
                    "processes": 60,
                },
            )
            process.communicate(b"end\n", timeout=10)
    finally:
        process.kill()
        subprocess.run(["losetup", "-d", loop], check=True)
        image.unlink()


def handle_of(path: Path) -> str:
    """A file's handle, by which a process with the right to may open it wherever it lies; as hexadecimal digits."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer((128).to_bytes(4, sys.byteorder) + bytes(132), 136)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount), 0) == -1:
        return ""
    return handle.raw[: 8 + int.from_bytes(handle.raw[:4], sys.byteorder)].hex()


def with_a_key(secret: str) -> None:
    """Join a new session keyring with a canary's key: before exec, in a process that then starts what starts the sandbox."""
    libc = ctypes.CDLL(None, use_errno=True)
    add_key, keyctl = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
    libc.syscall(keyctl, 1, None, 0, 0)
    libc.syscall(add_key, b"user", b"runomics-canary", secret.encode(), len(secret), -3)


def setuid_program(path: Path) -> Path:
    """A copy of `id` that runs as root whoever starts it."""
    shutil.copy("/usr/bin/id", path)
    path.chmod(0o4755)
    return path
