"""Which run storage is chosen, and what is said when the wished one cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from volume_world import UID, as_user, volume_mounts

from runomics.ports import Finding, StorageType, StorageUnavailable, VolumeLost
from runomics.run_storage import StorageSettings, image, linux, open_storage, prepare_shared_mount, probe
from runomics.run_storage.directory import DirectoryStorage

IMAGES = StorageSettings(backend="xfs-image", reserve_bytes=0, ready_volumes=0)
AUTO = StorageSettings(reserve_bytes=0, ready_volumes=0)


@pytest.mark.needs("root", "loop", "xfs")
def test_images_are_chosen_where_they_work(data: Path) -> None:
    storage = open_storage(data / "volumes", data / "runs", AUTO)
    assert (storage.caps.name, storage.caps.works, storage.caps.enforces_static) == ("xfs-image", True, True)
    storage.close()


def test_directories_are_chosen_where_mkfs_is_missing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "mkfs_path", lambda: None)
    storage = open_storage(data / "volumes", data / "runs", AUTO)
    assert (storage.caps.name, storage.caps.enforces_static) == ("directory", False)
    storage.close()


@pytest.mark.needs("root", "loop")
def test_images_that_were_asked_for_are_not_replaced_silently(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "mkfs_path", lambda: None)
    with pytest.raises(StorageUnavailable, match="apt install xfsprogs"):
        open_storage(data / "volumes", data / "runs", IMAGES)


@pytest.mark.needs("root")
def test_a_plain_user_is_told_what_root_would_give(data: Path) -> None:
    data.chmod(0o777)

    def look() -> None:
        exact, plain, _ = probe(data / "volumes", data / "runs")
        assert (exact.works, exact.detail) == (False, "the server is not root")
        assert "root" in exact.remedy
        assert (plain.works, plain.required) == (True, True)
        storage = open_storage(data / "volumes", data / "runs", AUTO)
        assert storage.create("run", StorageType.STATIC, 1, UID).backend == "directory"
        storage.destroy("run")
        storage.close()

    as_user(UID, look)


@pytest.mark.needs("root", "loop", "xfs")
def test_a_probe_leaves_nothing_behind(data: Path) -> None:
    findings: list[Finding] = probe(data / "volumes", data / "runs")
    assert [finding.works for finding in findings] == [True, True, True]
    assert [path.name for path in data.rglob("*") if not path.is_dir()] == []
    assert volume_mounts(data) == []


@pytest.mark.needs("root", "loop", "xfs")
def test_a_run_on_a_directory_is_served_by_a_server_that_chose_images(data: Path) -> None:
    before = DirectoryStorage(data / "volumes", data / "runs", reserve_bytes=0)
    old = before.create("old", StorageType.DYNAMIC, None, UID)
    before.close()
    storage = open_storage(data / "volumes", data / "runs", IMAGES)
    assert storage.find("old") == old
    assert storage.create("new", StorageType.DYNAMIC, None, UID).backend == "xfs-image"
    assert storage.sweep(frozenset()) == ["new", "old"]
    assert storage.wait_until_removed(30)
    storage.close()
    assert volume_mounts(data) == []


@pytest.mark.needs("root", "loop", "xfs")
def test_a_volume_whose_back_end_no_longer_works_is_none_and_is_not_dropped(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(data / "volumes", data / "runs", IMAGES)
    storage.create("old", StorageType.DYNAMIC, None, UID)
    storage.close()
    with monkeypatch.context() as patch:
        patch.setattr(image, "mkfs_path", lambda: None)
        without = open_storage(data / "volumes", data / "runs", AUTO)
        assert without.find("old") is None
        with pytest.raises(VolumeLost, match="runomics doctor"):
            without.flush("old")
        with pytest.raises(OSError, match="runomics doctor"):
            without.destroy("old")
        assert without.sweep(frozenset()) == []
        without.close()
    again = open_storage(data / "volumes", data / "runs", IMAGES)
    assert again.sweep(frozenset()) == ["old"]
    assert again.wait_until_removed(30)
    again.close()


@pytest.mark.needs("root")
def test_a_shared_mount_is_prepared_once(data: Path) -> None:
    runs = data / "a b"
    runs.mkdir()
    prepare_shared_mount(runs)
    prepare_shared_mount(runs)
    assert [(point, shared) for point, shared, _ in linux.mounts() if point == os.path.realpath(runs)] == [
        (str(runs), True)
    ]
    linux.detach(runs)


def test_an_older_or_broken_record_is_no_volume(data: Path) -> None:
    storage = DirectoryStorage(data / "volumes", data / "runs", reserve_bytes=0)
    (data / "volumes/run").mkdir()
    (data / "volumes/run/volume.json").write_text("{")
    assert storage.find("run") is None
    assert storage.create("run", StorageType.DYNAMIC, None, os.getuid()).run_uuid == "run"
    storage.sweep(frozenset())
    storage.close()
