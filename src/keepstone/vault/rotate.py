"""Another key-encryption key for what is sealed: only the data key is wrapped anew.

Promise: a blob opens under the old key or under the new one, whatever fails meanwhile, and its
encrypted body stays bit for bit what it was. Doing it again does nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.errors import VerificationError
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.overlap import Sink
from keepstone.vault.seal import MAGIC, Header, read_header, seal_context
from keepstone.vault.stores.port import BlobStore, Stream

_LENGTH = 4
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many blobs are under the new key now, and which open under neither."""

    blobs: int
    damaged: tuple[str, ...]


def rewrap_all(
    store: BlobStore,
    old: KeyEncryptionKey,
    new: KeyEncryptionKey,
    progress: Callable[[int], None] = lambda done: None,
) -> Rewrapped:
    """Bring every blob of `store` under `new`. Raises OperationalError where it has to stop.

    A blob that opens under neither key was lost before: it is named, and left as it is.
    """
    damaged = []
    done = 0
    for held in list(store.addresses()):
        try:
            rewrap(store, old, new, held.digest, held.name)
        except VerificationError:
            damaged.append(f"{held.name} ({held.digest.short})")
        else:
            done += 1
            progress(done)
    return Rewrapped(done, tuple(damaged))


def rewrap(
    store: BlobStore, old: KeyEncryptionKey, new: KeyEncryptionKey, digest: Digest, name: str
) -> bool:
    """Bring one blob under `new`; False where it was. Raises VerificationError `seal.*`.

    (1) The blob is under the new key already: its data key opens, nothing is written.
    (2) Else its data key opens under the old one, for the digest and name that are asked for.
    (3) The new wrapping opens to the same data key before it takes the old one's place.
    (4) The whole blob is written beside the old one and put in its place in one step.
    """
    with store.open(digest, name) as blob:
        header = read_header(blob)
        # Which sealing it is says the blob: an older one stays older, and its reader refuses it.
        context = seal_context(digest, name, header.version)
        # (1) Done before, by a run that was cut short.
        if header.kek == new.key_id:
            new.unwrap(header.wrapped, context)
            return False
        # (2) Only what the caller expects under this name is wrapped anew.
        data_key = old.unwrap(header.wrapped, context)
        wrapped = new.wrap(data_key, context)
        # (3) A key that cannot open what it wrapped would lose the artifact.
        if new.unwrap(wrapped, context) != data_key:
            raise VerificationError(
                "seal.wrong_key",
                "The new key-encryption key does not open what it wrapped.",
                "Choose another key; the old one still holds.",
            )
        head = Header(new.key_id, header.version, wrapped).to_bytes()

        def fill(sink: Sink) -> None:
            sink(memoryview(MAGIC + len(head).to_bytes(_LENGTH, "big") + head))
            _copy(blob, sink)

        # (4) The store replaces the blob whole, or leaves it.
        store.write(digest, name, fill)
    return True


def _copy(blob: Stream, sink: Sink) -> None:
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    while count := blob.readinto(view):
        sink(view[:count])
