"""Paths that tasks named, opened by the service: everything of the run, nothing else, whatever links say."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runomics.sandbox.volume_path import PathEscapes, open_beneath, resolve_in_volume


class Run:
    """A volume with something in it, inputs, a definition, and a secret beside them."""

    def __init__(self, root: Path) -> None:
        self.volume, self.inputs, self.definition = root / "volume", root / "inputs", root / "definition"
        for path in (
            self.volume / "a/b",
            self.volume / "inputs",
            self.volume / "definition",
            self.inputs / "s3/bucket",
            self.definition,
        ):
            path.mkdir(parents=True)
        self.secret = root / "secret"
        self.secret.write_text("secret")
        (self.volume / "a/b/file").write_text("file")
        (self.inputs / "s3/bucket/in").write_text("in")
        (self.definition / "ref").write_text("ref")

    def read(self, path: str) -> str:
        with os.fdopen(resolve_in_volume(self.volume, self.inputs, path, definition=self.definition), "rb") as file:
            return file.read().decode()

    def link(self, where: str, text: str) -> None:
        (self.volume / where).symlink_to(text)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    return Run(tmp_path)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("b/file", "file"),
        ("./b/../b/file", "file"),
        ("/mnt/workflow/a/b/file", "file"),
        ("/mnt/workflow/inputs/s3/bucket/in", "in"),
        ("../inputs/s3/bucket/in", "in"),
        ("/mnt/workflow/definition/ref", "ref"),
    ],
)
def test_links_mean_what_the_task_saw(run: Run, text: str, content: str) -> None:
    run.link("a/link", text)
    assert run.read("/mnt/workflow/a/link") == content


def test_links_to_links_and_to_directories_are_followed_step_by_step(run: Run) -> None:
    run.link("a/dir", "/mnt/workflow/a/b")
    run.link("one", "a/dir")
    run.link("two", "/mnt/workflow/one/file")
    assert run.read("/mnt/workflow/two") == "file"
    assert run.read("/mnt/workflow/one/file") == "file"


@pytest.mark.parametrize(
    "text",
    ["/etc/passwd", "../../secret", "../../../../../../etc/passwd", "/mnt/workflow/../secret", "/mnt/workflowx/a", "/mnt", "/",
     "/proc/self/root/etc/passwd",
     "/mnt/workflow/a/../../secret"],
)  # fmt: skip
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_no_link_leads_out(run: Run, text: str, depth: int) -> None:
    run.link("a/link0", text)
    for number in range(depth):
        run.link(f"a/link{number + 1}", f"link{number}")
    with pytest.raises(PathEscapes, match=f"/mnt/workflow/a/link{depth}"):
        run.read(f"/mnt/workflow/a/link{depth}")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/mnt/workflow/../secret", "../secret", "", "/mnt/workflow/a/../../../etc/passwd"]
)
def test_no_path_leads_out(run: Run, path: str) -> None:
    with pytest.raises(PathEscapes):
        run.read(path)


def test_what_a_task_left_in_the_place_of_inputs_is_never_seen(run: Run) -> None:
    (run.volume / "inputs").rmdir()
    run.link("inputs", "/etc")
    assert run.read("/mnt/workflow/inputs/s3/bucket/in") == "in"
    with pytest.raises(FileNotFoundError):
        run.read("/mnt/workflow/inputs/passwd")


def test_links_in_a_circle_end(run: Run) -> None:
    run.link("x", "y")
    run.link("y", "x")
    with pytest.raises(OSError, match="levels of symbolic links") as caught:
        run.read("/mnt/workflow/x")
    assert caught.value.errno == errno.ELOOP


def test_links_that_multiply_end(run: Run) -> None:
    run.link("l0", ".")
    for number in range(12):
        run.link(f"l{number + 1}", "/".join([f"l{number}"] * 10))
    with pytest.raises(OSError, match=r"symbolic links|too long"):
        run.read("/mnt/workflow/l12")


def test_only_files_and_directories_are_opened(run: Run) -> None:
    os.mkfifo(run.volume / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(run.volume, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/sock")
        os.close(here)
        for name in ("fifo", "sock"):
            with pytest.raises(OSError, match="neither a file nor a directory"):
                run.read(f"/mnt/workflow/{name}")
    descriptor = resolve_in_volume(run.volume, run.inputs, "/mnt/workflow/a")
    assert sorted(os.listdir(descriptor)) == ["b"]
    os.close(descriptor)


@pytest.mark.needs("root")
def test_a_device_is_not_opened(run: Run) -> None:
    os.mknod(run.volume / "zero", 0o20666, os.makedev(1, 5))
    with pytest.raises(OSError, match="neither a file nor a directory"):
        run.read("/mnt/workflow/zero")


def test_missing_files_are_missing(run: Run) -> None:
    for path in ("/mnt/workflow/no", "/mnt/workflow/no/file", "/mnt/workflow/a/b/file/x"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            run.read(path)


def test_a_task_that_swaps_files_for_links_all_the_time_never_wins(run: Run) -> None:
    """Renames race with opens; the secret must not come out, and no descriptor may leak."""
    target, spare = run.volume / "a/b/race", run.volume / "a/b/spare"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            spare.unlink(missing_ok=True)
            spare.symlink_to(run.secret)
            os.replace(spare, target)
            spare.write_text("file")
            os.replace(spare, target)

    target.write_text("file")
    swapper = threading.Thread(target=swap)
    before = len(os.listdir("/proc/self/fd"))
    swapper.start()
    seen: set[str] = set()
    try:
        for _ in range(1500):
            try:
                seen.add(run.read("/mnt/workflow/a/b/race"))
            except OSError as error:
                seen.add(type(error).__name__)
    finally:
        stop.set()
        swapper.join()
    assert "secret" not in seen
    assert "file" in seen
    assert len(os.listdir("/proc/self/fd")) <= before


def test_open_beneath_creates_below_and_follows_nothing(run: Run) -> None:
    made = open_beneath(run.volume, "a/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.write(made, b"x")
    os.close(made)
    assert (run.volume / "a/new").stat().st_mode & 0o777 == 0o640
    run.link("a/out", str(run.secret))
    run.link("up", "a")
    root = os.open(run.volume, os.O_PATH)
    for path, code in (
        ("a/out", errno.ELOOP),
        ("up/new", errno.ELOOP),
        ("../secret", errno.EXDEV),
        ("/etc/passwd", errno.EXDEV),
    ):
        for where in (run.volume, root):
            with pytest.raises(OSError, match=r"openat2") as caught:
                open_beneath(where, path, os.O_RDONLY)
            assert caught.value.errno == code
    os.close(root)
