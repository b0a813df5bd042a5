"""The images of runs' tasks: what a name means in a run, for good; on this host before a task may stand in line. Runs in the server.

A name's digest is a row before anything is pulled by it. Pulling takes long and holds no CPUs of the host: a task waits for its image
first, and for room then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from runomics.domain import image as images
from runomics.domain.image import ImageName, ImageUnavailable
from runomics.ports import Clock, Image, ImageStore
from runomics.scheduler.task_attempt import RunPlace
from runomics.scheduler.task_image import TaskImage
from runomics.scheduler.task_moves import AGAIN_SECONDS
from runomics.store import images as image_rows
from runomics.store.database import Store, StoreUnavailable
from runomics.store.images import ImageRow

log = structlog.get_logger()

PULLS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """What an operator decides about images. `default`: of tasks that name none; `unknown`: fail, host."""

    region: str
    image_map: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    default: str | None = None
    unknown: str = "fail"


Found = TaskImage | ImageUnavailable
Then = Callable[[Found], None]


class TaskImages:
    """`note(place, text)` writes a line of a run's log."""

    def __init__(
        self,
        *,
        store: Store,
        images: ImageStore,
        clock: Clock,
        policy: ImagePolicy,
        note: Callable[[RunPlace, str], None],
    ) -> None:
        self._store = store
        self._images = images
        self._clock = clock
        self._policy = policy
        self._note = note
        self._lock = threading.Lock()
        self._found: dict[int, dict[str, Found]] = {}
        self._waiting: dict[tuple[int, str], list[Then]] = {}
        self._threads = ThreadPoolExecutor(PULLS_AT_ONCE, thread_name_prefix="image")
        self._closing = threading.Event()

    def close(self) -> None:
        """Tell nobody any more; what is being pulled begins anew when a run asks the next server."""
        with self._lock:
            self._closing.set()
        self._images.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def name_of(self, asked: str | None) -> str | None:
        """The image of a task whose definition says `asked`; None: the host's own root."""
        return asked or self._policy.default

    def want(self, place: RunPlace, name: str, then: Then) -> Found | None:
        """The image, if the run has asked for it before; otherwise None, and `then` is told once it is here or cannot be had."""
        with self._lock:
            found = self._found.get(place.run_id, {}).get(name)
            if found is not None:
                return found
            key = (place.run_id, name)
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.append(then)
                return None
            if self._closing.is_set():
                return None
            self._waiting[key] = [then]
            self._threads.submit(self._find, place, name)
            return None

    def forget(self, run_id: int) -> None:
        """The run asks no more."""
        with self._lock:
            self._found.pop(run_id, None)

    def collect(self) -> list[str]:
        """Remove what no live run uses and what was not used for long (ports.ImageStore)."""
        return self._images.collect(self._store.read(image_rows.digests_of_active_runs))

    # ---- on a thread of its own ----------------------------------------------------------------------------------

    def _find(self, place: RunPlace, name: str) -> None:
        found: Found
        try:
            found = self._patiently(place, name)
        except ImageUnavailable as error:
            found = error
        except Exception as error:
            log.exception("images.find_failed", run_id=place.run_id, image=name)
            found = ImageUnavailable("BROKEN", f"Image {name} could not be made ready: {error}")
        if isinstance(found, ImageUnavailable) and self._policy.unknown == "host" and found.why != "INVALID":
            self._note(place, f"{found} Its tasks run on this server's own root instead (unknown_images is host).")
            found = TaskImage(name, None, None)
        with self._lock:
            waiting = self._waiting.pop((place.run_id, name))
            if self._closing.is_set():
                return
            self._found.setdefault(place.run_id, {})[name] = found
        for then in waiting:
            then(found)

    def _patiently(self, place: RunPlace, name: str) -> TaskImage:
        """The image; as long as the store takes nothing, the run waits."""
        while True:
            try:
                return self._image(place, name)
            except StoreUnavailable:
                if self._closing.wait(AGAIN_SECONDS):
                    raise

    def _image(self, place: RunPlace, name: str) -> TaskImage:
        named = images.name_image(
            name,
            registry_map=place.registry_map,
            image_map=self._policy.image_map,
            account=place.account,
            region=self._policy.region,
            strict=self._policy.strict,
        )
        row = self._meaning(place, name, named)
        image = self._pulled(place, row)
        return TaskImage(
            image=row.image,
            source=None if row.image == name else name,
            digest=row.digest,
            layers=tuple(image.layers),
            environment=image.environment,
            user=image.user,
        )

    def _meaning(self, place: RunPlace, name: str, named: ImageName) -> ImageRow:
        """The row that says it; made when the run asks for the first time."""
        row = self._store.read(lambda tx: image_rows.find_image(tx, place.run_id, name))
        if row is not None:
            return row
        new = ImageRow(
            account=place.account,
            run_id=place.run_id,
            name=name,
            image=named.image,
            location=str(named.location),
            digest=self._images.resolve(named.location),
            resolved_ms=self._clock.now_ms(),
        )
        row = self._store.write(lambda tx: image_rows.keep_image(tx, new))
        elsewhere = "" if row.location == name else f", pulled as {row.location}"
        self._note(place, f"Image {name}{elsewhere} is {row.digest} in this run.")
        return row

    def _pulled(self, place: RunPlace, row: ImageRow) -> Image:
        image = self._images.find(row.digest)
        if image is not None:
            return image
        return self._images.pull(images.parse(row.location), row.digest, lambda text: self._note(place, text))
