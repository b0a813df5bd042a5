"""How a setting of a batch becomes a run: by the rules of StartRun, as the one who started the batch. Server, scheduler's threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from runomics.domain import batch as batch_rules
from runomics.operations import quota, run_request
from runomics.operations.caller import Caller, Site
from runomics.operations.runs import Named, look_up, new_run
from runomics.store import account_use
from runomics.store.batch_runs import Refusal
from runomics.store.batches import BatchRow
from runomics.store.database import Tx
from runomics.store.runs import NewRun
from runomics.wire.errors import ApiError, SerializationException, ValidationException

NO_ID = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What the runs of a batch have in common: the default setting, and what it names."""

    default: Mapping[str, Any]
    named: Named


class BatchSubmission:
    """Makes runs of settings. `check(shape, value)` gives a value as a shape of the service model, or raises an ApiError."""

    def __init__(self, site: Site, check: Callable[[str, Any], Any]) -> None:
        self._site = site
        self._check = check

    def name_of(self, setting: Mapping[str, Any]) -> str | None:
        """The runSettingId; None when it has none that could be one. Source: model."""
        given = setting.get("runSettingId")
        if given is None:
            return None
        try:
            name: str = self._check("RunSettingId", given)
        except ApiError:
            return None
        return name

    def look_up(self, tx: Tx, batch: BatchRow) -> Found | Refusal:
        """What the batch's settings name, as it is now; a refusal of all of them when it is not there any more."""
        default = orjson.loads(batch.default_run_setting)
        try:
            return Found(default, look_up(tx, self._caller(batch, batch.created_ms), default))
        except ApiError as error:
            return Refusal(error.code, error.message)

    def make(self, batch: BatchRow, found: Found, setting: str, *, now_ms: int) -> NewRun | Refusal:
        """The run that a setting becomes, its id still to be set; or why it becomes none.

        Source: guide, workflows-batch (a run that cannot be submitted fails alone, with the name and message of the error).
        """
        try:
            own = self._check("InlineSetting", orjson.loads(setting))
            request = cast("run_request.StartRunRequest", batch_rules.run_request(found.default, own))
            if "outputUri" not in request:
                raise ValidationException("outputUri is needed, in the defaultRunSetting or in the setting of the run.")
            run_request.check(request, self._site.limits)
            return new_run(self._caller(batch, now_ms), request, found.named, run_id=NO_ID, batch_id=batch.id)
        except SerializationException as error:
            return Refusal(ValidationException.code, error.message)
        except ApiError as error:
            return Refusal(error.code, error.message)

    def within_quota(
        self, tx: Tx, batch: BatchRow, outcomes: Sequence[NewRun | Refusal], *, now_ms: int
    ) -> Sequence[NewRun | Refusal]:
        """The outcomes, with a refusal in the place of each run that the account has no room for. Inside the unit that inserts them.

        Source: guide, run-retention and workflows-batch (a run beyond the quota fails alone).
        """
        runs = sum(isinstance(outcome, NewRun) for outcome in outcomes)
        if account_use.stored_runs(tx, batch.account) + runs <= self._site.limits.stored_runs:
            return outcomes
        caller = self._caller(batch, now_ms)
        admitted: list[NewRun | Refusal] = []
        new = 0
        for outcome in outcomes:
            seen = self._admitted(tx, caller, outcome, new) if isinstance(outcome, NewRun) else outcome
            new += isinstance(seen, NewRun)
            admitted.append(seen)
        return admitted

    def _admitted(self, tx: Tx, caller: Caller, run: NewRun, before: int) -> NewRun | Refusal:
        """The run, if there is room for it after `before` others that are not inserted yet."""
        stored = account_use.stored_runs(tx, caller.account) + before + 1
        try:
            if stored > self._site.limits.stored_runs:
                quota.make_room_for_run(tx, caller, stored=stored, retention_mode=run.retention_mode)
        except ApiError as error:
            return Refusal(error.code, error.message)
        return run

    def _caller(self, batch: BatchRow, now_ms: int) -> Caller:
        return Caller(
            account=batch.account,
            principal_arn=batch.started_by,
            access_key_id="",
            request_id=f"batch {batch.id}",
            now_ms=now_ms,
            site=self._site,
        )
