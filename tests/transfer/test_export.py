"""Delivery: what leaves a run, where it goes, what never leaves, and what each way to fail is called."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transfer_place import Heard, Place

from runomics.domain.inputs import parse_input
from runomics.ports import ObjectInfo, ObjectMissing
from runomics.sandbox.volume_path import resolve_in_volume
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.transfer import Exported, ExportJob, Progress, Transfers

BASE = "s3://out/results/1000001"
WORK = "/mnt/workflow/u/workdir"


def write(place: Place, path: str, data: bytes) -> str:
    """A file of the run by its path in the run."""
    file = place.run / "volume" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return f"/mnt/workflow/{path}"


def one(source: str, target: str, *, directory: bool = False) -> dict[str, Any]:
    return {"source": source, "target": target, "directory": directory}


def export(place: Place, exports: list[dict[str, Any]], outputs: dict[str, Any] | None = None, **rest: Any) -> Exported:
    job = ExportJob(run_directory=place.run, run_output_uri=BASE, exports=exports, outputs=outputs, **rest)
    result: Exported = place.wait(lambda done: place.transfers.export(job, done))
    return result


def stored(place: Place) -> dict[str, bytes]:
    """Everything in the output bucket by what follows the run's prefix."""
    return {
        info.uri.removeprefix(f"{BASE}/"): place.objects.read_bytes(info.uri, 1 << 30)
        for info in place.objects.list("s3://out/")
    }


@pytest.mark.source("guide")
def test_outputs_go_below_the_run_and_the_summary_tells_where(place: Place) -> None:
    source = write(place, "u/workdir/out/hello.txt", b"hello")
    (place.run / "engine.log").write_bytes(b"engine says\n")
    exported = export(
        place,
        [one(source, "out/greeting/hello.txt")],
        {"hello.greeting": {"__export__": "out/greeting/hello.txt"}, "hello.count": 3, "hello.none": None},
        engine_log=place.run / "engine.log",
    )
    outputs = {"hello.greeting": f"{BASE}/out/greeting/hello.txt", "hello.count": 3, "hello.none": None}
    assert exported == Exported(
        uris={"out/greeting/hello.txt": f"{BASE}/out/greeting/hello.txt"},
        failure=None,
        bytes=5,
        messages=(),
        outputs=outputs,
    )
    found = stored(place)
    assert json.loads(found.pop("logs/outputs.json")) == outputs
    assert found == {"out/greeting/hello.txt": b"hello", "logs/engine.log": b"engine says\n"}
    assert place.transfers.progress(place.run) == Progress(exported_bytes=5, export_total_bytes=5)


@pytest.mark.source("guide")
def test_without_an_output_document_there_is_no_summary(place: Place) -> None:
    export(place, [one(write(place, "pubdir/a", b"x"), "pubdir/a")])
    assert stored(place) == {"pubdir/a": b"x"}


@pytest.mark.parametrize("uri", [BASE, f"{BASE}/"])
def test_a_slash_at_the_end_of_the_output_uri_makes_no_difference(place: Place, uri: str) -> None:
    job = ExportJob(
        run_directory=place.run, run_output_uri=uri, exports=[one(write(place, "a", b"x"), "out/a")], outputs={}
    )
    place.wait(lambda done: place.transfers.export(job, done))
    assert sorted(stored(place)) == ["logs/outputs.json", "out/a"]


def test_uris_stand_anywhere_in_the_output_document(place: Place) -> None:
    for name in "abc":
        write(place, f"w/{name}", name.encode())
    write(place, "w/dir/x", b"x")
    exports = [one(f"/mnt/workflow/w/{name}", f"out/{name}") for name in "abc"]
    exported = export(
        place,
        [*exports, one("/mnt/workflow/w/dir", "out/dir", directory=True)],
        {
            "files": [{"__export__": "out/a"}, [{"__export__": "out/b"}]],
            "cwl": {"class": "File", "location": {"__export__": "out/c"}, "size": 1},
            "dir": {"__export__": "out/dir"},
        },
    )
    assert exported.outputs == {
        "files": [f"{BASE}/out/a", [f"{BASE}/out/b"]],
        "cwl": {"class": "File", "location": f"{BASE}/out/c", "size": 1},
        "dir": f"{BASE}/out/dir/",
    }
    assert parse_input(exported.outputs["dir"]).is_prefix, "an exported directory can be the input of the next run"


