"""The folder of definitions: whole or absent, shared by content."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from runomics.store.definitions import Definitions


@pytest.fixture
def definitions(tmp_path: Path) -> Definitions:
    return Definitions(tmp_path / "definitions")


def leftovers(definitions: Definitions) -> list[str]:
    return [path.name for path in definitions.root.iterdir() if path.name.startswith(".")]


def test_an_archive_is_kept_under_its_digest(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")
    assert sha256 == hashlib.sha256(b"archive").hexdigest()
    assert definitions.archive(sha256).read_bytes() == b"archive"
    assert leftovers(definitions) == []


def test_the_same_archive_again_writes_nothing_and_looks_fresh(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")
    inode = definitions.archive(sha256).stat().st_ino
    os.utime(definitions.archive(sha256), (1, 1))
    assert definitions.keep(b"archive") == sha256
    after = definitions.archive(sha256).stat()
    assert (after.st_ino, after.st_mtime > 1) == (inode, True)


def test_an_archive_is_received_through_a_descriptor(definitions: Definitions) -> None:
    def download(descriptor: int) -> str:
        os.write(descriptor, b"archive")
        return hashlib.sha256(b"archive").hexdigest()

    sha256 = definitions.receive(download)
    assert definitions.archive(sha256).read_bytes() == b"archive"
    assert definitions.receive(download) == sha256
    assert leftovers(definitions) == []


def test_a_download_that_fails_leaves_nothing(definitions: Definitions) -> None:
    def download(descriptor: int) -> str:
        os.write(descriptor, b"half")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        definitions.receive(download)
    assert list(definitions.root.iterdir()) == []


def test_a_tree_is_made_once_and_whole(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")
    made = []

    def fill(directory: Path) -> None:
        made.append(directory)
        (directory / "main.wdl").write_text("x")

    tree = definitions.unpack(sha256, fill)
    assert definitions.unpack(sha256, fill) == tree
    assert [path.name for path in tree.iterdir()] == ["main.wdl"]
    assert len(made) == 1
    assert leftovers(definitions) == []


def test_a_tree_that_could_not_be_filled_is_not_there(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")

    def fill(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        definitions.unpack(sha256, fill)
    assert not definitions.tree(sha256).exists()
    assert leftovers(definitions) == []


def test_two_threads_may_unpack_the_same_archive_at_once(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")
    together = threading.Barrier(2, timeout=10)
    failures: list[BaseException] = []

    def fill(directory: Path) -> None:
        (directory / "main.wdl").write_text("x")
        together.wait()

    def work() -> None:
        try:
            definitions.unpack(sha256, fill)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert failures == []
    assert (definitions.tree(sha256) / "main.wdl").read_text() == "x"
    assert leftovers(definitions) == []


def test_interfaces_are_kept_for_each_engine_and_main(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")
    assert definitions.interface(sha256, "WDL", "a/b.wdl") is None
    definitions.keep_interface(sha256, {"engine": "WDL", "main": "a/b.wdl", "inputs": []})
    definitions.keep_interface(sha256, {"engine": "WDL", "main": "c.wdl", "inputs": [{"name": "x"}]})
    assert definitions.interface(sha256, "WDL", "a/b.wdl") == {
        "format": 1,
        "engine": "WDL",
        "main": "a/b.wdl",
        "inputs": [],
    }
    assert (definitions.interface(sha256, "WDL", "c.wdl") or {})["inputs"] == [{"name": "x"}]
    assert definitions.interface(sha256, "CWL", "c.wdl") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "engine": "WDL", "main": "a.wdl"}',
        '{"format": 1, "engine": "WDL", "main": "b.wdl"}',
    ],
)
def test_an_interface_that_is_not_what_it_should_be_counts_as_none(definitions: Definitions, text: str) -> None:
    sha256 = definitions.keep(b"archive")
    definitions.interface_path(sha256, "WDL", "a.wdl").write_text(text)
    assert definitions.interface(sha256, "WDL", "a.wdl") is None


def test_what_is_forgotten_is_gone_and_may_be_forgotten_again(definitions: Definitions) -> None:
    sha256, other = definitions.keep(b"archive"), definitions.keep(b"other")
    definitions.unpack(sha256, lambda directory: (directory / "x").write_text("x"))
    for _ in range(2):
        definitions.forget(sha256)
    assert [path.name for path in definitions.root.iterdir()] == [other]


def test_a_start_sweeps_what_a_crash_left(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")
    (definitions.root / ".incoming-file").write_bytes(b"half")
    (definitions.root / ".incoming-folder").mkdir()
    (definitions.root / ".incoming-folder" / "half").write_bytes(b"half")
    definitions.sweep()
    assert [path.name for path in definitions.root.iterdir()] == [sha256]


def test_a_sweep_leaves_alone_what_is_being_written_now(definitions: Definitions) -> None:
    sha256 = definitions.keep(b"archive")

    def fill(directory: Path) -> None:
        definitions.sweep()
        (directory / "main.wdl").write_text("x")

    assert (definitions.unpack(sha256, fill) / "main.wdl").read_text() == "x"
