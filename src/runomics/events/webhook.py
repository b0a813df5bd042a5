"""One webhook: events sent by POST, signed, over connections that are kept. Used by the outbox's threads in the server process.

Headers and signature are those of the Standard Webhooks specification, so receivers find a library that checks them:
`webhook-id`, `webhook-timestamp` (seconds) and `webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
import threading
from collections.abc import Callable

from runomics import __version__
from runomics.domain.event import SECRET_PREFIX, StatusEvent, Webhook
from runomics.domain.webhook_url import checked_url
from runomics.events.event import encoded
from runomics.ports import NotTaken

TIMEOUT_SECONDS = 10.0
"""For connecting, for sending, and for each wait on the answer."""
ANSWER_BYTES = 64 * 1024
"""Of an answer that are read, for the sake of the connection; nothing in it matters."""
TOO_BUSY = frozenset({429, 503})
AGAIN_MOST_SECONDS = 3600


def signature(secret: str, event_id: str, timestamp_seconds: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{event_id}.{timestamp_seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class WebhookSink:
    """ports.EventSink for one webhook."""

    def __init__(
        self,
        webhook: Webhook,
        *,
        region: str,
        now_ms: Callable[[], int],
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        parts = checked_url(webhook.url)
        self._webhook = webhook
        self._region = region
        self._now_ms = now_ms
        self._timeout_seconds = timeout_seconds
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def deliver(self, event: StatusEvent) -> None:
        """POST the event; any 2xx takes it. Redirects are not followed: the answer must come from where the operator said.

        Raises:
            NotTaken: another answer, or none.
        """
        event_id, body = encoded(event, region=self._region)
        now_seconds = self._now_ms() // 1000
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"runomics/{__version__}",
            "webhook-id": event_id,
            "webhook-timestamp": str(now_seconds),
            "webhook-signature": signature(self._webhook.secret, event_id, now_seconds, body),
        }
        connection = self._kept()
        if connection is not None:
            try:
                return self._post(connection, headers, body)
            except (ConnectionError, http.client.RemoteDisconnected):
                # The receiver may close what it has not used for a while; that says nothing of the receiver.
                pass
            except (OSError, http.client.HTTPException) as error:
                raise self._down(error) from error
        try:
            return self._post(self._fresh(), headers, body)
        except (OSError, http.client.HTTPException) as error:
            raise self._down(error) from error

    def close(self) -> None:
        """Close what waits for more; what is in use is closed after its answer."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # ---- pieces --------------------------------------------------------------------------------------------------

    def _post(self, connection: http.client.HTTPConnection, headers: dict[str, str], body: bytes) -> None:
        try:
            connection.request("POST", self._target, body, headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES)
            is_whole = answer.isclosed()
        except BaseException:
            connection.close()
            raise
        if is_whole and not answer.will_close:
            self._keep(connection)
        else:
            connection.close()
        if not 200 <= answer.status < 300:
            raise NotTaken(
                _printable(f"answered {answer.status} {answer.reason}"),
                is_down=answer.status in TOO_BUSY,
                again_ms=_again_ms(answer.getheader("retry-after")),
            )

    def _kept(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _fresh(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_seconds, context=self._tls)

    def _down(self, error: Exception) -> NotTaken:
        why = str(error) or type(error).__name__
        return NotTaken(_printable(f"gave no answer: {why}"), is_down=True)


def _printable(text: str) -> str:
    """Fit for a terminal and a log line, whatever the receiver said."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def _again_ms(retry_after: str | None) -> int | None:
    """`Retry-After` in seconds, bounded; a date is not understood."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdecimal():
        return None
    return min(int(retry_after[:9]), AGAIN_MOST_SECONDS) * 1000