def test_a_directory_is_delivered_with_everything_below_it(place: Place) -> None:
    for path in ("d/a", "d/sub/b", "d/sub/deep/c", "d/.hidden", "d/name with ü + %20"):
        write(place, path, path.encode())
    (place.run / "volume/d/empty").mkdir()
    exported = export(place, [one("/mnt/workflow/d", "out/d", directory=True)])
    assert exported.failure is None
    assert stored(place) == {
        f"out/{path}": path.encode() for path in ("d/a", "d/sub/b", "d/sub/deep/c", "d/.hidden", "d/name with ü + %20")
    }


# ---- links -------------------------------------------------------------------------------------------------------


def test_links_to_files_of_the_run_are_delivered_as_files(place: Place) -> None:
    uri = place.put("reads.fq", b"input content")
    staged = place.wait(lambda done: place.transfers.import_inputs(place.run, [parse_input(uri)], done)).staged[uri]
    write(place, "w/real", b"real content")
    (place.run / "volume/w/relative").symlink_to("real")
    (place.run / "volume/w/absolute").symlink_to("/mnt/workflow/w/relative")
    (place.run / "volume/w/input").symlink_to(staged)
    (place.run / "volume/w/dir").mkdir()
    (place.run / "volume/w/dir/inner").symlink_to("../absolute")
    exports = [one(f"/mnt/workflow/w/{name}", f"out/{name}") for name in ("relative", "absolute", "input")]
    exported = export(
        place, [*exports, one("/mnt/workflow/w/dir", "out/dir", directory=True), one(staged, "out/staged")]
    )
    assert exported.failure is None
    assert stored(place) == {
        "out/relative": b"real content",
        "out/absolute": b"real content",
        "out/input": b"input content",
        "out/dir/inner": b"real content",
        "out/staged": b"input content",
    }


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "../../../../../../../../etc/passwd",
        "/proc/self/root/etc/passwd",
        "/mnt/workflow/../../etc/passwd",
    ],
)
def test_an_output_that_is_a_link_out_of_the_run_fails_the_export_and_nothing_leaves(place: Place, target: str) -> None:
    (place.run / "volume/stolen").symlink_to(target)
    good = write(place, "good", b"good")
    exported = export(place, [one(good, "out/good"), one("/mnt/workflow/stolen", "out/stolen")], {})
    assert exported.failure is not None
    assert exported.failure[0] == "EXPORT_FAILED"
    assert "/mnt/workflow/stolen" in exported.failure[1]
    assert stored(place) == {}


@pytest.mark.parametrize("source", ["/etc/passwd", "/mnt/workflow/../secret", "secret", "", "/mnt/workflow/u\0x"])
def test_a_source_that_an_engine_invents_fails_the_export(place: Place, source: str) -> None:
    (place.run / "secret").write_bytes(b"of the service")
    exported = export(place, [one(source, "out/x")])
    assert exported.failure is not None
    assert exported.failure[0] == "EXPORT_FAILED"
    assert stored(place) == {}


@pytest.mark.parametrize("target", ["../x", "a/../../x", "/x", "a//b", "", ".", "a/"])
def test_a_target_that_an_engine_invents_fails_the_export(place: Place, target: str) -> None:
    exported = export(place, [one(write(place, "a", b"x"), target)])
    assert exported.failure is not None
    assert exported.failure[0] == "EXPORT_FAILED"
    assert stored(place) == {}


def test_what_is_no_file_in_a_directory_is_left_out_and_told(place: Place) -> None:
    write(place, "d/file", b"x")
    volume = place.run / "volume"
    os.mkfifo(volume / "d/pipe")
    (volume / "d/out").symlink_to("/etc/passwd")
    (volume / "d/gone").symlink_to("nothing")
    (volume / "d/loop").symlink_to("../d")
    (volume / "d/to-pipe").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        place_of = os.open(volume / "d", os.O_RDONLY)
        server.bind(f"/proc/self/fd/{place_of}/socket")
        os.close(place_of)
        exported = export(place, [one("/mnt/workflow/d", "out/d", directory=True)])
    assert exported.failure is None
    assert stored(place) == {"out/d/file": b"x"}
    told = {message.split(": ")[1] for message in exported.messages}
    assert told == {f"/mnt/workflow/d/{name}" for name in ("pipe", "out", "gone", "loop", "to-pipe", "socket")}


