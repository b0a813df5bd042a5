"""What `doctor` tries on this host for tasks, by doing it: containers, an overlay, limits. A process of its own.

Each trial is a whole attempt under a supervisor in a temporary directory beside the server's data: the same file system, the
same code as for a task.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from . import bridge, delegation, image_root, mount_view, supervisor, volume
from . import spec as specs

OOM_BYTES = 32 << 20
LOCAL_TMP_BYTES = 16 << 20
EATER = f"head -c {4 * OOM_BYTES} /dev/zero | tail -c {4 * OOM_BYTES} > /dev/null"
BUSY = "for i in 1 2; do timeout 0.4 sh -c 'while :; do :; done' & done; wait"
CPU_REMEDY = (
    "The kernel needs CPU bandwidth control (CONFIG_CFS_BANDWIDTH) and the cpu controller turned on for this service."
)
MOST_PROCESSES, WANTED_PROCESSES = 16, 64
FORKER = f"for i in $(seq {WANTED_PROCESSES}); do sleep 5 & done; exit 0"
WANTED_FILES = 4096
WANTED_WATCHES = 4096
CONTAINER_REMEDY = (
    "Tasks need bubblewrap with namespaces: as root CAP_SYS_ADMIN (in a container: --privileged), else user namespaces "
    "(Ubuntu 24.04: sysctl kernel.apparmor_restrict_unprivileged_userns=0) and an unmasked /proc."
)


def findings(parent: str, bwrap: str, directory: str) -> list[dict[str, Any]]:
    """One dictionary with the members of ports.Finding for each thing tried. `directory` lies on the file system of the data."""
    found = []
    choice = delegation.detect(parent)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=directory) as place:
        common = _common(place, bwrap, choice)
        result = _attempt(f"{place}/plain", {**common, "argv": ["/bin/true"], "cgroup": "none"})
        works = result["reason"] == "OK"
        found.append(
            _finding("task container", works, "" if works else result["message"], CONTAINER_REMEDY, required=True)
        )
        trouble = _overlay(f"{place}/overlay", common)
        found.append(
            _finding(
                "image overlay",
                not trouble,
                trouble,
                "Put the data on ext4 or XFS: an overlay's upper layer needs a file system with xattrs.",
            )
        )
        if os.geteuid() == 0:
            found.append(_users(f"{place}/users", common, shutil.which("crun")))
        if os.geteuid() == 0:
            found.append(_local_tmp(place, common))
        found.append(_limits(f"{place}/limits", common, choice))
        if choice.driver != "none":
            found.append(_cpu_limit(f"{place}/cpu", common))
            found.append(_process_limit(f"{place}/processes", common))
    found.append(_bridges())
    found.append(_files())
    found.append(_watches())
    return found


def _common(place: str, bwrap: str, choice: delegation.Choice) -> dict[str, Any]:
    os.makedirs(f"{place}/volume")
    return {
        "format": specs.FORMAT,
        "run_uuid": "probe",
        "task_id": str(os.getpid()),
        "try": 1,
        "cwd": "/mnt/workflow",
        "stdout": "stdout",
        "stderr": "stderr",
        "volume": f"{place}/volume",
        "scratch": ".scratch/probe",
        "rootless": os.geteuid() != 0,
        "network": False,
        "cpus": 1,
        "memory_bytes": OOM_BYTES,
        "pids": 64,
        "timeout_seconds": 30,
        "grace_seconds": 1,
        "cgroup": choice.driver,
        "cgroup_parent": choice.parent,
        "bwrap": bwrap,
        "host_etc": f"{place}/host-etc",
    }


def _attempt(directory: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The result of running `spec` as an attempt."""
    os.makedirs(directory)
    with open(f"{directory}/spec.json", "w") as file:
        json.dump(spec, file)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = supervisor.main(directory)
        finally:
            os._exit(code)
    os.waitpid(child, 0)
    with contextlib.suppress(OSError), open(f"{directory}/result.json") as file:
        result: dict[str, Any] = json.load(file)
        return result
    with open(f"{directory}/runtime.log") as file:
        return {"reason": "LOST", "message": file.read()[-1000:]}


def _overlay(directory: str, common: dict[str, Any]) -> str:
    """Mount an overlay as for an image and write into it; empty when that works, else what did not."""
    for name in ("lower/etc", "root"):
        os.makedirs(f"{directory}/{name}")
    with open(f"{directory}/spec.json", "w") as file:
        json.dump({**common, "argv": [], "rootfs": [f"{directory}/lower"]}, file)
    spec = specs.read(directory)
    root = volume.open_volume(spec.volume)
    for descriptor in volume.make_scratch(
        root, spec.scratch, {image_root.UPPER: 0o755, image_root.WORK: 0o755}
    ).values():
        os.close(descriptor)

    def mount_and_write() -> None:
        with mount_view.entered(None, spec):
            image_root.mount(spec, f"{directory}/root")
            with open(f"{directory}/root/etc/written", "w") as file:
                file.write("x")

    trouble = _tried_apart(mount_and_write)
    with contextlib.suppress(OSError):
        volume.remove_scratch(root, spec.scratch)
    os.close(root)
    return trouble


