"""What only the folder store has: files as objects, links that are not followed, ETags from a file's identity, atomic uploads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from runomics.objects.directory import HASHED_BYTES, SIDE, DirectoryObjects
from runomics.ports import ObjectChanged, ObjectForbidden, ObjectMissing

SLOW_UPLOAD = """
import os, sys
from pathlib import Path
from runomics.objects.directory import DirectoryObjects

def pause(_):
    print("half way", flush=True)
    sys.stdin.read()

source = os.open(sys.argv[2], os.O_RDONLY)
DirectoryObjects(Path(sys.argv[1])).upload(source, sys.argv[3], pause)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "objects" / "data").mkdir(parents=True)
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> DirectoryObjects:
    return DirectoryObjects(root)


def test_a_file_that_someone_put_into_the_folder_is_an_object(store: DirectoryObjects, root: Path) -> None:
    (root / "data" / "ref").mkdir()
    (root / "data" / "ref" / "hg38.fa").write_bytes(b">chr1\n")
    assert store.read_bytes("s3://data/ref/hg38.fa", 100) == b">chr1\n"
    assert [info.uri for info in store.list("s3://data/")] == ["s3://data/ref/hg38.fa"]


def test_a_bucket_may_be_a_link_of_the_operator(store: DirectoryObjects, root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "k").write_bytes(b"x")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert store.bucket_exists("linked")
    assert store.read_bytes("s3://linked/k", 10) == b"x"


@pytest.mark.parametrize("target", ["/etc", "../../..", ".", "sub"])
def test_no_link_below_a_bucket_is_followed_in_reading_listing_or_writing(
    store: DirectoryObjects, root: Path, target: str
) -> None:
    (root / "data" / "sub").mkdir()
    (root / "data" / "sub" / "passwd").write_bytes(b"mine")
    (root / "data" / "link").symlink_to(target)
    (root / "data" / "file").symlink_to("/etc/passwd")
    for uri in ("s3://data/link/passwd", "s3://data/file"):
        with pytest.raises((ObjectForbidden, ObjectMissing)):
            store.head(uri)
    assert list(store.list("s3://data/link/")) == []
    assert [info.uri for info in store.list("s3://data/")] == ["s3://data/sub/passwd"]
    with pytest.raises(ObjectForbidden):
        store.upload_bytes(b"x", "s3://data/link/new")
    assert not any(Path(folder, "new").exists() for folder in ("/etc", root / "data", root / "data" / "sub"))


