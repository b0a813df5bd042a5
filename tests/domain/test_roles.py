"""The roles file: what its entries allow, and what is refused with which words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from runomics.domain.roles import Credentials, RolesError, account_of, parse_roles
from runomics.roles_file import read_roles

LAB = "arn:aws:iam::123456789012:role/lab"
FILE = f"""
[[role]]
arn = "{LAB}"
read = ["genomes", "lab-*"]
write = ["results"]
s3_access_key_id = "AKIAROLE"
s3_secret_access_key = "it is secret"

[[role]]
arn = "arn:aws:iam::123456789012:role/service-role/none"
"""


def test_a_role_reads_and_writes_the_buckets_it_lists() -> None:
    role = parse_roles(FILE, is_json=False)[LAB]
    buckets = ["genomes", "genomes2", "lab-7", "results", "other"]
    assert [role.may_read(bucket) for bucket in buckets] == [True, False, True, True, False]
    assert [role.may_write(bucket) for bucket in buckets] == [False, False, False, True, False]
    assert role.credentials == Credentials("AKIAROLE", "it is secret")
    assert "secret" not in repr(role.credentials).replace("secret_access_key", "")


def test_the_same_in_json() -> None:
    role = {"arn": LAB, "read": ["genomes", "lab-*"], "write": ["results"]}
    found = parse_roles(json.dumps({"role": [role]}), is_json=True)[LAB]
    assert (found.may_read("lab-7"), found.may_write("results"), found.credentials) == (True, True, None)


def test_without_a_file_there_are_no_roles_and_with_an_empty_one_none_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "roles.toml").write_text("")
    assert read_roles(None) is None
    assert read_roles(tmp_path / "roles.toml") == {}


@pytest.mark.parametrize(
    ("arn", "account"),
    [
        (LAB, "123456789012"),
        ("arn:aws-cn:iam::123456789012:role/path/to/x", "123456789012"),
        ("arn:aws:iam::123456789012:user/ana", None),
        ("arn:aws:iam::12345678901:role/x", None),
        ("role/x", None),
    ],
)
def test_the_account_of_a_role_stands_in_its_arn(arn: str, account: str | None) -> None:
    assert account_of(arn) == account


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[[role", "it is not TOML"),
        ({"roles": []}, "it must hold a list of roles named role, and nothing else"),
        ([], "it must hold a list of roles named role"),
        ({"role": ["x"]}, "role 1: it is not a table"),
        ({"role": [{"arn": LAB}, {"arn": "lab"}]}, "role 2: arn 'lab' is not arn:aws:iam::ACCOUNT:role/NAME"),
        ({"role": [{"arn": LAB}, {"arn": LAB}]}, f"role 2: {LAB} is listed twice"),
        ({"role": [{"arn": LAB, "buckets": []}]}, "role 1: unknown member buckets; known are arn, read"),
        ({"role": [{"arn": LAB, "read": "genomes"}]}, "role 1: read is not a list of names of buckets"),
        ({"role": [{"arn": LAB, "write": [""]}]}, "role 1: write is not a list of names of buckets"),
        ({"role": [{"arn": LAB, "s3_access_key_id": "x"}]}, "are texts that belong together"),
    ],
)
def test_a_wrong_file_is_refused_with_entry_and_reason(document: Any, message: str) -> None:
    is_json = not isinstance(document, str)
    with pytest.raises(RolesError, match=re.escape(message)):
        parse_roles(json.dumps(document) if is_json else document, is_json=is_json)


def test_a_file_that_shows_keys_to_others_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "roles.toml"
    file.write_text(FILE)
    file.chmod(0o640)
    with pytest.raises(RolesError, match=rf"holds S3 keys and can be read by other users: chmod 600 {file}"):
        read_roles(file)
    file.chmod(0o600)
    assert len(read_roles(file) or ()) == 2


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RolesError, match=r"none\.toml cannot be read"):
        read_roles(tmp_path / "none.toml")
    (tmp_path / "roles.json").write_bytes(b"\xff")
    with pytest.raises(RolesError, match=r"roles\.json cannot be read"):
        read_roles(tmp_path / "roles.json")
