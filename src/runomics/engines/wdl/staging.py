"""Inputs named by URI: those staged before the engine started, and those whose URI is only made while it runs. Runs in the run process.

miniwdl asks its call cache for a local copy of a URI wherever it meets one: a workflow's and a task's inputs, `read_*` and `size` in a
workflow, outputs. So a cache that stages on demand serves all of them; declarations inside tasks go through `Container`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import Any

import WDL
from WDL.runtime.cache import CallCache, CallCacheAddPaths
from WDL.runtime.error import Terminated

from runomics.engines import stager
from runomics.engines.gateway_client import Cancelled, StageFailed
from runomics.engines.stager import SCHEMES, is_uri
from runomics.engines.wdl import finished

__all__ = ["REFUSED_SCHEMES", "SCHEMES", "Cache", "InputUnavailable", "Stager", "downloader", "is_uri", "localize"]

REFUSED_SCHEMES = ("http", "https", "ftp", "gs", "file")


class InputUnavailable(WDL.Error.RuntimeError):
    """A staging request failed; carries what the server said."""

    def __init__(self, failed: StageFailed) -> None:
        super().__init__(str(failed))
        self.uri = failed.uri
        self.code = failed.code


class Stager(stager.Stager):
    """The same with miniwdl's errors, which it puts the place in the workflow to."""

    def path(self, uri: str, *, directory: bool) -> str:
        """As `engines.stager`.

        Raises:
            WDL.Error.InputError: a scheme that is never read. InputUnavailable: the server could not stage it. Terminated.
        """
        try:
            return super().path(uri, directory=directory)
        except stager.RefusedUri as refused:
            raise WDL.Error.InputError(str(refused)) from None
        except StageFailed as failed:
            raise InputUnavailable(failed) from failed
        except Cancelled:
            raise Terminated(quiet=True) from None


def localize(inputs: WDL.Env.Bindings[WDL.Value.Base], stage: Stager) -> WDL.Env.Bindings[WDL.Value.Base]:
    """The inputs of a run with the local path in place of every File's and Directory's URI, at any depth.

    Raises:
        WDL.Error.InputError: a File or Directory that is no URI. InputUnavailable, Terminated.
    """
    found: set[tuple[str, bool]] = set()

    def collect(value: WDL.Value.File | WDL.Value.Directory) -> str:
        if not is_uri(value.value):
            raise WDL.Error.InputError(f"{value.type} inputs must be s3:// or omics:// URIs, not {value.value}")
        found.add((value.value, isinstance(value, WDL.Value.Directory)))
        return str(value.value)

    def replace(value: WDL.Value.File | WDL.Value.Directory) -> str:
        return stage.path(value.value, directory=isinstance(value, WDL.Value.Directory))

    for binding in inputs:
        try:
            WDL.Value.rewrite_paths(binding.value, collect)
        except WDL.Error.InputError as error:
            raise WDL.Error.InputError(f"{binding.name}: {error}") from None
    stage.all_paths(found)
    return WDL.Value.rewrite_env_paths(inputs, replace)


class Cache(CallCache):
    """Has what earlier incarnations finished, and every URI, by staging it. One per run, for which the members are set before it starts.

    `entries` are the directories of `wdl.finished`.
    """

    stager: Stager
    entries: Sequence[str] = ()

    def flock(self, *arguments: Any, **options: Any) -> None:
        """No lock: nobody else sees this volume."""

    def get(self, key: str, inputs: Any, output_types: Any) -> Any:
        """What an earlier incarnation of the run finished; None when nothing."""
        if len(self.entries) < 2:
            return None
        name = finished.name(key, inputs)
        paths = [f"{directory}/{name}" for directory in self.entries[1:]]
        known = finished.found(paths, output_types, configuration=self._cfg, logger=self._logger)
        if known is None:
            return None
        outputs, self._entry_add_paths[key] = known
        return outputs

    def put(
        self, key: str, outputs: Any, run_dir: str | None = None, *, inputs: Any, add_paths: CallCacheAddPaths
    ) -> None:
        """For the next incarnation, should there be one."""
        self._entry_add_paths[key] = add_paths.copy()
        # Not of the run's own workflow: its outputs are links in its own directory.
        if self.entries and os.path.dirname(os.path.normpath(run_dir or "")) != os.path.dirname(self.entries[0]):
            finished.keep(f"{self.entries[0]}/{finished.name(key, inputs)}", outputs, add_paths)

    def get_download(self, uri: str, directory: bool = False, logger: Any = None) -> str | None:
        """The local copy of `uri`, staged now when it must be; None when it is no URI."""
        if not is_uri(uri):
            return None
        return self.stager.path(uri, directory=directory or uri.endswith("/"))


def downloader(cfg: Any, logger: Any, uri: str, **kwargs: Any) -> Generator[dict[str, Any], dict[str, Any], None]:
    """Registers a scheme with miniwdl as one that can be had. The cache answers first, so this never runs.

    Raises:
        WDL.Error.InputError: always.
    """
    yield from ()
    raise WDL.Error.InputError(f"inputs are read from s3:// and omics:// URIs only, not from {uri}")
