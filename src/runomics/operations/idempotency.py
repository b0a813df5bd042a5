"""Request tokens: the same request again gets the first answer again, and does nothing. Server process, inside the transaction.

The token is looked up and kept in the transaction of the work itself, so that there is never a row without its token or a token
without its row; a request that fails keeps none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from runomics.operations.caller import Caller
from runomics.store import tokens
from runomics.store.database import Tx
from runomics.wire.errors import ConflictException


def body_hash(request: Mapping[str, Any]) -> str:
    """Of the request without its token, whatever the order of its members."""
    body = {name: value for name, value in request.items() if name != "requestId"}
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def first_answer(tx: Tx, caller: Caller, operation: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer this token was given before, None for a new token.

    Source: guide (a repeated requestId does nothing); assumed (the answer is the first one, verbatim, for 30 days).

    Raises:
        ConflictException: the token was used for another request.
    """
    token = request["requestId"]
    kept = tokens.find_token(tx, caller.account, operation, token)
    if kept is None:
        return None
    if kept.body_hash != body_hash(request):
        raise ConflictException(
            f"requestId '{token}' was used for another {operation} request. Send the same request again, or a new requestId."
        )
    answer: dict[str, Any] = orjson.loads(kept.answer)
    return answer


def remember(tx: Tx, caller: Caller, operation: str, request: Mapping[str, Any], *, answer: Mapping[str, Any]) -> None:
    """Keep the answer for repeats of this request."""
    tokens.keep_token(
        tx,
        caller.account,
        operation,
        request["requestId"],
        body_hash=body_hash(request),
        answer=orjson.dumps(answer, option=orjson.OPT_UTC_Z).decode(),
        now_ms=caller.now_ms,
    )
