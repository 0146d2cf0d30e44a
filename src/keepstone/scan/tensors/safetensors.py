"""safetensors: the header is held to the rules of the format's own reader, and to a few more.

Promise: clean means that the header is one JSON object without a second reading, that every
tensor has as many bytes as its type and shape say, and that every byte of the file belongs to
exactly one tensor. The tensors themselves are never read.

Source: safetensors' `tensor.rs` (`read_metadata`, `Metadata::validate`) and its README's format
section. Stricter than it: a name that comes twice, a field that it does not know, and a header
larger than 16 MiB (it allows 100 MB).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.strictjson import read_json
from keepstone.scan.texts import program_in
from keepstone.scan.view import View

MAX_HEADER = 16 << 20
_METADATA = "__metadata__"
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_MOST = (1 << 64) - 1
_PLAUSIBLE = re.compile(r"[A-Z]{1,3}(1|2|4|6|8|12|16|24|32|64|128|256)(_E\dM\d(FN|FNUZ|B11FNUZ)?)?")
# Bits of one element.
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor: its bytes are `data[start:end]` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class _BrokenError(ValueError):
    """The rule that the header breaks, and how."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(reason)
        self.rule, self.reason = f"safetensors.{word}", reason


def scan_safetensors(view: View) -> Iterator[Finding]:
    """Judge one safetensors file. No finding means clean."""
    try:
        header, base = _header(view.data)
        yield from _metadata(view, header)
        places = list(_places(header, base))
        _check_layout(places, base, len(view.data))
    except _BrokenError as error:
        yield view.finding(error.rule, error.reason)


def safetensors_texts(data: memoryview) -> dict[str, str]:
    """The metadata of a file whose header can be read; nothing for another."""
    try:
        header, _ = _header(data)
    except _BrokenError:
        return {}
    metadata = header.get(_METADATA)
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return {key: value for key, value in texts if isinstance(value, str)}


def tensor_places(data: memoryview) -> list[TensorPlace]:
    """Where each tensor of a sound file lies; nothing for a file that is not."""
    try:
        header, base = _header(data)
        places = list(_places(header, base))
        _check_layout(places, base, len(data))
    except _BrokenError:
        return []
    return places


def _header(data: memoryview) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors begin.

    (1) eight bytes of length, little-endian, no more than the file holds;
    (2) a JSON object in UTF-8 that begins with `{`; blanks may only follow it;
    (3) no name comes twice.
    """
    length = int.from_bytes(bytes(data[:8]), "little")
    # (1)
    if length > min(MAX_HEADER, len(data) - 8):
        raise _BrokenError("header_bomb", f"The header claims to have {length} bytes.")
    text = bytes(data[8 : 8 + length])
    # (2)
    if text[:1] != b"{":
        raise _BrokenError("malformed", "The header does not begin with `{`.")
    try:
        document = read_json(text)
    except ValueError as error:
        raise _BrokenError("malformed", f"The header cannot be read: {error}.") from None
    # (3)
    if document.repeated:
        shown = printable(document.repeated[0])
        raise _BrokenError("ambiguous", f"The header names {shown!r} twice.")
    assert isinstance(document.value, dict)
    return document.value, 8 + length


def _metadata(view: View, header: dict[str, Any]) -> Iterator[Finding]:
    metadata = header.get(_METADATA)
    if _METADATA not in header:
        return
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _BrokenError("malformed", "The metadata is no table of texts.")
    for key, value in metadata.items():
        if what := program_in(key) or program_in(value):
            reason = f"The metadata {printable(key)!r} holds {what}."
            yield view.finding("metadata.program", reason)


def _places(header: dict[str, Any], base: int) -> Iterator[TensorPlace]:
    """Each tensor: (4) the three fields and no other, (5) bytes as its type and shape say."""
    for name, fields in header.items():
        if name == _METADATA:
            continue
        # (4)
        if not isinstance(fields, dict) or fields.keys() != _FIELDS:
            raise _BrokenError(
                "malformed", f"The tensor {printable(name)!r} has not the three fields of one."
            )
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if not (isinstance(dtype, str) and _counts(shape) and _counts(offsets)):
            raise _BrokenError(
                "malformed", f"The tensor {printable(name)!r} has fields of the wrong kind."
            )
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            raise _BrokenError(
                "malformed", f"The tensor {printable(name)!r} ends before it begins."
            )
        if dtype not in _BITS:
            shown = printable(name), printable(dtype)
            reason = "The tensor {!r} has the type {!r}, which is not known.".format(*shown)
            # A later version may add numbers of another form, and nothing else.
            word = "unknown" if _PLAUSIBLE.fullmatch(dtype) else "malformed"
            raise _BrokenError(word, reason)
        # (5)
        bits = _product(shape, name) * _BITS[dtype]
        if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
            raise _BrokenError(
                "malformed", f"The tensor {printable(name)!r} has not the size of its shape."
            )
        yield TensorPlace(name, dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= _MOST for n in value)


def _product(shape: list[int], name: str) -> int:
    # A shape of thousands of dimensions would be a number of megabytes.
    if len(shape) > 64 or prod(shape) > _MOST:
        raise _BrokenError("malformed", f"The shape of the tensor {printable(name)!r} overflows.")
    return prod(shape)


def _check_layout(places: list[TensorPlace], base: int, size: int) -> None:
    """(6) the tensors cover what follows the header, without a hole, an overlap or a rest."""
    at = base
    for place in sorted(places, key=lambda place: (place.start, place.end)):
        if place.end > size:
            reason = f"The tensor {printable(place.name)!r} lies outside of the file."
            raise _BrokenError("malformed", reason)
        if place.start != at:
            word = "a hole" if place.start > at else "another tensor"
            reason = f"The tensor {printable(place.name)!r} begins behind or in {word}."
            raise _BrokenError("hidden", reason)
        at = place.end
    if at != size:
        raise _BrokenError("hidden", f"{size - at} bytes follow the last tensor.")
