"""The process that becomes bwrap: what is opened before, what is set between fork and exec. Started and waited for by the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from typing import Any, NamedTuple

from . import cgroups, containers, host_etc, image_root, linux, volume
from .containers import Descriptors
from .spec import Spec

RUNTIME_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
OOM_SCORE_ADJUSTMENT = "500"
"""When the host itself runs out of memory, a task goes before the service and the supervisors."""
MESSAGE_BYTES = 2000
ROOTFS, HOST_ETC = "rootfs", "host-etc"
"""In the attempt's directory: where an image's root is mounted, and its own snapshot of /etc where the spec names no place for them."""


class Status(NamedTuple):
    """What bwrap said on its status pipe. `init` is pid 1 of the container; `finished`: the command was reached and has ended."""

    init: int | None
    finished: bool
    error: str


class ContainerProcess:
    """One bwrap, started by the constructor in the attempt's cgroup.

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
            self._status, status = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            keep(status)
            descriptors = Descriptors(
                status=status,
                tmp=scratch[containers.TMP],
                home=scratch.get(containers.HOME),
                seccomp=None if spec.seccomp is None else keep(os.open(spec.seccomp, os.O_RDONLY | os.O_CLOEXEC)),
            )
            etc = host_etc.snapshot(
                spec.host_etc or f"{directory}/{HOST_ETC}",
                containers.hosts_text(spec),
                more=host_etc.NETWORK_NAMES if spec.network else (),
            )
            options = containers.options(spec, descriptors, containers.Root(image, etc))
            arguments = keep(_memory_file("options", b"".join(os.fsencode(part) + b"\0" for part in options)))
            command = [spec.bwrap, "--args", str(arguments), "--", *containers.inner_command(spec)]
            inherited = [arguments, *(fd for fd in descriptors if fd is not None)]
            parent = os.getpid()
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    _settle(parent, cgroup)
                    if image is not None:
                        image_root.mount(spec, image)
                    _arrange(outputs, inherited)
                    os.execve(spec.bwrap, command, RUNTIME_ENVIRONMENT)
                except BaseException as error:
                    os.write(status, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
                finally:
                    os._exit(125)
            self._stderr = os.dup(outputs[1])

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
        return Status(said.get("child-pid"), "exit-code" in said, said.get("error", ""))

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


def _memory_file(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _settle(parent: int, cgroup: cgroups.Cgroup) -> None:
    """Between fork and exec: die with the supervisor, be limited, be like a fresh process."""
    linux.die_with(parent, signal.SIGKILL)
    cgroup.enter()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(OOM_SCORE_ADJUSTMENT)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)


def _arrange(outputs: list[int], inherited: list[int]) -> None:
    os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)
    os.dup2(outputs[0], 1)
    os.dup2(outputs[1], 2)
    for descriptor in inherited:
        os.set_inheritable(descriptor, True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
