"""Staging: what a run sees of its inputs, and what each way to fail is called."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transfer_place import Heard, Place

from runomics.domain.inputs import InputUri, parse_input
from runomics.objects.directory import SIDE, DirectoryObjects
from runomics.ports import ObjectInfo
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.transfer import Imported, Progress, Transfers


def uris_of(*uris: str) -> list[InputUri]:
    return [parse_input(uri) for uri in uris]


def test_an_object_is_staged_read_only_at_its_key(place: Place) -> None:
    uri = place.put("reads/a.fq", b"ACGT")
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of(uri), done))
    assert imported == Imported(
        staged={uri: "/mnt/workflow/inputs/s3/data/reads/a.fq"},
        digests={uri: f"etag:{hashlib.md5(b'ACGT', usedforsecurity=False).hexdigest()}"},
    )
    staged = place.staged_file(imported.staged[uri])
    assert staged.read_bytes() == b"ACGT"
    assert stat.S_IMODE(staged.stat().st_mode) == 0o444
    assert place.transfers.progress(place.run) == Progress(imported_bytes=4, import_total_bytes=4)


def test_the_same_content_lies_on_the_disk_once_whatever_its_names(place: Place) -> None:
    uris = [place.put(key, b"same content") for key in ("a", "b/c", "d")]
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of(*uris), done))
    inodes = {place.staged_file(path).stat().st_ino for path in imported.staged.values()}
    sha256 = hashlib.sha256(b"same content").hexdigest()
    assert len(inodes) == 1
    assert (place.root / "cache" / sha256[:2] / sha256).stat().st_nlink == 4


def test_a_directory_is_everything_below_its_prefix(place: Place) -> None:
    for key in ("ref/a", "ref/sub/b", "ref/sub/deep/c", "reference", "other/d"):
        place.put(key, key.encode())
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of("s3://data/ref/"), done))
    assert imported.failure is None
    assert imported.staged == {"s3://data/ref/": "/mnt/workflow/inputs/s3/data/ref"}
    root = place.staged_file(imported.staged["s3://data/ref/"])
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files == {"a": b"ref/a", "sub/b": b"ref/sub/b", "sub/deep/c": b"ref/sub/deep/c"}
    assert imported.digests["s3://data/ref/"].endswith("-3")


def test_the_digest_of_a_directory_changes_with_any_object_in_it(place: Place) -> None:
    for key in ("ref/a", "ref/b"):
        place.put(key, key.encode())
    uris = uris_of("s3://data/ref/")
    first = place.wait(lambda done: place.transfers.import_inputs(place.run, uris, done))
    again = place.wait(lambda done: place.transfers.import_inputs(place.new_run("two"), uris, done))
    place.put("ref/b", b"changed")
    changed = place.wait(lambda done: place.transfers.import_inputs(place.new_run("three"), uris, done))
    assert first.digests == again.digests
    assert first.digests != changed.digests


def test_a_run_keeps_the_content_it_was_given_when_the_object_is_replaced(place: Place) -> None:
    uri = place.put("a", b"first")
    first = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of(uri), done))
    place.put("a", b"second")
    other = place.new_run("two")
    second = place.wait(lambda done: place.transfers.import_inputs(other, uris_of(uri), done))
    assert place.staged_file(first.staged[uri]).read_bytes() == b"first"
    assert place.staged_file(second.staged[uri], other).read_bytes() == b"second"


def test_an_import_that_is_repeated_downloads_nothing_and_says_the_same(place: Place) -> None:
    uris = uris_of(*[place.put(f"k/{number}", b"%d" % number) for number in range(20)], "s3://data/k/")
    first = place.wait(lambda done: place.transfers.import_inputs(place.run, uris, done))
    place.objects.download = None  # type: ignore[assignment,method-assign]
    cache = InputCache(place.root / "cache", place.objects)
    fresh = Transfers(objects=place.objects, cache=cache, open_export=lambda *_: -1)
    again = place.wait(lambda done: fresh.import_inputs(place.run, uris, done))
    fresh.close()
    assert first.failure is None
    assert again == first


@pytest.mark.source("guide")
def test_a_missing_input_is_named_and_it_is_the_first_in_order(place: Place) -> None:
    uris = uris_of(place.put("a", b"x"), "s3://data/gone-1", "s3://nowhere/gone-2", "s3://data/gone/")
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris, done))
    assert imported.failure is not None
    reason, message = imported.failure
    assert reason == "INPUT_URI_NOT_FOUND"
    assert "s3://data/gone-1" in message
    assert imported.staged == {}


def test_an_empty_directory_is_a_missing_input(place: Place) -> None:
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of("s3://data/none/"), done))
    assert imported.failure is not None
    assert imported.failure[0] == "INPUT_URI_NOT_FOUND"


def test_what_no_type_declares_is_staged_when_it_exists_and_left_when_not(place: Place) -> None:
    there = place.put("there", b"x")
    uris = [parse_input(uri, declared=False) for uri in (there, "s3://data/not-there", f"s3://data/{SIDE}/x")]
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris, done))
    assert imported.failure is None
    assert list(imported.staged) == [there]


@pytest.mark.source("guide")
def test_an_input_that_may_not_be_read_is_an_import_failure(place: Place) -> None:
    (place.root / "objects" / "data" / "link").symlink_to("/etc/passwd")
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of("s3://data/link"), done))
    assert imported.failure is not None
    assert imported.failure[0] == "IMPORT_FAILED"
    assert "s3://data/link" in imported.failure[1]


def test_a_check_comes_first_and_its_failure_is_the_whole_result(place: Place) -> None:
    uri = place.put("a", b"x")
    failure = ("EXPORT_FAILED", "no bucket")
    imported = place.wait(
        lambda done: place.transfers.import_inputs(place.run, uris_of(uri), done, check=lambda: failure)
    )
    assert imported == Imported(staged={}, digests={}, failure=failure)
    assert list((place.run / "inputs").iterdir()) == []


def test_no_inputs_end_at_once_and_well(place: Place) -> None:
    assert place.wait(lambda done: place.transfers.import_inputs(place.run, [], done)) == Imported({}, {})


class OddObjects(DirectoryObjects):
    """The folder store with one call replaced, to bring about what cannot be brought about from outside."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.downloads = 0
        self.on_download: Callable[[ObjectInfo], None] = lambda info: None
        self.keys: dict[str, str] = {}

    def download(self, info: ObjectInfo, descriptor: int, on_bytes: Any = None) -> str:
        self.downloads += 1
        self.on_download(info)
        return super().download(info, descriptor, on_bytes)


