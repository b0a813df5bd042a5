"""One seccomp filter for engines and tasks: no way back to the kernel's privileged doors. Plain data; `install` runs in the run process.

A classic BPF program, assembled here: the kernel's and bubblewrap's (`--seccomp FD`) own form, 8 bytes an instruction. The filter
answers EPERM to what could build a second, unguarded sandbox, look into other processes or type into a terminal; ENOSYS to clone3
(whose flags a filter cannot see; C libraries then use clone) and to socketcall; EAFNOSUPPORT to sockets of all but four families;
and allows the rest.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from runomics.sandbox import linux

# Of struct seccomp_data, little endian: an argument's lower half, all that the kernel looks at of a flag, a family or a request.
_OFFSET_NUMBER, _OFFSET_MACHINE, _OFFSET_FIRST_ARGUMENT, _OFFSET_SECOND_ARGUMENT = 0, 4, 16, 24

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_NOT_LESS = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_ALLOW = 0x7FFF_0000
_ERRNO = 0x0005_0000

_X32_BIT = 0x4000_0000
"""x86_64 kernels take the x32 calls under the same machine number with this bit set."""


SOCKET_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
"""All that a task has use for. A network namespace does not part the others: AF_VSOCK reaches the machine below and whoever listens
on this one, AF_ALG and the like are ways into the kernel that nobody needs here. AF_NETLINK tells a program its interfaces."""

TERMINAL_REQUESTS = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C}
"""ioctls that type into a terminal as if its user had."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One calling convention: its number in the filter's data, and what it calls the calls below.

    `socketcall`: one call for all of sockets, whose arguments a filter cannot see; programs then use the single ones.
    """

    audit_number: int
    denied: Mapping[str, int]
    clone: int
    unshare: int
    socket: int
    ioctl: int
    clone3: int = 435
    socketcall: int | None = None
    has_x32: bool = False


_SAME_EVERYWHERE = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "open_tree_attr": 467,
}
"""Calls since 5.1 have one number on all machines. io_uring does its work behind the filter's back."""

X86_64 = Machine(
    audit_number=0xC000_003E,
    clone=56,
    unshare=272,
    socket=41,
    ioctl=16,
    has_x32=True,
    denied=_SAME_EVERYWHERE
    | {
        "mount": 165,
        "umount2": 166,
        "pivot_root": 155,
        "setns": 308,
        "ptrace": 101,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "bpf": 321,
        "perf_event_open": 298,
        "userfaultfd": 323,
        "swapon": 167,
        "swapoff": 168,
        "reboot": 169,
        "init_module": 175,
        "finit_module": 313,
        "delete_module": 176,
        "kexec_load": 246,
        "kexec_file_load": 320,
        "iopl": 172,
        "ioperm": 173,
        "acct": 163,
        "quotactl": 179,
        "open_by_handle_at": 304,
        "lookup_dcookie": 212,
        "vhangup": 153,
        "settimeofday": 164,
        "clock_settime": 227,
        "clock_adjtime": 305,
        "syslog": 103,
        "uselib": 134,
        "fanotify_init": 300,
    },
)

I386 = Machine(
    audit_number=0x4000_0003,
    clone=120,
    unshare=310,
    socket=359,
    ioctl=54,
    socketcall=102,
    denied=_SAME_EVERYWHERE
    | {
        "mount": 21,
        "umount": 22,
        "umount2": 52,
        "pivot_root": 217,
        "setns": 346,
        "ptrace": 26,
        "process_vm_readv": 347,
        "process_vm_writev": 348,
        "kcmp": 349,
        "add_key": 286,
        "request_key": 287,
        "keyctl": 288,
        "bpf": 357,
        "perf_event_open": 336,
        "userfaultfd": 374,
        "swapon": 87,
        "swapoff": 115,
        "reboot": 88,
        "init_module": 128,
        "finit_module": 350,
        "delete_module": 129,
        "kexec_load": 283,
        "iopl": 110,
        "ioperm": 101,
        "acct": 51,
        "quotactl": 131,
        "open_by_handle_at": 342,
        "lookup_dcookie": 253,
        "vhangup": 111,
        "settimeofday": 79,
        "clock_settime": 264,
        "clock_settime64": 404,
        "clock_adjtime": 343,
        "clock_adjtime64": 405,
        "stime": 25,
        "syslog": 103,
        "uselib": 86,
        "vm86": 166,
        "vm86old": 113,
        "fanotify_init": 338,
    },
)

