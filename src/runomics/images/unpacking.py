"""Unpacks one image layer into a directory that an overlay takes as a lower layer. A process of its own: standard library only.

`python -S -E -I unpacking.py DIRECTORY LIMIT_BYTES < layer` prints one line of JSON: `{"diff_id", "size_bytes", "entries"}`, or
`{"error", "too_large"}`. The layer is other people's, and as root this process may write anywhere: so every path is opened within the
directory as if that were the root, set-id bits, device nodes and extended attributes are left out, and what is taken away from the
layers below becomes what overlayfs knows: a character device 0/0, and an attribute on opaque directories.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from typing import IO, Any, NamedTuple

OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10
PATH_ONLY = os.O_PATH | os.O_CLOEXEC
WHITEOUT, OPAQUE, RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
ENTRY_BYTES = 4096
"""What an entry is taken to cost beside its content: a million empty files are not nothing."""
BLOCK = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Broken(Exception):
    """The layer is not what it should be."""


class TooLarge(Exception):
    """It unpacks to more than is allowed."""


class Unpacked(NamedTuple):
    """What came of it: the digest of the unpacked archive, and its size on the disk, about."""

    diff_id: str
    size_bytes: int
    entries: int


class _Hashing(io.RawIOBase):
    """Reads a stream and hashes what passes."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(BLOCK if size is None or size < 0 else size)
        self.sha256.update(piece)
        return piece


def main(arguments: list[str]) -> int:
    directory, limit_bytes = arguments[0], int(arguments[1])
    try:
        said: dict[str, Any] = unpack(sys.stdin.buffer, directory, limit_bytes)._asdict()
    except TooLarge as error:
        said = {"error": str(error), "too_large": True}
    except (Broken, tarfile.TarError, EOFError, gzip.BadGzipFile, ValueError, OverflowError, RecursionError) as error:
        said = {"error": f"{type(error).__name__}: {error}", "too_large": False}
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


def unpack(layer: IO[bytes], directory: str, limit_bytes: int) -> Unpacked:
    """Unpack `layer` (tar, plain or compressed by gzip or zstd) into the empty `directory`, to the disk.

    Raises:
        Broken, TooLarge, tarfile.TarError, EOFError, ValueError: the layer's fault. OSError: the host's.
    """
    os.umask(0)
    content = _Hashing(_decompressed(layer))
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    layer_in = _Layer(top, limit_bytes)
    with tarfile.open(fileobj=content, mode="r|", errorlevel=2) as archive:
        for member in archive:
            layer_in.add(archive, member)
    while content.read(BLOCK):
        pass
    layer_in.finish()
    if _libc.syncfs(ctypes.c_int(top)) != 0:
        raise OSError(ctypes.get_errno(), "syncfs", directory)
    os.close(top)
    return Unpacked("sha256:" + content.sha256.hexdigest(), layer_in.size_bytes, layer_in.entries)


