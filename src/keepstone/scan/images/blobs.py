"""Blobs, counted and hashed while they are read: what a descriptor says of them is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from typing import Protocol

from keepstone.errors import InputError, VerificationError
from keepstone.scan.images.descriptor import Descriptor

STEP = 1 << 18


class Blobs(Protocol):
    """Where an image's blobs are."""

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        """The bytes of `blob`, as they lie there. Raises InputError `image.blob_missing`."""
        ...


def verified_chunks(blobs: Blobs, blob: Descriptor) -> Generator[bytes, None, None]:
    """The blob's bytes. Whoever read them to the end knows that they are those of `blob`.

    Raises VerificationError `image.blob_differs`, as soon as there are more than its size, else
    after the last: nothing of them is to be believed before.
    """
    state = hashlib.new(blob.digest.partition(":")[0]) if blob.digest else None
    size = 0
    for chunk in blobs.chunks(blob):
        size += len(chunk)
        if size > blob.size:
            raise _differs(blob, "has more bytes than its descriptor says")
        if state is not None:
            state.update(chunk)
        yield chunk
    if size != blob.size:
        raise _differs(blob, f"has {size} bytes where its descriptor says {blob.size}")
    if state is not None and state.hexdigest() != blob.digest.partition(":")[2]:
        raise _differs(blob, "does not have its digest")


def read_verified(blobs: Blobs, blob: Descriptor, limit: int) -> bytes:
    """A small blob, whole and verified. Raises InputError `image.too_large` as well."""
    if blob.size > limit:
        raise InputError("image.too_large", f"A document of the image is over {limit} bytes.")
    return b"".join(verified_chunks(blobs, blob))


def _differs(blob: Descriptor, how: str) -> VerificationError:
    step = "Get the image again, and from whom you trust."
    return VerificationError("image.blob_differs", f"The blob {blob.shown} {how}.", step)
