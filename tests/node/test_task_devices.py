"""A task sees the devices it was given, and no other. They are stand-ins with the numbers of /dev/null."""

from __future__ import annotations

import os
import stat

import pytest
from node_world import NodeWorld

pytestmark = pytest.mark.needs("root", "bwrap", "cgroup")


def test_a_task_has_exactly_its_devices_and_their_libraries(root_world: NodeWorld) -> None:
    nodes = []
    for number in range(2):
        node = root_world.place / f"nvidia{number}"
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        nodes.append(node)
    library = root_world.place / "libcuda.so.1"
    library.write_text("code")
    ended = root_world.run(
        "echo x > /dev/nvidia1 && ls /dev | grep nvidia; cat /opt/nvidia/libcuda.so.1; echo y > /opt/nvidia/libcuda.so.1",
        devices=[[str(nodes[1]), "/dev/nvidia1"]],
        device_mounts=[[str(library), "/opt/nvidia/libcuda.so.1"]],
    )
    assert ended.stdout == b"nvidia1\ncode"
    assert b"Read-only file system" in ended.stderr
    assert root_world.run("ls /dev | grep -c nvidia", task_id="2").stdout == b"0\n"
