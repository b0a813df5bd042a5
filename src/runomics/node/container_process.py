"""The bwrap or crun of one attempt: what it inherits, how it is started and let go on. Started and waited for by the supervisor.

It is spawned, not forked: a fork of the supervisor would copy its memory for a moment, a third of a supervisor's whole cost. What a
fork would do before exec is done from outside, while the program waits for the end of its options (crun: its configuration), which come
through a pipe. When the supervisor dies before it has written them, bwrap finds none, and no command in an empty root; crun gives up.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import time
from typing import Any, NamedTuple

from . import bridge, cgroups, containers, crun, host_etc, image_root, image_user, linux, local_tmp, volume
from .containers import Descriptors, Root
from .image_user import User
from .spec import Spec

RUNTIME_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
MARK = "RUNOMICS_ATTEMPT"
"""In bwrap's own environment: by it a sweep finds a bwrap that has not come as far as to have the attempt's /tmp."""
F_SETPIPE_SZ = 1031
PIPE_BYTES = 65536
"""What a pipe takes at once when it is made."""
OOM_SCORE_ADJUSTMENT = "500"
"""When the host itself runs out of memory, a task goes before the service and the supervisors."""
MESSAGE_BYTES = 2000
LIMIT_SECONDS = 30.0
ROOTFS, HOST_ETC, LOCAL_TMP = "rootfs", "host-etc", "tmp"
"""In the attempt's directory: where an image's root is mounted, and its own snapshot of /etc where the spec names no place for them."""


SHELL = "/bin/bash"
ROOT_USER = User(0, 0, [], None)


class ImageUnfit(Exception):
    """The task cannot run in its image. The message says why."""


class Status(NamedTuple):
    """What the program said. `own`: its own processes, which no signal is for; `reached`: the task's command was started."""

    own: frozenset[int]
    reached: bool


class ContainerProcess:
    """One bwrap or crun, spawned by the constructor; it does nothing before `release`.

    Raises:
        OSError, volume.Refused, ImageUnfit: it cannot be started; nothing is left running.
    """

    def __init__(self, directory: str, spec: Spec, cgroup: cgroups.Cgroup, root: int) -> None:
        """`root` is a descriptor of the run's volume; `directory` the attempt's own, out of reach of tasks."""
        self._said = b""
        self._directory = directory
        self._pids = spec.pids
        self._block: int | None = None
        with contextlib.ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            outputs = [keep(_open_output(root, path)) for path in (spec.stdout, spec.stderr)]
            _make_places(root, spec)
            image = None
            directories = {containers.TMP: 0o1777}
            if spec.rootfs is None:
                directories[containers.HOME] = 0o700
            else:
                directories.update({image_root.UPPER: 0o755, image_root.WORK: 0o755})
                image = f"{directory}/{ROOTFS}"
                os.makedirs(image, exist_ok=True)
            scratch = {name: keep(fd) for name, fd in volume.make_scratch(root, spec.scratch, directories).items()}
            self.local_tmp: int | None = None
            if spec.local_tmp is not None:
                top = local_tmp.mount(spec.local_tmp.image, spec.local_tmp.bytes, f"{directory}/{LOCAL_TMP}")
                scratch[containers.TMP] = self.local_tmp = top
            user = ROOT_USER
            if image is not None:
                image_root.mount(spec, image)
                user = _user(spec, image)
            self._is_crun = image is not None and _wants_crun(spec, user)
            if user.uid:
                # In bubblewrap's namespace of one id, that user is whoever runs it.
                uid, gid = (user.uid, user.gid) if self._is_crun else (os.geteuid(), os.getegid())
                image_user.own_directory(root, os.path.relpath(spec.cwd, containers.WORKFLOW), uid, gid)
            self._status, status = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            keep(status)
            block: int | None = None
            if containers.limits_processes(spec):
                block, self._block = os.pipe2(os.O_CLOEXEC)
                keep(block)
            descriptors = Descriptors(
                status=status,
                tmp=scratch[containers.TMP],
                home=scratch.get(containers.HOME),
                seccomp=None if spec.seccomp is None else keep(os.open(spec.seccomp, os.O_RDONLY | os.O_CLOEXEC)),
                block=block,
            )
            place = spec.host_etc or f"{directory}/{HOST_ETC}"
            looks = host_etc.recent_look(time.monotonic())
            names = None if spec.bridge is None else bridge.resolver(spec.bridge)
            etc = host_etc.snapshot(place, containers.hosts_text(spec), looks, network=spec.network, resolver=names)
            options, self._options_pipe = os.pipe2(os.O_CLOEXEC)
            keep(options)
            if image is not None and self._is_crun:
                files = crun.Files(directory, image, etc)
                linux.mount(f"/proc/self/fd/{descriptors.tmp}", f"{image}/{containers.TMP}", None, linux.MS_BIND, None)
                crun.hide_cgroups()
                self._content = crun.configuration(spec, files, user)
                command = [str(spec.crun), *crun.arguments(spec, files, options)]
                inherited = [options]
            else:
                chosen = containers.options(spec, descriptors, Root(image, etc, user))
                self._content = b"".join(os.fsencode(part) + b"\0" for part in chosen)
                command = [spec.bwrap, spec.bwrap, "--args", str(options), "--", *containers.inner_command(spec)]
                inherited = [options, *(fd for fd in descriptors if fd is not None)]
            with cgroup.inside():
                self.pid = _spawn(spec, command, outputs, inherited)
            self._stderr = os.dup(outputs[1])

    def release(self, cgroup: cgroups.Cgroup) -> None:
        """Let it go on, in the attempt's cgroup.

        Raises:
            OSError: it cannot enter, or there are more options than a pipe takes; it is killed then.
        """
        try:
            cgroup.take_in(self.pid)
            with contextlib.suppress(OSError):
                cgroups.put(f"/proc/{self.pid}/oom_score_adj", OOM_SCORE_ADJUSTMENT)
            if len(self._content) > PIPE_BYTES:
                fcntl.fcntl(self._options_pipe, F_SETPIPE_SZ, len(self._content))
            # All in one write, which a signal cannot part: half of the options must not be taken for all.
            os.write(self._options_pipe, self._content)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            os.close(self._options_pipe)
        if self._block is not None:
            try:
                self._limit_processes(self._block)
            except OSError:
                # At the end of this pipe it would go on without a limit.
                os.kill(self.pid, signal.SIGKILL)
                raise
            finally:
                os.close(self._block)

    def _limit_processes(self, block: int) -> None:
        """Limit the container from outside, once bwrap has made it and before the command: a limit counts from its user namespace on."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (inside := self.status().own - {self.pid}):
            # Hung up: bwrap has failed, and its words say of what.
            events = select.poll()
            events.register(self._status, select.POLLIN)
            if dict(events.poll(1000)).get(self._status, 0) & select.POLLHUP:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"bwrap has made no container in {LIMIT_SECONDS:g} s")
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(min(inside), resource.RLIMIT_NPROC, (self._pids, self._pids))
        os.write(block, b"0")

    def status(self) -> Status:
        """What it has said so far; never waits."""
        if self._is_crun:
            # pid 1 is the task's command itself.
            return Status(
                frozenset({self.pid}), os.path.exists(f"{self._directory}/{crun.PID}") and not self._complaint()
            )
        with contextlib.suppress(BlockingIOError):
            while True:
                piece = os.read(self._status, 4096)
                if not piece:
                    break
                self._said += piece
        said: dict[str, Any] = {}
        for line in self._said.splitlines():
            with contextlib.suppress(ValueError):
                said.update(json.loads(line))
        own = {self.pid, said["child-pid"]} if "child-pid" in said else {self.pid}
        return Status(frozenset(own), "exit-code" in said)

    def own_words(self) -> str:
        """Its own last words, when it failed before the command was reached; bwrap's are the last lines on standard error."""
        if self._is_crun:
            return self._complaint()
        size = os.fstat(self._stderr).st_size
        text = os.pread(self._stderr, MESSAGE_BYTES, max(0, size - MESSAGE_BYTES))
        return text.decode(errors="replace").strip()

    def _complaint(self) -> str:
        try:
            with open(f"{self._directory}/{crun.LOG}", errors="replace") as file:
                return file.read(MESSAGE_BYTES).strip()
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        """Let go of the descriptors; the process is not touched."""
        os.close(self._status)
        os.close(self._stderr)
        if self.local_tmp is not None:
            os.close(self.local_tmp)


