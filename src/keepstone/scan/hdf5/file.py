"""Walk an HDF5 file: every object that can be reached, every attribute, every way out of it.

Promise: what a reader of the file would follow out of it (another file, a plugin, a driver) is
said, and so is what could not be read. Weights are never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from keepstone.scan.hdf5.header import Message, read_header, read_superblock
from keepstone.scan.hdf5.heaps import FractalHeap, group_entries, tree_records
from keepstone.scan.hdf5.messages import (
    EXTERNAL,
    SOFT,
    VIRTUAL,
    Attribute,
    Link,
    read_attribute,
    read_external,
    read_filters,
    read_layout,
    read_link,
    shown,
)
from keepstone.scan.hdf5.source import Cursor, Hdf5Error, Source

MAX_OBJECTS = 200_000
MAX_DEPTH = 64
# Filters that the library itself brings (FMT IV.A.2.l), and the one that h5py brings.
KNOWN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
_LINK_INFO, _LINK, _EXTERNAL_FILES, _LAYOUT, _FILTERS = 0x02, 0x06, 0x07, 0x08, 0x0B
_ATTRIBUTE, _SYMBOLS, _ATTRIBUTE_INFO, _DRIVER = 0x0C, 0x11, 0x15, 0x14
_LAST_KNOWN = 0x17
# One of these makes an object a group.
_GROUP = frozenset({_LINK_INFO, _SYMBOLS})
_LINK_NAMES, _ATTRIBUTE_NAMES = 5, 8


class Held(NamedTuple):
    """An attribute, and the object that has it, as a path from the root."""

    path: str
    attribute: Attribute


class Trouble(NamedTuple):
    """What is wrong with the file: the rule, why, where, and in which object."""

    rule: str
    reason: str
    offset: int | None
    path: str


@dataclass(slots=True)
class Hdf5:
    """One walk. Iterate over it once: attributes come as they are met, troubles add up."""

    data: memoryview
    troubles: list[Trouble] = field(default_factory=list)
    objects: int = 0

    def __iter__(self) -> Iterator[Held]:
        source = Source(self.data)
        begin = next(
            (at for at in (0, *(512 << n for n in range(20))) if _marked(self.data, at)), None
        )
        if begin is None:
            self.note("malformed", "There is no superblock.", 0)
            return
        if begin:
            self.note("user_block", f"{begin} bytes of something else come first.", 0)
        try:
            block = read_superblock(source, begin)
            # Behind a block of the user's own, writers differ in where they count from.
            if block.end > len(self.data):
                self.note("malformed", "The file ends before its own end.", begin)
            elif not begin and any(self.data[block.end :]):
                self.note("hidden", "Bytes follow the end of the file.", block.end)
            if block.extension is not None:
                self.extension(source, block.extension)
            yield from self.walk(source, block.root)
        except Hdf5Error as error:
            self.say(error, "/")

    def note(self, word: str, reason: str, offset: int | None, path: str = "/") -> None:
        if len(self.troubles) < 1000:
            self.troubles.append(Trouble(f"hdf5.{word}", reason, offset, path))

    def say(self, error: Hdf5Error, path: str) -> None:
        if len(self.troubles) < 1000:
            self.troubles.append(Trouble(error.rule, error.reason, error.offset, path))

    def extension(self, source: Source, at: int) -> None:
        for message in read_header(source, at):
            if message.kind == _DRIVER:
                self.note("external", "A driver puts the file together with others.", at)

    def walk(self, source: Source, root: int) -> Iterator[Held]:
        stack: list[tuple[int, str, int]] = [(root, "/", 0)]
        known: set[int] = set()
        while stack:
            at, path, depth = stack.pop()
            if at in known:
                # Two hard links to one object: nothing new.
                continue
            known.add(at)
            self.objects += 1
            if self.objects > MAX_OBJECTS or depth > MAX_DEPTH:
                raise Hdf5Error("too_large", "The file holds more objects than the limit allows.")
            try:
                messages = read_header(source, at)
                if at == root and not _GROUP.intersection(message.kind for message in messages):
                    self.note("malformed", "The root of the file is no group.", at)
                yield from self.attributes(source, messages, path)
                self.layout(source, messages, path)
                names: set[str] = set()
                for link in self.links(source, messages):
                    if link.name in names:
                        self.note("ambiguous", f"It links {link.name!r} twice.", None, path)
                    names.add(link.name)
                    self.link(link, path)
                    if link.kind == 0:
                        stack.append((link.header, f"{path.rstrip('/')}/{link.name}", depth + 1))
            except Hdf5Error as error:
                # One broken object hides nothing of the others.
                self.say(error, path)
                if source.left < 0 or source.steps < 0:
                    return

    def attributes(self, source: Source, messages: list[Message], path: str) -> Iterator[Held]:
        names: set[str] = set()
        for body in self.attribute_bodies(source, messages, path):
            attribute = read_attribute(source, body)
            if attribute.name in names:
                self.note("ambiguous", f"It has {attribute.name!r} twice.", None, path)
            names.add(attribute.name)
            yield Held(path, attribute)

    def attribute_bodies(
        self, source: Source, messages: list[Message], path: str
    ) -> Iterator[bytes]:
        for message in messages:
            if message.kind > _LAST_KNOWN:
                self.note("unknown", f"A message has the unknown type {message.kind}.", None, path)
            elif message.kind == _ATTRIBUTE and message.is_shared:
                self.note("unknown", "An attribute is kept in the file's own table.", None, path)
            elif message.kind == _ATTRIBUTE:
                yield message.body
            elif message.kind == _ATTRIBUTE_INFO:
                yield from self.dense_attributes(source, message.body, path)

    def dense_attributes(self, source: Source, body: bytes, path: str) -> Iterator[bytes]:
        cursor = Cursor(body, source)
        cursor.number(1)
        flags = cursor.number(1)
        cursor.take(2 if flags & 0x01 else 0)
        heap, tree = cursor.offset(), cursor.offset()
        if heap == source.undefined:
            return
        found = FractalHeap(source, heap)
        for record in tree_records(source, tree, _ATTRIBUTE_NAMES):
            if record[8] & 0x02:
                self.note("unknown", "An attribute is kept in the file's own table.", None, path)
            else:
                yield found.value(record[:8])

    def links(self, source: Source, messages: list[Message]) -> Iterator[Link]:
        for message in messages:
            if message.kind == _LINK:
                yield read_link(source, message.body)
            elif message.kind == _SYMBOLS:
                cursor = Cursor(message.body, source)
                for entry in group_entries(source, cursor.offset(), cursor.offset()):
                    soft = entry.soft
                    kind = 0 if soft is None else SOFT
                    yield Link(shown(entry.name), kind, entry.header, soft or b"")
            elif message.kind == _LINK_INFO:
                yield from self.dense_links(source, message.body)

    def dense_links(self, source: Source, body: bytes) -> Iterator[Link]:
        cursor = Cursor(body, source)
        cursor.number(1)
        flags = cursor.number(1)
        cursor.take(8 if flags & 0x01 else 0)
        heap, tree = cursor.offset(), cursor.offset()
        if heap == source.undefined:
            return
        found = FractalHeap(source, heap)
        for record in tree_records(source, tree, _LINK_NAMES):
            yield read_link(source, found.value(record[4 : 4 + found.id_length]))

    def link(self, link: Link, path: str) -> None:
        if link.kind == EXTERNAL:
            reason = f"The link {link.name!r} leads to the file {shown(link.file)!r}."
            self.note("external", reason, None, path)
        elif link.kind not in (0, SOFT):
            self.note("external", f"The link {link.name!r} is of a user's own kind.", None, path)

    def layout(self, source: Source, messages: list[Message], path: str) -> None:
        for message in messages:
            if message.kind == _EXTERNAL_FILES:
                count = read_external(source, message.body)
                self.note("external", f"Data of it lies in {count} other files.", None, path)
            elif message.kind == _FILTERS and not message.is_shared:
                for used in read_filters(source, message.body):
                    if used.number not in KNOWN_FILTERS:
                        name = f"{used.number} ({shown(used.name)})"
                        self.note("plugin", f"Data of it needs the filter {name}.", None, path)
            elif message.kind == _LAYOUT:
                found = read_layout(source, message.body)
                if found.kind == VIRTUAL:
                    self.note("external", "Its data is put together from others.", None, path)
                elif found.address is not None and found.size > 0:
                    end = source.base + found.address + found.size
                    if end > len(self.data):
                        self.note("malformed", "Its data lies outside of the file.", None, path)


def _marked(data: memoryview, at: int) -> bool:
    return bytes(data[at : at + 8]) == b"\x89HDF\r\n\x1a\n"