def test_a_pipe_as_an_output_fails_the_export_and_does_not_block_it(place: Place) -> None:
    os.mkfifo(place.run / "volume/pipe")
    exported = export(place, [one("/mnt/workflow/pipe", "out/pipe")])
    assert exported.failure is not None
    assert exported.failure[0] == "EXPORT_FAILED"


def test_a_file_that_becomes_a_link_while_the_export_runs_never_shows_its_target(place: Place) -> None:
    """The attack: a process of the run swaps the file for a link to something of the host, again and again."""
    (place.root / "secret").write_bytes(b"SECRET")
    source = write(place, "w/file", b"mine")
    file, evil = place.run / "volume/w/file", place.run / "volume/w/evil"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in (place.root / "secret", None):
                if target is None:
                    evil.write_bytes(b"mine")
                else:
                    evil.symlink_to(target)
                os.rename(evil, file)

    attacker = threading.Thread(target=swap)
    attacker.start()
    outcomes = set()
    for number in range(5000):
        exported = export(place, [one(source, f"out/{number}")])
        outcomes.add(exported.failure is None)
        if number >= 150 and len(outcomes) == 2:
            break
    stop.set()
    attacker.join()
    assert set(stored(place).values()) <= {b"mine", b""}
    assert outcomes == {True, False}, "the race was never run"


def test_an_engine_log_that_is_a_link_is_not_followed(place: Place) -> None:
    (place.run / "engine.log").symlink_to("/etc/passwd")
    exported = place.wait(
        lambda done: place.transfers.export_log(place.run / "engine.log", f"{BASE}/logs/engine.log", done)
    )
    assert exported.failure is not None
    assert stored(place) == {}


# ---- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_a_missing_output_bucket_fails_with_its_name_and_what_to_do(place: Place) -> None:
    job = ExportJob(place.run, "s3://no-such-bucket/x", [one(write(place, "a", b"x"), "out/a")], {})
    exported = place.wait(lambda done: place.transfers.export(job, done))
    assert exported.failure is not None
    reason, message = exported.failure
    assert reason == "EXPORT_FAILED"
    assert "no-such-bucket" in message
    assert "Make it" in message


def test_a_missing_output_file_fails_before_anything_is_stored(place: Place) -> None:
    exported = export(place, [one(write(place, "a", b"x"), "out/a"), one("/mnt/workflow/none", "out/none")], {})
    assert exported.failure == (
        "EXPORT_FAILED",
        "Output /mnt/workflow/none cannot be read inside the run's storage: it does not exist.",
    )
    assert stored(place) == {}


def test_a_check_that_fails_ends_the_export_before_it_begins(place: Place) -> None:
    job = ExportJob(place.run, BASE, [one(write(place, "a", b"x"), "out/a")], {})
    exported = place.wait(
        lambda done: place.transfers.export(job, done, check=lambda: ("SERVICE_ERROR", "the volume lost writes"))
    )
    assert exported == Exported(failure=("SERVICE_ERROR", "the volume lost writes"))
    assert stored(place) == {}


def test_a_key_in_the_way_fails_with_the_file_and_the_place(place: Place) -> None:
    place.objects.upload_bytes(b"x", f"{BASE}/out")
    exported = export(place, [one(write(place, "a", b"x"), "out/a")])
    assert exported.failure is not None
    assert exported.failure[0] == "EXPORT_FAILED"
    assert "/mnt/workflow/a" in exported.failure[1]
    assert f"{BASE}/out/a" in exported.failure[1]


