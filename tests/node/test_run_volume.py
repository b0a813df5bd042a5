"""Trees that tasks leave, removed without following anything, at any depth and whatever their rights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runomics.node import volume


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    descriptor = volume.open_volume(str(tmp_path))
    yield descriptor
    os.close(descriptor)


def test_a_tree_deeper_than_any_path_and_wider_than_one_directory_is_removed(tmp_path: Path, opened: int) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("tree", dir_fd=here)
    below = os.open("tree", os.O_RDONLY, dir_fd=here)
    for depth in range(3000):
        os.close(os.open(f"file-{depth}", os.O_CREAT, dir_fd=below))
        os.mkdir("d" * 100, dir_fd=below)
        os.mkdir(f"side-{depth}", dir_fd=below)
        deeper = os.open("d" * 100, os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(below)
    os.close(here)
    volume.remove_tree(opened, "tree")
    assert list(tmp_path.iterdir()) == []


def test_names_that_look_like_its_own_do_not_stop_it(tmp_path: Path, opened: int) -> None:
    for path in ("tree/.removed-0/x", "tree/a/.removed-0/x/y", "tree/a/b/.removed-1"):
        (tmp_path / path).mkdir(parents=True)
    volume.remove_tree(opened, "tree")
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_what_they_name_is_kept(tmp_path: Path, opened: int) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(kept)
    (tmp_path / "link").symlink_to(kept)
    volume.remove_tree(opened, "tree")
    volume.remove_tree(opened, "link")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["kept", "kept/file"]


def test_what_is_not_there_is_removed_already(opened: int) -> None:
    volume.remove_tree(opened, "nothing")
    volume.remove_scratch(opened, "nothing/at/all")


def test_a_scratch_begins_empty_with_the_modes_asked_for(tmp_path: Path, opened: int) -> None:
    (tmp_path / ".scratch" / "1" / "tmp" / "old").mkdir(parents=True)
    made = volume.make_scratch(opened, ".scratch/1", {"tmp": 0o1777, "home": 0o700})
    for descriptor in made.values():
        os.close(descriptor)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / ".scratch" / "1").iterdir()}
    assert modes == {"tmp": 0o1777, "home": 0o700}
    assert list((tmp_path / ".scratch" / "1" / "tmp").iterdir()) == []


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/out", "link/out", "dangling"])
def test_an_output_is_never_opened_outside(tmp_path: Path, path: str) -> None:
    inside, outside = tmp_path / "volume", tmp_path / "outside"
    (inside / "a").mkdir(parents=True)
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "dangling").symlink_to(outside / "out")
    descriptor = volume.open_volume(str(inside))
    with pytest.raises(volume.Refused, match="without following a link"):
        volume.open_output(descriptor, path)
    os.close(descriptor)
    assert (list(outside.iterdir()), (tmp_path / "out").exists()) == ([], False)
