"""How often an account may call an operation, and the buckets that hold it to that. Values; time is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AWS: Mapping[str, float] = {
    "StartRun": 1,
    "CancelRun": 10,
    "DeleteRun": 10,
    "GetRun": 10,
    "GetRunTask": 10,
    "ListRunTasks": 10,
    "ListRuns": 10,
    "CreateRunGroup": 10,
    "GetRunGroup": 10,
    "ListRunGroups": 10,
    "UpdateRunGroup": 10,
    "DeleteRunGroup": 10,
    "CreateRunCache": 10,
    "GetRunCache": 10,
    "ListRunCaches": 10,
    "UpdateRunCache": 10,
    "DeleteRunCache": 10,
    "CreateWorkflow": 5,
    "GetWorkflow": 10,
    "ListWorkflows": 10,
    "UpdateWorkflow": 10,
    "DeleteWorkflow": 10,
    "TagResource": 5,
    "UntagResource": 5,
    "ListTagsForResource": 5,
    "CreateShare": 1,
    "AcceptShare": 1,
    "GetShare": 1,
    "ListShares": 1,
    "DeleteShare": 1,
}
"""Requests a second of one account in one Region. Source: guide, api-quotas; what it does not list is not limited."""


@dataclass(slots=True)
class Bucket:
    """Requests that may be made at once. It fills at `rate` a second up to one second's worth, at least one.

    Source: assumed (how much AWS lets through at once is not documented).
    """

    rate: float
    tokens: float
    at_seconds: float

    def take(self, now_seconds: float) -> bool:
        """Whether one more request may be made at this moment, which never goes back."""
        gained = max(0.0, now_seconds - self.at_seconds) * self.rate
        self.tokens = min(max(1.0, self.rate), self.tokens + gained)
        self.at_seconds = now_seconds
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


def full_bucket(rate: float, now_seconds: float) -> Bucket:
    """A bucket of whom nobody asked anything yet."""
    return Bucket(rate, max(1.0, rate), now_seconds)
