"""Attempts to get out of a sandbox: plain functions that return when they succeed and raise when they are refused. Standard library only.

They run inside, as a task's own command or in the engine's process: `outcomes(names, targets)`. `targets` names what the test put outside.
Each attempt does no harm when it succeeds: it touches canaries that the test made, and undoes what it did.

`LAYERS` says for each attempt what must be taken away for it to succeed, which the test does to see that the attempt can: as root, and
as a plain user, for whom None means that the kernel refuses it to such a user without any sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable
from typing import Any

X86 = platform.machine() == "x86_64"
NUMBERS = {
    "add_key": (248, 217), "keyctl": (250, 219), "ptrace": (101, 117), "process_vm_readv": (310, 270), "kcmp": (312, 272),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "open_tree": (428, 428), "fsopen": (430, 430), "clone3": (435, 435), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "ioprio_set": (251, 30), "capset": (126, 91),
    "unshare": (272, 97), "setns": (308, 268), "clock_adjtime": (305, 266), "swapon": (167, 224), "syslog": (103, 116),
    "shmget": (29, 194), "shmat": (30, 196),
}  # fmt: skip
NEWNS, NEWUSER, NEWNET = 0x20000, 0x10000000, 0x40000000
AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

Targets = dict[str, Any]


class Refused(Exception):
    """It did not work, without an error of the kernel's."""


def call(name: str, *arguments: Any) -> int:
    """A system call by number."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    ctypes.set_errno(0)
    result: int = libc.syscall(ctypes.c_long(NUMBERS[name][0 if X86 else 1]), *words)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def must(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(what)


def in_child(act: Callable[[], None]) -> None:
    """Do it in a process that may be spoiled by it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        said = b""
        try:
            act()
        except OSError as error:
            said = str(error.errno).encode()
        except BaseException as error:
            said = f"!{error}".encode()
        finally:
            os.write(writer, said or b"done")
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    if said.lstrip("-").isdigit():
        raise OSError(int(said), os.strerror(int(said)))
    must(said == "done", said or "the child was killed")


def read(path: str, wanted: str) -> None:
    with open(path, "rb") as file:
        must(wanted.encode() in file.read(4096), "it held something else")


# ---- files of the host -----------------------------------------------------------------------------------------------


def read_a_file_of_the_host(t: Targets) -> None:
    read(f"{t['place']}/secret", t["secret"])


def write_a_file_of_the_host(t: Targets) -> None:
    with open(f"{t['place']}/writable", "a") as file:
        file.write("x")


def list_a_directory_of_the_host(t: Targets) -> None:
    must("secret" in os.listdir(t["place"]), "it is not there")


def link_a_file_of_the_host(t: Targets) -> None:
    name = f"{t['place']}/link-{os.getpid()}"
    os.link(f"{t['place']}/secret", name)
    os.unlink(name)


def follow_a_link_out(t: Targets) -> None:
    name = f"{t['own']}/link-{os.getpid()}"
    os.symlink(t["place"], name)
    try:
        read(f"{name}/secret", t["secret"])
    finally:
        os.unlink(name)


def climb_out_by_dots(t: Targets) -> None:
    read("/.." * 40 + t["place"] + "/secret", t["secret"])


def climb_out_of_a_chroot(t: Targets) -> None:
    def act() -> None:
        cage = f"{t['own']}/cage-{os.getpid()}"
        os.mkdir(cage)
        outside = os.open("/", os.O_RDONLY)
        try:
            os.chroot(cage)
            os.fchdir(outside)
            os.chroot(".")
        finally:
            os.fchdir(outside)
            os.rmdir(cage)
        read(f"{t['place']}/secret", t["secret"])

    in_child(act)


def connect_to_a_socket_of_the_host(t: Targets) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{t['place']}/sock")


def leave_by_an_inherited_descriptor(t: Targets) -> None:
    for process in [name for name in os.listdir("/proc") if name.isdigit()] + ["self"]:
        try:
            names = os.listdir(f"/proc/{process}/fd")
        except OSError:
            continue
        for name in names:
            path = f"/proc/{process}/fd/{name}"
            try:
                if not stat.S_ISDIR(os.stat(path).st_mode) or os.readlink(path).startswith("/proc"):
                    continue
                for up in range(12):
                    if os.path.exists(path + "/.." * up + t["place"] + "/secret") or os.path.exists(path + "/secret"):
                        return
            except OSError:
                continue
    raise Refused("no descriptor leads out")


