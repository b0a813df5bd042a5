"""What only the S3 store has: keys that no file can have, refused access, a service that is away, parts."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import uuid

import botocore.session
import pytest
from botocore.config import Config

from runomics.objects.s3 import S3Objects
from runomics.objects.s3_clients import S3Limits
from runomics.ports import ObjectForbidden, ObjectInfo, ObjectMissing

pytestmark = pytest.mark.needs("seaweedfs")
OWNER = ("owner-key", "owner-secret")
MIB = 1024**2


def made(url: str, keys: tuple[str, str] = OWNER, part_bytes: int = 5 * MIB) -> S3Objects:
    return S3Objects(
        endpoint=url,
        access_key_id=keys[0],
        secret_access_key=keys[1],
        limits=S3Limits(part_bytes=part_bytes, max_retries=1, retry_timeout_seconds=2),
    )


def independent_client(url: str) -> object:
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=OWNER[0],
        aws_secret_access_key=OWNER[1],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


@pytest.fixture
def bucket(seaweedfs: str) -> str:
    name = f"b-{uuid.uuid4().hex[:12]}"
    made(seaweedfs).make_bucket(name)
    return name


@pytest.mark.parametrize("key", ["tab\there", "line\nbreak", "x//y", "back\\slash"])
def test_keys_that_the_fast_client_refuses_go_the_other_way(seaweedfs: str, bucket: str, key: str) -> None:
    """SeaweedFS itself folds `//` and `\\` to `/`; what is asked for by the same key comes back all the same."""
    store = made(seaweedfs)
    data = os.urandom(1000)
    info = store.upload_bytes(data, f"s3://{bucket}/{key}")
    assert store.head(info.uri) == info
    assert store.read_bytes(info.uri, 1000) == data
    with tempfile.TemporaryFile() as target:
        assert store.download(info, target.fileno()) == hashlib.sha256(data).hexdigest()


def test_a_large_object_with_an_odd_key_goes_in_parts(seaweedfs: str, bucket: str) -> None:
    store = made(seaweedfs)
    data = os.urandom(11 * MIB)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(data)
        source.flush()
        info = store.upload(source.fileno(), f"s3://{bucket}/odd\tkey")
        assert info.etag.endswith("-3")
        assert store.download(info, target.fileno()) == hashlib.sha256(data).hexdigest()


def test_another_client_reads_what_was_stored(seaweedfs: str, bucket: str) -> None:
    data = os.urandom(12 * MIB)
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.flush()
        info = made(seaweedfs).upload(source.fileno(), f"s3://{bucket}/dir/ü +%20&.bam")
    answer = independent_client(seaweedfs).get_object(Bucket=bucket, Key="dir/ü +%20&.bam")  # type: ignore[attr-defined]
    assert (answer["Body"].read(), answer["ETag"].strip('"')) == (data, info.etag)


def test_an_upload_that_is_given_up_leaves_no_parts_behind(seaweedfs: str, bucket: str) -> None:
    def give_up(_: int) -> None:
        raise InterruptedError

    for key in ("plain", "odd\tkey"):
        with tempfile.TemporaryFile() as source:
            os.truncate(source.fileno(), 20 * MIB)
            with pytest.raises(InterruptedError):
                made(seaweedfs).upload(source.fileno(), f"s3://{bucket}/{key}", give_up)
    left = independent_client(seaweedfs).list_multipart_uploads(Bucket=bucket).get("Uploads", [])  # type: ignore[attr-defined]
    assert left == []


def test_keys_without_rights_are_forbidden_everywhere(seaweedfs: str, bucket: str) -> None:
    made(seaweedfs).upload_bytes(b"x", f"s3://{bucket}/k")
    info = ObjectInfo(f"s3://{bucket}/k", 1, "9dd4e461268c8034f5c8564e155c67a6")
    for keys in (("reader-key", "reader-secret"), ("owner-key", "wrong"), ("nobody", "nothing")):
        store = made(seaweedfs, keys)
        with tempfile.TemporaryFile() as target:
            for call in (
                lambda: store.head(info.uri),  # noqa: B023
                lambda: store.read_bytes(info.uri, 1),  # noqa: B023
                lambda: store.download(info, target.fileno()),  # noqa: B023
                lambda: store.upload_bytes(b"y", info.uri),  # noqa: B023
                lambda: list(store.list(f"s3://{bucket}/")),  # noqa: B023
                lambda: store.bucket_exists(bucket),  # noqa: B023
            ):
                with pytest.raises(ObjectForbidden):
                    call()


def test_rights_on_one_bucket_reach_no_other(seaweedfs: str) -> None:
    owner, reader = made(seaweedfs), made(seaweedfs, ("reader-key", "reader-secret"))
    owner.make_bucket("readable")
    owner.upload_bytes(b"x", "s3://readable/k")
    assert reader.read_bytes("s3://readable/k", 1) == b"x"
    with pytest.raises(ObjectForbidden):
        reader.upload_bytes(b"y", "s3://readable/k")


def test_a_service_that_is_away_is_an_error_of_the_system_within_bounded_time() -> None:
    store = made("http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(OSError, match="s3://bucket/key"):
        store.head("s3://bucket/key")
    with pytest.raises(OSError, match="s3://bucket"):
        store.bucket_exists("bucket")
    assert time.monotonic() - started < 20


def test_keys_come_from_the_environment_when_none_are_set(
    seaweedfs: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    store = S3Objects(endpoint=seaweedfs, limits=S3Limits(max_retries=0))
    store.upload_bytes(b"x", f"s3://{bucket}/k")
    assert store.read_bytes(f"s3://{bucket}/k", 1) == b"x"
    assert [info.uri for info in store.list(f"s3://{bucket}/")] == [f"s3://{bucket}/k"]


def test_a_deleted_bucket_is_noticed(seaweedfs: str, bucket: str) -> None:
    store = made(seaweedfs)
    with pytest.raises(ObjectMissing):
        store.head(f"s3://{bucket}/gone")
    independent_client(seaweedfs).delete_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    assert not store.bucket_exists(bucket)


@pytest.mark.slow
def test_more_keys_than_a_page_holds_are_listed_over_several_pages(seaweedfs: str, bucket: str) -> None:
    store = made(seaweedfs)
    for number in range(1100):
        store.upload_bytes(b"", f"s3://{bucket}/many/{number}")
    listed = [info.uri for info in store.list(f"s3://{bucket}/many/")]
    assert listed == sorted(f"s3://{bucket}/many/{number}" for number in range(1100))
