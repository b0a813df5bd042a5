"""Opens paths that an engine or a task named, without ever leaving the run's own files. Runs in the server, often as root.

A task is root in its own root file system and writes the volume as it likes: any name there may be a link, at any moment. So
nothing is opened by its text. Every open names a root, stays beneath it, and follows no link the kernel would follow;
links are followed only here, one at a time, and only as what the task saw: a path below /mnt/workflow.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from pathlib import Path

from runomics.sandbox import linux

_BENEATH = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS
_WORKFLOW = ("mnt", "workflow")
_MOST_LINKS = 40
_MOST_STEPS = 4096


class PathEscapes(OSError):
    """A path, or a link on the way, points out of the run's files. The message names the path as the task wrote it."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EXDEV, "leads out of the run's storage and inputs", path)


def open_beneath(root: int | str | os.PathLike[str], relative: str, flags: int, mode: int = 0) -> int:
    """A descriptor of `relative` below `root` (a descriptor or a path), closed on exec; no link is followed, `..` never leaves.

    Raises:
        FileNotFoundError, NotADirectoryError and so on; OSError with ELOOP when a component is a link, EXDEV when it leaves.
    """
    if isinstance(root, int):
        return linux.openat2(root, relative or ".", flags=flags, mode=mode, resolve=_BENEATH)
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.openat2(directory, relative or ".", flags=flags, mode=mode, resolve=_BENEATH)
    finally:
        os.close(directory)


def resolve_in_volume(volume: Path, inputs: Path, workflow_path: str, *, definition: Path | None = None) -> int:
    """Open for reading what `workflow_path` (`/mnt/workflow/…`) means to a task; a descriptor of a regular file or directory.

    Links are followed when their text is relative or starts with /mnt/workflow, each re-based on `volume`, or on `inputs` and
    `definition` where those are mounted over it. What was opened is what the walk ended at: a link put there in between fails.

    Raises:
        PathEscapes: the path or a link on it leads elsewhere.
        OSError: ELOOP after 40 links; EINVAL when it is neither a file nor a directory; FileNotFoundError and so on.
    """
    mounts = {"inputs": inputs} | ({"definition": definition} if definition is not None else {})
    roots = {name: os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for name, path in mounts.items()}
    try:
        roots[""] = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return _open_checked(roots, _walk(roots, workflow_path), workflow_path)
    finally:
        for descriptor in roots.values():
            os.close(descriptor)


def _below_workflow(text: str, shown: str) -> list[str]:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if tuple(parts[:2]) != _WORKFLOW:
        raise PathEscapes(shown)
    return parts[2:]


def _placed(roots: dict[str, int], parts: list[str]) -> tuple[int, str]:
    """The root that holds `parts` and the path below it."""
    if parts and parts[0] in roots:
        return roots[parts[0]], "/".join(parts[1:])
    return roots[""], "/".join(parts)


def _walk(roots: dict[str, int], path: str) -> list[str]:
    """The components of `path` with every link replaced by what it says."""
    done: list[str] = []
    ahead = deque(_below_workflow(path, path))
    links = 0
    for _ in range(_MOST_STEPS):
        if not ahead:
            return done
        part = ahead.popleft()
        if part == "..":
            if not done:
                raise PathEscapes(path)
            done.pop()
            continue
        text = _link_text(roots, [*done, part])
        if text is None:
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if text.startswith("/"):
            done = []
            ahead.extendleft(reversed(_below_workflow(text, path)))
        else:
            ahead.extendleft(reversed([step for step in text.split("/") if step not in ("", ".")]))
    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)


def _link_text(roots: dict[str, int], parts: list[str]) -> str | None:
    root, relative = _placed(roots, parts)
    opened = open_beneath(root, relative, os.O_PATH | os.O_NOFOLLOW)
    try:
        if not stat.S_ISLNK(os.fstat(opened).st_mode):
            return None
        return os.readlink("", dir_fd=opened)
    finally:
        os.close(opened)


def _open_checked(roots: dict[str, int], parts: list[str], shown: str) -> int:
    root, relative = _placed(roots, parts)
    looked = open_beneath(root, relative, os.O_PATH | os.O_NOFOLLOW)
    try:
        before = os.fstat(looked)
    finally:
        os.close(looked)
    if not (stat.S_ISREG(before.st_mode) or stat.S_ISDIR(before.st_mode)):
        # Opening a device or a pipe may act or wait, so it is refused unopened.
        raise OSError(errno.EINVAL, "is neither a file nor a directory", shown)
    opened = open_beneath(root, relative, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    after = os.fstat(opened)
    if stat.S_IFMT(after.st_mode) != stat.S_IFMT(before.st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "changed its kind while it was opened", shown)
    return opened