def open_by_handle(t: Targets) -> None:
    must(bool(t["handle"]), "no handle")
    handle = bytes.fromhex(t["handle"])
    beside = os.open(t["own"], os.O_RDONLY)
    try:
        descriptor = call("open_by_handle_at", beside, ctypes.create_string_buffer(handle, len(handle)), os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            must(t["secret"].encode() in file.read(), "it held something else")
    finally:
        os.close(beside)


def write_what_is_read_only(t: Targets) -> None:
    with open(f"{t['read_only']}/written", "w") as file:
        file.write("x")


def write_the_inputs(t: Targets) -> None:
    with open(f"{t['inputs']}/written", "w") as file:
        file.write("x")


def write_the_definition(t: Targets) -> None:
    with open(f"{t['definition']}/written", "w") as file:
        file.write("x")


def read_the_scratch_of_another_task(t: Targets) -> None:
    read(f"{t['volume']}/.scratch/other/tmp/secret", t["secret"])


def read_the_shared_memory_of_the_host(t: Targets) -> None:
    read(f"/dev/shm/{t['shm']}", t["secret"])


# ---- file systems that are not the run's -----------------------------------------------------------------------------


def fill_the_root(t: Targets) -> None:
    _fill("/filler")


def fill_the_devices(t: Targets) -> None:
    _fill("/dev/filler")


def _fill(path: str) -> None:
    try:
        with open(path, "wb") as file:
            file.write(bytes(1 << 20))
    finally:
        if os.path.exists(path):
            os.unlink(path)


# ---- devices ---------------------------------------------------------------------------------------------------------


def make_a_device(t: Targets) -> None:
    path = f"{t['own']}/device-{os.getpid()}"
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(*t["disk"]))
    os.unlink(path)


def read_a_disk_by_a_device_of_ones_own(t: Targets) -> None:
    path = f"{t['own']}/disk-{os.getpid()}"
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(*t["disk"]))
    try:
        read(path, t["secret"])
    finally:
        os.unlink(path)


def read_a_disk_of_the_host(t: Targets) -> None:
    read(t["disk_path"], t["secret"])


def type_into_the_terminal(t: Targets) -> None:
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.ioctl(terminal, 0x5412, b"x")
    finally:
        os.close(terminal)


# ---- processes of others ---------------------------------------------------------------------------------------------


def see_a_process_of_the_host(t: Targets) -> None:
    read(f"/proc/{t['pid']}/cmdline", t["marker"])


def signal_a_process_of_the_host(t: Targets) -> None:
    # A pid that the sandbox has as well would be its own process.
    read(f"/proc/{t['pid']}/cmdline", t["marker"])
    os.kill(t["pid"], signal.SIGUSR1)


def signal_a_process_of_the_host_unseen(t: Targets) -> None:
    os.kill(t["pid"], signal.SIGUSR1)


def slow_a_process_of_the_host(t: Targets) -> None:
    os.setpriority(os.PRIO_PROCESS, t["pid"], os.getpriority(os.PRIO_PROCESS, t["pid"]))


def read_the_environment_of_a_process(t: Targets) -> None:
    read(f"/proc/{t['pid']}/environ", t["secret"])


def read_the_memory_of_a_process(t: Targets) -> None:
    with open(f"/proc/{t['pid']}/mem", "rb") as memory:
        memory.seek(t["address"])
        must(memory.read(len(t["secret"])) == t["secret"].encode(), "it held something else")


def read_through_the_root_of_a_process(t: Targets) -> None:
    read(f"/proc/{t['pid']}/root{t['place']}/secret", t["secret"])


def read_through_the_directory_of_a_process(t: Targets) -> None:
    read(f"/proc/{t['pid']}/cwd/secret", t["secret"])


def read_through_a_descriptor_of_a_process(t: Targets) -> None:
    read(f"/proc/{t['pid']}/fd/{t['fd']}", t["secret"])


def copy_the_memory_of_a_process(t: Targets) -> None:
    buffer = ctypes.create_string_buffer(len(t["secret"]))
    local = struct.pack("QQ", ctypes.addressof(buffer), len(t["secret"]))
    remote = struct.pack("QQ", t["address"], len(t["secret"]))
    call("process_vm_readv", t["pid"], local, 1, remote, 1, 0)
    must(buffer.raw == t["secret"].encode(), "it held something else")


def trace_a_process(t: Targets) -> None:
    _trace(t["pid"])


def trace_the_first_process_of_the_sandbox(t: Targets) -> None:
    _trace(os.getppid())


