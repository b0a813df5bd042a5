"""What an engine may leave on the server's own disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from runomics.engines import footprint
from runomics.engines.footprint import is_too_large


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(footprint, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(footprint, "MOST_ENTRIES", 10)
    (tmp_path / "engine").mkdir()
    return tmp_path / "engine"


def too_large(engine: Path) -> bool:
    return is_too_large(engine, engine.with_name("log"))


def test_results_and_logs_are_not_too_large_nor_is_nothing(engine: Path) -> None:
    assert not too_large(engine.with_name("none"))
    (engine / "result.json").write_bytes(b"x" * 1000)
    engine.with_name("log").write_bytes(b"x" * 1000)
    assert not too_large(engine)


def test_many_bytes_are_wherever_they_lie(engine: Path) -> None:
    (engine / "a" / "b").mkdir(parents=True)
    (engine / "a" / "b" / "file").write_bytes(b"x" * (2 << 20))
    assert too_large(engine)
    (engine / "a" / "b" / "file").unlink()
    assert not too_large(engine)
    engine.with_name("log").write_bytes(b"x" * (2 << 20))
    assert too_large(engine)


def test_many_files_are_and_holes_and_links_are_not(engine: Path) -> None:
    with (engine / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (engine / "link").symlink_to("/")
    assert not too_large(engine)
    for number in range(10):
        (engine / str(number)).touch()
    assert too_large(engine)
