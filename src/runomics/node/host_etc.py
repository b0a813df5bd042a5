"""A copy of the pieces of the host's /etc that programs below /usr read: one bind for each task instead of thirty. Kept by supervisors.

A snapshot is named by what the host's files looked like, so a changed host gets a new one, and a task keeps the one it started
with. Only world-readable files are copied: a task that is root would open any other as well.
"""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections.abc import Mapping

from . import volume

NAMES = (
    "ImageMagick-6", "ImageMagick-7", "R", "alternatives", "crypto-policies", "debian_version", "fonts", "group", "ld.so.cache",
    "localtime", "lsb-release", "magic", "mime.types", "nsswitch.conf", "octave", "os-release", "passwd", "perl", "pki/ca-trust/extracted",
    "pki/java", "pki/tls/certs", "pki/tls/openssl.cnf", "protocols", "redhat-release", "rpc", "services", "ssl/certs", "ssl/openssl.cnf",
    "texmf", "timezone",
)  # fmt: skip
"""Configuration, and nothing that is meant to hold a secret."""
PREFIXES = ("java", "python2", "python3")
"""Debian and RHEL keep the JDK's own configuration in /etc/java-<version>: without it java does not start."""
NETWORK_NAMES = ("gai.conf", "host.conf", "resolv.conf")
"""With the host's network, its way of finding names."""
VISIBLE = ("/usr/", "/nix/store/")
HOSTS, RESOLVER = "hosts", "resolv.conf"


LOOK_SECONDS = 1.0
"""For so long the launcher's last look is taken for the present state: a look costs a twentieth of a task."""

Look = Mapping[str, tuple[int, str]]
"""Name of a piece → its time of modification in ns, and all that tells one state of it from another."""

_last: tuple[float, Look] | None = None


def look(etc: str = "/etc") -> Look:
    """The pieces that this host has, and how they look."""
    found = {}
    by_prefix = [name for name in os.listdir(etc) if name.startswith(PREFIXES)]
    for name in sorted({*NAMES, *NETWORK_NAMES, *by_prefix}):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(f"{etc}/{name}")
            text = f"{name} {status.st_ino} {status.st_mode} {status.st_size} {status.st_mtime_ns}"
            found[name] = (status.st_mtime_ns, text)
    return found


def recent_look(now: float) -> Look:
    """How the host's /etc looks, or looked at most LOOK_SECONDS before `now` (of the monotonic clock) to this process or its launcher."""
    global _last
    if _last is None or now > _last[0] + LOOK_SECONDS:
        _last = (now, look())
    return _last[1]


def snapshot(
    directory: str, hosts: str, looks: Look, *, network: bool = False, resolver: str | None = None, etc: str = "/etc"
) -> str:
    """The path of a snapshot of `etc` that looks so, with `hosts` as its /etc/hosts; below `directory`, made when it is missing.

    `resolver` is put in the place of resolv.conf. Its time of modification is that of its last use.
    """
    pieces = [name for name in looks if network or name not in NETWORK_NAMES]
    newest_ns = max((looks[name][0] for name in pieces), default=0)
    given = {HOSTS: hosts}
    if resolver is not None:
        given[RESOLVER] = resolver
        pieces = [name for name in pieces if name != RESOLVER]
    text = "\n".join([*given.values(), *(looks[name][1] for name in pieces)])
    path = f"{directory}/{newest_ns:x}-{zlib.crc32(text.encode()):08x}"
    try:
        os.utime(path)
    except FileNotFoundError:
        _make(path, etc, pieces, given)
    return path


def _make(path: str, etc: str, pieces: list[str], given: Mapping[str, str]) -> None:
    temporary = f"{path}.{os.getpid()}"
    os.makedirs(temporary, mode=0o755)
    for name in pieces:
        target = f"{temporary}/{name}"
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        _copy(f"{etc}/{name}", target, etc, pieces)
    for name, content in given.items():
        with open(f"{temporary}/{name}", "w") as file:
            file.write(content)
    try:
        os.rename(temporary, path)
    except OSError:
        parent = volume.open_volume(os.path.dirname(path))
        volume.remove_tree(parent, os.path.basename(temporary))
        os.close(parent)
        if not os.path.isdir(path):
            raise


def _copy(source: str, target: str, etc: str, pieces: list[str]) -> None:
    """Copy one piece. A link stays a link when a task sees what it names; otherwise what it leads to is copied."""
    if os.path.islink(source):
        leads_to = os.path.normpath(os.path.join(os.path.dirname(source), os.readlink(source)))
        within = [f"{etc}/{name}" for name in pieces]
        if leads_to.startswith(VISIBLE) or any(
            leads_to == piece or leads_to.startswith(piece + "/") for piece in within
        ):
            os.symlink(os.readlink(source), target)
            return
    # What vanishes or is refused while we look is left out: it is configuration, and the next snapshot will have it.
    with contextlib.suppress(OSError):
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IXOTH:
            os.mkdir(target, 0o755)
            for name in os.listdir(source):
                _copy(f"{source}/{name}", f"{target}/{name}", etc, pieces)
        elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
            with open(source, "rb") as read, open(target, "wb") as written:
                written.write(read.read())
                os.fchmod(written.fileno(), 0o755 if status.st_mode & stat.S_IXOTH else 0o644)
