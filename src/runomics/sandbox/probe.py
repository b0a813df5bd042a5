"""What the machine allows a sandbox to do, found by doing it in a child. Runs in `runomics doctor` and at the server's start."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass

from runomics.sandbox import linux, seccomp, tree
from runomics.sandbox.volume_path import open_beneath

_USERNS_REMEDY = (
    "As a plain user the service needs user namespaces. Ubuntu 24.04 and later: "
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0; older Debian: sysctl kernel.unprivileged_userns_clone=1; "
    "also user.max_user_namespaces must not be 0. "
    "In a container: run it with --security-opt seccomp=unconfined, or run the service as root."
)
_PROC_REMEDY = (
    "A new /proc cannot be mounted, most often because the service itself runs in a container with a masked /proc: "
    "run that container with --security-opt systempaths=unconfined."
)
_MOUNT_REMEDY = (
    "The service needs mount rights: as root CAP_SYS_ADMIN (in a container: --privileged), else user namespaces."
)
_KERNEL_REMEDY = "Linux 5.12 or later is needed (RHEL 9, Debian 12, Ubuntu 22.04)."
_SECCOMP_REMEDY = "The kernel must be built with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. `detail` is the kernel's answer when it failed."""

    name: str
    works: bool
    detail: str = ""
    remedy: str = ""
    required: bool = True


def _in_child(act: Callable[[], None]) -> str:
    """Run `act` in a forked child; '' when it worked, else what it said."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            act()
            os._exit(0)
        except BaseException as error:
            os.write(writer, str(error).encode()[:1000])
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if status == 0 else said or f"the child ended with {status}"


def _in_second_child(act: Callable[[], None]) -> None:
    """Fork into the new pid namespace and pass on what `act` says there."""
    said = _in_child(act)
    if said:
        raise RuntimeError(said)


def _enter_namespaces() -> None:
    tree.enter_namespaces(rootless=os.geteuid() != 0)


def _mount_proc(place: str) -> None:
    _enter_namespaces()

    def inside() -> None:
        linux.mount(None, "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        linux.mount("proc", place, filesystem="proc", flags=linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)

    _in_second_child(inside)


def _bind_read_only(place: str) -> None:
    _enter_namespaces()
    linux.mount(None, "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("/usr", place, flags=linux.MS_BIND | linux.MS_REC)
    linux.mount_setattr(place, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)


def _pivot(place: str) -> None:
    shape = tree.Tree(base=place, engine=f"{place}-engine", uid=os.getuid(), gid=os.getgid())
    _enter_namespaces()
    _in_second_child(lambda: tree.build(shape))


def _openat2(place: str) -> None:
    os.close(open_beneath(place, ".", os.O_RDONLY | os.O_DIRECTORY))


def _seccomp() -> None:
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install()
    try:
        linux.unshare(linux.CLONE_NEWUSER)
    except PermissionError:
        return
    raise RuntimeError("the filter let unshare(CLONE_NEWUSER) through")


def probe() -> list[Finding]:
    """Try each thing the run process needs, in a child, and say how to get what is missing. Takes about 50 ms, leaves nothing behind."""
    rootless = os.geteuid() != 0
    directory = tempfile.mkdtemp(prefix="runomics-probe-")
    place = f"{directory}/base"
    for path in (place, f"{place}-engine"):
        os.mkdir(path)
    tries: list[tuple[str, Callable[[], None], str]] = [
        ("namespaces", _enter_namespaces, _USERNS_REMEDY if rootless else _MOUNT_REMEDY),
        ("mount /proc", lambda: _mount_proc(place), _PROC_REMEDY),
        ("mount_setattr", lambda: _bind_read_only(place), f"{_MOUNT_REMEDY} {_KERNEL_REMEDY}"),
        ("pivot_root", lambda: _pivot(place), _MOUNT_REMEDY),
        ("openat2", lambda: _openat2(place), _KERNEL_REMEDY),
        ("seccomp filter", _seccomp, _SECCOMP_REMEDY),
    ]
    try:
        findings = []
        for name, act, remedy in tries:
            said = _in_child(act)
            findings.append(Finding(name=name, works=not said, detail=said, remedy=remedy if said else ""))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return [_kernel(), *findings]


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2])
    works = numbers >= (5, 12)
    return Finding(name="kernel", works=works, detail=release, remedy="" if works else _KERNEL_REMEDY)


if __name__ == "__main__":
    json.dump([asdict(finding) for finding in probe()], sys.stdout)
