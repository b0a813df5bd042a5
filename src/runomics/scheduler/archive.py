"""Reads zip archives that nobody vouches for: what they declare, and their files within hard limits. Worker threads of the server.

The directory of an archive is a claim. Its size is bounded before the zip library builds objects from it, and unpacking counts the
bytes that really come out, whatever was declared.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from runomics.domain.packaging import ArchiveLimits, Entry, EntryKind, Refused, check_entries

_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_COMMENT_BYTES = 65_535
_CHUNK = 256 * 1024

_UTF8_FLAG = 0x800
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_UNIX = 3

_NOT_A_ZIP = (
    "Invalid zip file: {}. Make a zip archive of the workflow's definition files, with the main file near its root."
)


def unpack(archive: Path, directory: Path, limits: ArchiveLimits) -> list[str]:
    """Write the archive's files below the empty `directory`, files 0644, programs and folders 0755; their relative paths, sorted.

    Raises:
        Refused: not a zip, damaged, unsafe or too large; the message is a statusMessage.
    """
    try:
        with archive.open("rb") as file:
            _check_directory_size(file, limits)
            with zipfile.ZipFile(file) as opened:
                return _write(opened, directory, limits)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        struct.error,
        NotImplementedError,
        UnicodeDecodeError,
        ValueError,
    ) as error:
        raise Refused(_NOT_A_ZIP.format(_first_line(error))) from error


def names(archive: Path, limits: ArchiveLimits) -> list[str]:
    """The paths `unpack` would write, sorted, after the same checks of what is declared.

    Raises:
        Refused: as `unpack`.
    """
    try:
        with archive.open("rb") as file:
            _check_directory_size(file, limits)
            with zipfile.ZipFile(file) as opened:
                return sorted(_accepted(opened, limits))
    except (zipfile.BadZipFile, struct.error, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        raise Refused(_NOT_A_ZIP.format(_first_line(error))) from error


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0].rstrip(".")
    return text[:1].lower() + text[1:] if text else type(error).__name__


# ---- what it declares --------------------------------------------------------------------------------------------


def _check_directory_size(file: BinaryIO, limits: ArchiveLimits) -> None:
    """Refuse a directory that would cost more memory than the archive may: it is read whole and becomes an object an entry."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _END.size - _COMMENT_BYTES)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END_MARK)
    if at < 0 or len(tail) - at < _END.size:
        raise zipfile.BadZipFile("it has no zip directory")
    directory_bytes = _END.unpack_from(tail, at)[5]
    locator = _read_at(file, start + at - _LOCATOR.size, _LOCATOR.size)
    if len(locator) == _LOCATOR.size and locator.startswith(b"PK\x06\x07"):
        # The zip library takes the 64-bit record to lie right before its locator, whatever the locator says.
        record = _read_at(file, start + at - _LOCATOR.size - _END_64.size, _END_64.size)
        if len(record) == _END_64.size and record.startswith(b"PK\x06\x06"):
            directory_bytes = max(directory_bytes if directory_bytes != 0xFFFFFFFF else 0, _END_64.unpack(record)[8])
    if directory_bytes > limits.directory_bytes:
        raise Refused(
            f"The archive's directory takes {directory_bytes} bytes; the limit is {limits.directory_bytes}. "
            "Leave out what the workflow does not need."
        )


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    if offset < 0:
        return b""
    file.seek(offset)
    return file.read(length)


def _accepted(opened: zipfile.ZipFile, limits: ArchiveLimits) -> Mapping[str, zipfile.ZipInfo]:
    declared = opened.infolist()
    if any(info.header_offset < 0 for info in declared):
        raise zipfile.BadZipFile("an entry begins before the archive")
    entries = [_entry(info) for info in declared]
    accepted = {entry.name for entry in check_entries(entries, limits)}
    return {entry.name: info for entry, info in zip(entries, declared, strict=True) if entry.name in accepted}


def _entry(info: zipfile.ZipInfo) -> Entry:
    name = _name(info)
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = _kind(mode, is_directory=name.endswith("/"))
    return Entry(
        name=name,
        size_bytes=info.file_size,
        compressed_bytes=info.compress_size,
        kind=kind,
        readable=not info.flag_bits & _ENCRYPTED_FLAGS
        and info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
    )


def _name(info: zipfile.ZipInfo) -> str:
    """The name as its maker meant it: many tools write UTF-8 without the flag that says so; anything else is code page 437."""
    if info.flag_bits & _UTF8_FLAG:
        return info.orig_filename
    raw = info.orig_filename.encode("cp437")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return info.orig_filename


def _kind(mode: int, *, is_directory: bool) -> EntryKind:
    if stat.S_ISLNK(mode):
        return EntryKind.SYMLINK
    if is_directory or stat.S_ISDIR(mode):
        return EntryKind.DIRECTORY
    if stat.S_IFMT(mode) in (0, stat.S_IFREG):
        return EntryKind.FILE
    return EntryKind.SPECIAL


# ---- what comes out ----------------------------------------------------------------------------------------------


def _write(opened: zipfile.ZipFile, directory: Path, limits: ArchiveLimits) -> list[str]:
    accepted = _accepted(opened, limits)
    left_bytes = limits.unpacked_bytes
    for name, info in accepted.items():
        left_bytes -= _write_file(opened, info, directory / name, limit_bytes=min(limits.file_bytes, left_bytes))
    return sorted(accepted)


def _write_file(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, *, limit_bytes: int) -> int:
    _make_folders(path.parent)
    written = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as target, opened.open(info) as source:
        os.fchmod(descriptor, _mode(info))
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > limit_bytes:
                raise Refused(
                    f"The archive entry '{info.filename}' unpacks to more than it declares or than the limit of "
                    f"{limit_bytes} bytes allows. Make the archive anew, or pass large files as inputs of the run."
                )
            target.write(chunk)
    if written != info.file_size:
        raise Refused(
            f"Invalid zip file: the entry '{info.filename}' has {written} bytes and declares {info.file_size}."
        )
    return written


def _mode(info: zipfile.ZipInfo) -> int:
    """Programs can be run: those that could be where the archive was made, and all in a folder `bin`, as Nextflow wants it.

    Source: guide, workflow-definition-nextflow (bin/ is executable).
    """
    made_so = info.create_system == _UNIX and info.external_attr >> 16 & stat.S_IXUSR
    return 0o755 if made_so or "bin" in info.filename.split("/")[:-1] else 0o644


def _make_folders(folder: Path) -> None:
    missing: Sequence[Path] = ()
    while not folder.is_dir():
        missing = (folder, *missing)
        folder = folder.parent
    for path in missing:
        path.mkdir(mode=0o755)
        path.chmod(0o755)
