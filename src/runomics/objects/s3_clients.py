"""The clients of an S3 endpoint and the meaning of their errors. Runs in the server, on transfer threads.

Everything is made at first use: obstore starts threads of its own, which must not exist before a fork.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from runomics.ports import ObjectChanged, ObjectForbidden, ObjectMissing, ObjectsUnreachable

_PARTS_AT_ONCE = 8
_REFUSED = re.compile(r"status code: 4(?!29)")
"""An answer of the service that another try would get again."""


@dataclass(frozen=True, slots=True)
class S3Keys:
    """What signs requests."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


@dataclass(frozen=True, slots=True)
class S3Limits:
    """`part_bytes`: downloads and uploads above it go in parts of that size.

    A request that takes longer than `request_timeout_seconds`, part included, is tried again, at most `max_retries` times
    and for `retry_timeout_seconds` in all.
    """

    part_bytes: int = 8 * 1024**2
    max_retries: int = 5
    retry_timeout_seconds: float = 60.0
    connect_timeout_seconds: float = 10.0
    request_timeout_seconds: float = 120.0


class S3Clients:
    """botocore's client, obstore's stores (one per bucket) and the threads that fetch parts."""

    def __init__(self, *, endpoint: str | None, region: str, keys: S3Keys | None, limits: S3Limits) -> None:
        self._endpoint = endpoint
        self._region = region
        self._keys = keys
        self._limits = limits
        self._lock = threading.Lock()
        self._stores: dict[str, Any] = {}
        self._made_session: Any = None
        self._made_client: Any = None
        self._made_parts: ThreadPoolExecutor | None = None

    def _session(self) -> Any:
        if self._made_session is None:
            import botocore.session  # noqa: PLC0415  (30 ms and 15 MB that a server with folders never pays)

            self._made_session = botocore.session.Session()
        return self._made_session

    def botocore(self) -> Any:
        """botocore's client."""
        with self._lock:
            if self._made_client is None:
                from botocore.config import Config  # noqa: PLC0415  (as above)

                limits, keys = self._limits, self._keys
                self._made_client = self._session().create_client(
                    "s3",
                    endpoint_url=self._endpoint,
                    region_name=self._region,
                    aws_access_key_id=keys.access_key_id if keys else None,
                    aws_secret_access_key=keys.secret_access_key if keys else None,
                    aws_session_token=keys.session_token if keys else None,
                    config=Config(
                        signature_version="s3v4",
                        connect_timeout=limits.connect_timeout_seconds,
                        read_timeout=limits.request_timeout_seconds,
                        retries={"max_attempts": limits.max_retries, "mode": "standard"},
                        s3={"addressing_style": "path" if self._endpoint else "auto"},
                    ),
                )
            return self._made_client

    def obstore(self, bucket: str) -> Any:
        """obstore's store of the bucket."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._make_store(bucket)
            return self._stores[bucket]

    def _make_store(self, bucket: str) -> Any:
        from obstore.store import S3Store  # noqa: PLC0415  (its threads must not exist before a fork)

        limits = self._limits
        options: dict[str, Any] = {"region": self._region, "checksum_algorithm": "SHA256"}
        if self._endpoint is not None:
            options["endpoint"] = self._endpoint
            options["virtual_hosted_style_request"] = False
        if self._keys is None:
            options["credential_provider"] = self._credentials
        else:
            options["access_key_id"] = self._keys.access_key_id
            options["secret_access_key"] = self._keys.secret_access_key
            if self._keys.session_token is not None:
                options["session_token"] = self._keys.session_token
        return S3Store(
            bucket,
            **options,
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=limits.connect_timeout_seconds),
                "timeout": timedelta(seconds=limits.request_timeout_seconds),
            },
            retry_config={
                "max_retries": limits.max_retries,
                "retry_timeout": timedelta(seconds=limits.retry_timeout_seconds),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )

    def _credentials(self) -> dict[str, Any]:
        """What botocore's chain has now; obstore asks again before it expires."""
        found = self._session().get_credentials()
        if found is None:
            raise ObjectForbidden(
                "no S3 credentials: set s3_access_key_id and s3_secret_access_key, or AWS_ACCESS_KEY_ID …"
            )
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=15),
        }

    def parts(self) -> ThreadPoolExecutor:
        """The threads that fetch parts, shared by all downloads: what bounds their memory."""
        with self._lock:
            if self._made_parts is None:
                self._made_parts = ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="s3-part")
            return self._made_parts


def obstore() -> Any:
    """The library, loaded at its first use."""
    import obstore  # noqa: PLC0415  (its threads must not exist before a fork)

    return obstore


def bare_etag(etag: str | None) -> str:
    """Without the quotes it travels in."""
    return (etag or "").strip('"')


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Errors of both libraries in the words of the port."""
    try:
        yield
    except (ObjectMissing, ObjectForbidden, ObjectChanged):
        raise
    except FileNotFoundError:
        raise ObjectMissing(f"no object {uri}") from None
    except Exception as error:
        known = _of_obstore(error, uri) or _of_botocore(error, uri)
        if known is None:
            raise
        raise known from error


def _of_obstore(error: Exception, uri: str) -> Exception | None:
    from obstore import exceptions  # noqa: PLC0415  (loaded by now, if the error is its)

    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return ObjectForbidden(f"access to {uri} is denied")
    if isinstance(error, exceptions.PreconditionError):
        return ObjectChanged(f"{uri} is no longer the object that was looked at")
    if isinstance(error, exceptions.BaseError):
        text = str(error).splitlines()[0]
        return (OSError if _REFUSED.search(text) else ObjectsUnreachable)(f"{uri}: {text}")
    return None


def _of_botocore(error: Exception, uri: str) -> Exception | None:
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError  # noqa: PLC0415  (loaded by now, if the error is its)

    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        by_status: dict[int, Callable[[], Exception]] = {
            404: lambda: ObjectMissing(f"no object {uri}" if "/" in uri[5:] else f"no bucket {uri}"),
            401: lambda: ObjectForbidden(f"access to {uri} is denied"),
            403: lambda: ObjectForbidden(f"access to {uri} is denied"),
            412: lambda: ObjectChanged(f"{uri} is no longer the object that was looked at"),
        }
        kind = ObjectsUnreachable if status >= 500 or status == 429 else OSError
        return by_status.get(status, lambda: kind(f"{uri}: {error}"))()
    if isinstance(error, HTTPClientError):
        return ObjectsUnreachable(f"{uri}: {error}")
    if isinstance(error, BotoCoreError):
        return OSError(f"{uri}: {error}")
    return None
