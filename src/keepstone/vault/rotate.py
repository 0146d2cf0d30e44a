"""Another key-encryption key for what is sealed: only the data key is wrapped anew.

Promise: a blob opens under the old key or under the new one, whatever fails meanwhile, and its
encrypted body stays bit for bit what it was. Doing it again does nothing more.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO

from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.errors import VerificationError
from keepstone.vault.files import FileStore, Sink
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.seal import MAGIC, _context, _read_header

_LENGTH = 4
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many blobs are under the new key now, and which open under neither."""

    blobs: int
    damaged: tuple[str, ...]


def rewrap_all(
    store: FileStore,
    old: KeyEncryptionKey,
    new: KeyEncryptionKey,
    progress: Callable[[int], None] = lambda done: None,
) -> Rewrapped:
    """Bring every blob of `store` under `new`. Raises OperationalError where it has to stop.

    A blob that opens under neither key was lost before: it is named, and left as it is.
    """
    damaged = []
    done = 0
    for digest, name in list(store.addresses()):
        try:
            rewrap(store, old, new, digest, name)
        except VerificationError:
            damaged.append(f"{name} ({digest.short})")
        else:
            done += 1
            progress(done)
    return Rewrapped(done, tuple(damaged))


def rewrap(
    store: FileStore, old: KeyEncryptionKey, new: KeyEncryptionKey, digest: Digest, name: str
) -> bool:
    """Bring one blob under `new`; False where it was. Raises VerificationError `seal.*`.

    (1) The blob is under the new key already: its data key opens, nothing is written.
    (2) Else its data key opens under the old one, for the digest and name that are asked for.
    (3) The new wrapping opens to the same data key before it takes the old one's place.
    (4) The whole blob is written beside the old one and put in its place in one step.
    """
    context = _context(digest, name)
    with store.open(digest, name) as blob:
        # (1) Done before, by a run that was cut short.
        try:
            new.unwrap(_read_header(blob, new), context)
        except VerificationError:
            blob.seek(0)
        else:
            return False
        # (2) Only what the caller expects under this name is wrapped anew.
        data_key = old.unwrap(_read_header(blob, old), context)
        wrapped = new.wrap(data_key, context)
        # (3) A key that cannot open what it wrapped would lose the artifact.
        if new.unwrap(wrapped, context) != data_key:
            raise VerificationError(
                "seal.wrong_key",
                "The new key-encryption key does not open what it wrapped.",
                "Choose another key; the old one still holds.",
            )
        text = base64.b64encode(wrapped).decode("ascii")
        header = canonical({"kek": new.key_id, "wrapped": text})

        def fill(sink: Sink) -> None:
            sink(memoryview(MAGIC + len(header).to_bytes(_LENGTH, "big") + header))
            _copy(blob, sink)

        # (4) FileStore.write replaces the blob whole, or leaves it.
        store.write(digest, name, fill)
    return True


def _copy(blob: FileIO, sink: Sink) -> None:
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    while count := blob.readinto(buffer):
        sink(view[:count])
