"""WDL_LENIENT: what it coerces that WDL does not, without loss. Changes miniwdl for the whole process: run and inspection processes only.

Source: guide, workflow-languages-wdl (Float to Int, String to Int and Float, Map to and from Array of Pairs; a loss is an error when it
happens, not when the workflow is made). Strings become numbers under WDL too: miniwdl does it, but takes no `5.0` for an Int.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import WDL
from WDL import Type, Value

from runomics.engines.gateway_client import Gateway
from runomics.engines.language import Engine, Stop
from runomics.engines.outcome import Outcome
from runomics.engines.plan import Plan
from runomics.engines.wdl import host, inspect, parsed

NAME = "WDL_LENIENT"

Check = Callable[[Any, Type.Base, bool], None]
Coerce = Callable[[Any, "Type.Base | None"], Value.Base]


def run(plan: Plan, gateway: Gateway, stop: Stop, kept: bytes | None) -> Outcome:
    """As host.run."""
    enable()
    return host.run(plan, gateway, stop, kept)


def inspect_leniently(root: str, main: str) -> tuple[dict[str, Any], bytes | None]:
    """As inspect.inspect."""
    enable()
    found, kept = inspect.inspect(root, main)
    return found | {"engine": NAME}, kept


def kept_name(main: str) -> str:
    """Another name than WDL's: what is kept was checked by other rules."""
    return parsed.file_name(main).replace("parsed-wdl-", "parsed-lenient-", 1)


ENGINE = Engine(version=host.VERSION, warm=lambda: None, run=run, inspect=inspect_leniently, kept_name=kept_name)


def enable() -> None:
    """Let miniwdl accept and do these coercions from now on."""
    for kind, accepts in _ACCEPTED.items():
        kind.check = _lenient_check(kind.check, accepts)
    for kind_of_value, coerce in _COERCIONS.items():
        kind_of_value.coerce = coerce(kind_of_value.coerce)


def _lenient_check(strict: Check, accepts: Callable[[Any, Type.Base, bool], bool]) -> Check:
    def check(self: Any, rhs: Type.Base, check_quant: bool = True) -> None:
        if not accepts(self, rhs, check_quant):
            return strict(self, rhs, check_quant)
        return self._check_optional(rhs, check_quant)  # type: ignore[no-any-return]

    return check


# ---- which types -------------------------------------------------------------------------------------------------


def _is_int(own: Type.Base, rhs: Type.Base, check_quant: bool) -> bool:
    return isinstance(rhs, Type.Int)


def _is_map_of_pairs(own: Type.Array, rhs: Type.Base, check_quant: bool) -> bool:
    if not isinstance(rhs, Type.Map) or not isinstance(own.item_type, Type.Pair):
        return False
    key, item = rhs.item_type
    return own.item_type.left_type.coerces(key, check_quant) and own.item_type.right_type.coerces(item, check_quant)


def _is_pairs_of_map(own: Type.Map, rhs: Type.Base, check_quant: bool) -> bool:
    if not isinstance(rhs, Type.Array) or not isinstance(rhs.item_type, Type.Pair):
        return False
    key, item = own.item_type
    return key.coerces(rhs.item_type.left_type, check_quant) and item.coerces(rhs.item_type.right_type, check_quant)


_ACCEPTED: Mapping[Any, Callable[[Any, Type.Base, bool], bool]] = {
    Type.Float: _is_int,
    Type.Array: _is_map_of_pairs,
    Type.Map: _is_pairs_of_map,
}


# ---- how values --------------------------------------------------------------------------------------------------


def _lossy(value: Value.Base, desired: Type.Base) -> Exception:
    message = f"'{value}' cannot become {desired} without loss"
    return WDL.Error.EvalError(value.expr, message) if value.expr else WDL.Error.RuntimeError(message)


def _whole(value: Value.Base, number: float, desired: Type.Base) -> Value.Base:
    if not math.isfinite(number) or number != int(number):
        raise _lossy(value, desired)
    return Value.Int(int(number), value.expr)


def _coerce_float(strict: Coerce) -> Coerce:
    def coerce(self: Value.Float, desired_type: Type.Base | None = None) -> Value.Base:
        if isinstance(desired_type, Type.Int):
            return _whole(self, self.value, desired_type)
        return strict(self, desired_type)

    return coerce


def _coerce_string(strict: Coerce) -> Coerce:
    def coerce(self: Value.String, desired_type: Type.Base | None = None) -> Value.Base:
        if not isinstance(desired_type, Type.Int) or isinstance(self, Value.File | Value.Directory):
            return strict(self, desired_type)
        try:
            return Value.Int(int(self.value), self.expr)
        except ValueError:
            pass
        try:
            number = float(self.value)
        except ValueError:
            raise _lossy(self, desired_type) from None
        return _whole(self, number, desired_type)

    return coerce


def _coerce_array(strict: Coerce) -> Coerce:
    def coerce(self: Value.Array, desired_type: Type.Base | None = None) -> Value.Base:
        if not isinstance(desired_type, Type.Map):
            return strict(self, desired_type)
        key, item = desired_type.item_type
        pairs = [(pair.value[0].coerce(key), pair.value[1].coerce(item)) for pair in self.value]
        if len({str(left) for left, _ in pairs}) < len(pairs):
            raise _lossy(self, desired_type)
        return Value.Map(desired_type.item_type, pairs, self.expr)

    return coerce


def _coerce_map(strict: Coerce) -> Coerce:
    def coerce(self: Value.Map, desired_type: Type.Base | None = None) -> Value.Base:
        if not isinstance(desired_type, Type.Array) or not isinstance(desired_type.item_type, Type.Pair):
            return strict(self, desired_type)
        left, right = desired_type.item_type.left_type, desired_type.item_type.right_type
        pairs: list[Value.Base] = [
            Value.Pair(left, right, (key.coerce(left), item.coerce(right)), self.expr) for key, item in self.value
        ]
        return Value.Array(desired_type.item_type, pairs, self.expr).coerce(desired_type)

    return coerce


_COERCIONS: Mapping[Any, Callable[[Coerce], Coerce]] = {
    Value.Float: _coerce_float,
    Value.String: _coerce_string,
    Value.Array: _coerce_array,
    Value.Map: _coerce_map,
}