def _trace(pid: int) -> None:
    call("ptrace", 0x4206, pid, 0, 0)  # SEIZE
    call("ptrace", 0x4207, pid, 0, 0)  # INTERRUPT
    os.waitpid(pid, 0x40000000)
    call("ptrace", 17, pid, 0, 0)  # DETACH


def take_a_descriptor_of_a_process(t: Targets) -> None:
    process = call("pidfd_open", t["pid"], 0)
    try:
        with os.fdopen(call("pidfd_getfd", process, t["fd"], 0), "rb") as file:
            must(t["secret"].encode() in os.pread(file.fileno(), 4096, 0), "it held something else")
    finally:
        os.close(process)


def compare_with_a_process(t: Targets) -> None:
    call("kcmp", os.getpid(), t["pid"], 1, 0, 0)


def enter_the_network_of_a_process(t: Targets) -> None:
    def act() -> None:
        namespace = os.open(f"/proc/{t['pid']}/ns/net", os.O_RDONLY)
        call("setns", namespace, NEWNET)

    in_child(act)


def attach_shared_memory_of_a_process(t: Targets) -> None:
    segment = call("shmget", t["shm_key"], 0, 0)
    libc.shmat.restype = ctypes.c_void_p
    place = libc.shmat(segment, None, 0o10000)
    must(place not in (None, ctypes.c_void_p(-1).value), "it cannot be attached")
    must(ctypes.string_at(place, len(t["secret"])) == t["secret"].encode(), "it held something else")


def read_a_key_of_the_service(t: Targets) -> None:
    buffer = ctypes.create_string_buffer(256)
    key = call("keyctl", 10, -3, b"user", b"runomics-canary", 0)
    length = call("keyctl", 11, key, buffer, 256, 0)
    must(t["secret"].encode() == buffer.raw[:length], "it held something else")


def find_the_services_environment(t: Targets) -> None:
    for process in [name for name in os.listdir("/proc") if name.isdigit()]:
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                if b"CANARY_KEY=" in file.read():
                    return
        except OSError:
            continue
    raise Refused("no environment has it")


# ---- rights ----------------------------------------------------------------------------------------------------------


def run_a_program_that_is_setuid(t: Targets) -> None:
    def act() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writer, 1)
            try:
                os.execv(t["setuid"], [t["setuid"], "-u"])
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            said = answer.read().strip()
        os.waitpid(child, 0)
        must(said == b"0", f"it ran as {said.decode()}")

    in_child(act)


def regain_capabilities(t: Targets) -> None:
    administration_and_tracing = 1 << 21 | 1 << 19

    def act() -> None:
        header = struct.pack("Ii", 0x20080522, 0)
        call("capset", header, struct.pack("6I", administration_and_tracing, administration_and_tracing, 0, 0, 0, 0))

    in_child(act)


def make_a_user_namespace(t: Targets) -> None:
    in_child(lambda: _ignore(call("unshare", NEWUSER)))


def make_a_user_namespace_by_clone3(t: Targets) -> None:
    arguments = struct.pack("8Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    child = call("clone3", arguments, len(arguments))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def make_a_mount_namespace(t: Targets) -> None:
    in_child(lambda: _ignore(call("unshare", NEWNS)))


def _ignore(value: object) -> None:
    return


def mount_a_file_system(t: Targets) -> None:
    place = f"{t['own']}/mount-{os.getpid()}"
    os.mkdir(place)
    try:
        checked(libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, None))
        checked(libc.umount2(place.encode(), 2))
    finally:
        os.rmdir(place)


def mount_the_cgroups(t: Targets) -> None:
    place = f"{t['own']}/cgroup-{os.getpid()}"
    os.mkdir(place)
    try:
        # release_agent, a program that the host's kernel runs as root, lies at its top.
        if checked_or_none(libc.mount(b"cgroup", place.encode(), b"cgroup", 0, b"pids")) is None:
            checked(libc.mount(b"cgroup2", place.encode(), b"cgroup2", 0, None))
        checked(libc.umount2(place.encode(), 2))
    finally:
        os.rmdir(place)


def checked_or_none(result: int) -> int | None:
    return None if result == -1 else result


def make_what_is_read_only_writable(t: Targets) -> None:
    path = t["read_only"].encode()
    checked(libc.mount(None, path, None, 32 | 4096 | 2 | 4, None))
    with open(f"{t['read_only']}/written", "w") as file:
        file.write("x")


def make_what_is_read_only_writable_by_attributes(t: Targets) -> None:
    attributes = struct.pack("4Q", 0, 1, 0, 0)
    call("mount_setattr", AT_FDCWD, t["read_only"].encode(), 0, attributes, len(attributes))
    with open(f"{t['read_only']}/written", "w") as file:
        file.write("x")


