"""One layer, read once from its beginning to its end: its entries, and a look at every file.

Promise: every file that the archive holds is looked at where it lies, whether a later layer hides
it, deletes it or not; memory holds its entries, and one file's content at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.archive.tarheaders import FOLDER, TarMember, TarProblem, read_tar_bytes
from keepstone.scan.images.content import ContentLook
from keepstone.scan.images.entry import (
    KNOWN,
    MAX_DEPTH,
    MAX_NAME,
    Entry,
    entry_of,
    parts_of,
)
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.unpack import LayerStream
from keepstone.scan.rules import MAX_FINDINGS, finding, printable


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding in a layer, and the entry it is about; None where it is about the archive."""

    finding: Finding
    entry: Entry | None = None


@dataclass(slots=True)
class Layer:
    """What one layer holds. `entries` are those that have a path, in the archive's order."""

    index: int
    entries: list[Entry] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    more: int = 0

    def say(self, rule: str, reason: str, path: str, entry: Entry | None = None) -> None:
        self.add(Seen(finding(rule, reason, path), entry))

    def add(self, seen: Seen) -> None:
        if len(self.seen) < MAX_FINDINGS:
            self.seen.append(seen)
        else:
            self.more += 1


def read_layer(
    stream: LayerStream, index: int, look: ContentLook, limits: Limits, before: int = 0
) -> Layer:
    """Read a layer; `before` are the entries of the layers below it. Raises as the stream does.

    What it returns is not to be believed before the blob is verified: see `LayerStream.finish`.
    """
    layer, names = Layer(index), dict[str, str]()
    for item in read_tar_bytes(stream, limits.entries - before):
        if isinstance(item, TarProblem):
            rule = "image.not_evaluated" if item.broken else "image.ambiguous"
            layer.say(rule, item.reason, shown(item.member or ""))
            continue
        entry = _entry(item, layer)
        limits.hold(len(entry.path) + len(entry.link))
        if entry.kind not in KNOWN:
            reason = "Runtimes differ in what this kind of entry is."
            layer.say("image.ambiguous", reason, shown(entry.path), entry)
        if entry.kind not in KNOWN or entry.is_file:
            for one in look.look(entry, item, _content(stream, item)):
                layer.add(Seen(one, entry))
        if _has_place(item.name, entry, layer):
            _add(entry, layer, names)
    return layer


def shown(path: str) -> str:
    """A path as reports write it."""
    return printable(path, MAX_NAME)


def _entry(item: TarMember, layer: Layer) -> Entry:
    return entry_of(item, "/".join(parts_of(item.name[: MAX_NAME + 1])), layer.index)


def _content(stream: LayerStream, item: TarMember) -> Iterator[memoryview]:
    if item.size and stream.reaches(item.start):
        yield from stream.read(item.size)


def _has_place(name: str, entry: Entry, layer: Layer) -> bool:
    """False where no runtime would put the entry anywhere inside of the image."""
    parts, path = parts_of(entry.path), shown(entry.path)
    if ".." in parts:
        reason = "The name leads out of the image: unpacked elsewhere it writes to the host."
        layer.say("image.unsafe_path", reason, path, entry)
        return False
    if len(name) > MAX_NAME or len(parts) > MAX_DEPTH or "\x00" in name:
        layer.say("image.not_evaluated", "The name is no path to Linux.", path, entry)
        return False
    # The root itself goes by this name with some tools.
    if name.startswith("/") and parts:
        reason = "The name is absolute: unpacked elsewhere it writes to the host."
        layer.say("image.unsafe_path", reason, path, entry)
    return True


def _add(entry: Entry, layer: Layer, names: dict[str, str]) -> None:
    before = names.get(entry.path)
    if before is not None and not before == entry.kind == FOLDER:
        reason = "The layer holds this path twice: readers take different ones."
        layer.say("image.ambiguous", reason, shown(entry.path), entry)
    names[entry.path] = entry.kind
    entry.placed = True
    layer.entries.append(entry)
