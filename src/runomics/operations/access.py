"""Which rights each operation needs, and whether the policy of the caller's key grants them. Server process, before validation.

A request is looked at as it was decoded: any member may have any JSON type. What is not text stands as `*` in a resource's ARN, so
that a key that may do everything gets to hear what is wrong with its request, and any other that it is not authorized.
Source: guide, Service Authorization Reference (actions, resource types, condition keys of AWS HealthOmics); observed (403 comes
before 400 and 404).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runomics.domain.identity import arn_prefix
from runomics.domain.policy import Decision, Policy
from runomics.operations.caller import Caller
from runomics.wire.errors import AccessDeniedException

SERVICE_PRINCIPAL = "omics.amazonaws.com"
ACCOUNT_WIDE = "*"
SHOWN_LETTERS = 512


@dataclass(frozen=True, slots=True)
class Right:
    """One action on one resource (an ARN, or `*`). `tags` is what the request wants it tagged with; `for_role` of iam:PassRole."""

    action: str
    resource: str
    tags: Any = None
    for_role: bool = False


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """What a policy may ask about resources of an account that exist. Neither tells whether they do.

    `tags(account, ARN)` are a resource's tags; `workflow_of_run(account, run id)` is the ARN of the workflow that a run ran.
    """

    tags: Callable[[str, str], Mapping[str, str]]
    workflow_of_run: Callable[[str, str], str | None]


class Authorizer:
    """Raises AccessDeniedException unless the caller's key may do what it asks for. A key without a policy may do everything.

    `policies` is by key id, and may be changed by others at any time.
    """

    def __init__(self, policies: Mapping[str, Policy], facts: ResourceFacts) -> None:
        self._policies = policies
        self._facts = facts

    def __call__(self, caller: Caller, operation: str, request: Mapping[str, Any]) -> None:
        """Raises: AccessDeniedException."""
        policy = self._policies.get(caller.access_key_id)
        if policy is None:
            return
        named = Named(caller.site.region, caller.account, request)
        for right in rights(operation, named):
            self._demand(policy, caller, right, request)
        repeated = _repeated_run(operation, request)
        if repeated is not None:
            workflow = self._facts.workflow_of_run(caller.account, repeated)
            if workflow is not None:
                self._demand(policy, caller, Right("omics:StartRun", workflow, request.get("tags")), request)

    def _demand(self, policy: Policy, caller: Caller, right: Right, request: Mapping[str, Any]) -> None:
        context = _principal(caller) | _request_tags(right.tags, request.get("tagKeys"))
        if right.for_role:
            context["iam:passedtoservice"] = (SERVICE_PRINCIPAL,)
        if policy.needs_resource_tags and right.resource.startswith("arn:aws:omics:"):
            for key, value in self._facts.tags(caller.account, right.resource).items():
                _add(context, f"aws:resourcetag/{key.lower()}", value)
        decision = policy.decide(right.action, right.resource, context)
        if decision is not Decision.ALLOWED:
            raise AccessDeniedException(_refusal(caller.principal_arn, right, decision))


def _refusal(principal_arn: str, right: Right, decision: Decision) -> str:
    """Source: guide, IAM troubleshooting (the sentences of access denied errors)."""
    resource = right.resource[:SHOWN_LETTERS]
    why = (
        "with an explicit deny in an identity-based policy"
        if decision is Decision.DENIED
        else f"because no identity-based policy allows the {right.action} action"
    )
    return f"User: {principal_arn} is not authorized to perform: {right.action} on resource: {resource} {why}"


# ---- what a request says -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named:
    """The resources that an account's request names, as ARNs."""

    region: str
    account: str
    request: Mapping[str, Any]

    def arn(self, kind: str, member: str) -> str:
        """Of the resource of `kind` whose id is `member`."""
        return f"{arn_prefix(self.region, self.account, kind)}{_text(self.request.get(member))}"

    def new(self, kind: str) -> str:
        """Of what has no id yet."""
        return f"{arn_prefix(self.region, self.account, kind)}*"

    def workflow(self, member: str) -> str:
        """Of a workflow: another account's with workflowOwnerId, nobody's when it is a Ready2Run workflow."""
        owner = self.request.get("workflowOwnerId")
        account = self.account if owner is None else _text(owner)
        if "READY2RUN" in (self.request.get("type"), self.request.get("workflowType")):
            account = ""
        return f"{arn_prefix(self.region, account, 'workflow')}{_text(self.request.get(member))}"

    def version(self) -> str:
        """Of a version of the workflow `workflowId`."""
        return f"{self.workflow('workflowId')}/version/{_text(self.request.get('versionName'))}"

    def has(self, member: str) -> bool:
        return self.request.get(member) is not None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "*"


