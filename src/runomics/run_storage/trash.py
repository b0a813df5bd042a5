"""Owns the thread that removes what destroyed volumes left, so that `destroy` need not wait for it; runs in the server.

What is to go stands in a trash directory first: after a crash the next start empties it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import structlog

from runomics.run_storage import linux

log = structlog.get_logger()

HELD_SECONDS = 5.0
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class HeldImage:
    """The mounted file system of an image that is to go, by the last descriptor of its root."""

    root: int
    drop_unwritten: bool


class Trash:
    """Removes directories one after the other. Each must stand in a trash directory already."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Path, HeldImage | None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._pending = 0
        self._is_empty = threading.Condition(self._lock)

    def put(self, directory: Path, held: HeldImage | None = None) -> None:
        """Remove `directory` soon, once the file system `held` is gone."""
        with self._lock:
            self._pending += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="storage-trash", daemon=True)
                self._thread.start()
        self._queue.put((directory, held))

    def put_all(self, trash: Path) -> None:
        """Remove everything that an earlier process left in the directory `trash`."""
        for entry in sorted(os.scandir(trash), key=lambda found: found.name):
            self.put(Path(entry.path))

    def wait_until_empty(self, timeout_seconds: float) -> bool:
        """Whether everything is removed in time."""
        with self._is_empty:
            return self._is_empty.wait_for(lambda: self._pending == 0, timeout_seconds)

    def close(self) -> None:
        """End the thread after what it is at; the next start does the rest."""
        self._stopping.set()
        self._queue.put(None)
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None and not self._stopping.is_set():
            try:
                _remove(*item, self._stopping)
            except Exception:
                log.exception("run_storage.trash_failed", directory=str(item[0]))
            with self._is_empty:
                self._pending -= 1
                self._is_empty.notify_all()


def _remove(directory: Path, held: HeldImage | None, stopping: threading.Event) -> None:
    if held is not None:
        _let_go(directory, held, stopping)
    for name in ("image", "intact", "volume.json"):
        (directory / name).unlink(missing_ok=True)
    try:
        directory.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        remove_tree(directory)


def _let_go(directory: Path, held: HeldImage, stopping: threading.Event) -> None:
    """Close the last descriptor, which unmounts, and see that the loop device went with it."""
    device = os.fstat(held.root).st_dev
    number = (os.major(device), os.minor(device))
    image = linux.backing_file(number)
    try:
        if held.drop_unwritten:
            linux.shut_down(held.root)
    except OSError as error:
        log.warning("run_storage.shut_down_failed", directory=str(directory), error=str(error))
    finally:
        os.close(held.root)
    for _ in range(int(HELD_SECONDS / POLL_SECONDS)):
        if image is None or linux.backing_file(number) != image:
            return
        if stopping.wait(POLL_SECONDS):
            return
    log.warning(
        "run_storage.volume_still_held",
        directory=str(directory),
        loop=f"/dev/loop{number[1]}",
        effect="its space comes back when the process or mount namespace that holds it ends",
    )


def remove_tree(directory: Path) -> None:
    """Remove a directory tree that tasks made: any depth, any modes, no link followed.

    Raises:
        OSError: something could not be removed.
    """
    done = _rm(directory)
    if done.returncode != 0 and os.geteuid() != 0:
        # A plain user's own directories without write permission.
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(directory)], capture_output=True, check=False)
        done = _rm(directory)
    if done.returncode != 0 and directory.exists():
        raise OSError(f"cannot remove {directory}: {done.stderr.strip()[-500:]}")


def _rm(directory: Path) -> subprocess.CompletedProcess[str]:
    command = ["rm", "-rf", "--one-file-system", "--", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
