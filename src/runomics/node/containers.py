"""The bubblewrap command line of one attempt: what the task sees of the host, what it may do. Pure but for looking at the host's root.

The task sees the run's volume at /mnt/workflow, its inputs and the definition read-only below it, and either an image's root (made
writable by an overlay on the volume) or a few read-only pieces of the host's own root, which then is "the default image".
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .spec import Spec

WORKFLOW = "/mnt/workflow"
HOSTNAME = "task"
TMP, HOME = "tmp", "home"
"""Directories of an attempt's scratch: its /tmp and, on the host's root, its /root."""
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""What a task that is root may still do. With the host's network it does not get NET_BIND_SERVICE: the ports are the host's."""

HOST_DIRECTORIES = ("/usr", "/nix/store")
HOST_LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
MADE_DIRECTORIES = ("/etc", "/etc/pki", "/etc/pki/ca-trust", "/etc/pki/tls", "/etc/ssl", "/mnt")
"""bwrap makes missing parents for root alone; a task may become another user."""
HOST_ETC = (
    "R", "alternatives", "crypto-policies", "debian_version", "fonts", "group", "ImageMagick-6", "ImageMagick-7", "ld.so.cache",
    "localtime", "lsb-release", "magic", "mime.types", "nsswitch.conf", "octave", "os-release", "passwd", "perl",
    "pki/ca-trust/extracted", "pki/java", "pki/tls/certs", "pki/tls/openssl.cnf", "protocols", "rpc", "services", "ssl/certs",
    "ssl/openssl.cnf", "texmf", "timezone",
)  # fmt: skip
"""Configuration that programs below /usr read, and nothing that may hold a secret: a task that is root opens files of any mode."""
HOST_ETC_PREFIXES = ("java", "python2", "python3")
"""Debian and RHEL keep the JDK's own configuration in /etc/java-<version>: without it java does not start."""
NETWORK_ETC = ("gai.conf", "host.conf", "resolv.conf")

DEFAULT_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TMPDIR": "/tmp",  # noqa: S108 a place inside the container
}
SHM_BYTES_WITHOUT_LIMIT = 64 << 20


class Descriptors(NamedTuple):
    """Open files that bwrap inherits: directories it binds, data it reads, the pipe it reports on."""

    status: int
    hosts: int
    tmp: int
    home: int | None
    seccomp: int | None


def environment(spec: Spec) -> dict[str, str]:
    """The task's whole environment: the spec's, over the few variables every program expects."""
    return {**DEFAULT_ENVIRONMENT, **spec.env}


def inner_command(spec: Spec) -> list[str]:
    """What runs inside. stdin is opened there, because it may be a link among the inputs."""
    if spec.stdin is None:
        return spec.argv
    return ["/bin/sh", "-c", 'exec 0<"$0" "$@"', spec.stdin, *spec.argv]


def hosts_text(spec: Spec) -> str:
    """/etc/hosts of the task: its own name always resolves (a JVM asks for it)."""
    own = f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n"
    if not spec.network:
        return own
    try:
        with open("/etc/hosts", errors="replace") as file:
            return file.read() + "\n" + own
    except OSError:
        return own


def options(spec: Spec, descriptors: Descriptors, image_root: str | None) -> list[str]:
    """bwrap's options, without its own path and the command. `image_root` is the mounted root of an image, None for the host's."""
    return [
        *_namespaces(spec, image_root),
        *_rights(spec, descriptors),
        *(["--bind", image_root, "/"] if image_root else host_root(spec)),
        *_own_files(spec, descriptors, image_root),
        *_workflow(spec),
        "--json-status-fd", str(descriptors.status),
        "--chdir", spec.cwd,
        "--clearenv",
        *[part for name, value in environment(spec).items() for part in ("--setenv", name, value)],
    ]  # fmt: skip


def _namespaces(spec: Spec, image_root: str | None) -> list[str]:
    chosen = ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--hostname", HOSTNAME]
    if spec.rootless and image_root is None:
        chosen += ["--unshare-user", "--uid", "0", "--gid", "0", "--disable-userns"]
    if not spec.network:
        chosen.append("--unshare-net")
    return [*chosen, "--die-with-parent", "--new-session"]


def _rights(spec: Spec, descriptors: Descriptors) -> list[str]:
    chosen = ["--cap-drop", "ALL"]
    for name in CAPABILITIES:
        if not (spec.network and name == "NET_BIND_SERVICE"):
            chosen += ["--cap-add", "CAP_" + name]
    if descriptors.seccomp is not None:
        chosen += ["--seccomp", str(descriptors.seccomp)]
    return chosen


def host_root(spec: Spec) -> list[str]:
    """The pieces of the host's own root that make the default image, each read-only, plus the paths the operator named."""
    chosen = [part for path in MADE_DIRECTORIES for part in ("--perms", "0755", "--dir", path)]
    for path in HOST_DIRECTORIES:
        if os.path.isdir(path):
            chosen += ["--ro-bind", path, path]
    for path in HOST_LINKS:
        if os.path.islink(path):
            chosen += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            chosen += ["--ro-bind", path, path]
    names = {*HOST_ETC, *(NETWORK_ETC if spec.network else ())}
    names.update(name for name in os.listdir("/etc") if name.startswith(HOST_ETC_PREFIXES))
    for name in sorted(names):
        path = "/etc/" + name
        if os.path.exists(path):
            chosen += ["--ro-bind", path, path]
    for path in spec.host_paths:
        chosen += ["--ro-bind", path, path]
    return chosen


def _own_files(spec: Spec, descriptors: Descriptors, image_root: str | None) -> list[str]:
    shm_bytes = spec.memory_bytes or SHM_BYTES_WITHOUT_LIMIT
    chosen = ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(shm_bytes), "--tmpfs", "/dev/shm"]  # noqa: S108
    chosen += ["--bind-fd", str(descriptors.tmp), "/tmp"]  # noqa: S108 a place inside the container
    if descriptors.home is not None:
        chosen += ["--bind-fd", str(descriptors.home), "/root"]
    if image_root is None:
        return [*chosen, "--perms", "0644", "--file", str(descriptors.hosts), "/etc/hosts"]
    chosen += ["--perms", "0644", "--ro-bind-data", str(descriptors.hosts), "/etc/hosts"]
    if spec.network:
        chosen += ["--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"]
    return chosen


def _workflow(spec: Spec) -> list[str]:
    chosen = ["--bind", spec.volume, WORKFLOW]
    for source, name in ((spec.inputs, "inputs"), (spec.definition, "definition")):
        if source is not None:
            chosen += ["--ro-bind", source, f"{WORKFLOW}/{name}"]
    hidden = f"{WORKFLOW}/{spec.scratch.split('/', 1)[0]}"
    return [*chosen, "--perms", "0555", "--size", "4096", "--tmpfs", hidden, "--remount-ro", hidden]
