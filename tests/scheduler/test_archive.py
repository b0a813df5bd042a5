"""Archives that nobody vouches for, made by hand where no honest tool makes them, and by Debian's zip where one does."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import stat
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runomics.domain.packaging import ArchiveLimits, Refused
from runomics.scheduler import archive

LIMITS = ArchiveLimits()
WDL = b"version 1.0\nworkflow w {}\n"

Unpack = Callable[..., list[str]]


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as made:
        for name, content in entries:
            made.writestr(name, content)
    return data.getvalue()


def info(name: str, mode: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.create_system = 3
    made.external_attr = mode << 16
    return made


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    def run(data: bytes, limits: ArchiveLimits = LIMITS) -> list[str]:
        source = tmp_path / "archive.zip"
        source.write_bytes(data)
        shutil.rmtree(tmp_path / "tree", ignore_errors=True)
        (tmp_path / "tree").mkdir()
        return archive.unpack(source, tmp_path / "tree", limits)

    return run


def refusal(unpack: Unpack, data: bytes, limits: ArchiveLimits = LIMITS) -> str:
    with pytest.raises(Refused) as caught:
        unpack(data, limits)
    return str(caught.value)


def test_files_come_out_as_they_went_in(unpack: Unpack, tmp_path: Path) -> None:
    names = unpack(zipped(("main.wdl", WDL), ("tasks/deep/a.wdl", b"a" * 600_000), ("empty", b"")))
    assert names == ["empty", "main.wdl", "tasks/deep/a.wdl"]
    tree = tmp_path / "tree"
    assert {name: (tree / name).read_bytes() for name in names} == {
        "empty": b"",
        "main.wdl": WDL,
        "tasks/deep/a.wdl": b"a" * 600_000,
    }


def test_modes_are_ours_and_programs_can_be_run_whatever_else_the_archive_and_the_umask_say(
    unpack: Unpack, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        unpack(zipped((info("bin/tool.sh", stat.S_IFREG | 0o4777), b"x"), (info("locked.wdl", stat.S_IFREG), WDL)))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tree").rglob("*")}
    assert modes == {"bin": 0o755, "tool.sh": 0o755, "locked.wdl": 0o644}


def test_names_looks_without_unpacking(tmp_path: Path) -> None:
    source = tmp_path / "archive.zip"
    source.write_bytes(zipped(("b.wdl", WDL), ("a/", b""), ("a/c.wdl", WDL)))
    assert archive.names(source, LIMITS) == ["a/c.wdl", "b.wdl"]


@pytest.mark.parametrize(
    "data",
    [b"", WDL, b"\x1f\x8b" + b"gzip" * 40, b"PK\x05\x06", os.urandom(200)],
    ids=["empty", "wdl", "gzip", "cut", "noise"],
)
def test_what_is_no_zip_is_refused(unpack: Unpack, data: bytes) -> None:
    assert refusal(unpack, data).startswith("Invalid zip file: ")


def test_a_cut_archive_is_refused(unpack: Unpack) -> None:
    whole = zipped(("main.wdl", WDL * 100))
    for length in range(0, len(whole), 7):
        assert refusal(unpack, whole[:length]).startswith("Invalid zip file: ")


def test_damaged_content_is_refused(unpack: Unpack) -> None:
    data = bytearray(zipped(("main.wdl", WDL), compression=zipfile.ZIP_STORED))
    at = data.index(WDL)
    data[at] ^= 1
    assert "bad CRC-32" in refusal(unpack, bytes(data))


def test_random_damage_never_ends_in_another_error(unpack: Unpack) -> None:
    whole = zipped(("main.wdl", WDL * 20), ("tasks/a.wdl", WDL))
    chance = random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(Refused):
            unpack(bytes(data))


@pytest.mark.parametrize("name", ["../out.wdl", "/out.wdl", "a/../../out.wdl", "..\\out.wdl", "C:\\out.wdl"])
def test_an_entry_that_climbs_out_is_refused_and_writes_nothing(unpack: Unpack, tmp_path: Path, name: str) -> None:
    assert f"'{name}'" in refusal(unpack, zipped(("main.wdl", WDL), (name, b"x")))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive.zip", "tree"]


def test_a_name_with_a_hidden_end_is_refused(unpack: Unpack) -> None:
    data = zipped(("good.wdlXevil", WDL)).replace(b"good.wdlXevil", b"good.wdl\0evil")
    assert "control character" in refusal(unpack, data)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(unpack: Unpack, kind: int) -> None:
    message = refusal(unpack, zipped(("main.wdl", WDL), (info("link.wdl", kind | 0o777), b"/etc/shadow")))
    assert message.startswith("The archive entry 'link.wdl' is a ")


@pytest.mark.skipif(shutil.which("zip") is None, reason="this machine has no zip")
def test_a_link_stored_by_zip_is_refused(unpack: Unpack, tmp_path: Path) -> None:
    (tmp_path / "main.wdl").write_bytes(WDL)
    (tmp_path / "link.wdl").symlink_to("/etc/passwd")
    subprocess.run(["zip", "-qy", "made.zip", "main.wdl", "link.wdl"], cwd=tmp_path, check=True)
    assert "'link.wdl' is a symbolic link" in refusal(unpack, (tmp_path / "made.zip").read_bytes())


def test_encrypted_and_strangely_compressed_entries_are_refused(unpack: Unpack) -> None:
    assert "not compressed by 'deflate'" in refusal(unpack, zipped(("main.wdl", WDL), compression=zipfile.ZIP_LZMA))
    data = bytearray(zipped(("main.wdl", WDL)))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "'main.wdl' is encrypted" in refusal(unpack, bytes(data))


# ---- bombs and lies ----------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_before_it_is_unpacked(unpack: Unpack, tmp_path: Path) -> None:
    data = zipped(("main.wdl", WDL), ("zeros", bytes(64 * 1024 * 1024)))
    assert len(data) < 100_000
    assert "decompression bomb" in refusal(unpack, data)
    assert list((tmp_path / "tree").iterdir()) == []


def _declare(data: bytes, *, size_bytes: int) -> bytes:
    """Change what the archive declares of its only entry, in both places, to another uncompressed size."""
    changed = bytearray(data)
    struct.pack_into("<L", changed, changed.index(b"PK\x03\x04") + 22, size_bytes)
    struct.pack_into("<L", changed, changed.index(b"PK\x01\x02") + 24, size_bytes)
    return bytes(changed)


def test_an_entry_larger_than_it_declares_is_cut_off_at_what_it_declared(unpack: Unpack, tmp_path: Path) -> None:
    data = _declare(zipped(("zeros", bytes(4 * 1024 * 1024))), size_bytes=1000)
    assert "CRC-32" in refusal(unpack, data)
    assert (tmp_path / "tree" / "zeros").stat().st_size <= 1000


def test_an_entry_smaller_than_it_declares_is_refused(unpack: Unpack) -> None:
    message = refusal(unpack, _declare(zipped(("main.wdl", WDL)), size_bytes=5000))
    assert message == f"Invalid zip file: the entry 'main.wdl' has {len(WDL)} bytes and declares 5000."


def _zip64_lie(size_bytes: int) -> bytes:
    """An archive whose 64-bit sizes, which win over the others, are not those of its content."""
    content = zipfile.zlib.compress(bytes(2 * 1024 * 1024), 9)[2:-4]
    crc = zipfile.crc32(bytes(2 * 1024 * 1024))
    extra = struct.pack("<HHQQ", 1, 16, size_bytes, len(content))
    name = b"main.wdl"
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 8, 0, 33, crc, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra))
    central = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 8, 0, 33, crc, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra), 0, 0, 0, 0, 0
    )
    head = local + name + extra + content
    directory = central + name + extra
    return head + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(head), 0)


def test_64_bit_sizes_that_lie_are_found_out(unpack: Unpack, tmp_path: Path) -> None:
    assert unpack(_zip64_lie(2 * 1024 * 1024)) == ["main.wdl"], "the same archive with honest sizes is fine"
    assert "CRC-32" in refusal(unpack, _zip64_lie(10))
    assert (tmp_path / "tree" / "main.wdl").stat().st_size <= 10
    assert "declares 3000000" in refusal(unpack, _zip64_lie(3_000_000))
    assert f"unpacks to {2**63} bytes; the limit is" in refusal(unpack, _zip64_lie(2**63))


def test_bytes_are_counted_as_they_come_whatever_was_declared(unpack: Unpack, tmp_path: Path) -> None:
    limits = ArchiveLimits(unpacked_bytes=1_000_000)
    many = zipped(*((f"{number}.wdl", os.urandom(1000)) for number in range(900)))
    assert len(unpack(many, limits)) == 900
    assert "the limit is 1000000" in refusal(
        unpack, zipped(*((f"{n}.wdl", os.urandom(1000)) for n in range(1001))), limits
    )


def test_a_directory_too_large_to_be_read_is_refused_before_it_is(unpack: Unpack) -> None:
    data = zipped(*((f"{number:06}", b"") for number in range(1000)), compression=zipfile.ZIP_STORED)
    assert "directory takes 52000 bytes; the limit is 10000" in refusal(
        unpack, data, ArchiveLimits(directory_bytes=10_000)
    )


def test_a_directory_hidden_behind_64_bit_fields_is_bounded_too(unpack: Unpack) -> None:
    directory = b"PK\x01\x02" * 50_000
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
    for small in (46, 0xFFFFFFFF):
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, small, 0, 0)
        message = refusal(unpack, directory + record + locator + end, ArchiveLimits(directory_bytes=10_000))
        assert "directory takes 200000 bytes" in message


# ---- names -------------------------------------------------------------------------------------------------------


def _renamed(flags: int, raw: bytes) -> bytes:
    placeholder = b"N" * len(raw)
    data = bytearray(zipped((placeholder.decode(), WDL)).replace(placeholder, raw))
    struct.pack_into("<H", data, data.index(b"PK\x03\x04") + 6, flags)
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 8, flags)
    return bytes(data)


def test_utf8_names_are_read_with_and_without_the_flag(unpack: Unpack) -> None:
    raw = "größe-日本.wdl".encode()
    assert unpack(_renamed(0x800, raw)) == ["größe-日本.wdl"]
    assert unpack(_renamed(0, raw)) == ["größe-日本.wdl"]


def test_names_in_the_old_code_page_are_read_as_such(unpack: Unpack) -> None:
    assert unpack(_renamed(0, "gr\u00f6\u00dfe.wdl".encode("cp437"))) == ["größe.wdl"]


def test_a_name_that_says_utf8_and_is_not_is_refused(unpack: Unpack) -> None:
    assert refusal(unpack, _renamed(0x800, b"gr\xf6\xdfe.wdl")).startswith("Invalid zip file: ")


def test_two_names_that_become_the_same_are_refused(unpack: Unpack) -> None:
    first, second = zipped(("main.wdl", WDL)), None
    with pytest.warns(UserWarning, match="Duplicate name"):
        second = zipped(("main.wdl", WDL), ("main.wdl", b"other"))
    assert unpack(first) == ["main.wdl"]
    assert "two entries named 'main.wdl'" in refusal(unpack, second)