def _tried_apart(act: Callable[[], None]) -> str:
    """Do something in a process of its own; empty when that works, else what did not."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException as error:
            os.write(writer, str(error).encode()[:1000])
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as said:
        trouble = said.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return trouble or (f"the trial ended with {code}" if code else "")


def _users(directory: str, common: dict[str, Any], crun: str | None) -> dict[str, Any]:
    """Run a task as another user than root by crun, in a root made of the host's programs."""
    name = "users of images (crun)"
    if crun is None:
        why = "not installed: a user of an image stands for all of its users"
        return _finding(name, False, why, "Install crun (the package of that name), unless all images run as root.")
    root = f"{directory}/image"
    os.makedirs(f"{root}/usr")
    mounts = [["/usr", "/usr"]]
    for path in ("/bin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.mkdir(root + path)
            mounts.append([path, path])
    task = {"argv": ["/bin/true"], "rootfs": [root], "user": "12345:12345", "crun": crun, "device_mounts": mounts}
    result = _attempt(f"{directory}/attempt", {**common, **task, "cgroup": "none"})
    works = result["reason"] == "OK"
    return _finding(name, works, crun if works else result["message"], "Install a newer crun (1.8 is known to work).")


def _local_tmp(place: str, common: dict[str, Any]) -> dict[str, Any]:
    """A /tmp of its own that must be full at its size."""
    name = "/tmp of its own (scratchStorageMode LOCAL)"  # noqa: S108 - words
    own = {"image": f"{place}/tmp.img", "bytes": LOCAL_TMP_BYTES}  # noqa: S108 - in a directory of our own
    script = f"head -c {2 * LOCAL_TMP_BYTES} /dev/zero > $TMPDIR/x && exit 3; test -w $TMPDIR"
    result = _attempt(
        f"{place}/local-tmp",
        {**common, "argv": ["/bin/sh", "-c", script], "cgroup": "none", "memory_bytes": 0, "local_tmp": own},
    )
    works = result["reason"] == "OK"
    detail = "" if works else f"the trial ended {result['reason']}: {result['message']}"
    return _finding(name, works, detail, "It takes loop devices and mkfs.ext4 (Debian: e2fsprogs).")


def _limits(directory: str, common: dict[str, Any], choice: delegation.Choice) -> dict[str, Any]:
    name = "task limits (cgroup)"
    if choice.driver == "none":
        detail = f"memory is only sampled, cpu and processes are not limited: {choice.why_soft}"
        return _finding(name, False, detail, "Run as root, or as a systemd unit with Delegate=yes.")
    result = _attempt(directory, {**common, "argv": ["/bin/sh", "-c", EATER]})
    if result["reason"] == "OOM" and result["peak_memory_bytes"] <= OOM_BYTES:
        return _finding(name, True, f"cgroup {choice.driver} below {choice.parent}")
    detail = f"a task over its {OOM_BYTES} bytes ended {result['reason']} with peak {result.get('peak_memory_bytes')}: {result['message']}"
    return _finding(name, False, detail, "Report this with the output of: cat /proc/self/cgroup /proc/mounts")


def _cpu_limit(directory: str, common: dict[str, Any]) -> dict[str, Any]:
    """Two busy loops that may have half a CPU between them."""
    name = "task limits (cpu)"
    result = _attempt(directory, {**common, "argv": ["/bin/sh", "-c", BUSY], "cpus": 0.5, "memory_bytes": 0})
    if result["reason"] != "OK":
        return _finding(name, False, f"the trial ended {result['reason']}: {result['message']}", CPU_REMEDY)
    seconds = max(0.001, (result["stopped_ms"] - result["started_ms"]) / 1000)
    used = result["cpu_seconds"] / seconds
    detail = f"half a CPU was allowed, {used:.2f} were used"
    return _finding(name, used < 0.75, detail, CPU_REMEDY)


def _process_limit(directory: str, common: dict[str, Any]) -> dict[str, Any]:
    """A shell that wants many more processes than it may have: it must be refused one, soon."""
    name = "task limits (processes)"
    result = _attempt(
        directory, {**common, "argv": ["/bin/sh", "-c", FORKER], "pids": MOST_PROCESSES, "memory_bytes": 0}
    )
    refused = result["reason"] == "EXIT"
    detail = (
        f"at most {MOST_PROCESSES}" if refused else f"{WANTED_PROCESSES} were made where {MOST_PROCESSES} are allowed"
    )
    return _finding(name, refused, detail, "The kernel needs the pids controller (CONFIG_CGROUP_PIDS).")


def _bridges() -> dict[str, Any]:
    """A network of mode bridge, as far as it can be made in a network namespace of its own."""
    name = "network bridges"
    if os.geteuid() != 0:
        return _finding(
            name, False, "bridges need root", "Run the server as root, or define networks of mode host alone."
        )
    trouble = _tried_apart(bridge.try_out)
    with open(bridge.FORWARDING) as file:
        forwards = file.read().strip() == "1"
    if trouble or not forwards:
        return _finding(
            name, False, trouble or "net.ipv4.ip_forward is off", bridge.REMEDY if trouble else bridge.FORWARDING_REMEDY
        )
    return _finding(name, True, "runs in a VPC may have networks of mode bridge")


def _files() -> dict[str, Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= WANTED_FILES
    with open("/proc/sys/kernel/threads-max") as file:
        threads = file.read().strip()
    detail = f"open files {soft} (at most {hard}), threads on this host at most {threads}"
    return _finding(
        "process limits", enough, detail, f"Raise the hard limit of open files to {WANTED_FILES} or more (ulimit -Hn)."
    )


def _watches() -> dict[str, Any]:
    with open("/proc/sys/fs/inotify/max_user_watches") as file:
        watches = int(file.read())
    return _finding(
        "inotify watches",
        watches >= WANTED_WATCHES,
        str(watches),
        f"sysctl fs.inotify.max_user_watches={16 * WANTED_WATCHES}",
    )


def _finding(name: str, works: bool, detail: str, remedy: str = "", *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "works": works, "detail": detail, "remedy": remedy, "required": required}
