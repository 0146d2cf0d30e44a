"""NumPy's files: a header that must be what NumPy writes, then numbers, or a pickle of objects.

Promise: an array is clean only where its numbers fill the rest of the file exactly, or where
the pickle of its objects is clean. Numbers are never searched for anything.

Source: NEP 1 and numpy.lib.format (1.0, 2.0, 3.0).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.pickle.opcodes import resembles_importing_pickle
from keepstone.scan.pickle.stream import scan_pickle
from keepstone.scan.view import View

MAGIC = b"\x93NUMPY"
# NumPy refuses longer headers unless it is told to trust the file.
_MAX_HEADER = 10_000
_BOMB, _RATIO = 1 << 30, 1000
_TYPE = re.compile(
    r"[<>=|]?(?:[?bBhHiIlLqQefdgFDGpO]|[biufcSUVaOMm]\d{1,9})(?:\[\d{0,9}[A-Za-z]{1,2}\])?\Z"
)
_LONG = re.compile(r"(\d)L\b")


class _OddError(Exception):
    """The header is none that NumPy writes; as a bomb, one that costs its reader dearly."""

    def __init__(self, reason: str, *, bomb: bool = False) -> None:
        super().__init__(reason)
        self.bomb = bomb


@dataclass(frozen=True, slots=True)
class _Array:
    start: int
    size: int
    objects: bool


def scan_numpy(view: View) -> Iterator[Finding]:
    """Judge arrays, one behind the other as `numpy.save` appends them."""
    at = 0
    while at < len(view.data):
        try:
            array = _read(view.data[at:])
        except _OddError as error:
            rule = "archive.bomb" if error.bomb else "numpy.malformed"
            yield view.finding(rule, f"{error}", at)
            rest = view.data[at:]
            if _hides_pickle(view, rest):
                yield from scan_pickle(view.nested("(object array)", _behind_header(rest)))
            return
        start = at + array.start
        if array.objects:
            yield from scan_pickle(view.nested("(object array)", view.data[start:]))
            return
        at = start + array.size
        if at > len(view.data):
            # A loader allocates what the header says before it reads.
            bomb = array.size > max(_BOMB, _RATIO * (len(view.data) - start))
            rule = "archive.bomb" if bomb else "numpy.malformed"
            yield view.finding(rule, "The array is longer than the file.", start)
        elif at < len(view.data) and bytes(view.data[at : at + 6]) != MAGIC:
            yield view.finding("numpy.malformed", "Bytes follow the array.", at)
            return


def _behind_header(data: memoryview) -> memoryview:
    start = 12 if bytes(data[6:7]) > b"\x01" else 10
    return data[start + int.from_bytes(bytes(data[8:start]), "little") :]


def _hides_pickle(view: View, data: memoryview) -> bool:
    return resembles_importing_pickle(_behind_header(data), view.allowance)


def _read(data: memoryview) -> _Array:
    version = bytes(data[6:8])
    if version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise _OddError("The version of the header is not known.")
    start = 10 if version == b"\x01\x00" else 12
    length = int.from_bytes(bytes(data[8:start]), "little")
    if length > _MAX_HEADER or start + length > len(data):
        raise _OddError("The header is longer than NumPy takes.", bomb=length > _MAX_HEADER)
    raw = bytes(data[start : start + length])
    try:
        text = raw.decode("utf-8" if version == b"\x03\x00" else "latin-1")
        # Python 2 wrote long integers with a letter.
        found = ast.literal_eval(_LONG.sub(r"\1", text).strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise _OddError("The header is no Python literal.") from error
    if not isinstance(found, dict) or set(found) != {"descr", "fortran_order", "shape"}:
        raise _OddError("The header does not say what NumPy's say.")
    if text.count("descr") != 1 or text.count("shape") != 1:
        raise _OddError("The header names a thing twice.")
    shape, order = found["shape"], found["fortran_order"]
    plain = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not plain or type(order) is not bool:
        raise _OddError("The shape of the array is odd.")
    item, objects = _item(found["descr"])
    return _Array(start + length, item * prod(shape), objects)


def _item(described: Any) -> tuple[int, bool]:
    """The bytes of one item, and whether it holds objects."""
    _check_plain(described, 8)
    from numpy.lib.format import descr_to_dtype

    try:
        kind = descr_to_dtype(described)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, SyntaxError) as error:
        raise _OddError("The type of the array is none of NumPy's.") from error
    return kind.itemsize, kind.hasobject


def _check_plain(described: Any, depth: int) -> None:
    """Only what `dtype_to_descr` gives: a letter with its size, or fields of such."""
    if isinstance(described, str):
        if not _TYPE.match(described):
            raise _OddError("The type of the array is spelled oddly.")
        return
    if depth and isinstance(described, tuple) and len(described) == 2:
        _check_plain(described[0], depth - 1)
        return
    if not depth or not isinstance(described, list):
        raise _OddError("The type of the array is spelled oddly.")
    for field in described:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            raise _OddError("A field of the array is odd.")
        _check_plain(field[1], depth - 1)
