"""The bwrap of one attempt: what it inherits, how it is started and let go on. Started and waited for by the supervisor.

It is spawned, not forked: a fork of the supervisor would copy its memory for a moment, a third of a supervisor's whole cost. What a
fork would do before exec is done from outside, while bwrap waits for the end of its options, which come through a pipe. When the
supervisor dies before it has written them, bwrap finds none, and no command in an empty root.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import time
from typing import Any, NamedTuple

from . import bridge, cgroups, containers, host_etc, image_root, volume
from .containers import Descriptors
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
ROOTFS, HOST_ETC = "rootfs", "host-etc"
"""In the attempt's directory: where an image's root is mounted, and its own snapshot of /etc where the spec names no place for them."""


class Status(NamedTuple):
    """What bwrap said on its status pipe. `init` is pid 1 of the container; `finished`: the command was reached and has ended."""

    init: int | None
    finished: bool


class ContainerProcess:
    """One bwrap, spawned by the constructor; it does nothing before `release`.

    Raises:
        OSError, volume.Refused: it cannot be started; nothing is left running.
    """

    def __init__(self, directory: str, spec: Spec, cgroup: cgroups.Cgroup, root: int) -> None:
        """`root` is a descriptor of the run's volume; `directory` the attempt's own, out of reach of tasks."""
        self._said = b""
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
            if image is not None:
                image_root.mount(spec, image)
            self._status, status = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            keep(status)
            descriptors = Descriptors(
                status=status,
                tmp=scratch[containers.TMP],
                home=scratch.get(containers.HOME),
                seccomp=None if spec.seccomp is None else keep(os.open(spec.seccomp, os.O_RDONLY | os.O_CLOEXEC)),
            )
            place = spec.host_etc or f"{directory}/{HOST_ETC}"
            looks = host_etc.recent_look(time.monotonic())
            names = None if spec.bridge is None else bridge.resolver(spec.bridge)
            etc = host_etc.snapshot(
                place, containers.hosts_text(spec), looks, network=spec.network, resolver=names
            )
            self._options = containers.options(spec, descriptors, containers.Root(image, etc))
            options, self._options_pipe = os.pipe2(os.O_CLOEXEC)
            keep(options)
            inherited = [options, *(fd for fd in descriptors if fd is not None)]
            with cgroup.inside():
                self.pid = _spawn(spec, outputs, inherited)
            self._stderr = os.dup(outputs[1])

    def release(self, cgroup: cgroups.Cgroup) -> None:
        """Let bwrap go on, in the attempt's cgroup.

        Raises:
            OSError: it cannot enter, or there are more options than a pipe takes; it is killed then.
        """
        try:
            cgroup.take_in(self.pid)
            with contextlib.suppress(OSError):
                cgroups.put(f"/proc/{self.pid}/oom_score_adj", OOM_SCORE_ADJUSTMENT)
            content = b"".join(os.fsencode(part) + b"\0" for part in self._options)
            if len(content) > PIPE_BYTES:
                fcntl.fcntl(self._options_pipe, F_SETPIPE_SZ, len(content))
            # All in one write, which a signal cannot part: half of the options must not be taken for all.
            os.write(self._options_pipe, content)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            os.close(self._options_pipe)

    def status(self) -> Status:
        """What bwrap has said so far; never waits."""
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
        return Status(said.get("child-pid"), "exit-code" in said)

    def own_words(self) -> str:
        """The last lines on standard error: bwrap's own when it failed before the command was reached."""
        size = os.fstat(self._stderr).st_size
        text = os.pread(self._stderr, MESSAGE_BYTES, max(0, size - MESSAGE_BYTES))
        return text.decode(errors="replace").strip()

    def close(self) -> None:
        """Let go of the descriptors; the process is not touched."""
        os.close(self._status)
        os.close(self._stderr)


def _open_output(root: int, path: str | None) -> int:
    if path is None:
        return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return volume.open_output(root, path)


def _make_places(root: int, spec: Spec) -> None:
    """bwrap mounts on these; it must find directories, not links a task laid."""
    for source, name in ((spec.inputs, "inputs"), (spec.definition, "definition")):
        if source is not None:
            os.close(volume.open_or_make(root, name, 0o755))


def _spawn(spec: Spec, outputs: list[int], inherited: list[int]) -> int:
    """Start bwrap like a fresh process: default signals, no core files, the usual umask; its options come from the first descriptor."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    umask = os.umask(0o022)
    try:
        return os.posix_spawn(
            spec.bwrap,
            [spec.bwrap, "--args", str(inherited[0]), "--", *containers.inner_command(spec)],
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