@pytest.fixture
def odd(place: Place) -> OddObjects:
    objects = OddObjects(place.root / "objects")
    place.objects = objects
    place.cache = InputCache(place.root / "cache", objects)
    place.transfers = Transfers(objects=objects, cache=place.cache, open_export=lambda *_: -1)
    return objects


@pytest.mark.source("guide")
def test_an_object_replaced_between_look_and_fetch_is_a_modified_input(place: Place, odd: OddObjects) -> None:
    uri = place.put("a", b"first")
    odd.on_download = lambda info: place.put("a", b"second") and None
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of(uri), done))
    assert imported.failure is not None
    assert imported.failure[0] == "MODIFIED_INPUT_RESOURCE"
    assert uri in imported.failure[1]


@pytest.mark.parametrize(("code", "text"), [(28, "no space"), (122, "no space"), (5, "could not be fetched")])
def test_trouble_of_the_host_is_a_service_error(place: Place, odd: OddObjects, code: int, text: str) -> None:
    def trouble(_: ObjectInfo) -> None:
        raise OSError(code, os.strerror(code))

    odd.on_download = trouble
    uri = place.put("a", b"x")
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of(uri), done))
    assert imported.failure is not None
    assert imported.failure[0] == "SERVICE_ERROR"
    assert text in imported.failure[1]
    assert list((place.root / "cache" / "partial").iterdir()) == []


def test_many_runs_that_want_one_object_at_once_fetch_it_once(place: Place, odd: OddObjects) -> None:
    uri = place.put("big", b"x" * 1000)
    others_wait = threading.Event()
    odd.on_download = lambda info: others_wait.wait(10) and None
    runs = [place.new_run(f"r{number}") for number in range(20)]
    heard, other = Heard(), Heard()
    for run in runs:
        place.transfers.import_inputs(run, uris_of(uri), heard)
    place.transfers.import_inputs(place.run, [parse_input("s3://data/missing")], other)
    other.wait(1)  # nineteen that wait must not occupy the threads
    others_wait.set()
    results = heard.wait(20)
    assert odd.downloads == 1
    assert [result.failure for result in results] == [None] * 20
    assert {place.staged_file("/mnt/workflow/inputs/s3/data/big", run).read_bytes() for run in runs} == {b"x" * 1000}


