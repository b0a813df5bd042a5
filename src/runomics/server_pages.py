"""What the server answers beside the operations: health, export URLs, and the signed pages of the command line under `/-/`.

Part of the composition root beside `app`: between the edge's page requests and what `web` knows. Pool threads of the server process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from runomics.operations.caller import Caller
from runomics.web.exports import PREFIX as EXPORT_PREFIX
from runomics.web.exports import Exports
from runomics.web.management import PREFIXES, Management, Refused
from runomics.web.metrics import CONTENT_TYPE as METRICS_TYPE
from runomics.web.metrics import Metrics
from runomics.web.operator import NotFound, Operator
from runomics.wire.asgi import SUCCESS, Page, PageAnswer, PageRequest
from runomics.wire.errors import AccessDeniedException, ApiError, ResourceNotFoundException, ValidationException
from runomics.wire.signing import AccessKey

Authorize = Callable[[Caller, str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Pages:
    """`operator()` waits for the machinery. `caller_of(key)` is who signed; progress and logs need what GetRun needs.

    Management is for the holder of `operator_key_id` alone; `audit(key, what, path, outcome)` hears of each of its calls.
    """

    exports: Exports
    operator: Callable[[], Operator]
    metrics: Metrics
    management: Management
    operator_key_id: str | None
    caller_of: Callable[[AccessKey], Caller]
    authorize: Authorize
    audit: Callable[[AccessKey, str, str, str], None]

    def by_path(self) -> dict[str, Page]:
        """What the edge is given."""
        managed = Page(signed=True, respond=self._manage)
        return {
            EXPORT_PREFIX: Page(signed=False, respond=self._export),
            "/-/progress/": Page(signed=True, respond=self._progress),
            "/-/logs/": Page(signed=True, respond=self._log),
            "/healthz": Page(signed=False, respond=_health),
            "/metrics": Page(signed=False, respond=self._metrics),
            **{f"/-/{prefix}": managed for prefix in PREFIXES},
            **{f"/-/{prefix}/": managed for prefix in PREFIXES},
        }

    def _metrics(self, request: PageRequest) -> PageAnswer:
        if not self.metrics.may_read(request.headers):
            raise AccessDeniedException("Metrics are for who shows the server's metrics_token as bearer token.")
        return PageAnswer(200, METRICS_TYPE, self.metrics.text())

    def _export(self, request: PageRequest) -> PageAnswer:
        answer = self.exports.answer(request.method, request.path, request.query)
        return PageAnswer(answer.status, answer.content_type, answer.body, answer.headers)

    # ---- for any key of the run's account ------------------------------------------------------------------------

    def _progress(self, request: PageRequest) -> PageAnswer:
        run_id = _run_id(request.path, "/-/progress/")
        account = self._reader(request, run_id)
        return _json(lambda: self.operator().progress(account, run_id))

    def _log(self, request: PageRequest) -> PageAnswer:
        query = parse_qs(request.query.decode("latin-1"))
        stream = query.get("stream", ["run"])[0]
        offset = query.get("offset", ["0"])[0]
        run_id = _run_id(request.path, "/-/logs/")
        account = self._reader(request, run_id)
        at = int(offset) if offset.isdecimal() and len(offset) < 19 else 0
        return _json(lambda: self.operator().log(account, run_id, stream, at))

    def _reader(self, request: PageRequest, run_id: int) -> str:
        """The account of a key that may look at the run."""
        caller = self.caller_of(_key(request))
        self.authorize(caller, "GetRun", {"id": str(run_id)})
        return caller.account

    # ---- for the operator's key ----------------------------------------------------------------------------------

    def _manage(self, request: PageRequest) -> PageAnswer:
        key = _key(request)
        what = f"{request.method} {unquote(request.path)}"
        try:
            if key.key_id != self.operator_key_id:
                raise AccessDeniedException(
                    f"User: {key.principal_arn} may not manage this server: that takes the operator's key, in DATA/credentials"
                )
            answer = PageAnswer(200, "application/json", orjson.dumps(self._managed(request)))
        except ApiError as error:
            self.audit(key, what, request.path, error.code)
            raise
        self.audit(key, what, request.path, SUCCESS)
        return answer

    def _managed(self, request: PageRequest) -> dict[str, Any]:
        try:
            document = orjson.loads(request.body) if request.body else {}
        except orjson.JSONDecodeError as error:
            raise ValidationException(f"The body is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise ValidationException("The body is not a JSON object")
        try:
            return self.management.answer(request.method, unquote(request.path.removeprefix("/-/")), document)
        except Refused as error:
            raise ValidationException(str(error)) from None


def _health(request: PageRequest) -> PageAnswer:
    return PageAnswer(200, "application/json", b'{"status":"ok"}')


def _key(request: PageRequest) -> AccessKey:
    if request.key is None:
        raise AccessDeniedException("This page needs a signed request")
    return request.key


def _json(look: Callable[[], Mapping[str, Any]]) -> PageAnswer:
    try:
        return PageAnswer(200, "application/json", orjson.dumps(look()))
    except NotFound as error:
        raise ResourceNotFoundException(str(error)) from error


def _run_id(path: str, prefix: str) -> int:
    text = path.removeprefix(prefix)
    if not text.isdecimal() or len(text) > 18:
        raise ResourceNotFoundException(f"Run {text[:64]} not found")
    return int(text)
