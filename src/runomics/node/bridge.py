"""The network of a task whose run may reach some ranges and no others: a network namespace of its own on a bridge of the host.

Entered by the supervisor while it starts the container. The filter lies in the task's own namespace, where the task, without
CAP_NET_ADMIN, cannot touch it: it does not depend on the host's own firewall, and all of it ends with the task's last process. The
host's part, a bridge and a rule for the way back, is made by whoever needs it first and removed by `forget`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import linux

OWN = "/proc/self/ns/net"
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
INSIDE = "eth0"
LOCK = "lock"
REMEDY = "Install iproute2 and nftables (apt-get install iproute2 nftables)."
FORWARDING_REMEDY = "Set it with sysctl -w net.ipv4.ip_forward=1, for good in /etc/sysctl.d."


class Bridge(NamedTuple):
    """spec.json's member `bridge`. `directory`: where supervisors keep who has which address; its path also names the bridge.

    `subnet`: the tasks' own addresses, the first of which is the bridge's. `allow`, `dns`: what tasks reach.
    """

    directory: str
    subnet: str
    allow: list[str]
    dns: list[str]

    @property
    def interface(self) -> str:
        """An interface's name is at most 15 characters; tasks' ends add a dot and a number below 1024."""
        return f"ro{zlib.crc32(self.directory.encode()):08x}"


class Refused(Exception):
    """The host does not give a task this network. The message says why and what to do."""


def read(document: dict[str, Any]) -> Bridge:
    """The member as it stands in spec.json. Raises: KeyError, TypeError."""
    return Bridge(document["directory"], document["subnet"], list(document["allow"]), list(document["dns"]))


def resolver(bridge: Bridge) -> str:
    """resolv.conf of its tasks."""
    return "".join(f"nameserver {address}\n" for address in _resolvers(bridge))


@contextlib.contextmanager
def entered(bridge: Bridge | None) -> Iterator[None]:
    """Be in a new network namespace on the bridge; what is started there stays there. Nothing happens for None.

    The task's address is this process's as long as it lives.

    Raises:
        Refused: a tool is missing, the host forwards nothing, or there is no free address.
        OSError: the kernel refuses.
    """
    if bridge is None:
        yield
        return
    host = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        number = _take_number(bridge)
        linux.unshare(linux.CLONE_NEWNET)
        try:
            own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
            linux.set_namespace(host, linux.CLONE_NEWNET)
            _connect(bridge, number, f"/proc/{os.getpid()}/fd/{own}")
            linux.set_namespace(own, linux.CLONE_NEWNET)
            os.close(own)
            _furnish(bridge, number)
            yield
        finally:
            linux.set_namespace(host, linux.CLONE_NEWNET)
    finally:
        os.close(host)


def forget(networks: str) -> list[str]:
    """Remove the host's part of every bridge below the directory `networks` that no task is on; their names."""
    gone: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(networks):
            directory = f"{networks}/{name}"
            bridge = Bridge(directory, "", [], [])
            with contextlib.suppress(OSError, Refused), _locked(directory):
                if any(_is_taken(f"{directory}/{entry}") for entry in os.listdir(directory) if entry.isdigit()):
                    continue
                if _exists(bridge.interface):
                    _run(["ip", "link", "del", bridge.interface])
                _run(["nft", "-f", "-"], f"table ip {bridge.interface}\ndelete table ip {bridge.interface}\n")
                gone.append(name)
    return gone


def try_out() -> None:
    """Make a bridge, a cable and both sets of rules in a network namespace of our own, in which this process then stays.

    Raises:
        Refused, OSError: something of it does not work here.
    """
    trial = Bridge("trial", "192.0.2.0/24", ["198.51.100.0/24"], ["198.51.100.53"])
    linux.unshare(linux.CLONE_NEWNET)
    _run(
        ["ip", "-batch", "-"], f"link add {trial.interface} type bridge\nlink add trial type veth peer name {INSIDE}\n"
    )
    _run(["nft", "-f", "-"], _way_back(trial) + _filter(trial))


# ---- addresses -----------------------------------------------------------------------------------------------------


def _split(subnet: str) -> tuple[int, int]:
    """The number of the first address, and the prefix."""
    address, _, prefix = subnet.partition("/")
    return int(struct.unpack("!I", socket.inet_aton(address))[0]), int(prefix)


def _address(subnet: str, number: int) -> str:
    first, _ = _split(subnet)
    return socket.inet_ntoa(struct.pack("!I", first + number))


