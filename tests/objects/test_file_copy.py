"""Copies between files: the same bytes, the same holes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runomics.objects import file_copy

MIB = 1 << 20
Copy = Callable[[int, int, int, Callable[[int], None]], str | None]


@pytest.fixture(params=[file_copy.copy, file_copy.copy_hashing])
def copy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Copy:
    monkeypatch.setattr(file_copy, "_clone", lambda source, target: False)
    made: Copy = request.param
    return made


def copied(copy: Copy, tmp_path: Path, write: Callable[[int], None]) -> tuple[Path, Path, int]:
    """Source, target, and how many bytes were told."""
    told: list[int] = []
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        write(file.fileno())
    with source.open("rb") as reading, target.open("w+b") as writing:
        digest = copy(reading.fileno(), writing.fileno(), source.stat().st_size, told.append)
    assert digest in (None, hashlib.sha256(source.read_bytes()).hexdigest())
    return source, target, sum(told)


def _sparse(descriptor: int) -> None:
    os.pwrite(descriptor, b"begin", 0)
    os.pwrite(descriptor, os.urandom(MIB), 40 * MIB + 7)
    os.pwrite(descriptor, b"end", 90 * MIB)
    os.ftruncate(descriptor, 128 * MIB)


def test_a_file_with_holes_takes_no_more_than_before(copy: Copy, tmp_path: Path) -> None:
    source, target, told = copied(copy, tmp_path, _sparse)
    assert target.read_bytes() == source.read_bytes()
    assert told == 128 * MIB
    assert target.stat().st_blocks * 512 < 6 * MIB


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 1])
def test_files_without_holes_are_the_same(copy: Copy, tmp_path: Path, size: int) -> None:
    source, target, told = copied(copy, tmp_path, lambda descriptor: _ignore(os.write(descriptor, os.urandom(size))))
    assert (target.read_bytes(), told) == (source.read_bytes(), size)


def test_a_file_that_is_one_hole_is_one_again(copy: Copy, tmp_path: Path) -> None:
    _, target, told = copied(copy, tmp_path, lambda descriptor: os.ftruncate(descriptor, 64 * MIB))
    assert (target.stat().st_size, target.stat().st_blocks, told) == (64 * MIB, 0, 64 * MIB)


def _ignore(value: object) -> None:
    return
