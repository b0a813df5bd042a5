"""Fetches one commit with the `git` program and reads its files. Runs on worker threads of the server, the program beside it.

Nothing of the repository is ever run or checked out: no hooks, no filters, no submodules, no links. The program sees no configuration
but ours, may use one protocol, and has a time and a size that it may not exceed.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from runomics.domain.repository import EntryKind, SourceReference, SourceReferenceType, TreeEntry
from runomics.ports import RepositoryUnavailable

_WANTED = "refs/runomics/wanted"
_CONFIGURATION = """\
[safe]
    directory = *
[core]
    hooksPath = /dev/null
    attributesFile = /dev/null
    fsmonitor = false
[fetch]
    unpackLimit = 1
[gc]
    auto = 0
[credential]
    helper =
[http]
    lowSpeedLimit = 1000
    lowSpeedTime = 20
[protocol]
    version = 2
"""
_KEPT_VARIABLES = ("PATH", "SSH_AUTH_SOCK", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "GIT_SSL_CAINFO")
_KINDS = {
    b"100644": EntryKind.FILE,
    b"100755": EntryKind.FILE,
    b"120000": EntryKind.LINK,
    b"160000": EntryKind.SUBMODULE,
}
_MESSAGE_LETTERS = 300

_REASONS: Sequence[tuple[tuple[str, ...], str]] = (
    (("couldn't find remote ref", "not our ref", "no such remote ref", "unadvertised object"), "it has no {wanted}"),
    (
        ("file too large", "signal 25", "invalid index-pack output"),
        "it is larger than {limit_bytes} bytes, the most that is fetched",
    ),
    (
        ("does not appear to be a git repository", "repository not found", "does not exist", "error: 404"),
        "it does not exist",
    ),
    (("could not resolve host", "connection refused", "timed out", "failed to connect"), "its host cannot be reached"),
    (
        (
            "authentication failed",
            "could not read username",
            "permission denied",
            "error: 403",
            "could not read from remote",
        ),
        "this server may not read it, or it does not exist",
    ),
)
"""What the program says, in small letters → what that means."""


@dataclass(frozen=True, slots=True)
class GitRepositories:
    """ports.Repositories. Temporary files lie below `scratch`, which is made and swept by its owner."""

    scratch: Path
    seconds: float
    limit_bytes: int

    @contextlib.contextmanager
    def fetch(self, url: str, reference: SourceReference | None) -> Iterator[GitSnapshot]:
        """The commit that is wanted, until the block ends.

        Raises:
            RepositoryUnavailable: it cannot be had; says why, without the URL.
        """
        if shutil.which("git") is None:
            raise RepositoryUnavailable("git is not installed on this server")
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".incoming-git-", dir=self.scratch, ignore_cleanup_errors=True
        ) as place:
            yield from self._fetched(_Git(Path(place), urlsplit(url).scheme, self, url, reference))

    def _fetched(self, git: _Git) -> Iterator[GitSnapshot]:
        git.run("init", "--quiet", "--bare", "--template=", str(git.repository))
        git.run(
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
            "--",
            git.url,
            f"+{_ref(git.reference)}:{_WANTED}",
        )
        commit = git.run("rev-parse", "--verify", "--quiet", f"{_WANTED}^{{commit}}").decode().strip()
        listed = git.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit)
        entries, names = _entries(listed)
        snapshot = GitSnapshot(commit, entries, names, git)
        try:
            yield snapshot
        finally:
            snapshot.close()


class GitSnapshot:
    """ports.Snapshot: one commit in a repository of our own."""

    def __init__(self, commit: str, entries: Sequence[TreeEntry], names: dict[str, str], git: _Git) -> None:
        self.commit = commit
        self.entries = entries
        self._names = names
        self._git = git
        self._reader: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """The bytes of a file, or a link's target. One at a time, read to the end.

        Raises:
            RepositoryUnavailable: it cannot be read.
        """
        reader = self._reader = self._reader or self._git.start("cat-file", "--batch")
        source, sink = reader.stdout, reader.stdin
        if source is None or sink is None:
            raise RepositoryUnavailable("git gave no files")
        sink.write(f"{self._names[path]}\n".encode())
        sink.flush()
        header = source.readline().split()
        if len(header) != 3 or header[1] != b"blob":
            raise RepositoryUnavailable(f"git cannot read {path}")
        part = _Part(source, int(header[2]))
        try:
            yield io.BufferedReader(part)
        finally:
            part.skip()
            source.read(1)

    def close(self) -> None:
        """End the program."""
        reader = self._reader
        if reader is None:
            return
        for pipe in (reader.stdin, reader.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        reader.kill()
        reader.wait()


class _Part(io.RawIOBase):
    """So many bytes of a stream."""

    def __init__(self, source: IO[bytes], size_bytes: int) -> None:
        self._source = source
        self._left = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(min(len(buffer), self._left))
        if self._left and not data:
            raise RepositoryUnavailable("git ended early")
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def skip(self) -> None:
        """Read what is left of it."""
        while self._left:
            self.readinto(memoryview(bytearray(min(self._left, 1 << 16))))


class _Git:
    """The program with an environment and a configuration of its own, in a place that goes away. `seconds` are for all its commands."""

    def __init__(
        self, place: Path, scheme: str, settings: GitRepositories, url: str, reference: SourceReference | None
    ) -> None:
        self.repository = place / "repository"
        self.url = url
        self.reference = reference
        self._settings = settings
        self._end = time.monotonic() + settings.seconds
        configuration = place / "configuration"
        configuration.write_text(_CONFIGURATION)
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._environment = {
            **kept,
            "HOME": str(place),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(configuration),
            "GIT_ALLOW_PROTOCOL": scheme,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10",
        }

    def run(self, *arguments: str) -> bytes:
        """What a command prints.

        Raises:
            RepositoryUnavailable: it failed, or the time is over.
        """
        process = self.start(*arguments)
        try:
            printed, said = process.communicate(timeout=max(0.1, self._end - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise RepositoryUnavailable(
                f"it took longer than {self._settings.seconds:.0f} seconds, the most that is waited for"
            ) from None
        if process.returncode != 0:
            raise RepositoryUnavailable(self._reason(said.decode("utf-8", "replace")))
        return printed

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command in a process group of its own; no file that it writes may be larger than the limit."""
        at = ["-C", str(self.repository)] if self.repository.is_dir() else []
        blocks = self._settings.limit_bytes // 512
        return subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -f {blocks} && exec git "$@"', "git", *at, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if arguments[0] != "cat-file" else subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )

    def _reason(self, said: str) -> str:
        small = said.lower()
        wanted = "default branch" if self.reference is None else f"{self.reference.type.lower()} {self.reference.value}"
        for signs, meaning in _REASONS:
            if any(sign in small for sign in signs):
                return meaning.format(wanted=wanted, limit_bytes=self._settings.limit_bytes)
        lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:"))] or said.splitlines()
        line = (lines or ["git said nothing"])[0].replace(self.url, "URL")
        return line[:_MESSAGE_LETTERS] if "://" not in line else "git failed"


def _ref(reference: SourceReference | None) -> str:
    if reference is None:
        return "HEAD"
    if reference.type is SourceReferenceType.BRANCH:
        return f"refs/heads/{reference.value}"
    if reference.type is SourceReferenceType.TAG:
        return f"refs/tags/{reference.value}"
    return reference.value


def _entries(listed: bytes) -> tuple[list[TreeEntry], dict[str, str]]:
    """The entries of a tree, and the object of each path."""
    entries, names = [], {}
    for line in listed.split(b"\0"):
        if not line:
            continue
        told, _, raw = line.partition(b"\t")
        mode, _, name, size = told.split()
        try:
            path = raw.decode()
        except UnicodeDecodeError:
            raise RepositoryUnavailable("the name of one of its files is not UTF-8") from None
        entries.append(TreeEntry(path, _KINDS.get(mode, EntryKind.FILE), int(size) if size.isdigit() else 0))
        names[path] = name.decode()
    return entries, names
