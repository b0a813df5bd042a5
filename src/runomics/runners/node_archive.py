"""Packs the `node` folder into DATA/bin/node-<version>-<digest>.pyz, which launchers and supervisors run. Written by the server at start.

The archive stays when a newer one is made: supervisors and batch jobs of the older server may still start from it.
"""

from __future__ import annotations

import hashlib
import io
import os
import py_compile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

NODE = Path(__file__).parent.parent / "node"
MAIN = "import sys\n\nfrom node.command import main\n\nsys.exit(main(sys.argv[1:]))\n"
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_archive(directory: Path) -> Path:
    """The archive of this version in `directory`, made when it is missing."""
    sources = {path.name: path.read_text() for path in sorted(NODE.glob("*.py"))}
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in sources.items()).encode()).hexdigest()[:12]
    path = directory / f"node-{metadata.version('runomics')}-{digest}.pyz"
    if path.exists():
        return path
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = directory / f"{path.name}.{os.getpid()}"
    temporary.write_bytes(_packed(sources))
    temporary.rename(path)
    return path


def _packed(sources: dict[str, str]) -> bytes:
    """The zip file's bytes: each source, and beside it its bytecode for this Python, which another Python passes over."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, tempfile.TemporaryDirectory() as scratch:
        archive.writestr(zipfile.ZipInfo("__main__.py", EPOCH), MAIN)
        for name, text in sources.items():
            archive.writestr(zipfile.ZipInfo(f"node/{name}", EPOCH), text)
            compiled = Path(scratch) / "module.pyc"
            py_compile.compile(
                str(NODE / name),
                cfile=str(compiled),
                dfile=f"node/{name}",
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            archive.writestr(zipfile.ZipInfo(f"node/{name}c", EPOCH), compiled.read_bytes())
    return buffer.getvalue()
