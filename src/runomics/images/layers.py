"""Layers of images on this host, each unpacked once whatever images it belongs to, and the compressed blobs they came from. In the server.

A layer is a directory by the digest of its content, with `root` (what an overlay takes as a lower layer) and `bytes` (what that takes on
the disk). Its blob is emptied once it is unpacked but keeps its name and length: skopeo then takes it for present, and the next image
with the same layer does not fetch it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runomics.domain.image import ImageUnavailable

UNPACKING = Path(__file__).with_name("unpacking.py")
LOOK_SECONDS = 0.5


class Layers:
    """`directory`/layers/<64 hex>, and `directory`/blobs/sha256/<64 hex>. Several threads may use it."""

    def __init__(self, directory: Path) -> None:
        self._layers, self.blobs, self._incoming = (directory / name for name in ("layers", "blobs", "incoming"))
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        self._closing = threading.Event()

    def open(self) -> None:
        """Make the folders, and remove what an earlier server left half done."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        for folder in (self._layers, self.blobs / "sha256", self._incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def close(self) -> None:
        """End what is under way, soon."""
        self._closing.set()

    def path(self, diff_id: str) -> Path:
        """The directory with this content, whether it is here or not."""
        return self._layers / diff_id.removeprefix("sha256:") / "root"

    def has(self, diff_id: str) -> bool:
        """Whether it is here, whole."""
        return self.path(diff_id).is_dir()

    def size_bytes(self, diff_id: str) -> int:
        """What it takes on the disk; 0 when it is not here."""
        try:
            return int(self.path(diff_id).with_name("bytes").read_text())
        except FileNotFoundError:
            return 0

    def blob(self, digest: str) -> Path:
        """The blob of that digest."""
        return self.blobs / "sha256" / digest.removeprefix("sha256:")

    def fresh(self) -> Path:
        """A name for a folder of one's own; what is left there at the next start is removed."""
        return self._incoming / uuid.uuid4().hex

    def add(self, diff_id: str, blob: Path, *, limit_bytes: int, seconds: float) -> int:
        """Unpack the blob as the layer `diff_id` unless it is here; its size in bytes. Concurrent calls unpack it once.

        Raises:
            ImageUnavailable: BROKEN, TOO_LARGE. OSError: the disk is full, or unpacking broke down.
        """
        with self._alone(diff_id):
            if self.has(diff_id):
                return self.size_bytes(diff_id)
            if blob.stat().st_blocks == 0 and blob.stat().st_size > 0:
                # The layer went, its blob did not: the next pull fetches it.
                blob.unlink()
                raise FileNotFoundError(f"{blob} was emptied when its layer, which is gone, was unpacked")
            target = self.fresh()
            (target / "root").mkdir(mode=0o755, parents=True)
            try:
                said = self._unpack(blob, target / "root", limit_bytes, seconds)
                if "error" in said:
                    why = "TOO_LARGE" if said["too_large"] else "BROKEN"
                    raise ImageUnavailable(why, f"one of its layers cannot be unpacked: {said['error']}")
                if said["diff_id"] != diff_id:
                    raise ImageUnavailable("BROKEN", "one of its layers is not what its configuration says")
                (target / "bytes").write_text(str(said["size_bytes"]))
                target.rename(self.path(diff_id).parent)
            except BaseException:
                shutil.rmtree(target)
                raise
            size = blob.stat().st_size
            os.truncate(blob, 0)
            os.truncate(blob, size)
            return int(said["size_bytes"])

    def keep_only(self, diff_ids: frozenset[str], digests: frozenset[str]) -> None:
        """Remove every layer and every blob that is not among these. No image may be on its way in."""
        for folder, kept in ((self._layers, diff_ids), (self.blobs / "sha256", digests)):
            for path in list(folder.iterdir()):
                if f"sha256:{path.name}" not in kept:
                    gone = self.fresh()
                    path.rename(gone)  # at once for everybody, however long the removal takes
                    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()

    # ---- inside --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self, diff_id: str) -> Iterator[None]:
        with self._lock:
            own = self._busy.setdefault(diff_id, threading.Lock())
        with own:
            yield

    def _unpack(self, blob: Path, target: Path, limit_bytes: int, seconds: float) -> dict[str, Any]:
        command = [sys.executable, "-S", "-E", "-I", str(UNPACKING), str(target), str(limit_bytes)]
        with blob.open("rb") as layer:
            process = subprocess.Popen(
                command,
                stdin=layer,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={"PATH": "/usr/bin:/bin"},
            )
        deadline = time.monotonic() + seconds
        while True:
            try:
                output, errors = process.communicate(timeout=LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline or self._closing.is_set():
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    raise TimeoutError(f"unpacking {blob} took longer than {seconds:g} s") from None
        if process.returncode != 0:
            raise OSError(f"unpacking {blob} failed: {errors.decode(errors='replace').strip()[-500:]}")
        said: dict[str, Any] = json.loads(output)
        return said
