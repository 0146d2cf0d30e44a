"""Where HDF5 keeps names and values that do not fit in a header: trees and heaps.

Each function yields what lies there, in order, and raises Hdf5Error where it breaks off.

Source: FMT III.A (B-trees), III.D (local heap), III.E (global heap), III.G (fractal heap).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from keepstone.scan.hdf5.source import Cursor, Hdf5Error, Source

_MAX_DEPTH = 32
MAX_VALUE = 64 << 20
# The type of the tree of huge objects that are not compressed (III.A.2).
_HUGE = 1


class Entry(NamedTuple):
    """An entry of an old group: a name, and a header's address or the path of a soft link."""

    name: bytes
    header: int
    soft: bytes | None


def group_entries(source: Source, tree: int, heap: int) -> Iterator[Entry]:
    """The entries of a group whose symbol table message names `tree` and `heap`."""
    names = _local_heap(source, heap)
    stack = [(tree, 0)]
    while stack:
        at, depth = stack.pop()
        source.once("tree", at)
        head = source.cursor(at, 8 + 2 * source.offsets)
        mark = head.take(4)
        if mark != b"TREE" or depth > _MAX_DEPTH:
            raise Hdf5Error("malformed", "A group's tree is broken.", at)
        kind, level, used = head.number(1), head.number(1), head.number(2)
        if kind != 0:
            raise Hdf5Error("malformed", "A group's tree is of another kind.", at)
        size = used * (source.lengths + source.offsets)
        body = source.cursor(at + 8 + 2 * source.offsets, size)
        children = []
        for _ in range(used):
            body.length()
            children.append(body.offset())
        if level:
            stack.extend((child, depth + 1) for child in reversed(children))
            continue
        for child in children:
            yield from _symbols(source, child, names)


def _local_heap(source: Source, at: int) -> bytes:
    head = source.cursor(at, 8 + 2 * source.lengths + source.offsets)
    head.expect(b"HEAP")
    head.take(4)
    size, _, segment = head.length(), head.length(), head.offset()
    return source.bytes(segment, size)


def _symbols(source: Source, at: int, names: bytes) -> Iterator[Entry]:
    head = source.cursor(at, 8)
    head.expect(b"SNOD")
    head.take(2)
    count, width = head.number(2), 2 * source.offsets + 24
    body = source.cursor(at + 8, count * width)
    for _ in range(count):
        name, header, cache = body.offset(), body.offset(), body.number(4)
        body.take(4)
        scratch = body.take(16)
        soft = None
        if cache == 2:
            soft = _text(names, int.from_bytes(scratch[:4], "little"), at)
        yield Entry(_text(names, name, at), header, soft)


def _text(names: bytes, at: int, place: int) -> bytes:
    end = names.find(b"\x00", at)
    if at >= len(names) or end < 0:
        raise Hdf5Error("malformed", "A name lies outside of its heap.", place)
    return names[at:end]


def global_object(source: Source, at: int, index: int) -> bytes:
    """The object `index` of the global heap collection at `at`."""
    if at not in source.collections:
        source.collections[at] = _collection(source, at)
    place = source.collections[at].get(index)
    if place is None:
        raise Hdf5Error("malformed", "A value is not in the heap that it should lie in.", at)
    return source.bytes(*place)


