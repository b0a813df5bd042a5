"""Tasks in images of several layers: what the layers make together, whose rights a task has, and through which program it runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from node_world import PLAIN_USER, SYSTEM_PYTHON, NodeWorld, cgroup_paths, wait_until

from host_processes import processes_with
from image_registry import file, folder, layer, link, userland
from runomics.images import layers as image_layers

TOOLS = userland()
UPPER = layer(
    file("opt/etc/.wh..wh..opq"),
    file("opt/etc/new", "new\n"),
    file("opt/.wh.gone"),
    file("opt/changed", "after\n"),
    folder("opt/secret", 0o700),
    file("opt/secret/file", "for root\n", 0o600),
)
LOWER = layer(
    folder("opt"),
    file("opt/etc/old", "old\n"),
    file("opt/gone", "x"),
    file("opt/changed", "before\n"),
    link("sh", "bin/bash"),
)


def unpack(world: NodeWorld, *tars: bytes) -> list[str]:
    """The layers as directories, the uppermost first, unpacked by whoever supervises."""
    program = world.place / "unpacking.py"
    shutil.copy(image_layers.UNPACKING, program)
    made = []
    for tar in tars:
        target = world.place / "layers" / hashlib.sha256(tar).hexdigest()
        target.mkdir(parents=True)
        world.give(target)
        user = str(PLAIN_USER)
        as_user = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if world.plain else []
        said = subprocess.run(
            [*as_user, SYSTEM_PYTHON, "-S", "-E", "-I", str(program), str(target), str(1 << 30)],
            input=tar, capture_output=True, check=True,
        )  # fmt: skip
        assert json.loads(said.stdout)["diff_id"] == "sha256:" + target.name
        made.insert(0, str(target))
    return made


CRUN = shutil.which("crun")
with_crun = pytest.mark.needs("crun")


@pytest.mark.parametrize("runtime", ["auto", pytest.param("crun", marks=with_crun)])
def test_layers_make_one_root_in_which_upper_ones_hide_and_replace(world: NodeWorld, runtime: str) -> None:
    ended = world.run(
        "ls /opt /opt/etc; cat /opt/changed /opt/secret/file; id -u; echo $HOME; ls /tmp; echo y > /tmp/y && echo y > /usr/y && ls /usr",
        rootfs=unpack(world, TOOLS, LOWER, UPPER),
        runtime=runtime,
        crun=CRUN,
    )
    assert (ended.verdict, ended.stdout.decode().split(), ended.stderr) == (
        ("OK", 0),
        ["/opt:", "changed", "etc", "secret", "/opt/etc:", "new", "after", "for", "root", "0", "/root", "bin", "y"],
        b"",
    )


def test_an_image_without_bash_is_unfit(world: NodeWorld) -> None:
    ended = world.run("true", rootfs=unpack(world, LOWER))
    assert (ended.verdict, "has no /bin/bash" in ended.result["message"]) == (("IMAGE", None), True)
    assert list((world.volume / ".scratch").iterdir()) == []


def test_an_image_whose_user_it_does_not_know_is_unfit(world: NodeWorld) -> None:
    ended = world.run("true", rootfs=unpack(world, TOOLS), user="bob")
    assert (ended.verdict, ended.result["message"]) == (("IMAGE", None), "its user 'bob' is not in its /etc/passwd")


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("alice", "uid=1234(alice) gid=1235(alice) groups=1235(alice),1300(lab) /people/alice"),
        ("1234:lab", "uid=1234(alice) gid=1300(lab) groups=1300(lab) /people/alice"),
        ("4321", "uid=4321 gid=0(root) groups=0(root) /root"),
        ("root", "uid=0(root) gid=0(root) groups=0(root) /root"),
    ],
)
@pytest.mark.needs("crun")
def test_crun_gives_the_image_its_user(root_world: NodeWorld, user: str, told: str) -> None:
    ended = root_world.run("echo $(id) $HOME", rootfs=unpack(root_world, TOOLS), user=user, crun=CRUN)
    assert (ended.verdict, ended.stdout.decode().strip()) == (("OK", 0), told)


@pytest.mark.needs("crun")
def test_an_images_user_has_its_own_files_the_working_directory_and_no_rights(root_world: NodeWorld) -> None:
    script = """
      echo x > /people/alice/x && echo x > x && echo x > /tmp/x && stat -c %u:%g x
      ( echo x > /usr/x ) 2>/dev/null && echo usr; cat /opt/secret/file 2>/dev/null && echo secret
      while read -r line; do case $line in Cap???:*|NoNewPrivs:*|Seccomp:*) echo $line;; esac; done < /proc/self/status
      ( : 3<> /proc/sys/kernel/core_pattern ) 2>/dev/null && echo sysctl; ls /mnt/workflow/.scratch /mnt/workflow/inputs
      ( echo x > /mnt/workflow/inputs/x ) 2>/dev/null && echo inputs; ls /dev
    """
    ended = root_world.run(script, rootfs=unpack(root_world, TOOLS, LOWER, UPPER), user="alice", crun=CRUN)
    none = "0" * 16
    assert (ended.verdict, ended.stdout.decode().split("\n")[:8]) == (
        ("OK", 0),
        [
            "1234:1235",
            *(f"Cap{kind}: {none}" for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
            "NoNewPrivs: 1",
            "Seccomp: 2",
        ],
    )
    assert ended.stdout.decode().split("\n")[8:][:2] == ["/mnt/workflow/.scratch:", ""]
    assert "sda" not in ended.stdout.decode()
    assert (root_world.volume / "w" / "x").stat().st_uid == 1234


def test_without_crun_an_images_user_is_the_only_one_there_is(world: NodeWorld) -> None:
    script = "echo $(id -u) $(id -g) $HOME; stat -c %u /usr; echo x > x; echo x > /tmp/x; ls /opt/secret"
    ended = world.run(script, rootfs=unpack(world, TOOLS, LOWER, UPPER), user="alice")
    assert (ended.verdict, ended.stdout.decode().split()) == (
        ("OK", 0),
        ["1234", "1235", "/people/alice", "1234", "file"],
    )


@pytest.mark.needs("crun")
@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("exit 7", ("EXIT", 7)),
        ("bash -c 'kill -9 $$'; exit $?", ("EXIT", 137)),
        ("x=aaaaaaaa; while true; do x=$x$x; done", ("OOM", 137)),
    ],
)
def test_crun_tells_how_a_task_ended(root_world: NodeWorld, script: str, verdict: tuple[str, int]) -> None:
    ended = root_world.run(script, rootfs=unpack(root_world, TOOLS), runtime="crun", crun=CRUN, memory_bytes=64 << 20)
    assert (ended.verdict, ended.result["peak_memory_bytes"] <= 64 << 20) == (verdict, True)


@pytest.mark.needs("crun")
def test_a_command_that_is_not_there_is_the_tasks_fault_in_crun_too(root_world: NodeWorld) -> None:
    directory = root_world.prepare(
        "", rootfs=unpack(root_world, TOOLS), argv=["/bin/nothing"], runtime="crun", crun=CRUN
    )
    root_world.supervise(directory).wait(30)
    assert root_world.ended(directory).verdict == ("EXIT", 127)


@pytest.mark.needs("crun")
def test_a_task_in_crun_is_cancelled_by_term_then_killed(root_world: NodeWorld) -> None:
    script = f"trap 'echo told > told; exit 3' TERM; {root_world.say('on')}; while true; do sleep 0.1; done"
    directory = root_world.prepare(script, rootfs=unpack(root_world, TOOLS), runtime="crun", crun=CRUN)
    process = root_world.supervise(directory)
    root_world.wait_for("on")
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert root_world.ended(directory).verdict == ("CANCELLED", 3)
    assert (root_world.volume / "w" / "told").exists()
    assert sorted(path.name for path in directory.iterdir()) == [
        "pid",
        "result.json",
        "running.json",
        "runtime.log",
        "spec.json",
    ]


@pytest.mark.needs("crun")
@pytest.mark.parametrize("cgroup", ["v1", "none"])
def test_a_task_in_crun_ends_with_the_sweep_after_its_supervisor(root_world: NodeWorld, cgroup: str) -> None:
    script = "echo > on; sleep 4321"
    directory = root_world.prepare(script, rootfs=unpack(root_world, TOOLS), user="alice", crun=CRUN, cgroup=cgroup)
    process = root_world.supervise(directory)
    root_world.wait_for("w/on")
    process.kill()
    process.wait(30)
    assert processes_with("4321")
    assert root_world.supervise(directory).wait(30) == 0
    assert root_world.ended(directory).verdict == ("LOST", None)
    wait_until(lambda: not processes_with("4321"), "the container is gone")
    assert cgroup_paths(f"{root_world.place.name}.1.1") == []
    assert not (directory / "crun").exists()


def test_nothing_of_a_layer_can_make_a_user_of_the_host_root(world: NodeWorld) -> None:
    tar = layer(file("bin/su", "x", 0o6755), folder("shared", 0o2775), file("bin/plain", "x", 0o755))
    root = Path(unpack(world, tar)[0])
    modes: dict[str, Any] = {
        str(path.relative_to(root)): stat.S_IMODE(path.lstat().st_mode) for path in root.rglob("*")
    }
    assert modes == {"bin": 0o755, "bin/su": 0o755, "shared": 0o775, "bin/plain": 0o755}
    assert os.geteuid() == 0
