"""Layers unpacked: whatever an archive says, nothing is written outside its directory, and nothing in it is a danger to the host."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from image_registry import Entry, device, file, folder, hard_link, layer, link
from runomics.images.layers import UNPACKING

PLAIN_USER = 12345
LIMIT = 1 << 24


def unpack(target: Path, tar: bytes, *, limit: int = LIMIT, plain: bool = False) -> dict[str, Any]:
    """What the program says of `tar`."""
    source = target.parent / "layer"
    source.write_bytes(tar)
    command = [sys.executable, "-S", "-E", "-I", str(UNPACKING), str(target), str(limit)]
    if plain:
        program = target.parent / "unpacking.py"
        shutil.copy(UNPACKING, program)
        os.chown(target, PLAIN_USER, PLAIN_USER)
        user = str(PLAIN_USER)
        command = [
            "setpriv",
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
            "/usr/bin/python3",
            "-S",
            "-E",
            "-I",
            str(program),
            *command[5:],
        ]
    with source.open("rb") as content:
        done = subprocess.run(command, stdin=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and parent.name.startswith(("pytest-", "popen-", "test_")):
            parent.chmod(0o755)
    return made


def listing(root: Path) -> dict[str, str]:
    """Every entry with what it is."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = stat.filemode(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            kind = f"-> {os.readlink(path)}"
        found[str(path.relative_to(root))] = kind
    return found


@pytest.mark.parametrize("compression", ["none", "gzip", "two gzips", "zstd"])
def test_a_layer_is_unpacked_and_named_by_its_content(target: Path, compression: str) -> None:
    tar = layer(folder("a", 0o750), file("a/f", "text", 0o640), link("a/l", "../../etc/passwd"), hard_link("b", "a/f"))
    if compression == "zstd" and shutil.which("zstd") is None:
        pytest.skip("this machine has no zstd")
    packed = {
        "none": lambda: tar,
        "gzip": lambda: gzip.compress(tar),
        "two gzips": lambda: gzip.compress(tar[:1000]) + gzip.compress(tar[1000:]),
        "zstd": lambda: subprocess.run(["zstd", "-qc"], input=tar, capture_output=True, check=True).stdout,
    }[compression]()
    said = unpack(target, packed)
    assert (said["diff_id"], said["entries"]) == ("sha256:" + hashlib.sha256(tar).hexdigest(), 4)
    assert listing(target) == {"a": "drwxr-x---", "a/f": "-rw-r-----", "a/l": "-> ../../etc/passwd", "b": "-rw-r-----"}
    assert (target / "a/f").stat().st_ino == (target / "b").stat().st_ino


@pytest.mark.needs("root")
def test_owners_are_kept_by_root_and_whiteouts_are_what_overlayfs_knows(target: Path) -> None:
    unpack(
        target,
        layer(
            file("home/x", uid=1234, gid=1235),
            file("etc/.wh.gone"),
            file("opt/.wh..wh..opq"),
            file("opt/new"),
            file(".wh..wh.plnk/1.2"),
            file("var/.wh.again"),
            folder("var/again"),
        ),
    )
    assert listing(target) == {
        "etc": "drwxr-xr-x", "etc/gone": "c---------", "home": "drwxr-xr-x", "home/x": "-rw-r--r--",
        "opt": "drwxr-xr-x", "opt/new": "-rw-r--r--", "var": "drwxr-xr-x", "var/again": "drwxr-xr-x",
    }  # fmt: skip
    assert ((target / "home/x").stat().st_uid, (target / "home/x").stat().st_gid) == (1234, 1235)
    assert (target / "etc/gone").lstat().st_rdev == 0
    assert [os.getxattr(target / name, "trusted.overlay.opaque") for name in ("opt", "var/again")] == [b"y", b"y"]


@pytest.mark.needs("root")
def test_a_plain_user_owns_it_all_and_marks_it_in_the_way_a_user_may(target: Path) -> None:
    unpack(
        target,
        layer(file("a/.wh.gone"), folder("d", 0o500, uid=7), file("d/f", mode=0o000, uid=7), file("a/.wh..wh..opq")),
        plain=True,
    )
    assert listing(target) == {"a": "drwxr-xr-x", "a/gone": "c---------", "d": "drwx------", "d/f": "-rw-------"}
    assert {path.lstat().st_uid for path in target.rglob("*")} == {PLAIN_USER}
    assert os.getxattr(target / "a", "user.overlay.opaque") == b"y"


