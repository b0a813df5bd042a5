"""Rows of workflow versions: the guarded changes, what each side may see, and the definition that they keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_rows import ACCOUNT, OTHER_ACCOUNT, create_workflow

from runomics.store import catalog, versions
from runomics.store.database import Duplicate, Store, Tx, next_id
from runomics.store.versions import NewVersion, VersionRow


def create(store: Store, workflow_id: int, name: str, **changes: object) -> VersionRow:
    def unit(tx: Tx) -> VersionRow:
        row_id = next_id(tx, versions.KIND)
        values = {"account": ACCOUNT, "uuid": f"uuid-{row_id}", "created_ms": 1000, **changes}
        versions.insert_version(
            tx,
            NewVersion(id=row_id, workflow_id=workflow_id, version_name=name, **values),  # type: ignore[arg-type]
        )
        return loaded(tx, row_id)

    return store.write(unit)


def loaded(tx: Tx, row_id: int) -> VersionRow:
    row = versions.load_version(tx, row_id)
    assert row is not None
    return row


def test_a_version_is_registered_changed_and_removed(store: Store) -> None:
    workflow_id = create_workflow(store)
    created = create(store, workflow_id, "v1", readme="# v")
    assert (created.status, created.revision) == ("CREATING", 1)
    assert store.read(versions.creating_versions) == [created.id]
    assert store.write(lambda tx: versions.apply_version(tx, created, "ACTIVE", now_ms=5, engine="WDL"))
    active = store.read(lambda tx: loaded(tx, created.id))
    assert active == replace(created, status="ACTIVE", engine="WDL", revision=2)
    assert store.read(versions.creating_versions) == []
    assert store.write(lambda tx: versions.apply_version(tx, created, "FAILED", now_ms=6)) is False
    assert store.write(lambda tx: versions.update_version(tx, active, description="x", readme=None))
    assert store.write(lambda tx: versions.update_version(tx, active, description="y")) is False
    assert store.write(lambda tx: versions.delete_version(tx, active, now_ms=7)) is False
    changed = store.read(lambda tx: loaded(tx, created.id))
    assert changed == replace(active, description="x", readme=None, revision=3)
    assert store.write(lambda tx: versions.delete_version(tx, changed, now_ms=8))
    assert store.read(lambda tx: versions.load_version(tx, created.id)) is None


def test_a_name_is_taken_once_in_a_workflow(store: Store) -> None:
    first, second = create_workflow(store), create_workflow(store)
    create(store, first, "v1")
    create(store, first, "V1")
    create(store, second, "v1")
    with pytest.raises(Duplicate) as caught:
        create(store, first, "v1")
    assert caught.value.columns == ("workflow_version.workflow_id", "workflow_version.version_name")
    assert store.read(lambda tx: versions.count_versions(tx, ACCOUNT, first)) == 2


def test_a_foreign_version_is_neither_found_listed_nor_counted(store: Store) -> None:
    workflow_id = create_workflow(store)
    made = create(store, workflow_id, "v1", readme="# v")

    def seen(account: str) -> tuple[object, ...]:
        return store.read(
            lambda tx: (
                versions.find_version(tx, account, workflow_id, "v1"),
                versions.list_versions(tx, account, workflow_id, after_id=0, limit=10),
                versions.count_versions(tx, account, workflow_id),
                versions.find_readme(tx, account, workflow_id, "v1"),
            )
        )

    assert seen(ACCOUNT) == (made, ([made], None), 1, "# v")
    assert seen(OTHER_ACCOUNT) == (None, ([], None), 0, None)


def test_a_client_changes_only_what_is_its_own(store: Store) -> None:
    version = create(store, create_workflow(store), "v1")
    with pytest.raises(ValueError, match="update_version cannot set status"):
        store.write(lambda tx: versions.update_version(tx, version, status="ACTIVE"))
    with pytest.raises(ValueError, match="update_version cannot set name"):
        store.write(lambda tx: versions.update_version(tx, version, name="x"))
    with pytest.raises(ValueError, match="apply_version cannot set version_name"):
        store.write(lambda tx: versions.apply_version(tx, version, "ACTIVE", now_ms=1, version_name="x"))


def test_a_definition_is_in_use_while_a_version_names_it(store: Store) -> None:
    sha256 = "c" * 64
    version = create(store, create_workflow(store), "v1", definition_sha256=sha256)
    assert store.read(lambda tx: catalog.definition_in_use(tx, sha256))
    store.write(lambda tx: versions.delete_version(tx, version, now_ms=1))
    assert not store.read(lambda tx: catalog.definition_in_use(tx, sha256))
