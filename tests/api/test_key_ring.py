"""The table of keys that requests are checked against: what the database has, changed in place."""

from __future__ import annotations

import json
from dataclasses import replace

import structlog.testing

from runomics.key_ring import KeyRing
from runomics.store.accounts import AccessKeyRow

ACCOUNT = "123456789012"
DENIAL = json.dumps({"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}})


def row(key_id: str, policy: str | None = None) -> AccessKeyRow:
    return AccessKeyRow(key_id, ACCOUNT, "secret", f"arn:aws:iam::{ACCOUNT}:root", 1, policy=policy)


def test_only_keys_that_are_narrowed_have_a_policy() -> None:
    rows = [
        row("plain"),
        row("full", "AmazonOmicsFullAccess"),
        row("reader", "AmazonOmicsReadOnlyAccess"),
        row("denied", DENIAL),
    ]
    ring = KeyRing(lambda: rows)
    assert set(ring.keys) == {"plain", "full", "reader", "denied"}
    assert set(ring.policies) == {"reader", "denied"}
    assert ring.keys["plain"].secret == b"secret"


def test_what_is_added_and_disabled_is_seen_by_who_holds_the_tables() -> None:
    rows = [row("first"), row("second", DENIAL)]
    ring = KeyRing(lambda: rows)
    find, policies = ring.keys.get, ring.policies
    rows[:] = [row("first"), replace(row("second", DENIAL), status="DISABLED"), row("third", DENIAL)]
    ring.reload()
    assert [find(key_id) is not None for key_id in ("first", "second", "third")] == [True, False, True]
    assert set(policies) == {"third"}


def test_a_key_whose_policy_cannot_be_followed_signs_nothing() -> None:
    newer = json.dumps(
        {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"New": {"a": "b"}}}}
    )
    with structlog.testing.capture_logs() as said:
        ring = KeyRing(lambda: [row("first"), row("second", newer)])
    assert set(ring.keys) == {"first"}
    assert [(entry["event"], entry["key_id"]) for entry in said] == [("key.unusable", "second")]
