"""What engines ask for while they run, but tasks: inputs named at run time, listings, notes. In the server, on the gateway's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from runomics.scheduler.gateway import Gateway
from runomics.scheduler.run_notes import RunNotes
from runomics.scheduler.run_plan import RunPlans
from runomics.scheduler.transfer import Imported, Transfers
from runomics.store import runs as run_rows
from runomics.store.database import Store
from runomics.store.runs import RunRow

LONGEST_NOTE = 4096


@dataclass(frozen=True, slots=True)
class EngineRequests:
    """Answers go through the gateway when they are there."""

    store: Store
    plans: RunPlans
    transfers: Transfers
    gateway: Gateway
    notes: RunNotes

    def stage(self, run_id: int, uri: str) -> None:
        """An engine asks for an input named at run time."""

        def done(imported: Imported) -> None:
            if imported.failure is not None:
                reason, message = imported.failure
                self.gateway.staged(run_id, uri, {"error": reason, "message": message})
                return
            self.gateway.staged(run_id, uri, {"path": imported.staged[uri]})

        run = self._run(run_id)
        if run is None:
            return
        digests = orjson.loads(run.resource_digests) if run.resource_digests else {}
        self.transfers.stage(self.plans.directory(run), uri, digests.get(uri), done, objects=self.plans.objects(run))

    def list_objects(self, run_id: int, uri: str) -> None:
        """An engine asks which objects begin with a URI."""
        run = self._run(run_id)
        if run is None:
            return

        def done(objects: Sequence[tuple[str, int]] | None, failure: tuple[str, str] | None) -> None:
            found: dict[str, Any] = {"objects": objects}
            if failure is not None:
                found = {"error": failure[0], "message": failure[1]}
            self.gateway.listed(run_id, uri, found)

        self.transfers.list_objects(uri, done, objects=self.plans.objects(run))

    def note(self, run_id: int, message: Mapping[str, Any]) -> None:
        """A note of the engine for the run's log."""
        run = self._run(run_id)
        text = message.get("message")
        if run is not None and isinstance(text, str):
            self.notes.note(run, text[:LONGEST_NOTE])

    def _run(self, run_id: int) -> RunRow | None:
        return self.store.read(lambda tx: run_rows.load_run(tx, run_id))
