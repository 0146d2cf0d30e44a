"""Canonical JSON: one value, one byte string.

The subset of RFC 8785 (JCS) that needs no floating-point formatting: objects, arrays,
strings, booleans, null and integers within +-(2**53 - 1). Floats are refused, so a digest can
never hang on how a number was printed; write decimals as strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from keepstone.errors import InputError

MAX_SAFE_INTEGER = 2**53 - 1

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_TYPE_NAMES = {float: "a float", bytes: "bytes"}


def _utf16_key(pair: tuple[str, Any]) -> bytes:
    return pair[0].encode("utf-16-be", "surrogatepass")


def _plain(value: Any, depth: int) -> Any:
    if depth > 64:
        raise InputError("canonical.too_deep", "The value is nested deeper than 64 levels.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                "canonical.bad_string", "A string holds an unpaired surrogate."
            ) from error
        return str(value)
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InputError(
                # Never printed: an integer of 5,000 digits cannot be, and would raise.
                "canonical.bad_number",
                "An integer is outside +-(2**53 - 1).",
            )
        return int(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InputError("canonical.bad_key", "An object key is not a string.")
        # RFC 8785 3.2.3: members are ordered by the UTF-16 code units of their names.
        ordered = sorted(value.items(), key=_utf16_key)
        return {_plain(key, depth): _plain(item, depth + 1) for key, item in ordered}
    kind = _TYPE_NAMES.get(type(value), type(value).__name__)
    raise InputError("canonical.bad_type", f"Canonical JSON cannot hold {kind}.")


def canonical(value: Any) -> bytes:
    """Return the canonical UTF-8 bytes of `value` (RFC 8785, without floats).

    Raises InputError `canonical.*` for a float, a non-string key, an integer beyond 2**53 - 1,
    an unpaired surrogate, or nesting beyond 64 levels.
    """
    return json.dumps(
        _plain(value, 0), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    ).encode("utf-8")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise InputError("json.duplicate_key", "A JSON object names one key twice.")
    return seen


def _no_constant(text: str) -> Any:
    raise InputError("json.bad_number", f"{text} is not a JSON number.")


def _finite(text: str) -> float:
    value = float(text)
    # `1e400` is well-formed JSON and reads as infinity.
    if not math.isfinite(value):
        raise InputError("json.bad_number", f"{text[:40]} is too large for a number.")
    return value


def parse_json(data: bytes | str, *, limit: int = 1 << 20) -> Any:
    """Parse JSON strictly: UTF-8, no duplicate keys, no NaN or infinity, at most `limit` bytes.

    Every string that comes out can be written as UTF-8. Raises InputError `json.*`.
    """
    try:
        raw = data if isinstance(data, bytes) else data.encode("utf-8")
        if len(raw) > limit:
            raise InputError("json.too_large", f"The JSON document is larger than {limit} bytes.")
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        # An escape can smuggle in half a surrogate pair: only then is the second look needed.
        if _SURROGATE_ESCAPE.search(raw):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise InputError("json.malformed", f"Not a JSON document: {error}.") from error
    return value