@pytest.mark.parametrize("code", [28, 122, 5])
def test_trouble_of_the_host_is_a_service_error(place: Place, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def upload(*_: Any) -> ObjectInfo:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(place.objects, "upload", upload)
    exported = export(place, [one(write(place, "a", b"x"), "out/a")])
    assert exported.failure is not None
    assert exported.failure[0] == "SERVICE_ERROR"


def test_a_document_that_cannot_be_written_as_json_fails_the_export(place: Place) -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    exported = export(place, [], {"deep": deep})
    assert exported.failure is not None


# ---- again -------------------------------------------------------------------------------------------------------


def counting_uploads(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    uploaded: list[str] = []
    upload: Callable[..., ObjectInfo] = place.objects.upload

    def counted(descriptor: int, uri: str, *rest: Any) -> ObjectInfo:
        uploaded.append(uri)
        return upload(descriptor, uri, *rest)

    monkeypatch.setattr(place.objects, "upload", counted)
    return uploaded


def test_an_export_begun_again_stores_only_what_is_not_there_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = [
        one(write(place, name, name.encode()), f"out/{name}") for name in ("same", "deleted", "replaced", "rewritten")
    ]
    first = export(place, exports)
    (place.root / "objects/out/results/1000001/out/deleted").unlink()
    place.objects.upload_bytes(b"by someone else", f"{BASE}/out/replaced")
    write(place, "rewritten", b"a newer output")
    with (place.run / "exported.jsonl").open("ab") as record:
        record.write(b'{"uri": "s3://out/cut sho')
    uploaded = counting_uploads(place, monkeypatch)
    again = export(place, exports)
    assert sorted(uploaded) == [f"{BASE}/out/{name}" for name in ("deleted", "replaced", "rewritten")]
    assert again.uris == first.uris
    assert stored(place) == {
        "out/same": b"same",
        "out/deleted": b"deleted",
        "out/replaced": b"replaced",
        "out/rewritten": b"a newer output",
    }
    uploaded.clear()
    export(place, exports)
    assert uploaded == []


def test_two_requests_for_one_export_share_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded = counting_uploads(place, monkeypatch)
    go_on = threading.Event()
    heard = Heard()
    job = ExportJob(place.run, BASE, [one(write(place, "a", b"x"), "out/a")], {})

    def check() -> None:
        go_on.wait(10)

    place.transfers.export(job, heard, check=check)
    place.transfers.export(job, heard)
    go_on.set()
    results = heard.wait(2)
    assert results[0] is results[1]
    assert uploaded == [f"{BASE}/out/a"]


def test_an_export_that_is_forgotten_leaves_nothing_open_in_the_volume(place: Place) -> None:
    sources = [write(place, f"big{number}", b"") for number in range(20)]
    for source in sources:
        os.truncate(place.run / "volume" / source.removeprefix("/mnt/workflow/"), 64 * 1024**2)
    heard = Heard()
    job = ExportJob(place.run, BASE, [one(source, f"out{source}") for source in sources])
    place.transfers.export(job, heard)
    while place.transfers.progress(place.run).export_total_bytes == 0:
        threading.Event().wait(0.001)
    place.transfers.forget(place.run)
    held = [path for path in map(_target, os.listdir("/proc/self/fd")) if path.startswith(str(place.run))]
    assert held == []
    assert heard.results == []
    assert len(list(place.objects.list("s3://out/"))) < 20


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def test_a_large_output_is_copied_whole_from_another_file_system(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run storage is a file system of its own: /dev/shm stands for it."""
    volume = Path("/dev/shm") / f"runomics-{os.getpid()}"
    volume.mkdir()
    try:
        data = os.urandom(9 * 1024**2) + b"the end"
        (volume / "big").write_bytes(data)
        (place.run / "volume").rmdir()
        (place.run / "volume").symlink_to(volume)
        exported = export(place, [one("/mnt/workflow/big", "out/big")])
        assert exported.failure is None
        assert stored(place) == {"out/big": data}
    finally:
        (volume / "big").unlink()
        volume.rmdir()


def test_an_object_that_vanished_is_no_obstacle_to_the_next_server(place: Place) -> None:
    export(place, [one(write(place, "a", b"x"), "out/a")])
    with pytest.raises(ObjectMissing):
        place.objects.head(f"{BASE}/out/b")
    fresh = Transfers(
        objects=place.objects, cache=InputCache(place.root / "cache", place.objects), open_export=resolve_in_volume
    )
    job = ExportJob(place.run, BASE, [one(write(place, "b", b"y"), "out/b")])
    assert place.wait(lambda done: fresh.export(job, done)).failure is None
    fresh.close()
