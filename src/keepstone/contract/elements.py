"""Elements of a tensor: between JSON or bytes on the wire and numpy, one type at a time.

Strict: a number is never read from a string, an integer never from a fraction, a boolean never
from a number. Raises InputError `request.bad_dtype`, `request.bad_shape`, `request.not_json`,
`request.not_finite`.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np

from keepstone.contract.schema import MAX_RANK, DType
from keepstone.contract.validate import NUMPY, Array
from keepstone.errors import InputError

_ELEMENT: dict[DType, type] = {
    **dict.fromkeys(DType, int),
    **dict.fromkeys((DType.FP16, DType.FP32, DType.FP64), float),
    DType.BOOL: bool,
    DType.BYTES: str,
}
_OPENING = re.compile(rb"[\s\[]*")
_OFFSET = re.compile(r"\(byte ([0-9]+)\)")
_NOT_NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"-inf")


def not_json(error: Exception, body: bytes) -> InputError:
    """Name what a JSON parser stopped at; NaN and Infinity have a code of their own."""
    found = _OFFSET.search(str(error))
    if found is not None:
        at = int(found[1])
        if body[max(0, at - 1) :].startswith(_NOT_NUMBERS) or body[at:].startswith(_NOT_NUMBERS):
            return InputError("request.not_finite", "JSON has no NaN and no Infinity.")
    return InputError("request.not_json", "The body is not JSON.")


@cache
def _decoder(element: type, depth: int) -> Callable[[Any], Any]:
    nested: Any = element
    for _ in range(depth):
        nested = list[nested]
    return msgspec.json.Decoder(nested).decode


def from_list(datatype: DType, values: list[Any], name: str) -> Array:
    """A flat list of the right Python type becomes a one-dimensional array."""
    try:
        # array() narrows a double without a warning; an overflow becomes an infinity, which the
        # tensor's check refuses.
        if datatype is DType.FP32:
            return np.frombuffer(array("f", values), np.float32)
        if datatype is DType.FP16:
            with np.errstate(over="ignore"):
                return np.array(values, NUMPY[datatype])
        return np.array(values, NUMPY[datatype])
    except OverflowError as error:
        raise InputError(
            "request.bad_dtype", f"Input {name!r} holds a number that {datatype} cannot."
        ) from error


def from_json(datatype: DType, raw: bytes | memoryview, name: str) -> Array:
    """Read JSON `data`: a flat list, or lists nested alike. The array has the nesting's shape.

    An empty array anywhere, or rows of unequal length, are `request.bad_shape`.
    """
    text = bytes(raw)
    depth = _OPENING.match(text)[0].count(b"[")  # type: ignore[index]  # it always matches
    if depth > MAX_RANK:
        raise InputError("request.bad_shape", f"Input {name!r} is nested too deep.")
    try:
        values = _decoder(_ELEMENT[datatype], max(1, depth))(text)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):
            raise InputError(
                "request.not_finite", f"Input {name!r} holds a number beyond a double."
            ) from error
        raise InputError(
            "request.bad_dtype", f"The data of input {name!r} is not lists of {datatype}."
        ) from error
    return nested(datatype, values, max(1, depth), name)


def nested(datatype: DType, values: list[Any], depth: int, name: str) -> Array:
    """Lists nested `depth` deep become an array; ragged ones are refused."""
    shape = [len(values)]
    flat = values
    for _ in range(depth - 1):
        width = len(flat[0]) if flat else 0
        if any(len(row) != width for row in flat):
            raise InputError("request.bad_shape", f"Input {name!r} has rows of unequal length.")
        shape.append(width)
        flat = [value for row in flat for value in row]
    return from_list(datatype, flat, name).reshape(shape)


def from_bytes(datatype: DType, raw: memoryview, shape: tuple[int, ...], name: str) -> Array:
    """Read one binary tensor; its size must be exactly what its shape and type say."""
    count = math.prod(shape)
    if datatype is DType.BYTES:
        return _strings(raw, count, name).reshape(shape)
    dtype = NUMPY[datatype]
    if raw.nbytes != count * dtype.itemsize:
        raise InputError(
            "request.bad_shape",
            f"Input {name!r} has {raw.nbytes} bytes of data, its shape needs "
            f"{count * dtype.itemsize}.",
        )
    if datatype is DType.BOOL:
        bits = np.frombuffer(raw, np.uint8)
        if (bits > 1).any():
            raise InputError("request.bad_dtype", f"Input {name!r} holds a byte that is no BOOL.")
        return bits.view(np.bool_).reshape(shape)
    values = np.frombuffer(raw, dtype)
    # A header of odd length leaves the tensor unaligned, which native code may not expect.
    return (values if values.flags.aligned else values.copy()).reshape(shape)


def _strings(raw: memoryview, count: int, name: str) -> Array:
    bad = InputError("request.bad_dtype", f"Input {name!r} is not {count} UTF-8 strings.")
    if count * 4 > raw.nbytes:
        raise bad
    values = np.empty(count, object)
    at = 0
    for i in range(count):
        if at + 4 > raw.nbytes:
            raise bad
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + size > raw.nbytes:
            raise bad
        try:
            values[i] = str(raw[at : at + size], "utf-8")
        except UnicodeDecodeError as error:
            raise bad from error
        at += size
    if at != raw.nbytes:
        raise bad
    return values


def to_bytes(values: Array) -> bytes:
    """The binary form of an output."""
    if values.dtype.kind not in "OUS":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    parts = []
    for value in values.ravel().tolist():
        data = value if isinstance(value, bytes) else str(value).encode("utf-8")
        parts.append(struct.pack("<I", len(data)) + data)
    return b"".join(parts)
