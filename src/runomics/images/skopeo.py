"""Registries, spoken to by skopeo: what a name means, and an image's blobs into a folder. Runs in the server, on threads that may wait.

skopeo knows logins, credential helpers, mirrors, certificates and proxies as podman does, and verifies every blob by its digest. What
it says on standard error is the only thing that tells one failure from another; those that a registry is bound to say are known here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from runomics.domain.image import ImageUnavailable, Reference

log = structlog.get_logger()

LOOKUP_SECONDS = 60
POLICIES = (Path("/etc/containers/policy.json"), Path("~/.config/containers/policy.json"))
REMEDY = "install skopeo (Debian, Ubuntu, Fedora: the package of that name)"
WORDS = 600
"""How much of what skopeo said goes into a message."""
LOOK_SECONDS = 1.0

_FORBIDDEN = re.compile(
    r"unauthorized|authentication required|access (?:to the resource is |is )?denied|\bdenied:|invalid username/password"
    r"|(?:status|code)[^\n]{0,20}\b40[13]\b|incorrect username or password|no basic auth credentials",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"manifest unknown|name unknown|repository name not known|name_unknown|manifest_unknown|(?:status|code)[^\n]{0,20}\b404\b"
    r"|no image found in (?:manifest list|image index) for architecture",
    re.IGNORECASE,
)
_BROKEN = re.compile(
    r"digest did not match|does not match (?:expected )?digest|(?:doesn't|does not) match provided manifest digest|blob unknown"
    r"|unsupported (?:schema version|manifest|mime)|unsupported MIME type|invalid (?:mixed )?OCI image|unexpected end of JSON"
    r"|invalid character|unmarshal|is not an image|no such image|source image rejected",
    re.IGNORECASE,
)
_MISSPOKEN = re.compile(r"x509:|certificate|server gave HTTP response to HTTPS client", re.IGNORECASE)


def find() -> str | None:
    """The host's skopeo."""
    return shutil.which("skopeo")


def policy() -> list[str]:
    """Whom to trust is what the host's policy says; skopeo refuses everything where there is none."""
    return [] if any(path.expanduser().exists() for path in POLICIES) else ["--insecure-policy"]


class NotNow(Exception):
    """The registry did not answer, or says that it cannot now. Later it may."""


class Skopeo:
    """The program, and how it is to speak to registries. `scratch` takes its temporary files."""

    def __init__(
        self,
        scratch: Path,
        *,
        program: str | None = None,
        auth_file: Path | None = None,
        insecure_registries: Sequence[str] = (),
        pull_seconds: float = 3600.0,
    ) -> None:
        """`insecure_registries` (host:port) are spoken to without TLS, or without checking who they are. A pull ends at `pull_seconds`."""
        self._program = program or find()
        self._scratch = scratch
        self._auth_file = auth_file
        self._insecure = frozenset(insecure_registries)
        self._pull_seconds = pull_seconds
        self._closing = threading.Event()

    def close(self) -> None:
        """End what is under way, soon."""
        self._closing.set()

    def digest(self, reference: Reference) -> str:
        """The digest of the manifest (or of the index of manifests) that the name means now. One round trip.

        Raises:
            ImageUnavailable, NotNow.
        """
        said = self._run(
            ["inspect", "--raw", *self._speaking(reference, ""), f"docker://{reference}"], reference, LOOKUP_SECONDS
        )
        return "sha256:" + hashlib.sha256(said).hexdigest()

    def copy(self, reference: Reference, layout: Path, blobs: Path, on_bytes: Callable[[int], None]) -> None:
        """Make `layout` an OCI layout of the image whose blobs lie in the folder `blobs`; those that are there are not fetched.

        `on_bytes` is told every second how much has come, about.

        Raises:
            ImageUnavailable, NotNow.
        """
        command = ["copy", "--quiet", *self._speaking(reference, "src-")]
        command += ["--dest-shared-blob-dir", str(blobs), f"docker://{reference}", f"oci:{layout}"]
        before = _size(blobs)
        self._run(command, reference, self._pull_seconds, lambda: on_bytes(_size(blobs) - before + _size(layout)))

    # ---- inside --------------------------------------------------------------------------------------------------

    def _speaking(self, reference: Reference, side: str) -> list[str]:
        chosen = [f"--{side}tls-verify=false"] if reference.registry in self._insecure else []
        return [*chosen, *([] if self._auth_file is None else ["--authfile", str(self._auth_file)])]

    def _run(
        self,
        arguments: Sequence[str],
        reference: Reference,
        seconds: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> bytes:
        if self._program is None:
            raise ImageUnavailable("UNREACHABLE", f"Image {reference} cannot be pulled: {REMEDY}.")
        command = [self._program, *policy(), "--tmpdir", str(self._scratch)]
        with tempfile.TemporaryFile(dir=self._scratch) as output, tempfile.TemporaryFile(dir=self._scratch) as errors:
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                env=self._environment(),
            )
            code = self._wait(process, seconds, meanwhile)
            output.seek(0)
            errors.seek(0)
            if code == 0:
                return output.read()
            raise self._failure(reference, code, errors.read().decode(errors="replace"), seconds)

    def _environment(self) -> Mapping[str, str]:
        # The server's own settings are nobody else's business.
        return {name: value for name, value in os.environ.items() if not name.startswith("RUNOMICS_")}

    def _wait(
        self, process: subprocess.Popen[bytes], seconds: float, meanwhile: Callable[[], None] | None
    ) -> int | None:
        """The exit code; None when it was ended, for it took too long or the server closes."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return process.wait(LOOK_SECONDS if meanwhile else 0.2)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline or self._closing.is_set():
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    return None
                if meanwhile is not None:
                    meanwhile()

    def _failure(self, reference: Reference, code: int | None, said: str, seconds: float) -> Exception:
        words = _words(said)
        log.warning("images.skopeo_failed", image=str(reference), exit_code=code, said=words)
        if code is None:
            return NotNow(
                f"it took longer than {seconds:g} s" if not self._closing.is_set() else "the server is closing"
            )
        if _MISSING.search(said):
            return ImageUnavailable("MISSING", f"Image {reference} was not found in its registry. {words}")
        if _FORBIDDEN.search(said):
            return ImageUnavailable(
                "FORBIDDEN",
                f"This server has no permission to pull image {reference}, or there is no such repository. Its operator gives it a "
                f"login by registry_auth_file. {words}",
            )
        if _BROKEN.search(said):
            return ImageUnavailable("BROKEN", f"Image {reference} is damaged, or no image that can be run. {words}")
        if _MISSPOKEN.search(said):
            return ImageUnavailable(
                "UNREACHABLE",
                f"The registry of image {reference} could not be trusted. Its operator installs the registry's certificate, or names "
                f"{reference.registry} in insecure_registries. {words}",
            )
        return NotNow(words or f"skopeo ended with exit code {code}")


def _size(folder: Path) -> int:
    """Bytes that the files of the folder, and of the folders in it, take on the disk."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue  # it was finished or given up meanwhile
    return total


def _words(said: str) -> str:
    """skopeo's own words: the message of its last line of log, without the log's trimmings."""
    lines = [line for line in said.strip().splitlines() if line]
    if not lines:
        return ""
    matched = re.search(r'msg="((?:[^"\\]|\\.)*)"', lines[-1])
    text = re.sub(r'^Error parsing image name "[^"]*": ', "", matched[1].replace('\\"', '"') if matched else lines[-1])
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"