def copy_the_mounts(t: Targets) -> None:
    os.close(call("open_tree", AT_FDCWD, b"/", 1 | 0x8000))


def open_a_file_system(t: Targets) -> None:
    os.close(call("fsopen", b"tmpfs", 0))


# ---- the kernel ------------------------------------------------------------------------------------------------------


def open_the_core_pattern(t: Targets) -> None:
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))


def make_a_bpf_map(t: Targets) -> None:
    attributes = struct.pack("IIIII", 2, 4, 8, 1, 0) + bytes(52)
    os.close(call("bpf", 0, attributes, len(attributes)))


def watch_by_perf(t: Targets) -> None:
    event = struct.pack("IIQQQQQ", 1, 112, 0, 0, 0, 0, 1 << 5 | 1 << 6) + bytes(64)
    os.close(call("perf_event_open", event, 0, -1, -1, 0))


def handle_page_faults(t: Targets) -> None:
    os.close(call("userfaultfd", 1))


def set_up_io_uring(t: Targets) -> None:
    os.close(call("io_uring_setup", 1, ctypes.create_string_buffer(120)))


def adjust_the_clock(t: Targets) -> None:
    # ADJ_OFFSET_SINGLESHOT of nothing.
    call("clock_adjtime", 0, ctypes.create_string_buffer(struct.pack("I", 0x8001) + bytes(204)))


def add_swap(t: Targets) -> None:
    try:
        call("swapon", b"/nonexistent", 0)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def read_the_kernels_log(t: Targets) -> None:
    call("syslog", 10, 0, 0)


def be_scheduled_first(t: Targets) -> None:
    in_child(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))


def read_disks_first(t: Targets) -> None:
    in_child(lambda: _ignore(call("ioprio_set", 1, 0, 1 << 13 | 4)))


def never_be_killed_for_memory(t: Targets) -> None:
    def act() -> None:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")

    in_child(act)


def exhaust_the_processes(t: Targets) -> None:
    children = []
    try:
        for _ in range(t["processes"]):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


# ---- networks --------------------------------------------------------------------------------------------------------


def connect_to_the_hosts_loopback(t: Targets) -> None:
    socket.create_connection(("127.0.0.1", t["port"]), timeout=2).close()


def send_to_the_hosts_loopback(t: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", t["port"]))
        client.send(b"ping")
        must(client.recv(16) == b"pong", "no answer")


def connect_to_an_abstract_socket(t: Targets) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + t["abstract"])


def see_the_hosts_interfaces(t: Targets) -> None:
    must(t["interface"] in [name for _, name in socket.if_nameindex()], "it is not there")


def list_routes_by_netlink(t: Targets) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(struct.pack("IHHII", 28, 18, 0x301, 1, 0) + bytes(12))  # RTM_GETLINK, dump
        netlink.settimeout(2)
        must(t["interface"].encode() in netlink.recv(65536), "it is not there")


def speak_to_the_machine_below(t: Targets) -> None:
    with socket.socket(40, socket.SOCK_STREAM) as client:  # AF_VSOCK
        must(client.fileno() >= 0, "no socket")


def make_a_raw_socket(t: Targets) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def make_a_packet_socket(t: Targets) -> None:
    socket.socket(17, socket.SOCK_RAW, 0x300).close()


Layers = tuple[str, ...]
CAPABLE: Layers = ("seccomp", "capabilities")
OTHERS: Layers = ("pid", "capabilities")
OTHERS_CALLS: Layers = ("pid", "capabilities", "seccomp")
ALL: Layers = ("all",)

