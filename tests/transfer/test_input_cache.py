"""The cache of inputs: whole files only, one for each content, bounded, and right after any crash."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runomics.objects.directory import DirectoryObjects
from runomics.ports import ObjectInfo, ObjectMissing
from runomics.scheduler.input_cache import CachedFile, InputCache


class World:
    def __init__(self, root: Path, max_bytes: int = 0) -> None:
        self.root = root
        self.objects = DirectoryObjects(root / "objects")
        self.objects.make_bucket("data")
        self.max_bytes = max_bytes
        self.cache = self.new_cache()

    def new_cache(self) -> InputCache:
        return InputCache(self.root / "cache", self.objects, max_bytes=self.max_bytes)

    def put(self, key: str, data: bytes) -> ObjectInfo:
        return self.objects.upload_bytes(data, f"s3://data/{key}")

    def fetch(self, info: ObjectInfo) -> CachedFile:
        results: list[Any] = []
        self.cache.fetch(info, results.append, lambda _: None)
        assert len(results) == 1
        if isinstance(results[0], BaseException):
            raise results[0]
        file: CachedFile = results[0]
        return file

    def link(self, file: CachedFile, name: str) -> Path:
        target = self.root / "run" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.cache.place(file, target)
        return target

    def contents(self) -> set[str]:
        return {path.name for path in (self.root / "cache").glob("??/*")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_file_lies_under_the_digest_of_its_content(world: World) -> None:
    file = world.fetch(world.put("a", b"content"))
    assert file == CachedFile(hashlib.sha256(b"content").hexdigest(), 7)
    assert world.cache.path(file).read_bytes() == b"content"
    assert world.contents() == {file.sha256}


def test_what_was_fetched_once_is_found_by_the_next_server(world: World) -> None:
    info = world.put("a", b"content")
    file = world.fetch(info)
    assert world.new_cache().find(info) == file
    assert world.new_cache().find(ObjectInfo(info.uri, 7, "another-etag")) is None


@pytest.mark.parametrize("damage", [b"", b"not json", b'{"sha256": 3}', b"[]", b'{"uri": "s3://data/a"}'])
def test_a_damaged_index_costs_a_download_and_nothing_else(world: World, damage: bytes) -> None:
    info = world.put("a", b"content")
    file = world.fetch(info)
    for index in (world.root / "cache" / "index").glob("*/*"):
        index.write_bytes(damage)
    assert world.cache.find(info) is None
    assert world.fetch(info) == file


def test_a_file_cut_short_by_a_power_cut_is_fetched_again(world: World) -> None:
    info = world.put("a", b"content")
    file = world.fetch(info)
    path = world.cache.path(file)
    os.truncate(path, 3)
    assert world.cache.find(info) is None
    assert world.fetch(info) == file
    assert path.read_bytes() == b"content"


def test_a_download_that_fails_leaves_nothing_and_can_be_tried_again(world: World) -> None:
    info = world.put("a", b"content")
    gone = ObjectInfo("s3://data/gone", 7, info.etag)
    with pytest.raises(ObjectMissing):
        world.fetch(gone)
    assert world.contents() == set()
    assert list((world.root / "cache" / "partial").iterdir()) == []
    world.put("gone", b"content")
    assert world.fetch(gone).size_bytes == 7


def test_an_object_that_does_not_fit_is_refused_before_it_is_fetched(world: World) -> None:
    with pytest.raises(OSError, match="no space") as caught:
        world.fetch(ObjectInfo("s3://data/huge", 1 << 60, "etag"))
    assert caught.value.errno == errno.ENOSPC


def test_leftovers_of_a_dead_server_go_at_the_next_start(world: World) -> None:
    (world.root / "cache" / "partial" / "0123").write_bytes(b"half")
    world.new_cache()
    assert list((world.root / "cache" / "partial").iterdir()) == []


def test_one_object_wanted_by_many_threads_is_fetched_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    info = world.put("a", b"content")
    calls = 0
    all_waiting = threading.Event()
    download: Callable[..., str] = world.objects.download

    def slow(*arguments: Any) -> str:
        nonlocal calls
        calls += 1
        all_waiting.wait(10)
        return download(*arguments)

    monkeypatch.setattr(world.objects, "download", slow)
    results: list[Any] = []
    threads = [
        threading.Thread(target=world.cache.fetch, args=(info, results.append, lambda _: None)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    while sum(thread.is_alive() for thread in threads) > 1:
        threading.Event().wait(0.001)  # fifteen leave at once: nobody waits in a thread
    all_waiting.set()
    for thread in threads:
        thread.join()
    assert (calls, len(results), len(set(results))) == (1, 16, 1)


# ---- placing -----------------------------------------------------------------------------------------------------


def test_placing_is_a_link_and_repeating_it_changes_nothing(world: World) -> None:
    file = world.fetch(world.put("a", b"content"))
    for _ in range(3):
        target = world.link(file, "a")
        assert os.path.samefile(target, world.cache.path(file))
    assert os.listdir(target.parent) == ["a"]


def test_placing_replaces_what_is_there(world: World) -> None:
    old, new = world.fetch(world.put("a", b"old")), world.fetch(world.put("b", b"new"))
    world.link(old, "x")
    target = world.link(new, "x")
    assert target.read_bytes() == b"new"
    assert world.cache.path(old).read_bytes() == b"old"
    assert os.listdir(target.parent) == ["x"]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_where_links_cannot_reach_a_copy_is_placed(world: World, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    file = world.fetch(world.put("a", b"content"))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    target = world.link(file, "a")
    assert target.read_bytes() == b"content"
    assert target.stat().st_mode & 0o777 == 0o444
    assert not os.path.samefile(target, world.cache.path(file))


# ---- evicting ----------------------------------------------------------------------------------------------------


def test_over_the_limit_the_files_idle_for_longest_go_and_those_of_runs_stay(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=1000)
    kept = world.fetch(world.put("kept", b"k" * 300))
    world.link(kept, "kept")
    files = []
    for number in range(4):
        files.append(world.fetch(world.put(f"idle{number}", bytes([number]) * 200)))
        threading.Event().wait(0.02)  # ctimes must differ
        if number == 1:  # the oldest is used again: now it is not the oldest any more
            world.link(files[0], "once").unlink()
            threading.Event().wait(0.02)  # ctimes must differ
    left = world.contents()
    assert kept.sha256 in left
    assert files[3].sha256 in left
    assert files[0].sha256 in left
    assert files[1].sha256 not in left


def test_what_was_evicted_is_fetched_again_when_wanted(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=250)
    first = world.put("first", b"1" * 200)
    file = world.fetch(first)
    world.fetch(world.put("second", b"2" * 200))
    assert world.cache.find(first) is None
    assert len(list((tmp_path / "cache" / "index").glob("*/*"))) <= 1
    with pytest.raises(FileNotFoundError):
        world.link(file, "a")
    assert world.link(world.fetch(first), "a").read_bytes() == b"1" * 200


def test_without_a_limit_nothing_goes(world: World) -> None:
    for number in range(20):
        world.fetch(world.put(str(number), b"%d" % number))
    assert len(world.contents()) == 20


def test_files_of_an_earlier_server_count_against_the_limit(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(5):
        world.fetch(world.put(str(number), bytes([number]) * 100))
    world.max_bytes = 300
    world.cache = world.new_cache()
    world.fetch(world.put("new", b"n" * 100))
    assert len(world.contents()) <= 3
