"""The cgroup of one task attempt: make, limit, enter, read, end, remove. One driver for each kind of host; used by the supervisor.

`v1` uses the memory, cpu, cpuacct and pids trees. `v2` uses the single tree. `inherited` reads the counters of the cgroup somebody else
made (a Slurm job's, a systemd scope's) and owns nothing. `none` owns nothing and reads nothing: the supervisor samples processes instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from . import processes

ROOT = "/sys/fs/cgroup"
PERIOD_US = 100_000
REMOVE_SECONDS = 3.0
V1_CONTROLLERS = ("cpu", "cpuacct", "pids", "memory")
"""In the order of entering: memory is charged for the shortest time to the supervisor."""
V2_CONTROLLERS = ("memory", "cpu", "pids")


class Limits(NamedTuple):
    """What an attempt may take; 0 means no limit."""

    cpus: float
    memory_bytes: int
    pids: int


class Counters(NamedTuple):
    """What an attempt took so far. None: this driver cannot tell. `memory_bytes` is the present use, `peak_bytes` the most ever."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    peak_bytes: int | None = None
    oom_kills: int = 0


class Cgroup(Protocol):
    """One attempt's cgroup. `limits_are_soft`: memory is only watched and the rest not limited at all."""

    limits_are_soft: bool

    def make(self, limits: Limits) -> None:
        """Raises: OSError when the host does not let us."""
        ...

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Where a child should be spawned. Needs no path, so that it works in any mount namespace. Raises: OSError."""
        ...

    def take_in(self, pid: int) -> None:
        """Move in a child that was spawned `inside`, if it is not. Raises: OSError."""
        ...

    def members(self) -> list[int]: ...

    def counters(self) -> Counters: ...

    def kill(self) -> None:
        """SIGKILL everything inside, again until nothing is left or nothing more can be done."""
        ...

    def remove(self) -> None:
        """Raises: OSError when it stays busy."""
        ...


def put(path: str, value: object) -> None:
    """Write `value` to a cgroup file. Raises: OSError, as the kernel answers."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def text_of(path: str) -> str:
    """The file's text; empty when it is not there: older kernels lack some files."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        text = piece = os.read(descriptor, 65536)
        while len(piece) > 4000:  # a file of the kernel gives a page at a time
            piece = os.read(descriptor, 65536)
            text += piece
        return text.decode()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _number(path: str) -> int | None:
    text = text_of(path).strip()
    return int(text) if text.isdigit() else None


def _keyed(path: str, key: str) -> int:
    for line in text_of(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def members_of(directory: str) -> list[int]:
    """The processes of the cgroup `directory`; none when it is not there."""
    return [int(line) for line in text_of(directory + "/cgroup.procs").split()]


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)


def _open_to_write(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def _kill_members(directory: str) -> None:
    """SIGKILL one by one, until the cgroup is empty or a second has passed."""
    pause = 0.0005
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        members = [pid for pid in members_of(directory) if pid != os.getpid()]
        if not members:
            return
        processes.send(members, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _kill_at_once(directory: str) -> None:
    """SIGKILL by `cgroup.kill`, where the kernel has it (5.14), else one by one."""
    try:
        put(directory + "/cgroup.kill", 1)
    except FileNotFoundError:
        _kill_members(directory)
        return
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.EOPNOTSUPP):
            raise
        return
    _kill_members(directory)


def _remove_directory(path: str) -> None:
    """rmdir(2), tried again while the kernel still lets go of the last members."""
    pause = 0.001
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def own_groups(membership: str | None = None) -> dict[str, str]:
    """Controller (empty for the single tree) → path of this process's group in its tree."""
    text = text_of("/proc/self/cgroup") if membership is None else membership
    paths = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(",") or [""]:
            paths[controller] = path.rstrip("/")
    return paths


class V1:
    """The separate trees of cgroup v1.

    A process that writes 0 to `tasks` moves itself at once; to move another, the kernel waits until no process of the host can be
    forking: 10 ms. So the supervisor enters, spawns, and leaves again.
    """

    limits_are_soft = False

    def __init__(self, parent: str, name: str, root: str = ROOT) -> None:
        self._root = root
        self._tree = {controller: f"{root}/{controller}/{parent}/{name}" for controller in V1_CONTROLLERS}
        self._doors: list[tuple[int, int]] = []

    def make(self, limits: Limits) -> None:
        for path in self._tree.values():
            _make_directory(path)
        if limits.memory_bytes:
            put(self._tree["memory"] + "/memory.limit_in_bytes", limits.memory_bytes)
            with contextlib.suppress(FileNotFoundError):
                put(self._tree["memory"] + "/memory.memsw.limit_in_bytes", limits.memory_bytes)
        if limits.cpus:
            quota_us = max(1000, round(limits.cpus * PERIOD_US))  # a new group has PERIOD_US
            put(self._tree["cpu"] + "/cpu.cfs_quota_us", quota_us)
        if limits.pids:
            put(self._tree["pids"] + "/pids.max", limits.pids)
        own = own_groups()
        for controller, path in self._tree.items():
            outside = _open_to_write(self._outside(controller, own.get(controller, "")) + "/tasks")
            self._doors.append((_open_to_write(path + "/tasks"), outside))

    def _outside(self, controller: str, path: str) -> str:
        """Our own group of that tree; in a container that shows the host's paths, the top of what we see."""
        own = f"{self._root}/{controller}{path}"
        return own if os.path.exists(own) else f"{self._root}/{controller}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        entered = []
        try:
            for door, outside in self._doors:
                os.write(door, b"0")
                entered.append(outside)
            yield
        finally:
            for outside in reversed(entered):
                os.write(outside, b"0")
            for pair in self._doors:
                os.close(pair[0])
                os.close(pair[1])
            self._doors = []

    def take_in(self, pid: int) -> None:
        return

    def members(self) -> list[int]:
        return members_of(self._tree["memory"])

    def counters(self) -> Counters:
        memory = self._tree["memory"]
        nanoseconds = _number(self._tree["cpuacct"] + "/cpuacct.usage")
        return Counters(
            None if nanoseconds is None else nanoseconds / 1e9,
            _number(memory + "/memory.usage_in_bytes"),
            _number(memory + "/memory.max_usage_in_bytes"),
            _keyed(memory + "/memory.oom_control", "oom_kill"),
        )

    def kill(self) -> None:
        # One of them is pid 1 of the container, and with it all others end, whatever they fork.
        _kill_members(self._tree["memory"])

    def remove(self) -> None:
        for path in self._tree.values():
            _remove_directory(path)


