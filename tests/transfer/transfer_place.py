"""A run's directory, the folder store beside it, and transfers over both, with the real opening of exports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runomics.objects.directory import DirectoryObjects
from runomics.sandbox.volume_path import resolve_in_volume
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.transfer import Transfers

WAIT_SECONDS = 30


class Heard:
    """A callback that keeps what it is called with."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self._there = threading.Semaphore(0)

    def __call__(self, result: Any) -> None:
        self.results.append(result)
        self._there.release()

    def wait(self, count: int) -> list[Any]:
        """Wait for `count` more calls; everything heard so far."""
        for _ in range(count):
            assert self._there.acquire(timeout=WAIT_SECONDS), "nothing called back"
        return self.results


class Place:
    """The pieces a test touches. `wait` starts something that calls back once and gives what it called back with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = DirectoryObjects(root / "objects")
        self.objects.make_bucket("data")
        self.objects.make_bucket("out")
        self.cache = InputCache(root / "cache", self.objects)
        self.run = self.new_run("one")
        self.transfers = Transfers(objects=self.objects, cache=self.cache, open_export=resolve_in_volume)

    def new_run(self, name: str) -> Path:
        run = self.root / "runs" / name
        for folder in ("volume", "inputs"):
            (run / folder).mkdir(parents=True)
        return run

    def put(self, key: str, data: bytes) -> str:
        return self.objects.upload_bytes(data, f"s3://data/{key}").uri

    def staged_file(self, path: str, run: Path | None = None) -> Path:
        return (run or self.run) / "inputs" / path.removeprefix("/mnt/workflow/inputs/")

    @staticmethod
    def wait(start: Callable[[Callable[[Any], None]], None]) -> Any:
        heard = Heard()
        start(heard)
        return heard.wait(1)[0]
