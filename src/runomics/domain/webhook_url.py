"""What a webhook's URL may be. Pure; used where one is set and where it is sent to."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

URL_LENGTH = 2048


class BadUrl(ValueError):
    """The URL cannot be one of a webhook. The message says why."""


def checked_url(url: str) -> SplitResult:
    """The parts of a webhook's URL.

    Raises:
        BadUrl: another scheme than http or https, no host, a user, a fragment, or what no URL may contain.
    """
    if len(url) > URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise BadUrl(
            f"{url[:80]!r} is no URL: it must be at most {URL_LENGTH} ASCII letters, the others percent-encoded"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUrl(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadUrl(f"{url!r} is no http or https URL with a host")
    if port == 0:
        raise BadUrl(f"{url!r} has no usable port")
    if parts.username is not None or parts.password is not None:
        raise BadUrl(f"{url!r} has a user in it: leave it out, the signature says who sends")
    if parts.fragment:
        raise BadUrl(f"{url!r} has a fragment, which is never sent: leave it out")
    return parts