def _principal(caller: Caller) -> dict[str, tuple[str, ...]]:
    context: dict[str, tuple[str, ...]] = {
        "aws:principalarn": (caller.principal_arn,),
        "aws:principalaccount": (caller.account,),
        "aws:requestedregion": (caller.site.region,),
    }
    _, is_user, name = caller.principal_arn.partition(":user/")
    if is_user:
        context["aws:username"] = (name.rpartition("/")[2],)
    return context


def _request_tags(tags: Any, keys: Any) -> dict[str, tuple[str, ...]]:
    """aws:RequestTag of what is to be tagged, aws:TagKeys also of what is to be untagged."""
    context: dict[str, tuple[str, ...]] = {}
    named = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if isinstance(tags, dict):
        named += tags
        for key, value in tags.items():
            if isinstance(value, str):
                _add(context, f"aws:requesttag/{key.lower()}", value)
    if named:
        context["aws:tagkeys"] = tuple(named)
    return context


def _add(context: dict[str, tuple[str, ...]], key: str, value: str) -> None:
    """Keys of conditions have no case: tags whose keys differ in nothing else are several values of one."""
    context[key] = (*context.get(key, ()), value)


def _repeated_run(operation: str, request: Mapping[str, Any]) -> str | None:
    """The run whose workflow StartRun runs again."""
    if operation != "StartRun" or request.get("workflowId") is not None:
        return None
    run_id = request.get("runId")
    return run_id if isinstance(run_id, str) else None


# ---- the table ---------------------------------------------------------------------------------------------------

Resources = Callable[[Named], tuple[str, ...]]


def rights(operation: str, named: Named) -> Iterator[Right]:
    """Every right that a request of this operation needs."""
    needs = TABLE[operation]
    tags = named.request.get("tags")
    for resource in needs.resources(named):
        yield Right(f"omics:{operation}", resource, tags)
    if needs.tagged is not None and tags:
        yield Right("omics:TagResource", needs.tagged(named), tags)
    if needs.others is not None:
        yield from needs.others(named)


def resources(operation: str, named: Named) -> tuple[str, ...]:
    """The resources of the operation itself."""
    return TABLE[operation].resources(named)


@dataclass(frozen=True, slots=True)
class Needs:
    """What an operation is authorized on: `resources` for its own action; `tagged`, what it tags when it is given tags; `others`."""

    resources: Resources
    tagged: Callable[[Named], str] | None = None
    others: Callable[[Named], Iterator[Right]] | None = None


def _using_connection(named: Named) -> Iterator[Right]:
    """Source: Service Authorization Reference (a definition from a repository)."""
    repository = named.request.get("definitionRepository")
    if isinstance(repository, dict):
        yield Right("codeconnections:UseConnection", _text(repository.get("connectionArn")))


def _account_wide(named: Named) -> tuple[str, ...]:
    return (ACCOUNT_WIDE,)


def _on(kind: str, member: str) -> Needs:
    return Needs(lambda named: (named.arn(kind, member),))


def _creating(kind: str) -> Needs:
    return Needs(_account_wide, tagged=lambda named: named.new(kind))


def _run_settings(named: Named) -> tuple[str, ...]:
    """What a run or a batch of runs uses, as far as it is named."""
    used = [named.workflow("workflowId")] if named.has("workflowId") else []
    for kind, member in (("runGroup", "runGroupId"), ("runCache", "cacheId"), ("configuration", "configurationName")):
        if named.has(member):
            used.append(named.arn(kind, member))
    return tuple(used)


def _starting(named: Named) -> tuple[str, ...]:
    repeated = (named.arn("run", "runId"),) if named.has("runId") else ()
    return (named.new("run"), *repeated, *_run_settings(named))


