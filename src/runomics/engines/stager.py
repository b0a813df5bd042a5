"""Local paths of inputs named by URI: staged before the engine started, or asked for while it runs. In the run process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from runomics.engines.gateway_client import Gateway

SCHEMES = ("s3", "omics")
_STAGED_AT_ONCE = 16


class RefusedUri(Exception):
    """A URI of a scheme that is never read."""


def is_uri(text: str) -> bool:
    """Whether `text` names something outside of the run, of whatever scheme."""
    return "://" in text


class Stager:
    """Each URI is asked for once, whichever threads need it."""

    def __init__(self, gateway: Gateway, staged: Mapping[str, str], terminating: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._paths = dict(staged)
        self._terminating = terminating
        self._lock = threading.Lock()
        self._in_flight: dict[str, threading.Lock] = {}

    def path(self, uri: str, *, directory: bool) -> str:
        """Where `uri` lies below /mnt/workflow; without a trailing slash. Waits for the server when it is not there yet.

        Raises:
            RefusedUri. StageFailed: the server could not stage it. Cancelled, GatewayLost.
        """
        scheme = uri.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise RefusedUri(f"inputs are read from s3:// and omics:// URIs only, not from {uri}")
        name = uri.rstrip("/") + "/" if directory else uri
        with self._lock:
            known = self._paths.get(name) or (self._paths.get(name.rstrip("/")) if directory else None)
            turn = self._in_flight.setdefault(name, threading.Lock())
        if known is not None:
            return known.rstrip("/")
        with turn:
            return self._stage(name)

    def _stage(self, name: str) -> str:
        with self._lock:
            known = self._paths.get(name)
        if known is None:
            known = self._gateway.stage(name, self._terminating)
            with self._lock:
                self._paths[name] = known
        return known.rstrip("/")

    def all_paths(self, wanted: Iterable[tuple[str, bool]]) -> None:
        """Have several URIs, each with whether it is a directory, staged at the same time. Raises: as `path`."""
        missing = sorted(set(wanted))
        if len(missing) < 2:
            for uri, directory in missing:
                self.path(uri, directory=directory)
            return
        with ThreadPoolExecutor(min(_STAGED_AT_ONCE, len(missing)), thread_name_prefix="stage") as pool:
            for done in [pool.submit(self.path, uri, directory=directory) for uri, directory in missing]:
                done.result()
