"""Batches in a directory, worked off by the real steps on a real database. Also a process of its own, to be killed:

python batch_world.py DIRECTORY [URL]
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from databases import open_store, stand_for
from runomics.domain.workflow import WorkflowStatus
from runomics.objects.directory import DirectoryObjects
from runomics.operations.batch_submission import BatchSubmission
from runomics.operations.caller import Site
from runomics.scheduler.batches import Batches
from runomics.store import batches, catalog
from runomics.store.batches import BatchRow, NewBatch
from runomics.store.database import Tx, next_id
from runomics.store.definitions import Definitions
from runomics.wire.model import ServiceModel
from runomics.wire.validate import checker

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/runner"
WORKFLOW = 1_000_000
URI = "s3://bucket/settings.json"


class World:
    """One server's batches. The clock stands still."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "objects" / "bucket").mkdir(parents=True, exist_ok=True)
        self.objects = DirectoryObjects(directory / "objects")
        self.woken: list[tuple[str, int]] = []
        self.store = open_store(directory / "database.sqlite", on_wake=self.woken.extend)
        self.timers: list[tuple[int, int]] = []
        site = Site(
            region="us-east-1",
            definitions=Definitions(directory / "definitions"),
            page_key=b"k" * 32,
            export_url=lambda path, expires_ms: path,
            objects_as=lambda account, role_arn: self.objects,
        )
        self.batches = Batches(
            store=self.store,
            maker=BatchSubmission(site, checker(ServiceModel.load().shapes, "InlineSetting", "RunSettingId")),
            objects_as=site.objects_as,
            scratch=directory,
            clock=self,
            step_at=lambda batch_id, at_ms: self.timers.append((batch_id, at_ms)),
        )

    def now_ms(self) -> int:
        return 1000

    def close(self) -> None:
        self.batches.give_up()
        self.batches.close()
        self.store.close()

    # ---- what there is

    def add_workflow(self) -> None:
        """An ACTIVE workflow that takes `sample`."""

        def unit(tx: Tx) -> None:
            template = json.dumps({"sample": {}})
            new = catalog.NewWorkflow(
                id=WORKFLOW, account=ACCOUNT, uuid="u", created_ms=1, parameter_template=template, template_given=1
            )
            catalog.insert_workflow(tx, new)
            row = catalog.load_workflow(tx, WORKFLOW)
            assert row is not None
            found = {"engine": "WDL", "main": "main.wdl", "definition_sha256": "a" * 64}
            assert catalog.apply_workflow(tx, row, WorkflowStatus.ACTIVE, now_ms=1, **found)

        self.store.write(unit)

    def put_settings(self, settings: list[dict[str, Any]]) -> None:
        (self.directory / "objects" / "bucket" / "settings.json").write_text(json.dumps(settings))

    def start(self) -> int:
        """A batch of the settings in the bucket."""
        etag = self.objects.head(URI).etag
        default = {"workflowId": str(WORKFLOW), "roleArn": ROLE, "outputUri": "s3://bucket/out"}

        def unit(tx: Tx) -> int:
            new = NewBatch(
                id=next_id(tx, "run-batch"),
                account=ACCOUNT,
                uuid="u",
                workflow_id=WORKFLOW,
                default_run_setting=json.dumps(default),
                settings_uri=URI,
                settings_etag=etag,
                started_by="arn:aws:iam::123456789012:user/ana",
                created_ms=1,
            )
            batches.insert_batch(tx, new)
            return new.id

        return self.store.write(unit)

    def batch(self, batch_id: int) -> BatchRow:
        row = self.store.read(lambda tx: batches.load_batch(tx, batch_id))
        assert row is not None
        return row

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        return self.store.read(lambda tx: tx.rows(text, {}))

    # ---- work

    def work(self, batch_id: int, until: str) -> None:
        """Step the batch as often as it wakes itself, beginning as a server does at its start."""
        self.woken.clear()
        self.batches.step(batch_id)
        while self.batch(batch_id).status != until:
            assert ("run-batch", batch_id) in self.woken, f"batch {batch_id} is left {self.batch(batch_id).status}"
            self.woken.clear()
            self.batches.step(batch_id)


def main(directory: Path) -> None:
    world = World(directory)
    for batch_id in world.store.read(batches.open_batches):
        world.work(batch_id, until="INPROGRESS")
    print("done", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    for url in sys.argv[2:]:
        stand_for(Path(sys.argv[1]) / "database.sqlite", url)
    main(Path(sys.argv[1]))
