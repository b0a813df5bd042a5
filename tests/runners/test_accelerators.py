"""The host's GPUs by CDI and by device nodes, and who has which. Device nodes are stand-ins with the numbers of /dev/null."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from runomics.runners.accelerators import GpuPool, open_pool


def node(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return path


def device(name: str, *nodes: str) -> dict[str, Any]:
    return {"name": name, "containerEdits": {"deviceNodes": [{"path": each} for each in nodes]}}


SPECIFICATION = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        device("0", "/dev/nvidia0"),
        device("1", "/dev/nvidia1"),
        device("GPU-1111", "/dev/nvidia1"),
        device("all", "/dev/nvidia0", "/dev/nvidia1"),
    ],
    "containerEdits": {
        "deviceNodes": [{"path": "/dev/nvidiactl", "hostPath": "/dev/nvidiactl"}],
        "mounts": [{"hostPath": "/usr/lib/libcuda.so.1", "containerPath": "/usr/lib/libcuda.so.1", "options": ["ro"]}],
        "env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["update-ldcache"]}],
    },
}
YAML = """cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
  - name: "0"
    containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}
"""


def pool_of(directory: Path, **files: str) -> GpuPool:
    cdi = directory / "cdi"
    cdi.mkdir()
    for name, text in files.items():
        (cdi / name.replace("_", ".")).write_text(text)
    return open_pool(directory, cdi=[directory / "none", cdi], nodes=directory / "dev")


def test_each_gpu_of_a_specification_counts_once_however_it_is_named(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, nvidia_json=json.dumps(SPECIFICATION))
    assert ([gpu.name for gpu in pool.gpus], pool.total, pool.free()) == (["0", "1"], 2, 2)


def test_a_specification_may_be_yaml_and_one_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    pool = pool_of(
        tmp_path, nvidia_yaml=YAML, broken_json="{", other_yaml="kind: vendor.com/fpga\ndevices: [{name: x}]"
    )
    assert [gpu.name for gpu in pool.gpus] == ["0"]


def test_an_attempt_has_exactly_its_gpus_and_what_goes_with_them(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, nvidia_json=json.dumps(SPECIFICATION))
    first, second = tmp_path / "first", tmp_path / "second"
    pool.take(first, 1)
    pool.take(first, 1)
    pool.take(second, 1)
    assert pool.members(first) == {
        "gpus": ["0"],
        "devices": [["/dev/nvidia0", "/dev/nvidia0"], ["/dev/nvidiactl", "/dev/nvidiactl"]],
        "device_mounts": [["/usr/lib/libcuda.so.1", "/usr/lib/libcuda.so.1"]],
        "device_hooks": SPECIFICATION["containerEdits"]["hooks"],  # type: ignore[index]
        "env": {"NVIDIA_VISIBLE_DEVICES": "void"},
    }
    assert (pool.members(second)["gpus"], pool.free()) == (["1"], 0)
    with pytest.raises(LookupError, match="1 GPUs are wanted and 0 are free"):
        pool.take(tmp_path / "third", 1)
    pool.release(first)
    pool.release(first)
    pool.take(tmp_path / "third", 1)
    assert pool.members(tmp_path / "third")["gpus"] == ["0"]


@pytest.mark.needs("root")
def test_without_a_specification_the_device_nodes_are_the_gpus(tmp_path: Path) -> None:
    nodes = tmp_path / "dev"
    for name in ("nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm"):
        node(nodes, name)
    (nodes / "nvidia2").write_text("no device")
    pool = pool_of(tmp_path)
    assert [gpu.name for gpu in pool.gpus] == ["0", "10"]
    pool.take(tmp_path, 2)
    assert pool.members(tmp_path)["devices"] == [
        [f"{nodes}/nvidia0", "/dev/nvidia0"],
        [f"{nodes}/nvidiactl", "/dev/nvidiactl"],
        [f"{nodes}/nvidia-uvm", "/dev/nvidia-uvm"],
        [f"{nodes}/nvidia10", "/dev/nvidia10"],
    ]


def test_a_host_without_gpus_has_none(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    assert (pool.total, pool.free(), pool.members(tmp_path)) == (0, 0, {})


def test_a_new_server_knows_who_has_what_before_it_adopts_anybody(tmp_path: Path) -> None:
    running = tmp_path / "attempts" / "u" / "1.1"
    ended, odd = (tmp_path / "runs" / "u" / "tasks" / name for name in ("2.1", "3.1"))
    for directory, names in ((running, ["1"]), (ended, ["0"]), (odd, ["7"])):
        directory.mkdir(parents=True)
        (directory / "spec.json").write_text(json.dumps({"gpus": names}))
    (ended / "result.json").write_text("{}")
    pool = pool_of(tmp_path, nvidia_json=json.dumps(SPECIFICATION))
    assert (pool.held, pool.free()) == ({running: ("1",)}, 1)
    pool.take(tmp_path / "new", 1)
    assert pool.members(tmp_path / "new")["gpus"] == ["0"]
