"""OCI image layouts as folders: `index.json`, and blobs by their digests (image-layout.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keepstone.errors import InputError
from keepstone.scan.images.descriptor import OCI_INDEX, Descriptor
from keepstone.scan.images.disk import opened, read_from
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.manifest import Manifest, read_document
from keepstone.scan.images.select import Choice, NotJudged, Selection

MARK, INDEX = "oci-layout", "index.json"
VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class LayoutFolder:
    """The images of one layout."""

    root: Path

    def images(self, choice: Choice, limits: Limits) -> Iterator[Manifest | NotJudged]:
        """Every image that was chosen. Raises InputError where there is no layout to read."""
        check_mark(self._whole(MARK, limits.document))
        raw = self._whole(INDEX, limits.document)
        said = Descriptor(OCI_INDEX, "", len(raw), place=INDEX)
        yield from Selection(self, choice, limits).within(raw, said)

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        algorithm, _, name = blob.digest.partition(":")
        path = self.root / "blobs" / algorithm / name
        if not path.exists():
            raise missing(blob)
        with opened(path) as descriptor:
            # One more than is said, so that a longer blob is seen.
            yield from read_from(descriptor, 0, blob.size + 1)

    def _whole(self, name: str, limit: int) -> bytes:
        with opened(self.root / name) as descriptor:
            if os.fstat(descriptor).st_size > limit:
                raise InputError("image.too_large", f"{name} is over {limit} bytes.")
            return b"".join(read_from(descriptor, 0, limit))


def check_mark(raw: bytes) -> None:
    """Raises InputError `image.unsupported` for another version of the layout than 1.0.0."""
    version = read_document(raw, frozenset())[0].get("imageLayoutVersion")
    if version != VERSION:
        raise InputError("image.unsupported", f"The layout is not of the version {VERSION}.")


def missing(blob: Descriptor) -> InputError:
    return InputError("image.blob_missing", f"The blob {blob.shown} is not there.")
