"""The folder of workflow definitions, by content: archives, their unpacked trees, what inspection found. Server process, any thread.

    <root>/<sha256 of the archive>/archive.zip        the bytes as they came
                                  /tree/              unpacked; files 0644, programs and folders 0755
                                  /interface-<engine>-<main, / as ~>.json    what inspection found (docs/dev/formats.md)
    <root>/.incoming-*                                being written; swept at start

Everything appears by rename, so what exists is whole. Workflows with the same archive share a folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

_INCOMING = ".incoming-"
_OURS = f"{_INCOMING}{uuid.uuid4().hex[:12]}-"
"""Prefix of what this process is writing; anything else incoming was left by one that is gone."""

_FORMAT = 1

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Definitions:
    """Definitions below `root`, a directory of ours that is made when missing."""

    root: Path
    _touching: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def archive(self, sha256: str) -> Path:
        return self.root / sha256 / "archive.zip"

    def tree(self, sha256: str) -> Path:
        return self.root / sha256 / "tree"

    # ---- archives

    def keep(self, data: bytes) -> str:
        """Store an archive durably; its sha256 in hex. The same bytes again cost a look."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self._is_here(sha256):
            return sha256

        def write(file: BinaryIO) -> str:
            file.write(data)
            file.flush()
            return sha256

        return self._receive(write)

    def receive(self, download: Callable[[int], str]) -> str:
        """Store the archive that `download(descriptor)` writes and whose sha256 it returns; that sha256."""
        return self._receive(lambda file: download(file.fileno()))

    def _receive(self, write: Callable[[BinaryIO], str]) -> str:
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_OURS, dir=self.root)
        with contextlib.ExitStack() as stack:
            stack.callback(Path(name).unlink, missing_ok=True)
            file = stack.enter_context(os.fdopen(descriptor, "wb"))
            sha256 = write(file)
            os.fsync(file.fileno())
            if not self._is_here(sha256):
                archive = self.archive(sha256)
                archive.parent.mkdir(exist_ok=True)
                os.rename(name, archive)
                _sync_directory(archive.parent)
                _sync_directory(self.root)
        return sha256

    def _is_here(self, sha256: str) -> bool:
        """Whether the archive is here; its time is set to now, so that a clean-up of unnamed definitions leaves it alone."""
        with self._touching:
            try:
                os.utime(self.archive(sha256))
            except FileNotFoundError:
                return False
        return True

    # ---- trees

    def unpack(self, sha256: str, fill: Callable[[Path], object]) -> Path:
        """The tree of an archive, made by `fill(empty directory)` unless it is there; durable when it is.

        Whatever `fill` raises leaves nothing behind.
        """
        tree = self.tree(sha256)
        if tree.is_dir():
            return tree
        with _fresh_directory(self.root) as directory:
            fill(directory)
            _sync_file_system(directory)
            directory.chmod(0o755)
            try:
                directory.rename(tree)
            except OSError:
                if not tree.is_dir():
                    raise
        _sync_directory(tree.parent)
        return tree

    # ---- interfaces

    def interface_path(self, sha256: str, engine: str, main: str) -> Path:
        return self.root / sha256 / f"interface-{engine}-{main.replace('/', '~')}.json"

    def interface(self, sha256: str, engine: str, main: str) -> Mapping[str, Any] | None:
        """What inspection found in this archive for this engine and main file; None when it was not looked at yet."""
        try:
            found = orjson.loads(self.interface_path(sha256, engine, main).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        wanted = {"format": _FORMAT, "engine": engine, "main": main}
        return found if isinstance(found, dict) and wanted.items() <= found.items() else None

    def keep_interface(self, sha256: str, interface: Mapping[str, Any]) -> None:
        """Store what inspection found, beside what it found for other engines and main files of the same archive."""
        path = self.interface_path(sha256, interface["engine"], interface["main"])
        descriptor, name = tempfile.mkstemp(prefix=_OURS, dir=self.root)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps({"format": _FORMAT, **interface}))
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)

    # ---- going

    def forget(self, sha256: str) -> None:
        """Remove a definition that nothing names any more. Idempotent."""
        folder = self.root / sha256
        if not folder.is_dir():
            return
        with _fresh_directory(self.root) as grave:
            folder.rename(grave / sha256)

    def older_than(self, before_ms: int) -> Iterator[str]:
        """Digests of the archives that nobody stored, for the first time or again, since `before_ms` (UTC epoch ms)."""
        for folder in self.root.iterdir():
            if not folder.name.startswith(_INCOMING) and self._is_older(folder.name, before_ms):
                yield folder.name

    def forget_unnamed(self, sha256: str, is_named: Callable[[str], bool], *, before_ms: int) -> bool:
        """`forget` what is older than `before_ms` and not `is_named`; whether it was.

        Who stores the same archive meanwhile either makes it young, and it stays, or finds it gone and writes it again.
        """
        folder = self.root / sha256
        with _fresh_directory(self.root) as grave, self._touching:
            if not self._is_older(sha256, before_ms) or is_named(sha256):
                return False
            folder.rename(grave / sha256)
        return True

    def _is_older(self, sha256: str, before_ms: int) -> bool:
        try:
            return self.archive(sha256).stat().st_mtime_ns // 1_000_000 < before_ms
        except FileNotFoundError:
            return False

    def sweep(self) -> None:
        """Remove what an earlier process left half written. Only one process may use the folder."""
        for path in self.root.glob(f"{_INCOMING}*"):
            if path.name.startswith(_OURS):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _fresh_directory(root: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=_OURS, dir=root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(path: Path) -> None:
    """One syncfs for thousands of small files, instead of an fsync each."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(descriptor)