@pytest.mark.parametrize(
    "entries",
    [
        [file("../out", "x")],
        [file("/../../out", "x")],
        [link("d", ".."), file("d/out", "x")],
        [link("d", "/"), file("d/../out", "x")],
        [hard_link("out", "../../../etc/passwd")],
        [hard_link("out", "/etc/passwd")],
        [link("l", "/etc/passwd"), hard_link("l2", "l/x")],
        [file("f", "x"), file("f/out", "x")],
    ],
)
def test_an_archive_writes_nothing_outside_its_directory(target: Path, entries: list[Entry]) -> None:
    before = {path: path.lstat().st_mtime_ns for path in target.parent.iterdir() if path.name != "layer"}
    said = unpack(target, layer(*entries))
    after = {path: path.lstat().st_mtime_ns for path in target.parent.iterdir() if path.name != "layer"}
    assert set(before) == set(after)
    assert not (target.parent / "out").exists()
    assert not Path("/out").exists()
    assert "error" in said or all(
        not stat.S_ISREG(path.lstat().st_mode) or path.read_bytes() == b"x" for path in target.rglob("*")
    )


def test_links_lead_as_if_the_layer_were_the_root(target: Path) -> None:
    unpack(
        target,
        layer(
            folder("usr/lib"),
            link("lib", "/usr/lib"),
            file("lib/x", "x"),
            link("up", "../../../usr"),
            file("up/y", "y"),
        ),
    )
    assert listing(target) == {
        "lib": "-> /usr/lib", "up": "-> ../../../usr", "usr": "drwxr-xr-x",
        "usr/lib": "drwxr-xr-x", "usr/lib/x": "-rw-r--r--", "usr/y": "-rw-r--r--",
    }  # fmt: skip


def test_rights_of_others_device_nodes_and_attributes_stay_behind(target: Path) -> None:
    info, data = file("bin/su", "x", 0o6755)
    info.pax_headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.security.capability": "x"}
    unpack(target, layer((info, data), device("dev/sda"), folder("shared", 0o3777)))
    assert listing(target) == {"bin": "drwxr-xr-x", "bin/su": "-rwxr-xr-x", "dev": "drwxr-xr-x", "shared": "drwxrwxrwt"}
    assert os.listxattr(target / "bin/su") == []


def test_a_later_entry_takes_an_earlier_ones_place(target: Path) -> None:
    unpack(
        target,
        layer(
            folder("a"), file("a/f"), file("a", "now a file"), link("l", "a"), file("l", "now a file too"), folder("a")
        ),
    )
    assert listing(target) == {"a": "drwxr-xr-x", "l": "-rw-r--r--"}


def test_a_layer_that_is_too_large_is_given_up(target: Path) -> None:
    assert unpack(target, layer(file("f", bytes(2 << 20))), limit=1 << 20)["too_large"] is True
    assert unpack(target, layer(*[file(str(number)) for number in range(400)]), limit=1 << 20)["too_large"] is True


@pytest.mark.parametrize("damage", ["cut", "zeros", "garbage", "gzip cut"])
def test_a_damaged_layer_is_told_from_a_whole_one(target: Path, damage: str) -> None:
    tar = layer(file("a", os.urandom(3000)), file("b", "x"))
    whole = hashlib.sha256(tar).hexdigest()
    broken = {
        "cut": lambda: tar[:2000],
        "zeros": lambda: bytes(len(tar)),
        "garbage": lambda: os.urandom(4000),
        "gzip cut": lambda: gzip.compress(tar)[:-20],
    }[damage]()
    said = unpack(target, broken)
    assert "error" in said or said["diff_id"] != "sha256:" + whole


def test_times_and_modes_of_directories_are_those_of_the_archive(target: Path) -> None:
    info = tarfile.TarInfo("d")
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o555, 1_000_000
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(info)
        archive.addfile(*_with_content("d/f"))
    unpack(target, content.getvalue())
    status = (target / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o555, 1_000_000)


def _with_content(path: str) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info, data = file(path, "x")
    return info, io.BytesIO(data)