AARCH64 = Machine(
    audit_number=0xC000_00B7,
    clone=220,
    unshare=97,
    socket=198,
    ioctl=29,
    denied=_SAME_EVERYWHERE
    | {
        "mount": 40,
        "umount2": 39,
        "pivot_root": 41,
        "setns": 268,
        "ptrace": 117,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "bpf": 280,
        "perf_event_open": 241,
        "userfaultfd": 282,
        "swapon": 224,
        "swapoff": 225,
        "reboot": 142,
        "init_module": 105,
        "finit_module": 273,
        "delete_module": 106,
        "kexec_load": 104,
        "kexec_file_load": 294,
        "acct": 89,
        "quotactl": 60,
        "open_by_handle_at": 265,
        "lookup_dcookie": 18,
        "vhangup": 58,
        "settimeofday": 170,
        "clock_settime": 112,
        "clock_adjtime": 266,
        "syslog": 116,
        "fanotify_init": 262,
    },
)

_MACHINES: Mapping[str, Sequence[Machine]] = {"x86_64": (X86_64, I386), "aarch64": (AARCH64,)}
"""What each kernel may be asked in. A convention that is not here (32-bit ARM) gets EPERM for everything."""


def _instruction(code: int, operand: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)


class _Test(NamedTuple):
    """A comparison of what was loaded last: on to the place named `goes_to` when it holds, to the next line when not."""

    code: int
    operand: int
    goes_to: str


class _Load(NamedTuple):
    """Load the word at this offset of the data."""

    offset: int


class _Return(NamedTuple):
    """The verdict."""

    value: int


class _Place(NamedTuple):
    """A name for the line that follows."""

    name: str


def _assembled(lines: Sequence[_Test | _Load | _Return | _Place]) -> bytes:
    """Jumps lead forwards only, by at most 255 lines."""
    places: dict[str, int] = {}
    code: list[_Test | _Load | _Return] = []
    for line in lines:
        if isinstance(line, _Place):
            places[line.name] = len(code)
        else:
            code.append(line)
    packed = []
    for index, line in enumerate(code):
        match line:
            case _Test(kind, operand, goes_to):
                packed.append(_instruction(kind, operand, if_true=places[goes_to] - index - 1))
            case _Load(offset):
                packed.append(_instruction(_LOAD, offset))
            case _Return(value):
                packed.append(_instruction(_RETURN, value))
    return b"".join(packed)


def _block(machine: Machine) -> bytes:
    """The verdict on a call of one machine; ends in returns, so blocks stand one after another."""
    tests = [_Test(_JUMP_EQUAL, number, "refuse") for number in sorted(set(machine.denied.values()))]
    if machine.has_x32:
        tests.insert(0, _Test(_JUMP_NOT_LESS, _X32_BIT, "refuse"))
    missing = [machine.clone3] if machine.socketcall is None else [machine.clone3, machine.socketcall]
    tests += [_Test(_JUMP_EQUAL, number, "missing") for number in missing]
    tests += [_Test(_JUMP_EQUAL, number, "flags") for number in (machine.clone, machine.unshare)]
    tests += [_Test(_JUMP_EQUAL, machine.socket, "family"), _Test(_JUMP_EQUAL, machine.ioctl, "request")]
    return _assembled(
        [
            _Load(_OFFSET_NUMBER),
            *tests,
            _Return(_ALLOW),
            _Place("family"),
            _Load(_OFFSET_FIRST_ARGUMENT),
            *[_Test(_JUMP_EQUAL, family, "allow") for family in SOCKET_FAMILIES.values()],
            _Return(_ERRNO | errno.EAFNOSUPPORT),
            _Place("request"),
            _Load(_OFFSET_SECOND_ARGUMENT),
            *[_Test(_JUMP_EQUAL, request, "refuse") for request in TERMINAL_REQUESTS.values()],
            _Return(_ALLOW),
            _Place("flags"),
            _Load(_OFFSET_FIRST_ARGUMENT),
            _Test(_JUMP_ANY_BIT, linux.CLONE_NEWUSER, "refuse"),
            _Place("allow"),
            _Return(_ALLOW),
            _Place("refuse"),
            _Return(_ERRNO | errno.EPERM),
            _Place("missing"),
            _Return(_ERRNO | errno.ENOSYS),
        ]
    )


