"""Random sequences of versions, shares and runs between three accounts, compared step by step with the rules written down a second time."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from server_in_a_box import Box

from runomics.wire.errors import ApiError

ACCOUNTS = ("111111111111", "222222222222", "333333333333")
VERSIONS = ("v1", "v2")
LIVE = ("PENDING", "ACTIVATING", "ACTIVE")

account = st.sampled_from(ACCOUNTS)
index = st.integers(0, 5)
side = st.sampled_from(("owner", "owner", "subscriber", "subscriber", "stranger"))
"""Who calls, seen from the workflow or share it is about: mostly somebody who may do something."""


@dataclass
class Workflow:
    """What the rules know of one."""

    owner: str
    versions: set[str] = field(default_factory=set)
    is_deleted: bool = False


@dataclass
class Share:
    """What the rules know of one. `status` is the API's."""

    owner: str
    subscriber: str
    workflow_id: str
    status: str = "PENDING"


class Rules(RuleBasedStateMachine):
    """The service beside the rules: every call is made in both and must end the same."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.box = Box(Path(self._directory.name))
        self.workflows: dict[str, Workflow] = {}
        self.shares: dict[str, Share] = {}
        self.runs: dict[str, tuple[str, str]] = {}

    def teardown(self) -> None:
        self.box.close()
        self._directory.cleanup()

    # ---- the rules

    def may_use(self, caller: str, owner: str, workflow_id: str) -> bool:
        workflow = self.workflows[workflow_id]
        if workflow.is_deleted or workflow.owner != owner:
            return False
        return caller == owner or any(
            (share.workflow_id, share.subscriber, share.status) == (workflow_id, caller, "ACTIVE")
            for share in self.shares.values()
        )

    def live_shares(self, workflow_id: str) -> list[Share]:
        return [s for s in self.shares.values() if s.workflow_id == workflow_id and s.status in LIVE]

    # ---- tools

    def caller(self, owner: str, subscriber: str, side: str) -> str:
        strangers = [account for account in ACCOUNTS if account not in (owner, subscriber)]
        return {"owner": owner, "subscriber": subscriber, "stranger": strangers[0]}[side]

    def caller_of_workflow(self, workflow_id: str, side: str) -> str:
        owner = self.workflows[workflow_id].owner
        subscribers = [share.subscriber for share in self.live_shares(workflow_id)]
        others = [account for account in ACCOUNTS if account != owner]
        return self.caller(owner, (subscribers or others)[0], side)

    def outcome(self, operation: str, caller: str, **request: Any) -> tuple[str, dict[str, Any]]:
        """("", the answer), or (the error's code, {})."""
        try:
            return "", self.box.call(operation, account=caller, **request)
        except ApiError as error:
            return error.code, {}

    def workflow(self, number: int) -> str:
        return list(self.workflows)[number % len(self.workflows)]

    def share(self, number: int) -> str:
        return list(self.shares)[number % len(self.shares)]

    # ---- what clients do

    @initialize(owner=account)
    def begin_with_one(self, owner: str) -> None:
        self.create_workflow(owner)

    @precondition(lambda self: len(self.workflows) < 3)
    @rule(owner=account)
    def create_workflow(self, owner: str) -> None:
        self.workflows[self.box.registered_workflow(account=owner)] = Workflow(owner)

    @rule(side=side, number=index, name=st.sampled_from(VERSIONS))
    def create_version(self, side: str, number: int, name: str) -> None:
        workflow_id = self.workflow(number)
        caller = self.caller_of_workflow(workflow_id, side)
        workflow = self.workflows[workflow_id]
        if workflow.is_deleted or workflow.owner != caller:
            expected = "ResourceNotFoundException"
        else:
            expected = "ConflictException" if name in workflow.versions else ""
        try:
            self.box.registered_version(workflow_id, name, account=caller)
            got = ""
            workflow.versions.add(name)
        except ApiError as error:
            got = error.code
        assert got == expected

    @rule(side=side, number=index, name=st.sampled_from(VERSIONS))
    def delete_version(self, side: str, number: int, name: str) -> None:
        workflow_id = self.workflow(number)
        caller = self.caller_of_workflow(workflow_id, side)
        workflow = self.workflows[workflow_id]
        is_there = workflow.owner == caller and name in workflow.versions
        got, _ = self.outcome("DeleteWorkflowVersion", caller, workflowId=workflow_id, versionName=name)
        assert got == ("" if is_there else "ResourceNotFoundException")
        if is_there:
            workflow.versions.remove(name)

    @rule(side=side, number=index)
    def delete_workflow(self, side: str, number: int) -> None:
        workflow_id = self.workflow(number)
        caller = self.caller_of_workflow(workflow_id, side)
        workflow = self.workflows[workflow_id]
        if workflow.is_deleted or workflow.owner != caller:
            expected = "ResourceNotFoundException"
        else:
            expected = "ConflictException" if workflow.versions or self.live_shares(workflow_id) else ""
        got, _ = self.outcome("DeleteWorkflow", caller, id=workflow_id)
        assert got == expected
        workflow.is_deleted = workflow.is_deleted or got == ""

    @rule(side=side, number=index, subscriber=account)
    def create_share(self, side: str, number: int, subscriber: str) -> None:
        workflow_id = self.workflow(number)
        caller = self.caller_of_workflow(workflow_id, side)
        workflow = self.workflows[workflow_id]
        taken = any(share.subscriber == subscriber for share in self.live_shares(workflow_id))
        if subscriber == caller:
            expected = "ValidationException"
        elif workflow.is_deleted or workflow.owner != caller:
            expected = "ResourceNotFoundException"
        else:
            expected = "ConflictException" if taken else ""
        arn = f"arn:aws:omics:us-east-1:{caller}:workflow/{workflow_id}"
        got, answer = self.outcome("CreateShare", caller, resourceArn=arn, principalSubscriber=subscriber)
        assert got == expected
        if got == "":
            self.shares[answer["shareId"]] = Share(caller, subscriber, workflow_id)

    @precondition(lambda self: self.shares)
    @rule(side=side, number=index)
    def accept_share(self, side: str, number: int) -> None:
        share_id = self.share(number)
        share = self.shares[share_id]
        caller = self.caller(share.owner, share.subscriber, side)
        if caller == share.owner:
            expected = "AccessDeniedException"
        elif caller != share.subscriber:
            expected = "ResourceNotFoundException"
        else:
            expected = "" if share.status == "PENDING" else "ConflictException"
        got, _ = self.outcome("AcceptShare", caller, shareId=share_id)
        assert got == expected
        if got == "":
            share.status = "ACTIVATING"

    @precondition(lambda self: self.shares)
    @rule(side=side, number=index)
    def delete_share(self, side: str, number: int) -> None:
        share_id = self.share(number)
        share = self.shares[share_id]
        caller = self.caller(share.owner, share.subscriber, side)
        is_seen = caller in (share.owner, share.subscriber)
        got, answer = self.outcome("DeleteShare", caller, shareId=share_id)
        assert got == ("" if is_seen else "ResourceNotFoundException")
        if is_seen:
            share.status = "DELETING" if share.status in LIVE else share.status
            assert answer == {"status": share.status}

    @rule()
    def scheduler_moves_shares(self) -> None:
        self.box.move_shares()
        for share in self.shares.values():
            share.status = {"ACTIVATING": "ACTIVE", "DELETING": "DELETED"}.get(share.status, share.status)

    @rule(
        side=side,
        names_the_owner=st.sampled_from((True, True, False)),
        number=index,
        name=st.sampled_from([None, *VERSIONS]),
    )
    def start_run(self, side: str, names_the_owner: bool, number: int, name: str | None) -> None:
        workflow_id = self.workflow(number)
        caller = self.caller_of_workflow(workflow_id, side)
        owner = self.workflows[workflow_id].owner if names_the_owner else caller
        has_version = name is None or name in self.workflows[workflow_id].versions
        expected = "" if self.may_use(caller, owner, workflow_id) and has_version else "ResourceNotFoundException"
        version = {} if name is None else {"workflowVersionName": name}
        try:
            started = self.box.start_run(workflow_id, account=caller, workflowOwnerId=owner, **version)
            got = ""
            self.runs[started["id"]] = (caller, owner)
        except ApiError as error:
            got = error.code
        assert got == expected

    @precondition(lambda self: self.runs)
    @rule(caller=account, number=index)
    def repeat_run(self, caller: str, number: int) -> None:
        run_id = list(self.runs)[number % len(self.runs)]
        runner, owner = self.runs[run_id]
        if caller != runner:
            allowed = {"ResourceNotFoundException"}
        elif owner != runner:
            allowed = {"ValidationException"}
        else:
            allowed = {"", "ResourceNotFoundException"}
        try:
            self.runs[self.box.start_run(None, account=caller, runId=run_id)["id"]] = (runner, owner)
            got = ""
        except ApiError as error:
            got = error.code
        assert got in allowed

    # ---- what is always so

    @invariant()
    def everybody_sees_what_the_rules_say(self) -> None:
        for caller in ACCOUNTS:
            listed = {
                owner: [
                    (share["shareId"], share["status"])
                    for share in self.box.call("ListShares", account=caller, resourceOwner=owner)["shares"]
                ]
                for owner in ("SELF", "OTHER")
            }
            assert listed == {
                "SELF": [(name, share.status) for name, share in self.shares.items() if share.owner == caller],
                "OTHER": [(name, share.status) for name, share in self.shares.items() if share.subscriber == caller],
            }
            for owner, workflow_id in itertools.product(ACCOUNTS, self.workflows):
                got, answer = self.outcome(
                    "ListWorkflowVersions", caller, workflowId=workflow_id, workflowOwnerId=owner
                )
                if self.may_use(caller, owner, workflow_id):
                    assert {item["versionName"] for item in answer["items"]} == self.workflows[workflow_id].versions
                else:
                    assert got == "ResourceNotFoundException"

    @invariant()
    def runs_stay_with_those_who_started_them(self) -> None:
        for caller in ACCOUNTS:
            own = [run_id for run_id, (runner, _) in self.runs.items() if runner == caller]
            assert [item["id"] for item in self.box.call("ListRuns", account=caller)["items"]] == own


Rules.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_random_sequences_end_as_the_rules_say = Rules.TestCase
