"""The roles file: read once by the server at start. One that can be read by others and holds keys is refused."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from runomics.domain.roles import Role, RolesError, parse_roles

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_roles(path: Path | None) -> Mapping[str, Role] | None:
    """The roles by ARN; None without a file. A name that ends in .json is JSON, any other TOML.

    Raises:
        RolesError: it cannot be read, is wrong, or shows S3 keys to other users.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            text = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RolesError(f"{path} cannot be read: {error}") from None
    try:
        roles = parse_roles(text, is_json=path.suffix == ".json")
    except RolesError as error:
        raise RolesError(f"{path}: {error}") from None
    if mode & OTHERS and any(role.credentials is not None for role in roles.values()):
        raise RolesError(f"{path} holds S3 keys and can be read by other users: chmod 600 {path}")
    return roles