def test_a_run_with_many_files_does_not_keep_another_waiting(place: Place, odd: OddObjects) -> None:
    many = uris_of(*[place.put(f"many/{number}", b"%d" % number) for number in range(400)])
    one = uris_of(place.put("one", b"1"))
    gate = threading.Event()
    odd.on_download = lambda info: gate.wait(10) and None
    crowd, single = Heard(), Heard()
    place.transfers.import_inputs(place.run, many, crowd)
    while odd.downloads < 8:
        threading.Event().wait(0.001)
    place.transfers.import_inputs(place.new_run("two"), one, single)
    gate.set()
    single.wait(1)
    assert crowd.results == []
    assert crowd.wait(1)[0].failure is None


def test_a_run_that_is_forgotten_hears_nothing_and_gets_no_more_files(place: Place, odd: OddObjects) -> None:
    uris = uris_of(*[place.put(f"k/{number}", os.urandom(10)) for number in range(50)])
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: ObjectInfo) -> None:
        begun.set()
        go_on.wait(10)

    odd.on_download = slow
    called: list[Imported] = []
    place.transfers.import_inputs(place.run, uris, called.append)
    assert begun.wait(10)
    forgetting = threading.Thread(target=place.transfers.forget, args=(place.run,))
    forgetting.start()
    go_on.set()
    forgetting.join(10)
    files = [path for path in (place.run / "inputs").rglob("*") if path.is_file()]
    assert len(files) < 50
    imported = place.wait(lambda done: place.transfers.import_inputs(place.new_run("two"), uris, done))
    assert imported.failure is None
    assert called == []
    assert [path for path in (place.run / "inputs").rglob("*") if path.is_file()] == files


def test_who_waits_for_a_run_that_gives_up_fetches_for_itself(place: Place, odd: OddObjects) -> None:
    uri = place.put("a", b"x" * 100)
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: ObjectInfo) -> None:
        begun.set()
        go_on.wait(10)

    odd.on_download = slow
    place.transfers.import_inputs(place.run, uris_of(uri), lambda _: None)
    assert begun.wait(10)
    second = place.new_run("two")
    heard = Heard()
    place.transfers.import_inputs(second, uris_of(uri), heard)
    forgetting = threading.Thread(target=place.transfers.forget, args=(place.run,))
    forgetting.start()
    go_on.set()
    result = heard.wait(1)[0]
    forgetting.join(10)
    assert result.failure is None
    assert place.staged_file(result.staged[uri], second).read_bytes() == b"x" * 100


def test_two_requests_for_one_import_share_it(place: Place, odd: OddObjects) -> None:
    uri = place.put("a", b"x")
    go_on = threading.Event()
    odd.on_download = lambda info: go_on.wait(10) and None
    heard = Heard()
    place.transfers.import_inputs(place.run, uris_of(uri), heard)
    place.transfers.import_inputs(place.run, uris_of(uri), heard)
    go_on.set()
    results = heard.wait(2)
    assert results[0] is results[1]
    assert odd.downloads == 1


# ---- run time ----------------------------------------------------------------------------------------------------


def test_an_engine_may_stage_an_object_or_a_directory_later(place: Place) -> None:
    uri = place.put("late/a", b"late")
    one = place.wait(lambda done: place.transfers.stage(place.run, uri, None, done))
    assert place.staged_file(one.staged[uri]).read_bytes() == b"late"
    folder = place.wait(lambda done: place.transfers.stage(place.run, "s3://data/late/", None, done))
    assert folder.staged == {"s3://data/late/": "/mnt/workflow/inputs/s3/data/late"}


@pytest.mark.source("guide")
def test_an_input_that_changed_since_the_import_is_refused_when_staged_again(place: Place) -> None:
    uri = place.put("a", b"one")
    digest = place.wait(lambda done: place.transfers.import_inputs(place.run, uris_of(uri), done)).digests[uri]
    same = place.wait(lambda done: place.transfers.stage(place.run, uri, digest, done))
    assert same.failure is None
    place.put("a", b"two")
    changed = place.wait(lambda done: place.transfers.stage(place.run, uri, digest, done))
    assert changed.failure is not None
    assert changed.failure[0] == "MODIFIED_INPUT_RESOURCE"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://data/none", "INPUT_URI_NOT_FOUND"),
        ("http://x/y", "INVALID_URI_INPUT"),
        ("/etc/passwd", "INVALID_URI_INPUT"),
        ("s3://data/../../x", "IMPORT_FAILED"),
    ],
)
def test_a_bad_uri_of_an_engine_is_answered_with_its_reason(place: Place, uri: str, reason: str) -> None:
    imported = place.wait(lambda done: place.transfers.stage(place.run, uri, None, done))
    assert imported.failure is not None
    assert imported.failure[0] == reason