def _open_output(root: int, path: str | None) -> int:
    if path is None:
        return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return volume.open_output(root, path)


def _make_places(root: int, spec: Spec) -> None:
    """bwrap mounts on these; it must find directories, not links a task laid."""
    for source, name in ((spec.inputs, "inputs"), (spec.definition, "definition")):
        if source is not None:
            os.close(volume.open_or_make(root, name, 0o755))


def _user(spec: Spec, image: str) -> User:
    """Who the task is in its image; and see to it that it can be run there at all."""
    if spec.argv[0] == SHELL and not image_root.has_program(image, SHELL):
        raise ImageUnfit(f"it has no {SHELL}, with which every task's command is run")
    if spec.user in ("", "0", "root", "0:0", "root:root"):
        return ROOT_USER
    try:
        return image_user.find(image, spec.user)
    except image_user.NoSuchUser as error:
        raise ImageUnfit(str(error)) from error


def _wants_crun(spec: Spec, user: User) -> bool:
    if spec.crun is None or spec.rootless:
        return False
    return spec.runtime == "crun" or (spec.runtime == "auto" and user.uid != 0)


def _spawn(spec: Spec, command: list[str], outputs: list[int], inherited: list[int]) -> int:
    """Start it like a fresh process: default signals, no core files, the usual umask. `command` is its path and its arguments."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    umask = os.umask(0o022)
    try:
        return os.posix_spawn(
            command[0],
            command[1:],
            {"PATH": RUNTIME_PATH, MARK: spec.cgroup_name},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, outputs[0], 1),
                (os.POSIX_SPAWN_DUP2, outputs[1], 2),
                # Onto itself: that makes a descriptor inheritable.
                *[(os.POSIX_SPAWN_DUP2, descriptor, descriptor) for descriptor in inherited],
            ],
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT),
        )
    finally:
        os.umask(umask)
