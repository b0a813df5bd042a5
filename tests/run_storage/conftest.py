"""A data directory on the real disk, unmounted and freed whatever a test left in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from volume_world import loops_below, mounts_below, wait_until

from runomics.run_storage import linux
from runomics.run_storage.xfs_image import XfsImageStorage


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="ro-storage-"))
    path.chmod(0o755)
    yield path
    for point in reversed(mounts_below(path)):
        linux.detach(Path(point))
    assert wait_until(lambda: not loops_below(path)), loops_below(path)
    shutil.rmtree(path)


@pytest.fixture
def open_images(data: Path) -> Iterator[Callable[..., XfsImageStorage]]:
    """Opens image storages on the data directory, one after the other; nothing is kept ready unless asked for."""
    opened: list[XfsImageStorage] = []

    def open_one(**options: Any) -> XfsImageStorage:
        for storage in opened:
            storage.close()
        opened[:] = [
            XfsImageStorage(data / "volumes", data / "runs", **{"reserve_bytes": 0, "ready_volumes": 0, **options})
        ]
        return opened[0]

    yield open_one
    for storage in opened:
        storage.sweep(frozenset())
        assert storage.wait_until_removed(60)
        storage.close()
