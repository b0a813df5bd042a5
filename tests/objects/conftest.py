"""Every store that the contract is tested on, and the S3 service behind one of them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from runomics.objects.directory import DirectoryObjects
from runomics.objects.s3 import S3Objects
from runomics.objects.s3_clients import S3Limits
from seaweedfs_service import OWNER, seaweedfs

__all__ = ["seaweedfs"]

Store = DirectoryObjects | S3Objects


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.needs("seaweedfs"))])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each implementation of ports.ObjectStore in turn."""
    if request.param == "directory":
        return DirectoryObjects(tmp_path / "objects")
    return S3Objects(
        endpoint=request.getfixturevalue("seaweedfs"),
        access_key_id=OWNER[0],
        secret_access_key=OWNER[1],
        limits=S3Limits(part_bytes=5 * 1024**2, max_retries=2, retry_timeout_seconds=5),
    )


@pytest.fixture
def bucket(store: Store) -> str:
    """A bucket of its own for each test, empty."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    store.make_bucket(name)
    return name
