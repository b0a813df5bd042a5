"""The file of Git connections: read once by the server at start. One that can be read by others and holds passwords is refused."""

from __future__ import annotations

import stat
from pathlib import Path

from runomics.domain.repository import Connection, ConnectionsError, has_secret, parse_connections

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_connections(path: Path | None) -> tuple[Connection, ...]:
    """The connections in their order; none without a file.

    Raises:
        ConnectionsError: it cannot be read, is wrong, or shows passwords to other users.
    """
    if path is None:
        return ()
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectionsError(f"{path} cannot be read: {error}") from None
    try:
        connections = parse_connections(text)
    except ConnectionsError as error:
        raise ConnectionsError(f"{path}: {error}") from None
    if mode & OTHERS and any(has_secret(connection) for connection in connections):
        raise ConnectionsError(f"{path} holds passwords and can be read by other users: chmod 600 {path}")
    return connections