def test_an_upload_over_a_link_replaces_the_link_and_not_its_target(
    store: DirectoryObjects, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (root / "data" / "k").symlink_to(tmp_path / "victim")
    store.upload_bytes(b"new", "s3://data/k")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert store.read_bytes("s3://data/k", 10) == b"new"


@pytest.mark.parametrize("key", ["", "a//b", "/a", "a/", "..", "a/../b", "./a", f"{SIDE}/x", "n" * 256])
def test_keys_that_cannot_be_files_are_refused_with_the_reason(store: DirectoryObjects, root: Path, key: str) -> None:
    for call in (store.head, lambda uri: store.upload_bytes(b"x", uri), lambda uri: store.read_bytes(uri, 1)):
        with pytest.raises(ObjectForbidden, match="cannot be a file of a folder"):
            call(f"s3://data/{key}")
    assert sorted(os.listdir(root / "data")) == []


@pytest.mark.parametrize("prefix", ["../", "a/../../", "..", "a//", f"{SIDE}/", "./"])
def test_a_prefix_that_is_no_folder_lists_nothing(store: DirectoryObjects, root: Path, prefix: str) -> None:
    (root / "other").mkdir()
    (root / "other" / "secret").write_bytes(b"x")
    store.upload_bytes(b"x", "s3://data/a/b")
    assert list(store.list(f"s3://data/{prefix}")) == []


def test_a_key_below_another_object_is_refused_and_leaves_nothing(store: DirectoryObjects, root: Path) -> None:
    store.upload_bytes(b"x", "s3://data/a")
    store.upload_bytes(b"x", "s3://data/d/e")
    for key in ("a/b", "d"):
        with pytest.raises(ObjectForbidden, match="Use an S3 service"):
            store.upload_bytes(b"y", f"s3://data/{key}")
    assert [info.uri for info in store.list("s3://data/")] == ["s3://data/a", "s3://data/d/e"]
    assert os.listdir(root / "data" / SIDE) == []
    with pytest.raises(ObjectMissing):
        store.head("s3://data/a/b")
    with pytest.raises(ObjectMissing, match="folder"):
        store.head("s3://data/d")


def test_pipes_and_sockets_are_no_objects_and_never_block(store: DirectoryObjects, root: Path) -> None:
    os.mkfifo(root / "data" / "pipe")
    with pytest.raises(ObjectForbidden, match="not a regular file"):
        store.head("s3://data/pipe")
    assert list(store.list("s3://data/")) == []


def test_the_etag_of_a_large_file_costs_no_reading_and_changes_with_every_write(
    store: DirectoryObjects, root: Path
) -> None:
    path = root / "data" / "big"
    path.touch()
    os.truncate(path, 1 << 43)  # 8 TiB of nothing: reading them would take hours
    first = store.head("s3://data/big")
    assert first == store.head("s3://data/big")
    assert first.etag.endswith(f"-{(1 << 43) // HASHED_BYTES}")
    os.truncate(path, HASHED_BYTES + 1)
    second = store.head("s3://data/big")
    with path.open("r+b") as file:
        file.write(b"changed in place, same size")
    os.utime(path, ns=(1, 1))
    third = store.head("s3://data/big")
    with path.open("r+b") as file:
        file.write(b"changed again, same size   ")
    os.utime(path, ns=(1, 1))
    fourth = store.head("s3://data/big")
    assert len({first.etag, second.etag, third.etag, fourth.etag}) == 4


def test_the_etag_of_a_small_file_follows_its_content_alone(store: DirectoryObjects, root: Path) -> None:
    path = root / "data" / "small"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    first = store.head("s3://data/small")
    path.chmod(0o600)
    assert store.head("s3://data/small") == first
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert store.head("s3://data/small").etag != first.etag


def test_a_file_written_to_while_it_is_read_is_reported(store: DirectoryObjects, root: Path) -> None:
    path = root / "data" / "growing"
    path.write_bytes(os.urandom(HASHED_BYTES + 3))
    info = store.head("s3://data/growing")

    def interfere(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with tempfile.TemporaryFile() as target, pytest.raises(ObjectChanged, match="while it was read"):
        store.download(info, target.fileno(), interfere)


def test_an_object_that_does_not_fit_is_refused_before_a_byte_is_written(store: DirectoryObjects, root: Path) -> None:
    with tempfile.TemporaryFile() as source:
        os.truncate(source.fileno(), 1 << 42)
        with pytest.raises(OSError, match="no space"):
            store.upload(source.fileno(), "s3://data/huge")
    assert list(store.list("s3://data/")) == []


def test_a_killed_upload_leaves_no_object_and_its_remains_go_at_the_next_start(root: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(3 * HASHED_BYTES))
    store = DirectoryObjects(root)
    store.upload_bytes(b"old", "s3://data/dir/k")
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_UPLOAD, root, tmp_path / "source", "s3://data/dir/k"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"half way\n"
    assert len(os.listdir(root / "data" / SIDE)) == 1
    DirectoryObjects(root).upload_bytes(b"x", "s3://data/other")
    assert len(os.listdir(root / "data" / SIDE)) == 1, "a live upload was swept"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert store.read_bytes("s3://data/dir/k", 10) == b"old"
    DirectoryObjects(root).upload_bytes(b"x", "s3://data/other")
    assert os.listdir(root / "data" / SIDE) == []
    assert [info.uri for info in store.list("s3://data/")] == ["s3://data/dir/k", "s3://data/other"]


def test_no_upload_is_taken_for_the_remains_of_a_dead_one(root: Path) -> None:
    """Every new server sweeps at its first upload, while others, and its own threads, are uploading."""
    errors: list[BaseException] = []

    def put(store: DirectoryObjects, key: str) -> None:
        try:
            store.upload_bytes(b"x", f"s3://data/{key}")
        except BaseException as error:
            errors.append(error)

    for turn in range(100):
        servers = [DirectoryObjects(root) for _ in range(2)]
        threads = [
            threading.Thread(target=put, args=(server, f"{turn}/{place}/{number}"))
            for place, server in enumerate(servers)
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert len(list(DirectoryObjects(root).list("s3://data/"))) == 800


@pytest.mark.needs("root")
def test_a_folder_that_cannot_be_read_is_forbidden_and_not_missing(root: Path) -> None:
    (root / "data" / "k").write_bytes(b"x")
    (root / "data").chmod(0o700)
    root.chmod(0o755)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from runomics.objects.directory import DirectoryObjects as D; from runomics.ports import ObjectForbidden\n"
        "os.chdir(sys.argv[1]); os.setresuid(1234, 1234, 1234)\n"
        "try: D(Path('.')).head('s3://data/k')\n"
        "except ObjectForbidden as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, check=True)
    assert done.stdout == "s3://data/k: Permission denied\n"


def test_a_hundred_threads_of_uploads_do_not_disturb_each_other(store: DirectoryObjects) -> None:
    def put(number: int) -> None:
        for turn in range(5):
            store.upload_bytes(b"%d" % number, f"s3://data/deep/{turn}/er/{number}")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.list("s3://data/deep/"))) == 500
