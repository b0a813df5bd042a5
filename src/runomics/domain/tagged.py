"""What can carry tags, and the ARNs that name it. Pure; used by the operations on tags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from runomics.domain.identity import MalformedName, number, parse_arn


class TaggedKind(StrEnum):
    """As the ARN has it; a version is named below its workflow. Source: Service Authorization Reference (what tag conditions know)."""

    RUN = "run"
    RUN_GROUP = "runGroup"
    RUN_CACHE = "runCache"
    RUN_BATCH = "runBatch"
    WORKFLOW = "workflow"
    WORKFLOW_VERSION = "workflow/version"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Tagged:
    """One thing with tags. `id` is None where the ARN has a number that is none of ours; `name` is a version's or configuration's."""

    kind: TaggedKind
    region: str
    account: str
    id: int | None = None
    name: str | None = None


_NAME = r"[A-Za-z0-9][A-Za-z0-9\-._]*"
_NUMBERED = re.compile(r"(run|runGroup|runCache|runBatch|workflow)/([0-9]{1,18})")
_VERSION = re.compile(rf"workflow/([0-9]{{1,18}})/version/({_NAME})")
_CONFIGURATION = re.compile(rf"configuration/({_NAME})")


def parse_tagged(arn: str) -> Tagged:
    """What an ARN names, whether it exists or not.

    Raises:
        MalformedName: no ARN, or one of something that cannot have tags here.
    """
    parts = parse_arn(arn)
    if (parts.partition, parts.service) == ("aws", "omics"):
        if match := _NUMBERED.fullmatch(parts.resource):
            return Tagged(TaggedKind(match[1]), parts.region, parts.account, id=number(match[2]))
        if match := _VERSION.fullmatch(parts.resource):
            return Tagged(TaggedKind.WORKFLOW_VERSION, parts.region, parts.account, id=number(match[1]), name=match[2])
        if match := _CONFIGURATION.fullmatch(parts.resource):
            return Tagged(TaggedKind.CONFIGURATION, parts.region, parts.account, name=match[1])
    raise MalformedName(
        f"'{arn}' is not the ARN of something that has tags: arn:aws:omics:REGION:ACCOUNT: and run/ID, runGroup/ID, runCache/ID, "
        "runBatch/ID, workflow/ID, workflow/ID/version/NAME or configuration/NAME"
    )
