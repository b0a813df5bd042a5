"""What a sandboxed process may do: user, capabilities, limits, system calls. Runs in the run process, after its tree is built."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from runomics.sandbox import linux, seccomp

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER = 0, 1, 3

VOLUME_CAPABILITIES = 1 << CAP_CHOWN | 1 << CAP_DAC_OVERRIDE | 1 << CAP_FOWNER
"""Tasks write the volume as root; the engine, another user, must still read, chmod and move what they wrote.

They reach nothing but the volume, and no child keeps them: neither inheritable nor ambient, and no_new_privs is set.
"""

OPEN_FILES = 16384
PROCESSES = 4096
COUNTS_BY_NAMESPACE = (5, 14)
"""The first Linux that counts a user's processes for each user namespace. Before, a limit would count all of a plain user's own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use at most; None leaves the inherited limit. `processes` counts threads of all processes of the uid."""

    open_files: int = OPEN_FILES
    processes: int | None = PROCESSES
    address_space_bytes: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int | None = None


def _limit(kind: int, value: int | None) -> None:
    if value is None:
        return
    hard = resource.getrlimit(kind)[1]
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (ceiling, ceiling))


def counts_by_namespace(release: str) -> bool:
    """Whether a Linux of this release (uname -r) counts so."""
    numbers = [int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2]]
    return tuple(numbers) >= COUNTS_BY_NAMESPACE


def drop(*, uid: int, gid: int, rootless: bool, limits: Limits, capabilities: int = VOLUME_CAPABILITIES) -> None:
    """Become `uid`, for ever: no groups, at most `capabilities` (none when rootless), no new privileges, the seccomp filter.

    Raises:
        OSError: the kernel refused a step; the process must not go on.
    """
    linux.loopback_up()
    linux.set_host_name("engine")
    linux.new_session_keyring()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_AS, limits.address_space_bytes)
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    if rootless:
        if counts_by_namespace(os.uname().release):
            _limit(resource.RLIMIT_NPROC, limits.processes)
        linux.set_capabilities(0)
    else:
        _limit(resource.RLIMIT_NPROC, limits.processes)
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        linux.set_capabilities(capabilities)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install()
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    os.umask(0o022)
