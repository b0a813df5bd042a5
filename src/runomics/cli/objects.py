"""Files to and from the buckets that the server works on: folders, or an S3 service. Runs in the user's process."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from runomics.objects.directory import DirectoryObjects
from runomics.settings import Settings

CHUNK_BYTES = 1024**2


class Buckets(Protocol):
    """What `runomics run` does with objects. Keys have no leading slash."""

    def make(self, bucket: str) -> None:
        """Make the bucket unless it is there."""
        ...

    def put(self, source: Path, bucket: str, key: str) -> None:
        """Store the file as bucket/key, whole or not at all; nothing happens when an object of that key and size is there."""
        ...

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`."""
        ...

    def get(self, bucket: str, key: str, target: Path) -> None:
        """Write the object to the file `target`, whose folder exists."""
        ...


class FolderBuckets:
    """Buckets that are folders below DATA/objects, kept by the rules of the server's own store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._objects = DirectoryObjects(root)

    def make(self, bucket: str) -> None:
        self._objects.make_bucket(bucket)

    def put(self, source: Path, bucket: str, key: str) -> None:
        target = self._root / bucket / key
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            return
        with source.open("rb") as content:
            self._objects.upload(content.fileno(), f"s3://{bucket}/{key}")

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        base = f"s3://{bucket}/"
        return (info.uri.removeprefix(base) for info in self._objects.list(base + prefix))

    def get(self, bucket: str, key: str, target: Path) -> None:
        _copy(self._root / bucket / key, target)


class S3Buckets:
    """Buckets of the S3 service that the server uses."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def make(self, bucket: str) -> None:
        try:
            self._client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            self._client.create_bucket(Bucket=bucket)

    def put(self, source: Path, bucket: str, key: str) -> None:
        try:
            if self._client.head_object(Bucket=bucket, Key=key)["ContentLength"] == source.stat().st_size:
                return
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
        self._client.upload_file(str(source), bucket, key)

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from (item["Key"] for item in page.get("Contents", ()))

    def get(self, bucket: str, key: str, target: Path) -> None:
        self._client.download_file(bucket, key, str(target))


def buckets_of(settings: Settings) -> Buckets:
    """The buckets that the server with these settings works on."""
    if settings.s3_endpoint is None:
        return FolderBuckets(settings.data / "objects")
    secret = settings.s3_secret_access_key
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=None if secret is None else secret.get_secret_value(),
        config=Config(s3={"addressing_style": "path"}),
    )
    return S3Buckets(client)


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` → (bucket, key).

    Raises:
        ValueError: it is no such URI.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"{uri} is not s3://bucket/key")
    return bucket, key


def sha256_of(path: Path) -> str:
    """Lower-case hex digest of the file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".runomics-")
    try:
        with source.open("rb") as content, open(descriptor, "wb") as copy:
            shutil.copyfileobj(content, copy, CHUNK_BYTES)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