def _passing(named: Named) -> Iterator[Right]:
    yield Right("iam:PassRole", _text(named.request.get("roleArn")), for_role=True)


def _default_setting(named: Named) -> Named:
    setting = named.request.get("defaultRunSetting")
    return Named(named.region, named.account, setting if isinstance(setting, dict) else {})


def _starting_batch(named: Named) -> tuple[str, ...]:
    return (named.new("runBatch"), named.new("run"), *_run_settings(_default_setting(named)))


def _of_batch(named: Named) -> Iterator[Right]:
    setting = _default_setting(named)
    tags = setting.request.get("runTags")
    for resource in _starting_batch(named):
        yield Right("omics:StartRun", resource, tags)
    if tags:
        yield Right("omics:TagResource", named.new("run"), tags)
    yield from _passing(setting)


_VERSION = Needs(lambda named: (named.workflow("workflowId"), named.version()))
_TAGGING = Needs(lambda named: (_text(named.request.get("resourceArn")),))
_ACCOUNT = Needs(_account_wide)

TABLE: Mapping[str, Needs] = {
    "AcceptShare": _ACCOUNT,
    "CancelRun": _on("run", "id"),
    "CancelRunBatch": _on("runBatch", "batchId"),
    "CreateConfiguration": _creating("configuration"),
    "CreateRunCache": _creating("runCache"),
    "CreateRunGroup": _creating("runGroup"),
    "CreateShare": _ACCOUNT,
    "CreateWorkflow": Needs(_account_wide, tagged=lambda named: named.new("workflow"), others=_using_connection),
    "CreateWorkflowVersion": Needs(
        lambda named: (named.workflow("workflowId"),), tagged=Named.version, others=_using_connection
    ),
    "DeleteBatch": _on("runBatch", "batchId"),
    "DeleteConfiguration": _on("configuration", "name"),
    "DeleteRun": _on("run", "id"),
    "DeleteRunBatch": Needs(lambda named: (named.arn("runBatch", "batchId"), named.new("run"))),
    "DeleteRunCache": _on("runCache", "id"),
    "DeleteRunGroup": _on("runGroup", "id"),
    "DeleteShare": _ACCOUNT,
    "DeleteWorkflow": _on("workflow", "id"),
    "DeleteWorkflowVersion": _VERSION,
    "GetBatch": _on("runBatch", "batchId"),
    "GetConfiguration": _on("configuration", "name"),
    "GetRun": _on("run", "id"),
    "GetRunCache": _on("runCache", "id"),
    "GetRunGroup": _on("runGroup", "id"),
    "GetRunTask": Needs(lambda named: (named.arn("task", "taskId"), named.arn("run", "id"))),
    "GetShare": _ACCOUNT,
    "GetWorkflow": Needs(lambda named: (named.workflow("id"),)),
    "GetWorkflowVersion": _VERSION,
    "ListBatch": _ACCOUNT,
    "ListConfigurations": _ACCOUNT,
    "ListRunCaches": _ACCOUNT,
    "ListRunGroups": _ACCOUNT,
    "ListRunTasks": _on("run", "id"),
    "ListRuns": _ACCOUNT,
    "ListRunsInBatch": _on("runBatch", "batchId"),
    "ListShares": _ACCOUNT,
    "ListTagsForResource": _ACCOUNT,
    "ListWorkflowVersions": Needs(lambda named: (named.workflow("workflowId"),)),
    "ListWorkflows": _ACCOUNT,
    "StartRun": Needs(_starting, tagged=lambda named: named.new("run"), others=_passing),
    "StartRunBatch": Needs(_starting_batch, tagged=lambda named: named.new("runBatch"), others=_of_batch),
    "TagResource": _TAGGING,
    "UntagResource": _TAGGING,
    "UpdateRunCache": _on("runCache", "id"),
    "UpdateRunGroup": _on("runGroup", "id"),
    "UpdateWorkflow": _on("workflow", "id"),
    "UpdateWorkflowVersion": _VERSION,
}
"""All operations of the API. ListTagsForResource has no resource of its own in AWS's table."""
