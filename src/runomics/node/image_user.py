"""Who a task is by its image's configuration: `user[:group]`, by number or by the image's own lists of users. In the supervisor."""

from __future__ import annotations

import os
from typing import NamedTuple

from . import linux

MOST_BYTES = 4 << 20
"""Of a list of users: more is not read."""


class NoSuchUser(Exception):
    """The image's configuration names somebody whom the image does not know."""


class User(NamedTuple):
    """`groups`: further ones. `home` is None where nobody says it."""

    uid: int
    gid: int
    groups: list[int]
    home: str | None


def find(root: str, text: str) -> User:
    """The user that `text` means in the image mounted at `root`. A number that no line of passwd has is taken as it is, with group 0.

    Raises:
        NoSuchUser: a name is not in the image's lists, or a number is too large.
    """
    wanted, _, group = text.partition(":")
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        users, groups = _lines(top, "etc/passwd", 6), _lines(top, "etc/group", 3)
    finally:
        os.close(top)
    line = next((line for line in users if wanted in (line[0], line[2])), None)
    if line is None and not wanted.isdecimal():
        raise NoSuchUser(f"its user {wanted!r} is not in its /etc/passwd")
    uid = _number(wanted if line is None else line[2])
    if group:
        found = next((each for each in groups if group in (each[0], each[2])), None)
        if found is None and not group.isdecimal():
            raise NoSuchUser(f"its group {group!r} is not in its /etc/group")
        gid, more = _number(group if found is None else found[2]), []
    else:
        gid = 0 if line is None else _number(line[3])
        more = [] if line is None else [_number(each[2]) for each in groups if line[0] in each[3].split(",")]
    return User(uid, gid, more, None if line is None else line[5] or None)


def own_directory(volume: int, path: str, uid: int, gid: int) -> None:
    """Give the directory `path`, relative to the run's volume, to these ids of the host, that the task may write there."""
    descriptor = linux.open_beneath(volume, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def _lines(top: int, path: str, least: int) -> list[list[str]]:
    """The fields of each line that has enough of them; links lead as they do for the task."""
    try:
        descriptor = linux.open_in_root(top, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(MOST_BYTES).decode(errors="replace")
    fields = [line.split(":") for line in text.splitlines()]
    return [[*each, ""] for each in fields if len(each) >= least and each[2].isdecimal()]


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise NoSuchUser(f"{text!r} is no number of a user or a group")
    return int(text)
