"""Images from a real registry that wants a login: what a name means, what is fetched and how often, what is kept, and why it may fail."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from image_registry import Registry, file, layer, registry
from runomics.domain.image import ImageUnavailable, Reference, parse
from runomics.images.probe import probe
from runomics.images.pulled import ImageLimits, PulledImages
from runomics.images.skopeo import Skopeo

pytestmark = pytest.mark.needs("registry")

BASE = layer(file("base", os.urandom(300_000)))
DAY = 86_400


@pytest.fixture(scope="module")
def lab() -> Iterator[Registry]:
    with registry() as made:
        made.push(
            "lab/a:1", [BASE, layer(file("a", "a"))], config={"Env": ["A=1", "PATH=/a:/b", "broken"], "User": "alice"}
        )
        made.push("lab/b:1", [BASE, layer(file("b", "b"))])
        made.push("lab/c:1", [BASE, layer(), layer(file("c", "c")), layer()])
        yield made


def images(
    place: Path, lab: Registry, *, limits: ImageLimits | None = None, auth_file: Path | None = None
) -> PulledImages:
    skopeo = Skopeo(place, auth_file=auth_file or lab.auth_file, insecure_registries=[lab.host])
    return PulledImages(place, skopeo, limits=limits, retry_seconds=(0.05, 0.05))


def pull(store: PulledImages, lab: Registry, name: str) -> Any:
    reference = parse(f"{lab.host}/{name}")
    return store.pull(reference, store.resolve(reference), lambda text: None)


def why(store: PulledImages, reference: Reference) -> tuple[str, str]:
    with pytest.raises(ImageUnavailable) as refused:
        store.pull(reference, store.resolve(reference), lambda text: None)
    return refused.value.why, str(refused.value)


def blobs(requests: list[str]) -> list[str]:
    return sorted(request for request in requests if "/blobs/" in request)


def test_a_name_means_the_digest_that_the_registry_gives_it(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab)
    assert store.resolve(parse(f"{lab.host}/lab/a:1")) == lab.digests["lab/a:1"]


def test_a_name_with_a_digest_is_asked_of_nobody(lab: Registry, tmp_path: Path) -> None:
    before = len(lab.requests())
    assert images(tmp_path, lab).resolve(parse(f"{lab.host}/lab/none@sha256:{'0' * 64}")) == f"sha256:{'0' * 64}"
    assert len(lab.requests()) == before


def test_a_pulled_image_has_its_layers_uppermost_first_and_its_configuration(lab: Registry, tmp_path: Path) -> None:
    image = pull(images(tmp_path, lab), lab, "lab/a:1")
    assert [sorted(path.name for path in each.iterdir()) for each in image.layers] == [["a"], ["base"]]
    assert (image.digest, image.environment, image.user) == (
        lab.digests["lab/a:1"],
        {"A": "1", "PATH": "/a:/b"},
        "alice",
    )


def test_images_share_layers_which_are_fetched_and_unpacked_once(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab)
    first = pull(store, lab, "lab/a:1")
    before = len(lab.requests())
    second = pull(store, lab, "lab/b:1")
    assert first.layers[-1] == second.layers[-1]
    fetched = blobs(lab.requests()[before:])
    shared = lab.manifest("lab/a", "1")["layers"][0]["digest"]
    assert len(fetched) == len(set(fetched)) == 2  # its configuration and its own layer
    assert not [request for request in fetched if shared in request]


def test_a_layer_that_an_image_has_twice_counts_once(lab: Registry, tmp_path: Path) -> None:
    image = pull(images(tmp_path, lab), lab, "lab/c:1")
    assert [sorted(path.name for path in each.iterdir()) for each in image.layers] == [[], ["c"], ["base"]]


def test_a_pulled_image_takes_its_room_once(lab: Registry, tmp_path: Path) -> None:
    pull(images(tmp_path, lab), lab, "lab/a:1")
    taken = sum(path.lstat().st_blocks * 512 for path in tmp_path.rglob("*") if path.is_file())
    assert 300_000 <= taken < 400_000


def test_many_runs_at_once_pull_an_image_once(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab)
    digest, before = lab.digests["lab/b:1"], len(lab.requests())
    reference = parse(f"{lab.host}/lab/b:1")
    said: list[str] = []
    with ThreadPoolExecutor(8) as runs:
        found = list(runs.map(lambda _: store.pull(reference, digest, said.append), range(8)))
    assert len({image.layers for image in found}) == 1
    fetched = blobs(lab.requests()[before:])
    assert len(fetched) == len(set(fetched)) == 3
    assert sum("Pulled image" in text for text in said) >= 1


def test_the_next_server_finds_what_is_here_and_asks_nobody(lab: Registry, tmp_path: Path) -> None:
    image = pull(images(tmp_path, lab), lab, "lab/a:1")
    before = len(lab.requests())
    again = images(tmp_path, lab)
    assert (again.find(image.digest), again.find("sha256:" + "0" * 64)) == (image, None)
    assert again.pull(parse(f"{lab.host}/lab/a:1"), image.digest, lambda text: None) == image
    assert len(lab.requests()) == before


def test_an_image_of_which_a_layer_is_gone_is_pulled_again(lab: Registry, tmp_path: Path) -> None:
    image = pull(images(tmp_path, lab), lab, "lab/a:1")
    shutil.rmtree(image.layers[-1].parent)
    again = images(tmp_path, lab)
    assert again.find(image.digest) is None
    assert pull(again, lab, "lab/a:1") == image
    assert (image.layers[-1] / "base").stat().st_size == 300_000


def test_a_tag_that_moved_is_another_image_and_the_first_stays(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab)
    first = lab.push("lab/moving:1", [layer(file("x", "first"))])
    old = pull(store, lab, "lab/moving:1")
    second = lab.push("lab/moving:1", [layer(file("x", "second"))])
    new = pull(store, lab, "lab/moving:1")
    assert (old.digest, new.digest) == (first, second)
    assert [(image.layers[0] / "x").read_text() for image in (old, new)] == ["first", "second"]
    assert store.pull(parse(f"{lab.host}/lab/moving:1"), first, lambda text: None) == old


# ---- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lab/a:2", "lab/none:1", f"lab/a@sha256:{'0' * 64}"])
def test_an_image_that_is_not_there_is_missing(lab: Registry, tmp_path: Path, name: str) -> None:
    reference = parse(f"{lab.host}/{name}")
    reason, message = why(images(tmp_path, lab), reference)
    assert (reason, str(reference) in message) == ("MISSING", True)


def test_a_wrong_or_missing_login_is_forbidden_and_told_how_to_mend(lab: Registry, tmp_path: Path) -> None:
    wrong = lab.write_login(tmp_path / "wrong.json", "AWS", "guess")
    nobody = tmp_path / "nobody.json"
    nobody.write_text("{}")
    for auth_file in (wrong, nobody):
        reason, message = why(images(tmp_path, lab, auth_file=auth_file), parse(f"{lab.host}/lab/a:1"))
        assert (reason, "registry_auth_file" in message) == ("FORBIDDEN", True)
        assert "guess" not in message


def test_a_registry_without_tls_is_not_spoken_to_unless_named(lab: Registry, tmp_path: Path) -> None:
    store = PulledImages(tmp_path, Skopeo(tmp_path, auth_file=lab.auth_file), retry_seconds=())
    reason, message = why(store, parse(f"{lab.host}/lab/a:1"))
    assert (reason, "insecure_registries" in message) == ("UNREACHABLE", True)


@pytest.mark.parametrize("what", ["layer", "manifest", "config"])
def test_a_damaged_image_is_broken_and_leaves_nothing_behind(lab: Registry, tmp_path: Path, what: str) -> None:
    name = f"lab/damaged-{what}"
    digest = lab.push(
        f"{name}:1", [layer(file("x", os.urandom(2000))), layer(file(what))], config={"Labels": {"what": what}}
    )
    manifest = lab.manifest(name, "1")
    blob = lab.blob(
        {"layer": manifest["layers"][0]["digest"], "manifest": digest, "config": manifest["config"]["digest"]}[what]
    )
    content = blob.read_bytes()
    blob.write_bytes(content[:-10] + b"0123456789")
    store = images(tmp_path, lab)
    reason, message = why(store, parse(f"{lab.host}/{name}@{digest}"))
    assert (reason, name in message) in ((("BROKEN"), True), ("UNREACHABLE", True))
    assert list((tmp_path / "layers").iterdir()) == list((tmp_path / "incoming").iterdir()) == []
    blob.write_bytes(content)
    assert pull(store, lab, f"{name}:1").digest == digest


def test_an_image_larger_than_allowed_has_the_reason_for_that(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab, limits=ImageLimits(image_bytes=250_000))
    reason, message = why(store, parse(f"{lab.host}/lab/a:1"))
    assert (reason, "max_image_gib" in message) == ("TOO_LARGE", True)


def test_a_registry_that_is_down_is_asked_again_until_it_answers(tmp_path: Path) -> None:
    with registry(login=None) as lab:
        lab.push("lab/a:1", [layer(file("a"))])
        lab.stop()
        skopeo = Skopeo(tmp_path, insecure_registries=[lab.host])
        store = PulledImages(tmp_path, skopeo, retry_seconds=(0.3,) * 60)
        said: list[str] = []
        told = threading.Event()

        def say(text: str) -> None:
            said.append(text)
            if "tried again" in text:
                told.set()

        with ThreadPoolExecutor(1) as run:
            pulled = run.submit(store.pull, parse(f"{lab.host}/lab/a:1"), lab.digests["lab/a:1"], say)
            assert told.wait(20)
            lab.start()
            assert pulled.result(30).digest == lab.digests["lab/a:1"]
        lab.stop()
        other = PulledImages(
            tmp_path / "other", Skopeo(tmp_path / "other", insecure_registries=[lab.host]), retry_seconds=(0.05,)
        )
        assert why(other, parse(f"{lab.host}/lab/a:1"))[0] == "UNREACHABLE"


def test_a_server_that_closes_ends_its_pulls(lab: Registry, tmp_path: Path) -> None:
    """A program that hangs stands for a registry that never ends to answer."""
    program = tmp_path / "skopeo"
    program.write_text("#!/bin/sh\necho > began; exec sleep 600\n")
    program.chmod(0o755)
    store = PulledImages(tmp_path, Skopeo(tmp_path, program=str(program)), retry_seconds=(0.05,))
    began = time.monotonic()
    with ThreadPoolExecutor(1) as run:
        pulled = run.submit(store.resolve, parse("quay.io/lab/x:1"))
        store.close()
        with pytest.raises(ImageUnavailable, match="the server is closing"):
            pulled.result(20)
    assert time.monotonic() - began < 10


# ---- what is kept --------------------------------------------------------------------------------------------------


def age(tmp_path: Path, digest: str, days: float) -> None:
    path = tmp_path / "manifests" / (digest.removeprefix("sha256:") + ".json")
    os.utime(path, (time.time() - days * DAY,) * 2)


def test_long_unused_images_go_oldest_first_while_there_are_too_many(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab, limits=ImageLimits(cache_bytes=315_000, unused_days=7))
    old, older, kept = (pull(store, lab, name) for name in ("lab/a:1", "lab/b:1", "lab/moving:1"))
    for image, days in ((old, 8), (older, 9), (kept, 1)):
        age(tmp_path, image.digest, days)
    assert store.collect(frozenset()) == [older.digest]
    assert (store.find(older.digest), store.find(old.digest)) == (None, old)
    assert not older.layers[0].exists()
    assert old.layers[-1].exists()  # of both
    assert pull(store, lab, "lab/b:1") == older


def test_images_of_live_runs_and_fresh_ones_stay_however_many(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab, limits=ImageLimits(cache_bytes=0, unused_days=7))
    used, fresh = pull(store, lab, "lab/a:1"), pull(store, lab, "lab/b:1")
    age(tmp_path, used.digest, 30)
    assert store.collect(frozenset({used.digest})) == []
    assert store.collect(frozenset()) == [used.digest]
    assert store.find(fresh.digest) == fresh


def test_what_is_asked_for_counts_as_used(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab, limits=ImageLimits(cache_bytes=0, unused_days=7))
    image = pull(store, lab, "lab/a:1")
    age(tmp_path, image.digest, 30)
    assert store.find(image.digest) == image
    assert store.collect(frozenset()) == []


def test_layers_that_belong_to_no_image_go(lab: Registry, tmp_path: Path) -> None:
    store = images(tmp_path, lab)
    image = pull(store, lab, "lab/a:1")
    (tmp_path / "layers" / ("0" * 64) / "root").mkdir(parents=True)
    (tmp_path / "blobs" / "sha256" / ("0" * 64)).write_text("x")
    assert store.collect(frozenset()) == []
    assert sorted(path.name for path in (tmp_path / "layers").iterdir()) == sorted(
        path.parent.name for path in image.layers
    )
    assert not (tmp_path / "blobs" / "sha256" / ("0" * 64)).exists()


# ---- doctor --------------------------------------------------------------------------------------------------------


def test_the_doctor_pulls_an_image_of_its_own_making(tmp_path: Path) -> None:
    (finding,) = probe(tmp_path)
    assert (finding.works, re.match(r"skopeo \d", finding.detail) is not None, finding.required) == (True, True, False)
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_what_to_install_where_there_is_no_skopeo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = probe(tmp_path)
    assert (finding.works, "Install skopeo" in finding.remedy) == (False, True)
