"""What every ports.ObjectStore does, on each of them: the folder store and a real S3 service."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runomics.objects.directory import DirectoryObjects
from runomics.objects.s3 import S3Objects
from runomics.ports import ObjectChanged, ObjectInfo, ObjectMissing

Store = DirectoryObjects | S3Objects
BIG = 21 * 1024**2 + 17


@contextmanager
def file_of(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def content_of(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size + 1, 0)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def fetch(store: Store, info: ObjectInfo) -> tuple[bytes, str]:
    with tempfile.TemporaryFile() as file:
        sha256 = store.download(info, file.fileno())
        return content_of(file.fileno()), sha256


@pytest.mark.source("guide")
def test_a_small_object_has_the_md5_of_its_content_as_etag(store: Store, bucket: str) -> None:
    stored = store.upload_bytes(b"ACGT\n", f"s3://{bucket}/reads/a.fq")
    assert stored == ObjectInfo(f"s3://{bucket}/reads/a.fq", 5, md5(b"ACGT\n"))
    assert store.head(stored.uri) == stored


def test_what_goes_up_comes_down_with_its_sha256(store: Store, bucket: str) -> None:
    for data in (b"", b"x", os.urandom(BIG)):
        with file_of(data) as source:
            info = store.upload(source, f"s3://{bucket}/dir/file")
        assert (info.uri, info.size_bytes) == (f"s3://{bucket}/dir/file", len(data))
        assert store.head(info.uri) == info
        assert fetch(store, info) == (data, hashlib.sha256(data).hexdigest())


def test_progress_adds_up_to_the_size(store: Store, bucket: str) -> None:
    data = os.urandom(BIG)
    sent: list[int] = []
    got: list[int] = []
    with file_of(data) as source, tempfile.TemporaryFile() as target:
        info = store.upload(source, f"s3://{bucket}/big", sent.append)
        store.download(info, target.fileno(), got.append)
    assert (sum(sent), sum(got)) == (BIG, BIG)


def test_a_transfer_can_be_ended_from_its_progress(store: Store, bucket: str) -> None:
    class Enough(Exception):
        pass

    def stop(_: int) -> None:
        raise Enough

    with file_of(os.urandom(BIG)) as source:
        info = store.upload(source, f"s3://{bucket}/big")
        with tempfile.TemporaryFile() as target, pytest.raises(Enough):
            store.download(info, target.fileno(), stop)
        with pytest.raises(Enough):
            store.upload(source, f"s3://{bucket}/never", stop)
    with pytest.raises(ObjectMissing):
        store.head(f"s3://{bucket}/never")


def test_missing_objects_and_buckets_are_named(store: Store, bucket: str) -> None:
    info = ObjectInfo(f"s3://{bucket}/nothing/here", 3, "0" * 32)
    with pytest.raises(ObjectMissing, match="nothing/here"):
        store.head(info.uri)
    with pytest.raises(ObjectMissing, match="nothing/here"), tempfile.TemporaryFile() as target:
        store.download(info, target.fileno())
    with pytest.raises(ObjectMissing, match="nothing/here"):
        store.read_bytes(info.uri, 10)
    with pytest.raises(ObjectMissing, match="no-such-bucket"):
        store.head("s3://no-such-bucket/key")
    with pytest.raises(ObjectMissing, match="no-such-bucket"):
        list(store.list("s3://no-such-bucket/"))


def test_nothing_is_stored_in_a_bucket_that_does_not_exist(store: Store, bucket: str) -> None:
    missing = f"{bucket}-not"
    assert (store.bucket_exists(bucket), store.bucket_exists(missing)) == (True, False)
    with pytest.raises(ObjectMissing, match=missing):
        store.upload_bytes(b"x", f"s3://{missing}/key")
    with file_of(os.urandom(BIG)) as source, pytest.raises(ObjectMissing, match=missing):
        store.upload(source, f"s3://{missing}/key")
    assert not store.bucket_exists(missing)


def test_an_object_that_was_replaced_is_not_downloaded(store: Store, bucket: str) -> None:
    for first, second in ((b"old", b"new"), (os.urandom(BIG), os.urandom(BIG))):
        with file_of(first) as source:
            info = store.upload(source, f"s3://{bucket}/k")
        with file_of(second) as source:
            replaced = store.upload(source, f"s3://{bucket}/k")
        assert replaced.etag != info.etag
        with tempfile.TemporaryFile() as target, pytest.raises(ObjectChanged):
            store.download(info, target.fileno())
        assert fetch(store, replaced)[0] == second


def test_listing_is_recursive_and_in_byte_order_of_the_keys(store: Store, bucket: str) -> None:
    keys = ["d/a-b", "d/a/b", "d/a/c/d", "d/a0", "d/a.txt", "d/Z", "d/é", "d/z", "dd", "d0/x", "e"]
    infos = {key: store.upload_bytes(key.encode(), f"s3://{bucket}/{key}") for key in keys}
    in_order = sorted(keys, key=str.encode)
    assert list(store.list(f"s3://{bucket}")) == [infos[key] for key in in_order]
    assert list(store.list(f"s3://{bucket}/")) == [infos[key] for key in in_order]
    assert list(store.list(f"s3://{bucket}/d/")) == [infos[key] for key in in_order if key.startswith("d/")]
    assert list(store.list(f"s3://{bucket}/d/a")) == [infos[key] for key in in_order if key.startswith("d/a")]
    assert list(store.list(f"s3://{bucket}/d")) == [infos[key] for key in in_order if key.startswith("d")]
    assert list(store.list(f"s3://{bucket}/nope/")) == []


def test_reading_an_object_whole_is_bounded(store: Store, bucket: str) -> None:
    uri = store.upload_bytes(b"0123456789", f"s3://{bucket}/k").uri
    assert store.read_bytes(uri, 10) == b"0123456789"
    with pytest.raises(ValueError, match="10 bytes, more than the 9"):
        store.read_bytes(uri, 9)


def test_making_a_bucket_twice_keeps_what_is_in_it(store: Store, bucket: str) -> None:
    store.upload_bytes(b"x", f"s3://{bucket}/k")
    store.make_bucket(bucket)
    assert [info.uri for info in store.list(f"s3://{bucket}/")] == [f"s3://{bucket}/k"]


def test_a_reader_sees_the_old_or_the_new_object_and_never_a_mixture(store: Store, bucket: str) -> None:
    uri = f"s3://{bucket}/flip"
    contents = [bytes([value]) * 300_000 for value in (1, 2)]
    store.upload_bytes(contents[0], uri)
    done = threading.Event()

    def flip() -> None:
        for turn in range(60):
            store.upload_bytes(contents[turn % 2], uri)
        done.set()

    writer = threading.Thread(target=flip)
    writer.start()
    seen = 0
    while not done.is_set():
        assert store.read_bytes(uri, 1_000_000) in contents
        seen += 1
    writer.join()
    assert seen > 0


_SEGMENT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=20
).filter(lambda text: text not in (".", "..") and len(text.encode()) < 200)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segments=st.lists(_SEGMENT, min_size=1, max_size=4))
def test_any_key_of_plain_segments_is_kept_letter_by_letter(store: Store, bucket: str, segments: list[str]) -> None:
    uri = f"s3://{bucket}/keys/{len('/'.join(segments))}/" + "/".join(segments)
    data = uri.encode()
    try:
        info = store.upload_bytes(data, uri)
    except Exception as refused:  # `a` and `a/b` of two examples cannot both be files
        assert "the key of another object is a part of it" in str(refused)  # noqa: PT017
        return
    assert store.head(uri) == info
    assert fetch(store, info)[0] == data
    assert uri in [found.uri for found in store.list(uri)]


def test_two_uploads_of_one_key_at_once_leave_one_of_them(store: Store, bucket: str, tmp_path: Path) -> None:
    contents = [bytes([value]) * 100_000 for value in range(8)]
    threads = [threading.Thread(target=store.upload_bytes, args=(data, f"s3://{bucket}/same/key")) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read_bytes(f"s3://{bucket}/same/key", 200_000) in contents
    assert len(list(store.list(f"s3://{bucket}/"))) == 1