class V2:
    """The single tree of cgroup v2. `parent` is relative to the tree's root and has its controllers turned on by `delegate`."""

    limits_are_soft = False

    def __init__(self, parent: str, name: str, root: str = ROOT) -> None:
        self._path = f"{root}/{parent}/{name}"

    def make(self, limits: Limits) -> None:
        _make_directory(self._path)
        if limits.memory_bytes:
            put(self._path + "/memory.max", limits.memory_bytes)
            with contextlib.suppress(FileNotFoundError):
                put(self._path + "/memory.swap.max", 0)
            put(self._path + "/memory.oom.group", 1)
        if limits.cpus:
            put(self._path + "/cpu.max", f"{max(1000, round(limits.cpus * PERIOD_US))} {PERIOD_US}")
        if limits.pids:
            put(self._path + "/pids.max", limits.pids)

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def take_in(self, pid: int) -> None:
        put(self._path + "/cgroup.procs", pid)

    def members(self) -> list[int]:
        return members_of(self._path)

    def counters(self) -> Counters:
        return Counters(
            _keyed(self._path + "/cpu.stat", "usage_usec") / 1e6,
            _number(self._path + "/memory.current"),
            _number(self._path + "/memory.peak"),
            _keyed(self._path + "/memory.events", "oom_kill"),
        )

    def kill(self) -> None:
        _kill_at_once(self._path)

    def remove(self) -> None:
        _remove_directory(self._path)


class Absent:
    """No cgroup at all."""

    limits_are_soft = True

    def make(self, limits: Limits) -> None:
        return

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def take_in(self, pid: int) -> None:
        return

    def members(self) -> list[int]:
        return []

    def counters(self) -> Counters:
        return Counters()

    def kill(self) -> None:
        return

    def remove(self) -> None:
        return


class Inherited(Absent):
    """The cgroup this process is in already: its counters are read as differences from now on, and nothing is ours to end."""

    limits_are_soft = False

    def __init__(self, root: str = ROOT, membership: str | None = None) -> None:
        paths = own_groups(membership)
        self._memory = f"{root}/memory{paths['memory']}" if "memory" in paths else None
        self._cpuacct = f"{root}/cpuacct{paths['cpuacct']}" if "cpuacct" in paths else None
        self._unified = root + paths[""] if "" in paths and not self._memory else None
        self._first = self._now()

    def _now(self) -> Counters:
        if self._unified:
            return Counters(
                _keyed(self._unified + "/cpu.stat", "usage_usec") / 1e6,
                _number(self._unified + "/memory.current"),
                _number(self._unified + "/memory.peak"),
                _keyed(self._unified + "/memory.events", "oom_kill"),
            )
        if not self._memory:
            return Counters()
        nanoseconds = _number(self._cpuacct + "/cpuacct.usage") if self._cpuacct else None
        return Counters(
            None if nanoseconds is None else nanoseconds / 1e9,
            _number(self._memory + "/memory.usage_in_bytes"),
            _number(self._memory + "/memory.max_usage_in_bytes"),
            _keyed(self._memory + "/memory.oom_control", "oom_kill"),
        )

    def counters(self) -> Counters:
        now, first = self._now(), self._first
        cpu = None if now.cpu_seconds is None else now.cpu_seconds - (first.cpu_seconds or 0.0)
        grown = now.peak_bytes is not None and now.peak_bytes > (first.peak_bytes or 0)
        return Counters(cpu, now.memory_bytes, now.peak_bytes if grown else None, now.oom_kills - first.oom_kills)


def open_cgroup(driver: str, parent: str, name: str) -> Cgroup:
    """The cgroup `name` below `parent` by the driver of spec.json.

    Raises:
        ValueError: no such driver.
    """
    if driver == "v1":
        return V1(parent, name)
    if driver == "v2":
        return V2(parent, name)
    if driver == "inherited":
        return Inherited()
    if driver == "none":
        return Absent()
    raise ValueError(f"spec.json names the cgroup driver {driver!r}; this node knows v1, v2, inherited and none")
