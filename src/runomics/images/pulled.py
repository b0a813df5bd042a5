"""Images on this host: pulled once by their digest, each of their layers unpacked once, removed when long unused. Runs in the server.

What is here of an image is one file, `DATA/images/manifests/<64 hex of the digest>.json` (docs/dev/formats.md), written when all of its
layers are here. Its time of modification is that of its last use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
import structlog

from runomics.domain.image import ImageUnavailable, Reference
from runomics.images.layers import Layers
from runomics.images.skopeo import NotNow, Skopeo
from runomics.ports import Image

log = structlog.get_logger()

T = TypeVar("T")
FORMAT = 1
GIB = 1 << 30
DAY_SECONDS = 86_400.0
PROGRESS_SECONDS = 10.0
RETRY_SECONDS = (1.0, 4.0, 15.0)
"""How long is waited before a registry that did not answer is asked again, and how often."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """`image_bytes`: the most an image may unpack to. Images unused for `unused_days` go while all are over `cache_bytes`."""

    image_bytes: int = 45 * GIB
    cache_bytes: int = 100 * GIB
    unused_days: float = 7.0
    pull_seconds: float = 3600.0


class PulledImages:
    """Implements ports.ImageStore by skopeo. One server has a directory to itself. Opens it when the first image is asked for."""

    def __init__(
        self,
        directory: Path,
        skopeo: Skopeo,
        *,
        limits: ImageLimits | None = None,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
    ) -> None:
        self._directory = directory
        self._manifests = directory / "manifests"
        self._layers = Layers(directory)
        self._skopeo = skopeo
        self._limits = limits or ImageLimits()
        self._retry_seconds = retry_seconds
        self._lock = threading.Condition()
        self._flights: dict[str, tuple[Future[Image], list[Callable[[str], None]]]] = {}
        self._known: dict[str, Image] = {}
        self._collecting = False
        self._opened = False
        self._closing = threading.Event()

    def close(self) -> None:
        """End pulls that are under way; they begin anew when somebody asks again."""
        self._closing.set()
        self._skopeo.close()
        self._layers.close()

    def resolve(self, reference: Reference) -> str:
        """The digest that the name means now (ports.ImageStore)."""
        if reference.digest is not None:
            return reference.digest
        self._open()
        return self._patiently(reference, lambda: self._skopeo.digest(reference), _silent)

    def find(self, digest: str) -> Image | None:
        """The image, when it is on this host."""
        with self._lock:  # an image that is asked for is not removed: see _collect
            known = self._known.get(digest) or self._read(digest)
            if known is not None:
                os.utime(self._manifest(digest))
            return known

    def pull(self, reference: Reference, digest: str, say: Callable[[str], None]) -> Image:
        """The image, pulled if it is not here (ports.ImageStore)."""
        self._open()
        with self._lock:
            self._lock.wait_for(lambda: not self._collecting)
            flight = self._flights.get(digest)
            if flight is None:
                here = self.find(digest)
                if here is not None:
                    return here
                mine: Future[Image] = Future()
                listeners = [say]
                self._flights[digest] = (mine, listeners)
            else:
                flight[1].append(say)
        if flight is not None:
            say(f"Image {reference} is being pulled for another run already.")
            return flight[0].result()
        try:
            image = self._pull(reference.at(digest), digest, lambda text: _tell(listeners, text))
        except BaseException as error:
            self._land(digest)
            mine.set_exception(error)
            raise
        self._land(digest)
        mine.set_result(image)
        return image

    def collect(self, keep: frozenset[str]) -> list[str]:
        """Remove long unused images while all take more than they may (ports.ImageStore)."""
        if not self._manifests.is_dir():
            return []
        with self._lock:
            if self._collecting or self._flights:
                return []
            self._collecting = True
        try:
            return self._collect(keep)
        finally:
            with self._lock:
                self._collecting = False
                self._lock.notify_all()

    # ---- pulling -------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        with self._lock:
            if self._opened:
                return
            self._manifests.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._layers.open()
            self._opened = True

    def _land(self, digest: str) -> None:
        with self._lock:
            del self._flights[digest]

    def _patiently(self, reference: Reference, act: Callable[[], T], say: Callable[[str], None]) -> T:
        """What `act` gives; a registry that does not answer, and a disk or program that fails, get more chances."""
        for pause in (*self._retry_seconds, None):
            try:
                return act()
            except (NotNow, OSError) as error:
                if pause is None or self._closing.is_set():
                    raise ImageUnavailable("UNREACHABLE", f"Image {reference} could not be pulled: {error}") from error
                say(f"Image {reference} could not be pulled yet, and is tried again: {error}")
                self._closing.wait(pause)
        raise AssertionError("the last try either returns or raises")

    def _pull(self, reference: Reference, digest: str, say: Callable[[str], None]) -> Image:
        began = time.monotonic()
        say(f"Pulling image {reference}.")
        image = self._patiently(reference, lambda: self._try(reference, digest, say), say)
        seconds = time.monotonic() - began
        say(
            f"Pulled image {reference} in {seconds:.1f} s: {len(image.layers)} layers, {_mib(image.size_bytes)} on the disk."
        )
        log.info(
            "images.pulled", image=str(reference), layers=len(image.layers), bytes=image.size_bytes, seconds=seconds
        )
        return image

    def _try(self, reference: Reference, digest: str, say: Callable[[str], None]) -> Image:
        deadline = time.monotonic() + self._limits.pull_seconds
        layout = self._layers.fresh()
        try:
            self._skopeo.copy(reference, layout, self._layers.blobs, _Progress(reference, say))
            manifest, config = self._described(reference, layout)
        finally:
            shutil.rmtree(layout, ignore_errors=True)
        document = self._unpack(reference, digest, manifest, config, deadline)
        path = self._manifest(digest)
        temporary = self._layers.fresh()
        with temporary.open("wb") as file:
            file.write(orjson.dumps(document))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        image = self._image(document)
        with self._lock:
            self._known[digest] = image
        return image

    def _described(self, reference: Reference, layout: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Manifest and configuration of the image that skopeo put there."""
        try:
            index = orjson.loads((layout / "index.json").read_bytes())
            manifest = orjson.loads(self._layers.blob(index["manifests"][0]["digest"]).read_bytes())
            config = orjson.loads(self._layers.blob(manifest["config"]["digest"]).read_bytes())
            manifest["own_digest"] = index["manifests"][0]["digest"]
            if len(config["rootfs"]["diff_ids"]) != len(manifest["layers"]):
                raise ValueError("its configuration is about other layers than its manifest")
        except (ValueError, KeyError, TypeError, IndexError, FileNotFoundError) as error:
            raise ImageUnavailable("BROKEN", f"Image {reference} is no image that can be run: {error!r}") from error
        return manifest, config

    def _unpack(
        self, reference: Reference, digest: str, manifest: Mapping[str, Any], config: Mapping[str, Any], deadline: float
    ) -> dict[str, Any]:
        diff_ids: list[str] = config["rootfs"]["diff_ids"]
        pairs = list(zip(diff_ids, (layer["digest"] for layer in manifest["layers"]), strict=True))
        left = self._limits.image_bytes
        try:
            for diff_id, blob in pairs:
                left -= self._layers.add(
                    diff_id, self._layers.blob(blob), limit_bytes=left, seconds=max(1.0, deadline - time.monotonic())
                )
                if left < 0:
                    raise ImageUnavailable("TOO_LARGE", "its layers together are more")
        except ImageUnavailable as error:
            if error.why == "TOO_LARGE":
                text = (
                    f"Image {reference} is larger than {self._limits.image_bytes / GIB:g} GiB (max_image_gib): {error}"
                )
            else:
                text = f"Image {reference} is damaged: {error}"
            raise ImageUnavailable(error.why, text) from error
        settings = config.get("config") or {}
        return {
            "format": FORMAT,
            "digest": digest,
            "name": str(reference),
            "layers": diff_ids,
            "blobs": [manifest["own_digest"], manifest["config"]["digest"], *(blob for _, blob in pairs)],
            "size_bytes": self._limits.image_bytes - left,
            "environment": [str(each) for each in settings.get("Env") or ()],
            "user": str(settings.get("User") or ""),
            "working_directory": str(settings.get("WorkingDir") or ""),
        }

    # ---- what is here --------------------------------------------------------------------------------------------

    def _manifest(self, digest: str) -> Path:
        return self._manifests / (digest.removeprefix("sha256:") + ".json")

    def _read(self, digest: str) -> Image | None:
        try:
            document = orjson.loads(self._manifest(digest).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if document.get("format") != FORMAT or not all(self._layers.has(each) for each in document["layers"]):
            return None
        image = self._known[digest] = self._image(document)
        return image

    def _image(self, document: Mapping[str, Any]) -> Image:
        pairs = (each.partition("=") for each in document["environment"])
        return Image(
            digest=document["digest"],
            # An empty layer, which many images have several times, says nothing; overlayfs refuses to have one twice.
            layers=tuple(dict.fromkeys(self._layers.path(each) for each in reversed(document["layers"]))),
            environment={name: value for name, equals, value in pairs if equals},
            user=document["user"],
            size_bytes=document["size_bytes"],
        )

    # ---- removing ------------------------------------------------------------------------------------------------

    def _collect(self, keep: frozenset[str]) -> list[str]:
        self._open()
        here = sorted(self._all(), key=lambda each: each[0])
        sizes = _LayerSizes(here, self._layers)
        before = time.time() - self._limits.unused_days * DAY_SECONDS
        gone: list[str] = []
        for _, document in here:
            if sizes.total() <= self._limits.cache_bytes:
                break
            if document["digest"] in keep or not self._forget(document["digest"], before):
                continue
            sizes.without(document)
            gone.append(document["digest"])
            log.info("images.removed", image=document["name"], digest=document["digest"])
        left = [document for _, document in here if document["digest"] not in gone]
        self._layers.keep_only(
            frozenset(layer for document in left for layer in document["layers"]),
            frozenset(blob for document in left for blob in document["blobs"]),
        )
        return gone

    def _forget(self, digest: str, before: float) -> bool:
        """Have no longer what was not used since `before`; False when it was."""
        path = self._manifest(digest)
        with self._lock:
            if path.stat().st_mtime > before:
                return False
            path.unlink()
            self._known.pop(digest, None)
            return True

    def _all(self) -> Iterator[tuple[float, Mapping[str, Any]]]:
        for path in self._manifests.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                document = orjson.loads(path.read_bytes())
                if document["format"] == FORMAT:
                    yield path.stat().st_mtime, document


class _LayerSizes:
    """What the layers of some images take on the disk, shared ones once."""

    def __init__(self, here: list[tuple[float, Mapping[str, Any]]], layers: Layers) -> None:
        self._users: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        for _, document in here:
            for layer in dict.fromkeys(document["layers"]):
                self._users[layer] = self._users.get(layer, 0) + 1
        for layer in self._users:
            self._bytes[layer] = layers.size_bytes(layer)

    def total(self) -> int:
        return sum(size for layer, size in self._bytes.items() if self._users[layer])

    def without(self, document: Mapping[str, Any]) -> None:
        for layer in dict.fromkeys(document["layers"]):
            self._users[layer] -= 1


class _Progress:
    """Says every ten seconds how much of an image has come."""

    def __init__(self, reference: Reference, say: Callable[[str], None]) -> None:
        self._reference, self._say = reference, say
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, size_bytes: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._say(f"Pulling image {self._reference}: {_mib(max(0, size_bytes))} so far.")


def _tell(listeners: list[Callable[[str], None]], text: str) -> None:
    for say in tuple(listeners):
        say(text)


def _silent(text: str) -> None:
    """Nobody is told."""


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