LAYERS: dict[Callable[[Targets], None], tuple[Layers | None, Layers | None]] = {
    read_a_file_of_the_host: (("tree",), ("tree",)),
    write_a_file_of_the_host: (("tree",), ("tree",)),
    list_a_directory_of_the_host: (("tree",), ("tree",)),
    link_a_file_of_the_host: (("tree",), ("tree",)),
    follow_a_link_out: (("tree",), ("tree",)),
    climb_out_by_dots: (("tree",), ("tree",)),
    climb_out_of_a_chroot: (("tree",), ("tree",)),
    connect_to_a_socket_of_the_host: (("tree",), ("tree",)),
    leave_by_an_inherited_descriptor: (("descriptors",), ("descriptors",)),
    open_by_handle: (CAPABLE, None),
    write_what_is_read_only: (("read-only",), ("read-only",)),
    write_the_inputs: (("read-only",), ("read-only",)),
    write_the_definition: (("read-only",), ("read-only",)),
    read_the_scratch_of_another_task: (("scratch",), ("scratch",)),
    read_the_shared_memory_of_the_host: (("shm",), ("shm",)),
    fill_the_root: (("frozen",), ("frozen",)),
    fill_the_devices: (("frozen",), ("frozen",)),
    make_a_device: (("capabilities",), None),
    read_a_disk_by_a_device_of_ones_own: (("capabilities", "nodev"), None),
    read_a_disk_of_the_host: (("devices",), None),
    type_into_the_terminal: (("session", "seccomp"), ("session", "seccomp")),
    see_a_process_of_the_host: (("pid",), ("pid",)),
    signal_a_process_of_the_host: (("pid",), ("pid",)),
    signal_a_process_of_the_host_unseen: (("pid",), ("pid",)),
    slow_a_process_of_the_host: (OTHERS, ("pid",)),
    read_the_environment_of_a_process: (OTHERS, ALL),
    read_the_memory_of_a_process: (OTHERS, ALL),
    read_through_the_root_of_a_process: (OTHERS, ALL),
    read_through_the_directory_of_a_process: (OTHERS, ALL),
    read_through_a_descriptor_of_a_process: (OTHERS, ALL),
    copy_the_memory_of_a_process: (OTHERS_CALLS, ALL),
    trace_a_process: (OTHERS_CALLS, ALL),
    trace_the_first_process_of_the_sandbox: (CAPABLE, CAPABLE),
    take_a_descriptor_of_a_process: (OTHERS_CALLS, ALL),
    compare_with_a_process: (OTHERS_CALLS, ALL),
    enter_the_network_of_a_process: (OTHERS_CALLS, None),
    attach_shared_memory_of_a_process: (("ipc",), ("ipc",)),
    read_a_key_of_the_service: (("seccomp",), ("seccomp",)),
    find_the_services_environment: (("environment",), ("environment",)),
    run_a_program_that_is_setuid: (ALL, None),
    regain_capabilities: (("capabilities",), ("capabilities",)),
    make_a_user_namespace: (("seccomp",), ("seccomp", "userns")),
    make_a_user_namespace_by_clone3: (("seccomp",), ("seccomp", "userns")),
    make_a_mount_namespace: (("capabilities",), ("capabilities",)),
    mount_a_file_system: (CAPABLE, (*CAPABLE, "userns")),
    mount_the_cgroups: (CAPABLE, None),
    make_what_is_read_only_writable: (CAPABLE, None),
    make_what_is_read_only_writable_by_attributes: (CAPABLE, None),
    copy_the_mounts: (CAPABLE, (*CAPABLE, "userns")),
    open_a_file_system: (CAPABLE, (*CAPABLE, "userns")),
    open_the_core_pattern: (("proc",), None),
    make_a_bpf_map: (CAPABLE, None),
    watch_by_perf: (("seccomp",), ("seccomp",)),
    handle_page_faults: (("seccomp",), ("seccomp",)),
    set_up_io_uring: (("seccomp",), ("seccomp",)),
    adjust_the_clock: (CAPABLE, None),
    add_swap: (CAPABLE, None),
    read_the_kernels_log: (CAPABLE, None),
    be_scheduled_first: (("capabilities",), None),
    read_disks_first: (("capabilities",), None),
    never_be_killed_for_memory: (("proc",), ("proc",)),
    exhaust_the_processes: (("processes",), ("processes",)),
    connect_to_the_hosts_loopback: (("network",), ("network",)),
    send_to_the_hosts_loopback: (("network",), ("network",)),
    connect_to_an_abstract_socket: (("network",), ("network",)),
    see_the_hosts_interfaces: (("network",), ("network",)),
    list_routes_by_netlink: (("network",), ("network",)),
    speak_to_the_machine_below: (("seccomp",), ("seccomp",)),
    make_a_raw_socket: (("capabilities",), ("capabilities", "userns")),
    make_a_packet_socket: (CAPABLE, (*CAPABLE, "userns")),
}
ATTACKS = {attack.__name__: attack for attack in LAYERS}


def outcomes(names: list[str], targets: Targets) -> dict[str, str]:
    """What became of each attempt: `succeeded`, or why not."""
    found = {}
    for name in names:
        began = time.monotonic()
        try:
            ATTACKS[name](targets)
            found[name] = "succeeded"
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, str(error))
        except Refused as error:
            found[name] = f"refused: {error}"
        if time.monotonic() - began > 5:
            found[name] += " (slow)"
    return found
