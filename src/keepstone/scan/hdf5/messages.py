"""What the messages of an object's header say: links, attributes, layout, filters.

Source: FMT IV.A.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from keepstone.scan.hdf5.heaps import MAX_VALUE, global_object
from keepstone.scan.hdf5.source import Cursor, Hdf5Error, Source

_STRING, _OPAQUE, _VLEN, _ARRAY = 3, 5, 9, 10
MAX_TEXTS = 100_000


class Link(NamedTuple):
    """A link: hard (`header`), soft (`path`), external (`file` and `path`) or of a user's own."""

    name: str
    kind: int
    header: int = 0
    path: bytes = b""
    file: bytes = b""


SOFT, EXTERNAL = 1, 64


def read_link(source: Source, body: bytes) -> Link:
    """IV.A.2.g: the link message."""
    cursor = Cursor(body, source)
    if cursor.number(1) != 1:
        raise Hdf5Error("unknown", "A link has a version that is not known.")
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 0x08 else 0
    cursor.take((8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0))
    name = shown(cursor.take(cursor.number(1 << (flags & 3))))
    if kind == 0:
        return Link(name, kind, cursor.offset())
    value = cursor.take(cursor.number(2))
    if kind == SOFT:
        return Link(name, kind, path=value)
    if kind == EXTERNAL:
        file, _, path = value[1:].partition(b"\x00")
        return Link(name, kind, path=path.rstrip(b"\x00"), file=file)
    return Link(name, kind)


class Attribute(NamedTuple):
    """An attribute: its name, and the texts or raw bytes it holds; none where it is numbers."""

    name: str
    texts: tuple[bytes, ...]


def read_attribute(source: Source, body: bytes) -> Attribute:
    """IV.A.2.m: the attribute message."""
    cursor = Cursor(body, source)
    version, flags = cursor.number(1), cursor.number(1)
    if version not in (1, 2, 3):
        raise Hdf5Error("unknown", "An attribute has a version that is not known.")
    sizes = [cursor.number(2) for _ in range(3)]
    cursor.take(1 if version == 3 else 0)
    parts = []
    for size in sizes:
        parts.append(cursor.take(size))
        if version == 1:
            # Each part is padded to a multiple of eight bytes, counted from the part itself.
            cursor.take(min(cursor.left, -size % 8))
    name, datatype, space = parts
    plain = shown(name.rstrip(b"\x00"))
    if version > 1 and flags & 0x01:
        # The type lies elsewhere: a committed one. What it holds is then not told apart.
        return Attribute(plain, (cursor.take(cursor.left),))
    count = 1 if version > 1 and flags & 0x02 else _elements(source, space)
    texts = tuple(_texts(source, datatype, count, cursor))
    return Attribute(plain, texts)


def _elements(source: Source, space: bytes) -> int:
    """IV.A.2.b: how many elements a dataspace has."""
    cursor = Cursor(space, source)
    version, rank, _ = cursor.number(1), cursor.number(1), cursor.number(1)
    if version == 1:
        cursor.take(5)
    elif version != 2 or cursor.number(1) == 2:
        # A null dataspace holds nothing.
        return 0
    return prod(cursor.length() for _ in range(rank))


def _texts(source: Source, datatype: bytes, count: int, values: Cursor) -> Iterator[bytes]:
    """IV.A.2.d: the texts of fixed or variable length that the values are."""
    cursor = Cursor(datatype, source)
    kind, bits = cursor.number(1) & 0x0F, cursor.number(3)
    size = cursor.number(4)
    if kind in (_STRING, _OPAQUE):
        if count * size > values.left:
            raise Hdf5Error("malformed", "An attribute is shorter than its type says.")
        for _ in range(min(count, MAX_TEXTS) if size else 0):
            yield values.take(size)
    elif kind == _VLEN:
        if count * size > values.left:
            raise Hdf5Error("malformed", "An attribute is shorter than its type says.")
        for _ in range(min(count, MAX_TEXTS)):
            yield _variable(source, values, is_text=bits & 0x0F == 1)
    elif kind == _ARRAY:
        # IV.A.2.d, class 10: what an array holds comes after its dimensions.
        yield values.take(values.left)


def _variable(source: Source, values: Cursor, *, is_text: bool) -> bytes:
    length, collection, index = values.number(4), values.offset(), values.number(4)
    if length > MAX_VALUE:
        raise Hdf5Error("too_large", "A value is larger than the limit allows.")
    if collection in (0, source.undefined) or not length:
        return b""
    value = global_object(source, collection, index)
    return value[:length] if is_text else value


class Filter(NamedTuple):
    """A filter that data passes through: its registered number and the name written beside it."""

    number: int
    name: bytes


def read_filters(source: Source, body: bytes) -> Iterator[Filter]:
    """IV.A.2.l: the filter pipeline message."""
    cursor = Cursor(body, source)
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2):
        raise Hdf5Error("unknown", "A filter pipeline has a version that is not known.")
    cursor.take(6 if version == 1 else 0)
    for _ in range(count):
        number = cursor.number(2)
        named = cursor.number(2) if version == 1 or number >= 256 else 0
        cursor.number(2)
        values = cursor.number(2)
        name = cursor.take(-(-named // 8) * 8 if version == 1 else named)
        cursor.take(4 * (values + (values & 1 if version == 1 else 0)))
        yield Filter(number, name.rstrip(b"\x00"))


class Layout(NamedTuple):
    """How a dataset's data lies: compact, contiguous (where), chunked, or in other datasets."""

    kind: int
    address: int | None = None
    size: int = 0


COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)


def read_layout(source: Source, body: bytes) -> Layout:
    """IV.A.2.i: the data layout message."""
    cursor = Cursor(body, source)
    version = cursor.number(1)
    if version in (1, 2):
        cursor.number(1)
        return Layout(cursor.number(1))
    if version not in (3, 4, 5):
        raise Hdf5Error("unknown", "A layout has a version that is not known.")
    kind = cursor.number(1)
    if kind > VIRTUAL:
        raise Hdf5Error("unknown", "Data is laid out in a way that is not known.")
    if kind == CONTIGUOUS:
        address, size = cursor.offset(), cursor.length()
        return Layout(kind, None if address == source.undefined else address, size)
    return Layout(kind)


def read_external(source: Source, body: bytes) -> int:
    """IV.A.2.h: how many other files hold a dataset's data."""
    cursor = Cursor(body, source)
    cursor.take(4)
    cursor.number(2)
    return cursor.number(2)


def shown(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