def _take_number(bridge: Bridge) -> int:
    """A number from 2 on that no living supervisor has: a lock on a file of that name, which ends with this process."""
    os.makedirs(bridge.directory, mode=0o700, exist_ok=True)
    last = min(1023, (1 << (32 - _split(bridge.subnet)[1])) - 2)
    for number in range(2, last + 1):
        descriptor = os.open(f"{bridge.directory}/{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return number
    raise Refused(f"all {last - 1} addresses of {bridge.subnet} are taken by tasks: give the network a larger subnet")


def _is_taken(path: str) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """One at a time makes and removes the host's part."""
    descriptor = os.open(f"{directory}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ---- the host's part -----------------------------------------------------------------------------------------------


def _connect(bridge: Bridge, number: int, namespace: str) -> None:
    """Make the bridge unless it is there, and a cable from it into the namespace at that path."""
    with open(FORWARDING) as file:
        if file.read().strip() != "1":
            raise Refused(
                f"net.ipv4.ip_forward is off, so nothing comes from a bridge to anywhere. {FORWARDING_REMEDY}"
            )
    name = bridge.interface
    cable = f"{name}.{number}"
    with _locked(bridge.directory):
        lines = []
        if not _exists(name):
            lines += [
                f"link add {name} type bridge",
                f"addr add {_address(bridge.subnet, 1)}/{_split(bridge.subnet)[1]} dev {name}",
                f"link set {name} up",
            ]
        if _exists(cable):
            lines.append(f"link del {cable}")
        lines += [
            f"link add {cable} type veth peer name {INSIDE} netns {namespace}",
            f"link set {cable} master {name} up",
            # Tasks do not see each other, not even with a filter of the host's that lets them.
            f"link set {cable} type bridge_slave isolated on",
        ]
        _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
        _run(["nft", "-f", "-"], _way_back(bridge))


def _way_back(bridge: Bridge) -> str:
    """The host's rule: what tasks send carries the host's own address, so that answers come back. Put in place whole, as often as asked."""
    name = bridge.interface
    lines = [
        f"table ip {name}",
        f"delete table ip {name}",
        f"table ip {name} {{",
        "chain postrouting {",
        "type nat hook postrouting priority srcnat;",
        f'ip saddr {bridge.subnet} oifname != "{name}" masquerade',
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _exists(interface: str) -> bool:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


# ---- the task's part -----------------------------------------------------------------------------------------------


def _furnish(bridge: Bridge, number: int) -> None:
    """The filter first: there is no moment without it."""
    _run(["nft", "-f", "-"], _filter(bridge))
    gateway, prefix = _address(bridge.subnet, 1), _split(bridge.subnet)[1]
    lines = [
        "link set lo up",
        f"addr add {_address(bridge.subnet, number)}/{prefix} dev {INSIDE}",
        f"link set {INSIDE} up",
        f"route add default via {gateway}",
    ]
    _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")


def _filter(bridge: Bridge) -> str:
    """Out: loopback, the resolvers' port 53, the allowed ranges; the rest is refused at once. In: only answers. No IPv6."""
    lines = ["table inet tasks {", "chain out {", "type filter hook output priority filter; policy drop;"]
    lines += ['oifname "lo" accept', "ct state established,related accept"]
    for address in _resolvers(bridge):
        lines.append(f"ip daddr {address} meta l4proto {{ tcp, udp }} th dport 53 accept")
    lines += [f"ip daddr {allowed} accept" for allowed in bridge.allow]
    lines += ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited", "}", "chain in {"]
    lines += [
        "type filter hook input priority filter; policy drop;",
        'iifname "lo" accept',
        "ct state established,related accept",
    ]
    lines += ["}", "}"]
    return "\n".join(lines) + "\n"


def _resolvers(bridge: Bridge) -> list[str]:
    """The network's, or those of the host that can be reached from elsewhere."""
    if bridge.dns:
        return bridge.dns
    found = []
    with contextlib.suppress(OSError), open("/etc/resolv.conf", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver" and not words[1].startswith("127."):
                with contextlib.suppress(OSError):
                    socket.inet_aton(words[1])
                    found.append(words[1])
    return found


# ---- tools ---------------------------------------------------------------------------------------------------------


def _run(command: list[str], text: str = "") -> None:
    """Run a tool of the host on `text` as its standard input, in the network namespace we are in.

    Raises:
        Refused: it is not installed, or failed; the message holds its words.
    """
    path = next(
        (f"{place}/{command[0]}" for place in TOOLS.split(":") if os.path.exists(f"{place}/{command[0]}")), None
    )
    if path is None:
        raise Refused(f"{command[0]} is not installed. {REMEDY}")
    given, said = os.memfd_create("in", os.MFD_CLOEXEC), os.memfd_create("out", os.MFD_CLOEXEC)
    try:
        os.write(given, text.encode())
        os.lseek(given, 0, os.SEEK_SET)
        child = os.posix_spawn(
            path,
            command,
            {"PATH": TOOLS},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, at) for fd, at in ((given, 0), (said, 1), (said, 2))],
            setsigmask=(),
        )
        if os.waitpid(child, 0)[1]:
            words = os.pread(said, 1000, 0).decode(errors="replace").strip()
            raise Refused(f"{' '.join(command)} failed: {words}")
    finally:
        os.close(given)
        os.close(said)
