"""URLs under which anyone may fetch a definition archive or a README for a while, and what answers them. Server process.

A URL carries its end and a keyed hash of both; nothing is stored for it. It is made from the server's own address, never from a
request's Host header: `<server>/-/export/definition/<sha256>?expires=…&signature=…`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

PREFIX = "/-/export/"
"""Everything below this path is answered here."""

_MAC_BYTES = 16
_DEFINITION = re.compile(r"definition/([0-9a-f]{64})")
_README = re.compile(r"readme/([0-9]{12}|ready2run)/([0-9]{1,18})(?:/([A-Za-z0-9][A-Za-z0-9._-]{0,63}))?")
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Export:
    """An answer: a file is streamed from `body`."""

    status: int
    content_type: str
    body: bytes | Path
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exports:
    """Makes and answers export URLs.

    `key` signs; a new key ends every URL. `endpoint()` is the server's URL without a trailing slash. `archive(sha256)` is where that
    archive lies, `readme(account, workflow id, version name or None)` the text, None when it is gone (the account of a Ready2Run
    workflow is empty). `now_ms` is UTC epoch milliseconds.
    """

    key: bytes
    endpoint: Callable[[], str]
    archive: Callable[[str], Path]
    readme: Callable[[str, int, str | None], str | None]
    now_ms: Callable[[], int]

    def url(self, path: str, expires_ms: int) -> str:
        """A URL that works until `expires_ms`, for `definition/<sha256>` or `readme/<account>/<workflow id>[/<version name>]`.

        In the place of a Ready2Run workflow's account stands `ready2run`.
        """
        expires_seconds = expires_ms // 1000
        signature = self._signature(path, expires_seconds)
        return f"{self.endpoint()}{PREFIX}{quote(path)}?expires={expires_seconds}&signature={signature}"

    def answer(self, method: str, path: str, query: bytes | str) -> Export:
        """Answer a request whose percent-encoded path begins with PREFIX. GET and HEAD; the same 403 for all that is not a URL of ours.

        Source: observed (a plain GET fetches the archive or the markdown); assumed (status codes as S3 gives them).
        """
        if method not in ("GET", "HEAD"):
            return _refusal(405, "An export URL answers GET only.", {"allow": "GET, HEAD"})
        text = query.decode("latin-1") if isinstance(query, bytes) else query
        given = parse_qs(text)
        expires, signature = given.get("expires", [""])[0], given.get("signature", [""])[0]
        name = unquote(path.removeprefix(PREFIX))
        if not re.fullmatch(r"[0-9]{1,15}", expires) or not hmac.compare_digest(
            signature.encode(), self._signature(name, int(expires)).encode()
        ):
            return _refusal(
                403, "This export URL is not valid. Ask for a new one with export=DEFINITION or export=README."
            )
        if int(expires) * 1000 <= self.now_ms():
            return _refusal(
                403, "This export URL has expired. Ask for a new one with export=DEFINITION or export=README."
            )
        return self._content(name)

    def _content(self, name: str) -> Export:
        if definition := _DEFINITION.fullmatch(name):
            archive = self.archive(definition[1])
            if archive.is_file():
                return Export(200, "application/zip", archive, _attachment(f"{definition[1][:16]}.zip"))
        elif readme := _README.fullmatch(name):
            account = "" if readme[1] == "ready2run" else readme[1]
            text = self.readme(account, int(readme[2]), readme[3])
            if text is not None:
                return Export(200, "text/markdown; charset=utf-8", text.encode(), _attachment("README.md"))
        return _refusal(404, f"{name} is no longer on this server: the workflow or version was deleted.")

    def _signature(self, path: str, expires_seconds: int) -> str:
        message = f"{path}\n{expires_seconds}".encode("utf-8", "surrogatepass")
        mac = hashlib.blake2b(message, digest_size=_MAC_BYTES, key=self.key, person=b"runomics-export").digest()
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def _attachment(name: str) -> dict[str, str]:
    return {
        "content-disposition": f'attachment; filename="{name}"',
        "cache-control": "private, no-store",
        "x-content-type-options": "nosniff",
    }


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Export:
    return Export(status, _TEXT, f"{message}\n".encode(), headers or {})