def program_bytes(machine: str = linux.MACHINE) -> bytes:
    """The filter for a kernel of `machine` (x86_64, aarch64), ready for seccomp(2) or bubblewrap's `--seccomp`.

    Raises:
        NotImplementedError: no filter is written for this machine.
    """
    if machine not in _MACHINES:
        raise NotImplementedError(f"no seccomp filter for {machine}; known: {', '.join(sorted(_MACHINES))}")
    program = _instruction(_LOAD, _OFFSET_MACHINE)
    for convention in _MACHINES[machine]:
        block = _block(convention)
        program += _instruction(_JUMP_EQUAL, convention.audit_number, if_false=len(block) // 8) + block
    return program + _instruction(_RETURN, _ERRNO | errno.EPERM)


@dataclass(frozen=True, slots=True)
class _Alone:
    """The calls of one machine by which a process makes or reaches other ones."""

    audit_number: int
    clone: int
    denied: tuple[int, ...]


_ALONE: Mapping[str, Sequence[_Alone]] = {
    # fork, vfork, kill, socket, connect; i386 also socketcall.
    "x86_64": (_Alone(X86_64.audit_number, X86_64.clone, (57, 58, 62, 41, 42)),),
    "aarch64": (_Alone(AARCH64.audit_number, AARCH64.clone, (129, 198, 203)),),
}


def alone_program_bytes(machine: str = linux.MACHINE) -> bytes:
    """A second filter, on top of the first: no child processes (threads are), no signals to others, no sockets, no other conventions.

    Raises:
        NotImplementedError: no filter is written for this machine.
    """
    if machine not in _ALONE:
        raise NotImplementedError(f"no seccomp filter for {machine}; known: {', '.join(sorted(_ALONE))}")
    program = [_instruction(_LOAD, _OFFSET_MACHINE)]
    for convention in _ALONE[machine]:
        # Layout behind the tests: allow · flags (2) · refuse · allow
        tests = [(number, 3) for number in convention.denied] + [(convention.clone, 1)]
        lines = [_instruction(_LOAD, _OFFSET_NUMBER)]
        for index, (number, place) in enumerate(tests):
            lines.append(_instruction(_JUMP_EQUAL, number, if_true=len(tests) - index - 1 + place))
        lines += [
            _instruction(_RETURN, _ALLOW),
            _instruction(_LOAD, _OFFSET_FIRST_ARGUMENT),
            _instruction(_JUMP_ANY_BIT, linux.CLONE_THREAD, if_true=1),
            _instruction(_RETURN, _ERRNO | errno.EPERM),
            _instruction(_RETURN, _ALLOW),
        ]
        block = b"".join(lines)
        program += [_instruction(_JUMP_EQUAL, convention.audit_number, if_false=len(block) // 8), block]
    program.append(_instruction(_RETURN, _ERRNO | errno.EPERM))
    return b"".join(program)


def install_alone() -> None:
    """Put the second filter on this process, for ever.

    Raises:
        OSError: the kernel refused it. NotImplementedError: no filter for this machine.
    """
    linux.install_seccomp(alone_program_bytes())


def write_program(path: Path) -> None:
    """Leave the filter for this machine in a file, atomically: task supervisors hand it to bubblewrap as `--seccomp FD`."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(program_bytes())
    os.replace(temporary, path)


def install() -> None:
    """Put the filter on this process and all its children, for ever. no_new_privs must be set.

    Raises:
        OSError: the kernel has no seccomp filters. NotImplementedError: no filter for this machine.
    """
    linux.install_seccomp(program_bytes())
