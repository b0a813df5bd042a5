"""The store behind an S3 endpoint, with obstore for the data and botocore for what it lacks. Runs in the server, on transfer threads.

obstore starts threads of its own, so everything is made at first use: never before a fork. It refuses or changes keys with
empty or dot segments, control characters, backslashes and slashes at the ends: those go through botocore, byte for byte.
"""

from __future__ import annotations

import builtins
import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from runomics.domain.inputs import split_s3
from runomics.objects.file_copy import OnBytes, write_all
from runomics.objects.s3_clients import S3Clients, S3Keys, S3Limits, bare_etag, obstore, translated
from runomics.ports import ObjectChanged, ObjectInfo, ObjectMissing

_WINDOW = 4
_MAX_PARTS = 9_000
_TRIES = 2
_BUCKET_TRUST_SECONDS = 60.0


class S3Objects:
    """ports.ObjectStore over any S3 service; `endpoint` None is AWS.

    Without an access key botocore's chain is asked: environment, profile, instance role.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        region: str = "us-east-1",
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        limits: S3Limits | None = None,
    ) -> None:
        self._region = region
        self._limits = limits or S3Limits()
        keys = None
        if access_key_id is not None and secret_access_key is not None:
            keys = S3Keys(access_key_id, secret_access_key, session_token)
        self._clients = S3Clients(endpoint=endpoint, region=region, keys=keys, limits=self._limits)
        self._known_buckets: dict[str, float] = {}

    # ---- buckets -------------------------------------------------------------------------------------------------

    def bucket_exists(self, bucket: str) -> bool:
        """Whether the service has the bucket. Raises: ObjectForbidden (it has, and it is not ours)."""
        try:
            with translated(f"s3://{bucket}"):
                self._clients.botocore().head_bucket(Bucket=bucket)
        except ObjectMissing:
            return False
        self._known_buckets[bucket] = time.monotonic()
        return True

    def make_bucket(self, bucket: str) -> None:
        """Make the bucket unless it is there. Raises: ObjectForbidden."""
        if self.bucket_exists(bucket):
            return
        with translated(f"s3://{bucket}"):
            if self._region == "us-east-1":
                self._clients.botocore().create_bucket(Bucket=bucket)
            else:
                where = {"LocationConstraint": self._region}
                self._clients.botocore().create_bucket(Bucket=bucket, CreateBucketConfiguration=where)

    def _want_bucket(self, bucket: str, uri: str) -> None:
        """Some services make a bucket when something is put into it. Results must not land where nobody looks for them."""
        if time.monotonic() - self._known_buckets.get(bucket, -_BUCKET_TRUST_SECONDS) < _BUCKET_TRUST_SECONDS:
            return
        if not self.bucket_exists(bucket):
            raise ObjectMissing(f"no bucket {bucket} ({uri})")

    # ---- looking -------------------------------------------------------------------------------------------------

    def head(self, uri: str) -> ObjectInfo:
        """Size and ETag. Raises: ObjectMissing, ObjectForbidden; OSError when the service cannot be reached."""
        bucket, key = split_s3(uri)
        with translated(uri):
            if _is_odd(key):
                answer = self._clients.botocore().head_object(Bucket=bucket, Key=key)
                return ObjectInfo(uri, answer["ContentLength"], bare_etag(answer["ETag"]))
            meta = obstore().head(self._clients.obstore(bucket), key)
        return ObjectInfo(uri, meta["size"], bare_etag(meta["e_tag"]))

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with the prefix, in byte order of the keys, whatever order the service has.

        Raises:
            ObjectMissing: no such bucket. ObjectForbidden; OSError.
        """
        bucket, prefix = split_s3(prefix_uri)
        found: builtins.list[ObjectInfo] = []
        with translated(prefix_uri):
            self._clients.botocore().head_bucket(Bucket=bucket)
            for page in (
                self._clients.botocore().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            ):
                for item in page.get("Contents", ()):
                    found.append(ObjectInfo(f"s3://{bucket}/{item['Key']}", item["Size"], bare_etag(item["ETag"])))
        found.sort(key=lambda info: info.uri.encode())
        return iter(found)

    # ---- reading -------------------------------------------------------------------------------------------------

    def download(self, info: ObjectInfo, descriptor: int, on_bytes: OnBytes = None) -> str:
        """Write the object to `descriptor`, hashed on the way; its sha256. Every part is asked for by the ETag looked at.

        Raises:
            ObjectChanged: it has another ETag by now. ObjectMissing, ObjectForbidden; OSError.
        """
        digest = hashlib.sha256()
        offset = 0
        for piece in self._pieces(info):
            digest.update(piece)
            write_all(descriptor, piece, offset)
            offset += len(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
        if offset != info.size_bytes:
            raise ObjectChanged(f"{info.uri} gave {offset} bytes instead of {info.size_bytes}")
        return digest.hexdigest()

    def _pieces(self, info: ObjectInfo) -> Iterator[memoryview]:
        """The parts in order, a few of them under way at any time."""
        size, step = info.size_bytes, self._limits.part_bytes
        if size <= step:
            yield self._piece(info, None)
            return
        ranges = iter([(start, min(start + step, size)) for start in range(0, size, step)])
        under_way: deque[Future[memoryview]] = deque()
        try:
            for part in ranges:
                under_way.append(self._clients.parts().submit(self._piece, info, part))
                if len(under_way) >= _WINDOW:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def _piece(self, info: ObjectInfo, part: tuple[int, int] | None) -> memoryview:
        """A part, or the whole object. A connection that breaks off within the body is tried again."""
        for left in reversed(range(_TRIES)):
            try:
                return self._piece_once(info, part)
            except OSError:
                if left == 0:
                    raise
        raise AssertionError

    def _piece_once(self, info: ObjectInfo, part: tuple[int, int] | None) -> memoryview:
        bucket, key = split_s3(info.uri)
        with translated(info.uri):
            if _is_odd(key):
                ranged = {} if part is None else {"Range": f"bytes={part[0]}-{part[1] - 1}"}
                answer = self._clients.botocore().get_object(Bucket=bucket, Key=key, IfMatch=f'"{info.etag}"', **ranged)
                etag, body = bare_etag(answer["ETag"]), memoryview(answer["Body"].read())
            else:
                options: dict[str, Any] = {"if_match": f'"{info.etag}"'}
                if part is not None:
                    options["range"] = part
                result = obstore().get(self._clients.obstore(bucket), key, options=options)
                etag, body = bare_etag(result.meta["e_tag"]), memoryview(result.bytes())
        if etag != info.etag:
            raise ObjectChanged(f"{info.uri} is no longer the object with ETag {info.etag}")
        return body

    def read_bytes(self, uri: str, limit_bytes: int) -> bytes:
        """The content. Raises: ObjectMissing, ObjectForbidden; ValueError when larger than the limit; OSError."""
        bucket, key = split_s3(uri)
        with translated(uri):
            if _is_odd(key):
                answer = self._clients.botocore().get_object(Bucket=bucket, Key=key)
                size, read = answer["ContentLength"], answer["Body"].read
            else:
                result = obstore().get(self._clients.obstore(bucket), key)
                size, read = result.meta["size"], result.bytes
            if size <= limit_bytes:
                return bytes(read())
        raise ValueError(f"{uri} has {size} bytes, more than the {limit_bytes} allowed here")

    # ---- writing -------------------------------------------------------------------------------------------------

    def upload(self, descriptor: int, uri: str, on_bytes: OnBytes = None) -> ObjectInfo:
        """Store the whole open file as `uri`, in parts when it is large; what the service then has is asked for.

        Raises:
            ObjectMissing: no such bucket. ObjectForbidden; OSError: unreachable, or the source cannot be read.
        """
        size = os.fstat(descriptor).st_size
        if size <= self._limits.part_bytes:
            info = self.upload_bytes(_read(descriptor, 0, size), uri)
            if on_bytes is not None:
                on_bytes(size)
            return info
        bucket, key = split_s3(uri)
        self._want_bucket(bucket, uri)
        step = max(self._limits.part_bytes, -(-size // _MAX_PARTS))
        with translated(uri):
            if _is_odd(key):
                self._upload_parts(bucket, key, _chunks(descriptor, size, step, on_bytes))
            else:
                obstore().put(
                    self._clients.obstore(bucket),
                    key,
                    _chunks(descriptor, size, step, on_bytes),
                    use_multipart=True,
                    chunk_size=step,
                    max_concurrency=_WINDOW,
                )
        info = self.head(uri)
        if info.size_bytes != size:
            raise OSError(f"{uri} has {info.size_bytes} bytes after an upload of {size}")
        return info

    def upload_bytes(self, data: bytes, uri: str) -> ObjectInfo:
        """Store `data` as `uri`. Raises: as `upload`."""
        bucket, key = split_s3(uri)
        self._want_bucket(bucket, uri)
        with translated(uri):
            if _is_odd(key):
                etag = self._clients.botocore().put_object(Bucket=bucket, Key=key, Body=data)["ETag"]
            else:
                etag = obstore().put(self._clients.obstore(bucket), key, data, use_multipart=False)["e_tag"]
        return ObjectInfo(uri, len(data), bare_etag(etag))

    def _upload_parts(self, bucket: str, key: str, chunks: Iterator[bytes]) -> None:
        client = self._clients.botocore()
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        try:
            done = []
            for number, chunk in enumerate(chunks, start=1):
                answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=chunk)
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
            client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done})
        except BaseException:
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
            raise


def _is_odd(key: str) -> bool:
    """Whether obstore would refuse or change the key."""
    if "\\" in key or not key.isprintable():
        return True
    return any(segment in ("", ".", "..") for segment in key.split("/"))


def _read(descriptor: int, start: int, end: int) -> bytes:
    data = b""
    while start + len(data) < end:
        more = os.pread(descriptor, end - start - len(data), start + len(data))
        if not more:
            raise OSError(f"the file ended at byte {start + len(data)} of {end}")
        data = data + more if data else more
    return data


def _chunks(descriptor: int, size: int, step: int, on_bytes: OnBytes) -> Iterator[bytes]:
    for start in range(0, size, step):
        chunk = _read(descriptor, start, min(start + step, size))
        yield chunk
        if on_bytes is not None:
            on_bytes(len(chunk))
