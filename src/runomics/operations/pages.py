"""Page tokens: the id a page ended at, signed, and good only for the same account and the same filter. Server process.

A token is 24 bytes in base64: the id, and a keyed hash of it with everything it is bound to. Nothing is stored for it and it does
not expire.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from runomics.operations.caller import Caller
from runomics.wire.errors import ValidationException

PAGE_SIZE = 100
"""Items when maxResults is absent. Source: model (the most there may be); assumed (the default)."""

_ID_BYTES = 8
_MAC_BYTES = 16
_NOT_FILTERS = ("startingToken", "nextToken", "maxResults", "maxItems")


def size(request: Mapping[str, Any]) -> int:
    """How many items the page may have."""
    count: int = request.get("maxResults", PAGE_SIZE)
    return count


def start(caller: Caller, operation: str, request: Mapping[str, Any], *, member: str = "startingToken") -> int:
    """The id after which the page begins, 0 for the first page. `member` is what the operation calls the token.

    Raises:
        ValidationException: the token was not made by this server for this account, operation and filter.
    """
    token = request.get(member)
    if token is None:
        return 0
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    after_id = raw[:_ID_BYTES]
    if len(raw) != _ID_BYTES + _MAC_BYTES or not hmac.compare_digest(
        raw[_ID_BYTES:], _mac(caller, operation, request, after_id)
    ):
        raise ValidationException(
            f"{member} '{token}' is not a token of {operation} with this filter. Pass nextToken of the page before, with "
            "the same filter, or no token for the first page."
        )
    return int.from_bytes(after_id, "big")


def page(
    caller: Caller,
    operation: str,
    request: Mapping[str, Any],
    *,
    items: list[dict[str, Any]],
    next_after_id: int | None,
    items_member: str = "items",
) -> dict[str, Any]:
    """The answer of a list operation; nextToken only when there may be more. `items_member` is what it calls the items."""
    if next_after_id is None:
        return {items_member: items}
    after_id = next_after_id.to_bytes(_ID_BYTES, "big")
    token = base64.urlsafe_b64encode(after_id + _mac(caller, operation, request, after_id)).decode()
    return {items_member: items, "nextToken": token}


def _mac(caller: Caller, operation: str, request: Mapping[str, Any], after_id: bytes) -> bytes:
    filters = {name: value for name, value in request.items() if name not in _NOT_FILTERS}
    bound = orjson.dumps([operation, caller.account, filters], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(after_id + bound, digest_size=_MAC_BYTES, key=caller.site.page_key).digest()
