"""Sealing: an artifact at rest is one encrypted blob, bound to its digest and its name.

Promise: what unseals is the artifact that was asked for, byte for byte, or nothing. The context
of both keys is built from what the *caller* expects, never from the blob, so that a blob that
was changed, swapped with another or rolled back to an older one does not open.

    "keepstone-seal/v1\\n" || length of the header (4) || header || chunked encryption of the body
    header = canonical JSON {"kek": key id, "wrapped": base64 of the wrapped data key}
    body   = length of the listing (4) || canonical JSON [{"path", "sha256", "size"}] || contents
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.core.ports import Randomness, SystemRandomness
from keepstone.errors import InputError, VerificationError
from keepstone.vault import chunked
from keepstone.vault.files import FileStore, Sink
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.staging import Staged

MAGIC = b"keepstone-seal/v1\n"
_FAMILY = b"keepstone-seal/"
_MAX_HEADER = 4096
_MAX_LISTING = 16 << 20
_LENGTH = 4

# The files of an artifact while they come out of a blob.
_Kept = dict[str, BytesIO]


@dataclass(frozen=True, slots=True)
class Sealed:
    """Where an artifact lies in the vault. `reused` says that a sound blob was there already."""

    digest: Digest
    name: str
    size: int
    reused: bool


def seal(
    staged: Staged,
    store: FileStore,
    kek: KeyEncryptionKey,
    name: str,
    randomness: Randomness | None = None,
) -> Sealed:
    """Encrypt the staged copy into `store` as `name`; durable when this returns.

    A blob that is there already is kept if it unseals, and replaced if it does not.
    Raises VerificationError `staging.changed` if the copy is no longer what was hashed;
    OperationalError `disk.full`, `file.unwritable`.
    """
    if store.has(staged.digest, name):
        try:
            check_sealed(store, kek, staged.digest, name)
        except VerificationError:
            # Written again below: a damaged blob is worth nothing to anybody.
            pass
        else:
            return Sealed(staged.digest, name, _size(store, staged.digest, name), True)
    source = randomness or SystemRandomness()
    context = _context(staged.digest, name)
    data_key = source.token_bytes(chunked.KEY_SIZE)
    wrapped = base64.b64encode(kek.wrap(data_key, context, source)).decode("ascii")
    header = canonical({"kek": kek.key_id, "wrapped": wrapped})

    def fill(sink: Sink) -> None:
        sink(memoryview(MAGIC + len(header).to_bytes(_LENGTH, "big") + header))
        with _Body(staged) as body:
            chunked.encrypt(data_key, context, body, sink, source)

    return Sealed(staged.digest, name, store.write(staged.digest, name, fill), False)


def unseal(store: FileStore, kek: KeyEncryptionKey, digest: Digest, name: str) -> dict[str, bytes]:
    """Return the artifact's files by path, verified against `digest`; the blob is read once.

    The single file of an artifact has the path `.`.
    Raises InputError `blob.missing`, VerificationError `seal.*`, OperationalError
    `blob.unreadable`.
    """
    kept: _Kept = {}
    _read(store, kek, digest, name, kept)
    # A BytesIO hands its buffer over: a model is in memory once.
    return {path: content.getvalue() for path, content in kept.items()}


def check_sealed(store: FileStore, kek: KeyEncryptionKey, digest: Digest, name: str) -> None:
    """Return if the blob unseals to `digest`, in flat memory; else raise as `unseal` does."""
    _read(store, kek, digest, name, None)


def _read(
    store: FileStore, kek: KeyEncryptionKey, digest: Digest, name: str, keep: _Kept | None
) -> None:
    context = _context(digest, name)
    with store.open(digest, name) as blob:
        # (1) The header names a key-encryption key and carries the wrapped data key.
        wrapped = _read_header(blob, kek)
        # (2) The data key opens only under the context that the caller expects.
        data_key = kek.unwrap(wrapped, context)
        # (3) C2SP chunked-encryption: every chunk is authentic and none is missing.
        receiver = _Receiver(digest, keep)
        chunked.decrypt(data_key, context, blob, receiver.take)
        # (4) The contents hash to the digest that was asked for.
        receiver.finish()


def _context(digest: Digest, name: str) -> bytes:
    return canonical({"schema": "keepstone.seal/v1", "artifact": digest.hex, "name": name})


def _read_header(blob: FileIO, kek: KeyEncryptionKey) -> bytes:
    start = _exactly(blob, len(MAGIC) + _LENGTH)
    if not start.startswith(MAGIC):
        if start.startswith(_FAMILY):
            version = start[len(_FAMILY) : len(MAGIC)].split(b"\n")[0].decode("ascii", "replace")
            raise VerificationError(
                "seal.newer_version",
                f"The blob has the seal version {version!r}, which this Keepstone does not know.",
                "Use the Keepstone that sealed it, or add the artifact again.",
            )
        raise _corrupt("it is not a sealed blob")
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if length > _MAX_HEADER:
        raise _corrupt("its header is too long")
    header = _exactly(blob, length)
    try:
        document = parse_json(header)
        if canonical(document) != header:
            raise _corrupt("its header is not canonical")
        key_id, wrapped = _header_members(document)
    except (InputError, binascii.Error) as error:
        raise _corrupt("its header cannot be read") from error
    if key_id != kek.key_id:
        raise VerificationError(
            "seal.wrong_key",
            "The blob was sealed under another key-encryption key.",
            "Restore the vault and its key file from one backup.",
        )
    return wrapped


def _header_members(document: Any) -> tuple[str, bytes]:
    match document:
        case {"kek": str() as key_id, "wrapped": str() as text} if len(document) == 2:
            return key_id, base64.b64decode(text, validate=True)
    raise _corrupt("its header cannot be read")


def _exactly(blob: FileIO, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = blob.read(count - len(data))
        if not piece:
            raise VerificationError(
                "seal.truncated",
                "The sealed data ends too early.",
                "Restore the vault from a backup, or add the artifact again.",
            )
        data += piece
    return data


def _corrupt(why: str) -> VerificationError:
    return VerificationError(
        "seal.corrupt",
        f"The sealed blob was changed: {why}.",
        "Restore the vault from a backup, or add the artifact again.",
    )


def _size(store: FileStore, digest: Digest, name: str) -> int:
    return store.path(digest, name).stat().st_size


class _Body:
    """The plaintext of a seal as one stream: the listing, then each staged file in order.

    Each file is hashed on its way: a copy that changed since it was judged is not sealed.
    """

    def __init__(self, staged: Staged) -> None:
        self._staged = staged
        listing = canonical(
            [{"path": f.path, "sha256": f.sha256.hex, "size": f.size} for f in staged.artifact]
        )
        if len(listing) > _MAX_LISTING:
            raise InputError("model.too_large", "The artifact's list of files is too long.")
        self._head = memoryview(len(listing).to_bytes(_LENGTH, "big") + listing)
        self._files = iter(staged.artifact)
        self._current: FileDigest | None = None
        self._open: FileIO | None = None
        self._hash = sha256()
        self._size = 0

    def __enter__(self) -> _Body:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def readinto(self, buffer: memoryview, /) -> int:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        while True:
            if self._open is None and not self._next():
                return 0
            assert self._open is not None
            count = self._open.readinto(buffer)
            if count:
                self._hash.update(buffer[:count])
                self._size += count
                return count
            self._finish()

    def _next(self) -> bool:
        self._current = next(self._files, None)
        if self._current is None:
            return False
        path: Path = self._staged.file(self._current.path)
        self._open = FileIO(path, "rb")
        self._hash, self._size = sha256(), 0
        return True

    def _finish(self) -> None:
        assert self._open is not None
        assert self._current is not None
        self._open.close()
        self._open = None
        if (self._size, self._hash.hexdigest()) != (self._current.size, self._current.sha256.hex):
            raise VerificationError(
                "staging.changed",
                "The staged copy changed after it was judged.",
                "Run the command again; if it happens again, look who writes to the workspace.",
            )


class _Receiver:
    """Takes the authentic plaintext in pieces, splits it into files and hashes each."""

    def __init__(self, digest: Digest, keep: _Kept | None) -> None:
        self._digest = digest
        self._keep = keep
        self._head = bytearray()
        self._needed = _LENGTH
        self._listing: list[FileDigest] | None = None
        self._at = 0
        self._offset = 0
        self._hash = sha256()

    def take(self, data: memoryview) -> None:
        data = self._take_listing(data)
        while data:
            assert self._listing is not None
            if self._at == len(self._listing):
                raise _corrupt("it holds more than its listing says")
            file = self._listing[self._at]
            piece = data[: file.size - self._offset]
            self._hash.update(piece)
            if self._keep is not None:
                self._keep[file.path].write(piece)
            self._offset += len(piece)
            data = data[len(piece) :]
            self._close_finished()

    def finish(self) -> None:
        if self._listing is None or self._at != len(self._listing):
            raise _corrupt("it holds less than its listing says")

    def _take_listing(self, data: memoryview) -> memoryview:
        while self._listing is None and data:
            count = min(self._needed - len(self._head), len(data))
            self._head += data[:count]
            data = data[count:]
            if len(self._head) == self._needed:
                self._grow_head()
        return data

    def _grow_head(self) -> None:
        if self._needed == _LENGTH:
            length = int.from_bytes(self._head, "big")
            if not 0 < length <= _MAX_LISTING:
                raise _corrupt("its listing has no length that one can have")
            self._needed += length
            return
        # The listing is checked against the digest before a byte of content is taken.
        self._listing = _parse_listing(bytes(self._head[_LENGTH:]), self._digest)
        if self._keep is not None:
            self._keep.update((file.path, BytesIO()) for file in self._listing)
        self._close_finished()

    def _close_finished(self) -> None:
        """Compare the hash of every file that is complete, empty ones at once."""
        assert self._listing is not None
        while self._at < len(self._listing) and self._offset == self._listing[self._at].size:
            if self._hash.hexdigest() != self._listing[self._at].sha256.hex:
                raise _corrupt("a file in it has another digest")
            self._at, self._offset, self._hash = self._at + 1, 0, sha256()


def _parse_listing(data: bytes, expected: Digest) -> list[FileDigest]:
    found: list[FileDigest] = []
    try:
        document = parse_json(data, limit=_MAX_LISTING)
        for item in document if isinstance(document, list) else [None]:
            match item:
                case {"path": str() as path, "sha256": str() as sha, "size": int() as size}:
                    found.append(FileDigest(path, size, Digest(sha)))
                case _:
                    raise _corrupt("its listing cannot be read")
        digest = artifact_digest(found)
    except InputError as error:
        raise _corrupt("its listing cannot be read") from error
    if digest != expected:
        raise _corrupt("it holds another artifact")
    return found
