"""Makes a definition archive of files that did not come as one: the same files make the same archive. Worker threads of the server."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from runomics.domain.packaging import Refused

Source = Callable[[], AbstractContextManager[IO[bytes]]]
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def pack(files: Iterable[tuple[str, Source]], descriptor: int) -> str:
    """Write an archive of `files` (path in it, how its bytes are opened) to an empty file; the archive's sha256 in hex.

    Nothing is compressed: an archive then depends on its files alone, and not on a library's version.
    """
    with os.fdopen(os.dup(descriptor), "w+b") as target:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, open_source in files:
                info = zipfile.ZipInfo(name, _EPOCH)
                info.create_system = _UNIX
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                with open_source() as source, archive.open(info, "w") as entry:
                    shutil.copyfileobj(source, entry)
        target.flush()
        target.seek(0)
        return hashlib.file_digest(target, "sha256").hexdigest()


def files_below(directory: Path) -> Iterator[tuple[str, Source]]:
    """The files below a folder by relative path, sorted.

    Raises:
        Refused: something in it is neither a plain file nor a folder.
    """
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        name = path.relative_to(directory).as_posix()
        if stat.S_ISREG(mode):
            yield name, lambda path=path: path.open("rb")  # type: ignore[misc]
        elif not stat.S_ISDIR(mode):
            raise Refused(f"'{name}' is a link or something special. A definition holds plain files and folders.")