def _collection(source: Source, at: int) -> dict[int, tuple[int, int]]:
    """Where each object of a collection lies, and how long it is."""
    head = source.cursor(at, 8 + source.lengths)
    head.expect(b"GCOL")
    head.take(4)
    end = at + head.length()
    step = 8 + source.lengths
    place, found = at + step, {}
    while place + step <= end:
        entry = source.cursor(place, step)
        index = entry.number(2)
        entry.take(6)
        length = entry.length()
        if index == 0:
            break
        if length > min(MAX_VALUE, end - place - step):
            raise Hdf5Error("malformed", "A value is larger than the heap it lies in.", place)
        found[index] = place + step, length
        place += step + -(-length // 8) * 8
    return found


class FractalHeap:
    """III.G: the heap of a group's links or an object's attributes, once there are many."""

    def __init__(self, source: Source, at: int) -> None:
        self._source = source
        offsets, lengths = source.offsets, source.lengths
        head = source.cursor(at, 22 + 12 * lengths + 3 * offsets)
        head.expect(b"FRHP")
        if head.number(1) != 0:
            raise Hdf5Error("unknown", "A heap has a version that is not known.", at)
        self.id_length = head.number(2)
        filters, self._flags, largest = head.number(2), head.number(1), head.number(4)
        if filters:
            raise Hdf5Error("unknown", "A heap is compressed, which is not read here.", at)
        head.length()
        self._huge_tree = head.offset()
        self._huge_places: dict[int, tuple[int, int]] | None = None
        head.length(), head.offset()
        for _ in range(8):
            head.length()
        self._width = head.number(2)
        self._start, self._direct = head.length(), head.length()
        self._bits = head.number(2)
        head.number(2)
        self._root, self._rows = head.offset(), head.number(2)
        self._offset_size = -(-self._bits // 8)
        self._length_size = -(-min(self._direct, largest).bit_length() // 8)
        if not 0 < self._width <= 1024 or not 0 < self._start <= self._direct <= 1 << 32:
            raise Hdf5Error("malformed", "A heap has an impossible shape.", at)
        # Where each direct block begins in the heap's own space, its size and its address.
        self._blocks: list[tuple[int, int, int]] = []
        self._find_blocks()
        self._blocks.sort()

    def value(self, heap_id: bytes) -> bytes:
        """What `heap_id` stands for (III.G: managed, tiny and huge objects)."""
        kind = heap_id[0] >> 4 & 3
        if kind == 2:
            length = (heap_id[0] & 0x0F) + 1
            return heap_id[1 : 1 + length]
        cursor = Cursor(heap_id, self._source, 0, 1)
        if kind == 0:
            offset = cursor.number(self._offset_size)
            return self._managed(offset, cursor.number(self._length_size))
        if kind == 1:
            address, length = self._huge(cursor)
            if length > MAX_VALUE:
                raise Hdf5Error("too_large", "A value is larger than the limit allows.", address)
            return self._source.bytes(address, length)
        raise Hdf5Error("unknown", "A value is kept in a way that is not read here.")

    def _huge(self, cursor: Cursor) -> tuple[int, int]:
        """Where a huge object lies: the id says so itself, or names a record of a tree."""
        if self.id_length >= 1 + self._source.offsets + self._source.lengths:
            return cursor.offset(), cursor.length()
        wanted = cursor.number(min(self._source.lengths, self.id_length - 1))
        if self._huge_places is None:
            self._huge_places = {}
            for record in tree_records(self._source, self._huge_tree, _HUGE):
                place = Cursor(record, self._source)
                address, length = place.offset(), place.length()
                self._huge_places[place.length()] = address, length
        if wanted not in self._huge_places:
            raise Hdf5Error("malformed", "A value is not in the heap that it should lie in.")
        return self._huge_places[wanted]

    def _managed(self, offset: int, length: int) -> bytes:
        index = bisect_right(self._blocks, offset, key=lambda block: block[0]) - 1
        if index >= 0:
            start, size, address = self._blocks[index]
            if offset + length <= start + size:
                return self._source.bytes(address + offset - start, length)
        raise Hdf5Error("malformed", "A value lies outside of the heap it should lie in.")

    def _find_blocks(self) -> None:
        """Place every direct block in the heap's own space."""
        if self._root == self._source.undefined:
            return
        if not self._rows:
            self._blocks.append((0, self._start, self._root))
            return
        stack = [(self._root, self._rows, 0)]
        while stack:
            at, rows, start = stack.pop()
            self._source.once("heap block", at)
            before = 5 + self._source.offsets + self._offset_size
            count = rows * self._width
            body = self._source.cursor(at, before + count * self._source.offsets)
            body.expect(b"FHIB")
            body.at = before
            for index in range(count):
                size = self._row_size(index // self._width)
                child = body.offset()
                if child != self._source.undefined:
                    if size <= self._direct:
                        self._blocks.append((start, size, child))
                    else:
                        stack.append((child, self._rows_of(size), start))
                start += size

    def _row_size(self, row: int) -> int:
        # The first two rows have blocks of the starting size; it doubles from there.
        return self._start << max(0, row - 1)

    def _rows_of(self, size: int) -> int:
        """How many rows an indirect block has that covers `size` bytes."""
        first = self._start * self._width
        return max(1, (size // first).bit_length())


def tree_records(source: Source, at: int, kind: int) -> Iterator[bytes]:
    """The records of the version 2 B-tree at `at`, which must be of `kind` (III.A.2)."""
    head = source.cursor(at, 16 + source.offsets + 2 + source.lengths)
    head.expect(b"BTHD")
    if head.number(1) != 0 or head.number(1) != kind:
        raise Hdf5Error("malformed", "A tree is of another kind.", at)
    node, record, depth = head.number(4), head.number(2), head.number(2)
    head.number(2)
    root, used = head.offset(), head.number(2)
    if not 16 <= node <= 1 << 20 or not 0 < record <= node or depth > _MAX_DEPTH:
        raise Hdf5Error("malformed", "A tree has an impossible shape.", at)
    if root == source.undefined:
        return
    widths = _pointer_widths(source, node, record, depth)
    stack = [(root, used, depth)]
    while stack:
        place, count, level = stack.pop()
        source.once("tree", place)
        body = source.cursor(place, min(node, len(source.data) - source.base - place))
        body.expect(b"BTIN" if level else b"BTLF")
        body.take(2)
        for _ in range(count):
            yield body.take(record)
        if level:
            few, total = widths[level - 1]
            for _ in range(count + 1):
                child, held = body.offset(), body.number(few)
                body.take(total if level > 1 else 0)
                stack.append((child, held, level - 1))


def _pointer_widths(source: Source, node: int, record: int, depth: int) -> list[tuple[int, int]]:
    """By level: the bytes of a child's record count, and of the records below it."""
    most = (node - 10) // record
    below, widths, few, total = most, [], _bytes_for(most), 0
    for _ in range(depth):
        widths.append((few, total))
        pointer = source.offsets + few + total
        here = max(1, (node - 10 - pointer) // (record + pointer))
        below = (here + 1) * below + here
        total = _bytes_for(below)
    return widths


def _bytes_for(number: int) -> int:
    return max(1, -(-number.bit_length() // 8))
