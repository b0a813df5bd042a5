"""Batches of a server in a box: the real scheduler's steps, called when and only when they are woken, and runs that end as told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from server_in_a_box import MODEL, ROLE, Box

from runomics.domain.run import CancelRequested, DeleteRequested, RunState, RunStatus, accepts, advance
from runomics.operations.batch_submission import BatchSubmission
from runomics.scheduler.batches import Batches
from runomics.store import runs
from runomics.store.database import Tx
from runomics.wire.errors import ApiError
from runomics.wire.model import ServiceModel
from runomics.wire.validate import checker

CHECK = checker(ServiceModel.load().shapes, "InlineSetting", "RunSettingId")
READS = {"reads": "s3://bucket/reads.fq"}


@dataclass
class Desk:
    """`step` takes one wake-up, `work` all of them until nothing is left to do."""

    box: Box
    max_runs: int = 100_000
    timers: list[int] = field(default_factory=list)
    _taken: int = 0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Steps that remember nothing, as after a start of the server."""
        self.batches = Batches(
            store=self.box.store,
            maker=BatchSubmission(self.box.site, CHECK),
            objects_as=lambda account, role_arn: self.box.objects,
            scratch=self.box.directory,
            clock=self,
            step_at=lambda batch_id, at_ms: self.timers.append(batch_id),
            max_runs=self.max_runs,
        )

    def now_ms(self) -> int:
        return self.box.now_ms

    # ---- clients

    def start(self, *settings: dict[str, Any], **more: Any) -> str:
        """StartRunBatch with these settings sent along."""
        return self._start({"inlineSettings": list(settings)}, more)

    def start_file(self, uri: str, **more: Any) -> str:
        return self._start({"s3UriSettings": uri}, more)

    def put(self, document: Any, name: str = "settings.json") -> str:
        """A file of settings; text and bytes as they are."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        (self.box.directory / "objects" / "bucket" / name).write_bytes(data)
        return f"s3://bucket/{name}"

    def _start(self, settings: dict[str, Any], more: dict[str, Any]) -> str:
        account = {"account": more.pop("account")} if "account" in more else {}
        members = {name: more.pop(name) for name in ("batchName", "tags", "requestId") if name in more}
        default = {"roleArn": ROLE, "outputUri": "s3://bucket/out", **more}
        answer = self.box.call(
            "StartRunBatch",
            **account,
            **{"requestId": f"batch-{self.box.next_number()}", **members},
            defaultRunSetting={name: value for name, value in default.items() if value is not None},
            batchRunSettings=settings,
        )
        identifier: str = answer["id"]
        return identifier

    def get(self, batch_id: str) -> dict[str, Any]:
        return self.box.call("GetBatch", batchId=batch_id)

    def status(self, batch_id: str) -> str:
        status: str = self.get(batch_id)["status"]
        return status

    def counts(self, batch_id: str) -> dict[str, int]:
        """Both summaries without their zeros."""
        batch = self.get(batch_id)
        return {name: count for name, count in (batch["submissionSummary"] | batch["runSummary"]).items() if count}

    def settings(self, batch_id: str, **filters: Any) -> list[dict[str, Any]]:
        """Every page of ListRunsInBatch."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = self.box.call("ListRunsInBatch", batchId=batch_id, **filters, **token)
            found += page["runs"]
            if "nextToken" not in page:
                return found
            token = {"startingToken": page["nextToken"]}

    # ---- the scheduler

    def step(self) -> bool:
        """One step of the batch that was woken longest ago; False when none is."""
        while self._taken < len(self.box.woken):
            kind, number = self.box.woken[self._taken]
            self._taken += 1
            if kind == "run-batch":
                self.batches.step(number)
                return True
        if self.timers:
            self.batches.step(self.timers.pop(0))
            return True
        return False

    def work(self) -> None:
        while self.step():
            pass

    def work_until(self, batch_id: str, status: str) -> None:
        while self.status(batch_id) != status:
            assert self.step(), f"nothing is left to do and batch {batch_id} is {self.status(batch_id)}"

    # ---- runs

    def move(self, run_id: str, to: RunState) -> None:
        """What the run's own steps would do."""

        def unit(tx: Tx) -> None:
            run = runs.load_run(tx, int(run_id))
            assert run is not None
            assert runs.apply_run(tx, run, to, now_ms=self.box.now_ms)

        self.box.store.write(unit)

    def end(self, run_id: str, status: RunStatus = RunStatus.COMPLETED) -> None:
        self.move(run_id, RunState(status, outcome=status))

    def grant_wishes(self) -> int:
        """End and remove the runs of which that was wished; how many there were."""

        def unit(tx: Tx) -> int:
            ending, going = runs.runs_to_cancel(tx), runs.runs_to_delete(tx)
            for run_id in [*ending, *going]:
                run = runs.load_run(tx, run_id)
                assert run is not None
                if run.delete_wished_ms is not None:
                    assert accepts(run.state, DeleteRequested)
                    assert runs.delete_run(tx, run, now_ms=self.box.now_ms)
                else:
                    runs.apply_run(tx, run, advance(run.state, CancelRequested()), now_ms=self.box.now_ms)
            return len(ending) + len(going)

        return self.box.store.write(unit)


def shape_of(operation: str) -> set[str]:
    """The members of an operation's answer. Source: model."""
    return set(MODEL.operation_model(operation).output_shape.members)


def named(*names: str, **members: Any) -> list[dict[str, Any]]:
    return [{"runSettingId": name, **members} for name in names]


def raises(error: type[ApiError], box: Box, operation: str, **request: Any) -> str:
    with pytest.raises(error) as caught:
        box.call(operation, **request)
    return caught.value.message


def processed(desk: Desk, workflow_id: str, *names: str) -> str:
    batch_id = desk.start(*named(*names), workflowId=workflow_id, parameters=READS)
    desk.work()
    for item in desk.settings(batch_id):
        desk.end(item["runId"])
    desk.work()
    assert desk.status(batch_id) == "PROCESSED"
    return batch_id
