"""What a task tries in order to get out, and the links it lays for those who come after it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_world import NodeWorld, make_image

# Each try must do no harm to the host when it succeeds: files are opened for writing and not written.
ESCAPES = {
    "mount tmpfs": "mount -t tmpfs none /tmp",
    "remount usr": "mount -o remount,rw,bind /usr",
    "unmount proc covers": "umount /proc/sys",
    "write usr": "touch /usr/x",
    "write etc": "touch /etc/x",
    "write inputs": "touch /mnt/workflow/inputs/x",
    "write definition": "touch /mnt/workflow/definition/x",
    "block device": "mknod /tmp/disk b 254 0",
    "memory device": "mknod /tmp/mem c 1 1",
    "user namespace": "unshare -U true",
    "user namespace as another user": "setpriv --reuid 1000 unshare -Ur true",
    "mount namespace": "unshare -m true",
    "enter another namespace": "nsenter -t 1 -m true",
    "host shadow": "cat /etc/shadow",
    "host shadow through pid 1": "cat /proc/1/root/etc/shadow",
    "host home": "ls /home",
    "host root's files": "ls /root/.bashrc",
    "core pattern": ": 3<> /proc/sys/kernel/core_pattern",
    "sysrq": ": 3<> /proc/sysrq-trigger",
    "kernel messages": "dmesg",
    "host processes": "test $(ls -d /proc/[0-9]* | wc -l) -gt 12",
    "signal the host": "kill -0 $SUPERVISOR_PID",
    "sysfs": "ls /sys/kernel",
    "cgroup files": "ls /sys/fs/cgroup/memory",
    "the scratch of others": "ls /mnt/workflow/.scratch/*",
    "write over the mask of the scratch": "mv /mnt/workflow/.scratch /mnt/workflow/s",
    "move the inputs away": "mv /mnt/workflow/inputs /mnt/workflow/i",
    "trace a process": "python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, 1, 0, 0) != 0)'",
    "load a bpf program": "python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(321, 0, 0, 0) < 0)'",
    "raise a hard limit": "python3 -c 'import resource as r; r.setrlimit(r.RLIMIT_CORE, (-1, -1))'",
    "set the clock": "python3 -c 'import time as t; t.clock_settime(0, t.clock_gettime(0))'",
    "load a module": "insmod /usr/x.ko",
}


def test_no_way_out_is_open(world: NodeWorld) -> None:
    tries = [
        f'if ( {command} ) >/dev/null 2>&1 </dev/null; then echo "{name}"; fi' for name, command in ESCAPES.items()
    ]
    ended = world.run("\n".join(tries), env={"SUPERVISOR_PID": str(os.getpid())})
    assert ended.verdict[0] in ("OK", "EXIT"), ended.result
    assert ended.stdout.decode().splitlines() == []


def test_the_same_tries_are_noticed_where_they_succeed(world: NodeWorld) -> None:
    """The list above proves nothing if its form hides successes."""
    assert world.run("if ( touch /mnt/workflow/x ) >/dev/null 2>&1 </dev/null; then echo open; fi").stdout == b"open\n"


OPEN_ALL = """
import os
for top, directories, files in os.walk("/proc"):
    if top == "/proc":
        directories[:] = [name for name in directories if not name.isdigit() and name not in ("self", "thread-self")]
    for name in files:
        try:
            os.open(f"{top}/{name}", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            continue
        print(f"{top}/{name}")
print("looked at", top)
"""


def test_nothing_of_the_kernel_can_be_set_through_proc(world: NodeWorld) -> None:
    ended = world.run("", argv=["/usr/bin/python3", "-c", OPEN_ALL])
    assert [line for line in ended.stdout.decode().splitlines() if line.startswith("/proc/")] == []
    assert b"looked at /proc/" in ended.stdout


def test_a_setuid_program_gives_no_rights_back(world: NodeWorld) -> None:
    ended = world.run(
        "cp /bin/bash /tmp/b && chmod 6755 /tmp/b && grep -h -e NoNewPrivs /proc/self/status; stat -f -c %T /tmp >/dev/null;"
        "grep -q ' /tmp .*nosuid' /proc/self/mounts && echo nosuid"
    )
    assert ended.stdout.decode().split() == ["NoNewPrivs:", "1", "nosuid"]


def test_root_keeps_ten_capabilities_and_cannot_gain_others(root_world: NodeWorld) -> None:
    ended = root_world.run("grep -h -e CapPrm -e CapEff /proc/self/status")
    assert ended.stdout.decode().split() == [
        "CapPrm:",
        "00000000000405fb",
        "CapEff:",
        "00000000000405fb",
    ]


def test_only_three_descriptors_reach_the_task(world: NodeWorld) -> None:
    assert world.run("", argv=["/bin/ls", "/proc/self/fd"]).stdout.split() == [b"0", b"1", b"2", b"3"]


def test_a_task_sees_only_its_own_run(world: NodeWorld) -> None:
    ended = world.run("ls -A / /mnt /mnt/workflow; ls -d /tmp/ro-node-*")
    listing = ended.stdout.decode().split()
    assert {"work", "var", "home", "opt", "srv", "boot", "sys", "run"} & set(listing) == set()
    assert sorted(listing[listing.index("/mnt/workflow:") + 1 :]) == [".scratch", "definition", "inputs", "w"]


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of the host's loopback that accepts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_without_network_the_hosts_loopback_is_out_of_reach(world: NodeWorld, listener: int) -> None:
    assert world.run(f"exec 3<>/dev/tcp/127.0.0.1/{listener}").verdict == ("EXIT", 1)


def test_with_network_it_is_there_and_names_resolve_as_on_the_host(world: NodeWorld, listener: int) -> None:
    ended = world.run(
        f"exec 3<>/dev/tcp/127.0.0.1/{listener} && getent hosts task && cat /etc/resolv.conf", network=True
    )
    assert (ended.verdict, ended.stdout.split(b"\n")[0].split()) == (("OK", 0), [b"127.0.0.1", b"localhost", b"task"])
    assert ended.stdout.endswith(Path("/etc/resolv.conf").read_bytes())


# ---- links ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(world: NodeWorld) -> Path:
    """A directory beside the volume that the supervisor could write and must not."""
    path = world.place / "outside"
    path.mkdir()
    world.give(path)
    return path


def _lay_directory_link(world: NodeWorld, outside: Path) -> None:
    shutil.rmtree(world.volume / "w")
    (world.volume / "w").symlink_to(outside)


def _lay_file_link(world: NodeWorld, outside: Path) -> None:
    (world.volume / "w" / "stdout").symlink_to(outside / "stdout")


def _lay_pipe(world: NodeWorld, outside: Path) -> None:
    os.mkfifo(world.volume / "w" / "stdout")


def _lay_scratch_link(world: NodeWorld, outside: Path) -> None:
    (world.volume / ".scratch").symlink_to(outside)


def _lay_inputs_link(world: NodeWorld, outside: Path) -> None:
    (world.volume / "inputs").symlink_to(outside)


@pytest.mark.parametrize("lay", [_lay_directory_link, _lay_file_link, _lay_pipe, _lay_scratch_link, _lay_inputs_link])
def test_a_link_laid_by_an_earlier_task_stops_the_attempt_and_nothing_outside_is_written(
    world: NodeWorld, outside: Path, lay: object
) -> None:
    assert callable(lay)
    lay(world, outside)
    world.give(world.volume)
    ended = world.run("echo hello")
    assert ended.verdict == ("RUNTIME", None)
    assert ended.result["message"].startswith("Refused: ")
    assert list(outside.iterdir()) == []


def test_a_way_up_in_an_output_path_is_refused(world: NodeWorld) -> None:
    assert world.run("true", stdout="w/../../outside").verdict == ("RUNTIME", None)
    assert not (world.place / "outside").exists()


def test_links_in_the_scratch_are_removed_and_not_followed(world: NodeWorld, outside: Path) -> None:
    (outside / "kept").touch()
    world.give(outside)
    ended = world.run(f"ln -s {outside} /tmp/link; ln -s /etc /tmp/etc; mkdir -p /tmp/a/b/c; chmod 000 /tmp/a/b/c")
    assert ended.verdict == ("OK", 0)
    assert ([path.name for path in outside.iterdir()], list((world.volume / ".scratch").iterdir())) == (["kept"], [])


# ---- images --------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(world: NodeWorld) -> Path:
    path = make_image(world.place / "image")
    world.give(path)
    return path


def test_an_images_root_is_writable_and_stays_as_it_was(world: NodeWorld, image: Path) -> None:
    before = sorted(str(path) for path in image.rglob("*"))
    ended = world.run("touch /new /etc/new && ls / && id -u && cat /etc/passwd", rootfs=str(image))
    listing = ["bin", "dev", "etc", "lib", "lib64", "mnt", "new", "proc", "tmp", "usr"]
    assert (ended.verdict, ended.stdout.decode().split()) == (("OK", 0), [*listing, "0", "root:x:0:0::/root:/bin/bash"])
    assert sorted(str(path) for path in image.rglob("*")) == before
    assert list((world.volume / ".scratch").iterdir()) == []


def test_what_an_image_holds_is_what_runs(world: NodeWorld, image: Path) -> None:
    assert world.run("ls /usr/bin; ls /usr/share", rootfs=str(image)).verdict == ("EXIT", 2)


def test_an_images_links_lead_nowhere_on_the_host(world: NodeWorld, image: Path) -> None:
    evil = world.place / "evil"
    evil.mkdir()
    (image / "mnt").symlink_to(f"/oldroot{evil}")
    (image / "proc").symlink_to(f"/oldroot{evil}")
    (image / "etc" / "hosts").symlink_to(f"/oldroot{evil}/hosts")
    (image / "etc" / "resolv.conf").symlink_to(f"{evil}/resolv.conf")
    shutil.rmtree(image / "tmp")
    (image / "tmp").symlink_to(evil)
    world.give(evil)
    world.give(image)
    ended = world.run("echo x > /tmp/x; cat /etc/hosts; ls /mnt/workflow", rootfs=str(image), network=True)
    assert (ended.verdict, b"127.0.0.1 localhost task" in ended.stdout) == (("OK", 0), True)
    assert list(evil.iterdir()) == []


def test_an_image_task_cannot_get_out_either(world: NodeWorld, image: Path) -> None:
    script = "; ".join(
        f"if ( {command} ) 2>/dev/null; then echo '{command}'; fi"
        for command in (
            "cat /etc/shadow",
            ": 3<> /proc/sys/kernel/core_pattern",
            "echo x > /mnt/workflow/inputs/x",
            "ls /oldroot",
            "ls /proc/1/root/etc/shadow",
        )
    )
    ended = world.run(script + "; true", rootfs=str(image))
    assert (ended.verdict, ended.stdout) == (("OK", 0), b"")
