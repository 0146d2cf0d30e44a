"""The merged view of an image as a file tree: a file's content comes out of the layer it is in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.images.blobs import Blobs, verified_chunks
from keepstone.scan.images.descriptor import Descriptor
from keepstone.scan.images.entry import Entry
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.links import LinkedLists
from keepstone.scan.images.merge import Merged
from keepstone.scan.images.unpack import LayerStream
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.rules import printable


@dataclass(frozen=True, slots=True)
class LayerTree:
    """A `FileTree` of what a container would see.

    What was kept while the layers were read is at hand. Anything else is read out of its layer
    once more, which costs as much as the layer up to there; it is believed only with the digest
    that it had the first time. `left_out` is what the last walk could not look into.
    """

    merged: Merged
    kept: dict[tuple[int, int], bytes]
    blobs: Blobs
    layers: Sequence[Descriptor]
    limits: Limits
    left_out: list[NotJudged] = field(default_factory=list)

    def paths(self) -> Iterator[str]:
        """Every regular file of the view, in order, then the lists of packages behind links."""
        yield from (path for path, entry in self.merged.files() if entry.is_file)
        links = LinkedLists(self.merged)
        linked = links.paths()
        self.left_out[:] = links.left_out
        yield from linked

    def read(self, path: str, limit: int) -> bytes:
        """As `FileTree.read`; links are followed inside of the image."""
        entry = self.merged.find(path)
        if entry is None or not entry.is_file:
            raise _unreadable(path, "there is no such file in the image")
        if entry.size > limit:
            raise InputError(
                "scan.too_large", f"{printable(path, 4096)} is over {limit} bytes in the image."
            )
        held = self.kept.get((entry.layer, entry.start))
        return self._again(path, entry) if held is None else held

    def _again(self, path: str, entry: Entry) -> bytes:
        if entry.sparse:
            raise _unreadable(path, "it is sparse")
        pieces = verified_chunks(self.blobs, self.layers[entry.layer])
        try:
            stream = LayerStream(pieces, self.limits)
            stream.reaches(entry.start)
            data = b"".join(stream.read(entry.size))
        except KeepstoneError as error:
            raise _unreadable(path, error.cause) from error
        if hashlib.sha256(data).digest() != entry.sha256:
            raise _unreadable(path, "it is no longer what it was")
        return data


def _unreadable(path: str, why: str) -> InputError:
    return InputError("scan.unreadable", f"Cannot read {printable(path, 4096)}: {why}.")