def _decompressed(layer: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
    buffered = io.BufferedReader(layer, BLOCK) if isinstance(layer, io.RawIOBase) else layer
    begin = buffered.peek(4)[:4]  # type: ignore[attr-defined]
    if begin.startswith(GZIP):
        return gzip.GzipFile(fileobj=buffered)
    if not begin.startswith(ZSTD):
        return buffered
    program = shutil.which("zstd", path="/usr/bin:/bin:/usr/local/bin")
    if program is None:
        raise Broken("the layer is compressed by zstd, and this host has no zstd program: install it")
    os.lseek(layer.fileno(), 0, os.SEEK_SET)
    process = subprocess.Popen([program, "-dcq"], stdin=layer, stdout=subprocess.PIPE)
    if process.stdout is None:
        raise OSError("zstd has no output")
    return process.stdout


class _Layer:
    """The directory that grows. `top` is a descriptor of it."""

    def __init__(self, top: int, limit_bytes: int) -> None:
        self._top = top
        self._limit_bytes = limit_bytes
        self._is_root = os.geteuid() == 0
        self._opaque = "trusted.overlay.opaque" if self._is_root else "user.overlay.opaque"
        self._parent: tuple[str, int] | None = None
        self._directories: dict[str, tuple[int, float]] = {}
        self._whited_out: set[str] = set()
        self.size_bytes = 0
        self.entries = 0

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """One entry of the archive."""
        path = _clean(member.name)
        if not path:
            if member.isdir():
                self._directories["."] = (self._directory_mode(member), member.mtime)
                self._own_directory(self._top, member)
            return
        self.entries += 1
        self.size_bytes += ENTRY_BYTES + (member.size if member.isreg() else 0)
        if self.size_bytes > self._limit_bytes:
            raise TooLarge(f"it unpacks to more than {self._limit_bytes} bytes")
        above, _, name = path.rpartition("/")
        if above.startswith(RESERVED) or f"/{RESERVED}" in above:
            return  # book-keeping of aufs
        parent = self._open_parent(above)
        if name == OPAQUE:
            self._make_opaque(parent)
        elif name.startswith(RESERVED):
            return
        elif name.startswith(WHITEOUT):
            self._white_out(parent, name.removeprefix(WHITEOUT), path)
        elif member.isdir():
            self._add_directory(parent, name, path, member)
        elif member.isreg():
            self._add_file(parent, name, archive, member)
        elif member.issym():
            self._clear(parent, name)
            os.symlink(member.linkname, name, dir_fd=parent)
            self._own(parent, name, member)
        elif member.islnk():
            self._add_link(parent, name, member)
        elif member.isfifo():
            self._clear(parent, name)
            os.mkfifo(name, member.mode & 0o777, dir_fd=parent)
            self._own(parent, name, member)
        # Device nodes are left out: a task gets its own /dev, and makes none.

    def finish(self) -> None:
        """Modes and times of directories, last: what is made in them changes both."""
        self._let_go()
        for path, (mode, mtime) in reversed(self._directories.items()):
            try:
                descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue  # something else has taken its place
            os.fchmod(descriptor, mode)
            os.utime(descriptor, (mtime, mtime))
            os.close(descriptor)

    # ---- kinds of entries ----------------------------------------------------------------------------------------

    def _add_directory(self, parent: int, name: str, path: str, member: tarfile.TarInfo) -> None:
        status = _status(parent, name)
        replaces = status is not None and _is_whiteout(status)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            self._clear(parent, name)
            status = None
        if status is None:
            os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        self._own_directory(descriptor, member)
        if replaces or path in self._whited_out:
            self._make_opaque(descriptor)
        os.close(descriptor)
        self._directories.pop(path, None)
        self._directories[path] = (self._directory_mode(member), member.mtime)

    def _add_file(self, parent: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._clear(parent, name)
        content = archive.extractfile(member)
        if content is None:
            raise Broken(f"{member.name} has no content")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            shutil.copyfileobj(content, file, BLOCK)
            if file.tell() != member.size:
                raise Broken(f"{member.name} ends early")
            if self._is_root:
                os.fchown(file.fileno(), member.uid, member.gid)
            os.fchmod(file.fileno(), (member.mode & 0o777) | (0 if self._is_root else 0o600))
            file.flush()
            os.utime(file.fileno(), (member.mtime, member.mtime))

    def _add_link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        target = _clean(member.linkname)
        above, _, below = target.rpartition("/")
        try:
            source = self._open(above or ".", PATH_ONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Broken(f"{member.name} is linked to {member.linkname}, which is not in the layer") from error
        try:
            status = _status(source, below)
            if status is None or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                raise Broken(f"{member.name} is linked to {member.linkname}, which is no file of the layer")
            mine = _status(parent, name)
            if mine is not None and (mine.st_dev, mine.st_ino) == (status.st_dev, status.st_ino):
                return
            self._clear(parent, name)
            os.link(below, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _white_out(self, parent: int, name: str, path: str) -> None:
        if not name or name in (".", ".."):
            raise Broken(f"{path} takes nothing away")
        above = path.rpartition("/")[0]
        self._whited_out.add(f"{above}/{name}" if above else name)
        status = _status(parent, name)
        if status is not None and stat.S_ISDIR(status.st_mode):
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            self._make_opaque(descriptor)
            os.close(descriptor)
        elif status is None:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)

    def _make_opaque(self, directory: int) -> None:
        os.setxattr(f"/proc/self/fd/{directory}", self._opaque, b"y")

    # ---- pieces --------------------------------------------------------------------------------------------------

    def _open(self, path: str, flags: int) -> int:
        """A descriptor of `path`, where links lead as if the layer were the root."""
        how = struct.pack("QQQ", flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        call = (ctypes.c_long(OPENAT2), ctypes.c_int(self._top), os.fsencode(path))
        found: int = _libc.syscall(*call, how, ctypes.c_size_t(len(how)))
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return found

    def _open_parent(self, path: str) -> int:
        """A descriptor of the directory; kept until another is asked for. Those that the archive does not name are made."""
        if self._parent is not None and self._parent[0] == path:
            return self._parent[1]
        self._let_go()
        try:
            descriptor = self._open(path or ".", PATH_ONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            descriptor = self._make_parents(path)
        except OSError as error:
            raise Broken(f"{path} is no directory of the layer: {error.strerror}") from error
        self._parent = (path, descriptor)
        return descriptor

    def _make_parents(self, path: str) -> int:
        current = os.dup(self._top)
        done = ""
        for name in path.split("/"):
            done = f"{done}/{name}" if done else name
            if _status(current, name) is None:
                os.mkdir(name, 0o755, dir_fd=current)
            os.close(current)
            try:
                current = self._open(done, PATH_ONLY | os.O_DIRECTORY)
            except OSError as error:
                raise Broken(f"{done} is no directory of the layer: {error.strerror}") from error
        return current

    def _let_go(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _clear(self, parent: int, name: str) -> None:
        """Make room: a later entry of the same name takes the earlier one's place."""
        status = _status(parent, name)
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)

    def _own(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        if self._is_root:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _own_directory(self, descriptor: int, member: tarfile.TarInfo) -> None:
        if self._is_root:
            os.fchown(descriptor, member.uid, member.gid)

    def _directory_mode(self, member: tarfile.TarInfo) -> int:
        return (member.mode & 0o1777) | (0 if self._is_root else 0o700)


def _clean(path: str) -> str:
    """The path relative to the layer's top; '' for the top itself."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise Broken(f"{path!r} leaves the layer")
    return "/".join(parts)


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
