"""Roles that runs may take: which buckets each reads and writes, and with whose S3 keys. Pure; read once by the server at start.

The file lists them, in TOML (`[[role]]`) or JSON (`{"role": [...]}`):

    [[role]]
    arn = "arn:aws:iam::123456789012:role/lab"
    read = ["genomes", "lab-*"]      # buckets; * and ? as wildcards
    write = ["results"]              # what may be written may also be read
    s3_access_key_id = "…"           # with --s3-endpoint: sign as this key, not as the server's
    s3_secret_access_key = "…"
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runomics.domain.policy_pattern import Pattern, compile_pattern

_ARN = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]{1,512}")
_MEMBERS = frozenset({"arn", "read", "write", "s3_access_key_id", "s3_secret_access_key"})


class RolesError(ValueError):
    """The roles file cannot be used. The message names the entry and says why."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An S3 access key."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Role:
    """An entry of the roles file."""

    arn: str
    read: tuple[Pattern, ...]
    write: tuple[Pattern, ...]
    credentials: Credentials | None = None

    def may_read(self, bucket: str) -> bool:
        return any(pattern.matches(bucket, {}) for pattern in (*self.read, *self.write))

    def may_write(self, bucket: str) -> bool:
        return any(pattern.matches(bucket, {}) for pattern in self.write)


def account_of(role_arn: str) -> str | None:
    """The account that a role's ARN names, None for what is no role's ARN."""
    found = _ARN.fullmatch(role_arn)
    return None if found is None else found[1]


def parse_roles(text: str, *, is_json: bool) -> Mapping[str, Role]:
    """The roles of a file, by ARN.

    Raises:
        RolesError: it is no such file, names an ARN twice, or has an entry that is wrong.
    """
    try:
        document = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RolesError(f"it is not {'JSON' if is_json else 'TOML'}: {error}") from None
    listed = document.get("role", []) if isinstance(document, dict) else None
    if not isinstance(listed, list) or set(document) - {"role"}:
        raise RolesError("it must hold a list of roles named role, and nothing else")
    roles: dict[str, Role] = {}
    for number, entry in enumerate(listed, start=1):
        role = _role(f"role {number}", entry)
        if role.arn in roles:
            raise RolesError(f"role {number}: {role.arn} is listed twice")
        roles[role.arn] = role
    return roles


def _role(where: str, entry: Any) -> Role:
    if not isinstance(entry, dict):
        raise RolesError(f"{where}: it is not a table")
    unknown = sorted(entry.keys() - _MEMBERS)
    if unknown:
        raise RolesError(f"{where}: unknown member {', '.join(unknown)}; known are {', '.join(sorted(_MEMBERS))}")
    arn = entry.get("arn")
    if not isinstance(arn, str) or account_of(arn) is None:
        raise RolesError(f"{where}: arn {arn!r} is not arn:aws:iam::ACCOUNT:role/NAME")
    keys = (entry.get("s3_access_key_id"), entry.get("s3_secret_access_key"))
    if any(key is not None and not isinstance(key, str) for key in keys) or (keys[0] is None) != (keys[1] is None):
        raise RolesError(f"{where}: s3_access_key_id and s3_secret_access_key are texts that belong together")
    return Role(
        arn=arn,
        read=_buckets(f"{where}: read", entry.get("read", [])),
        write=_buckets(f"{where}: write", entry.get("write", [])),
        credentials=None if keys[0] is None or keys[1] is None else Credentials(keys[0], keys[1]),
    )


def _buckets(where: str, value: Any) -> tuple[Pattern, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise RolesError(f"{where} is not a list of names of buckets")
    return tuple(compile_pattern(one) for one in value)
