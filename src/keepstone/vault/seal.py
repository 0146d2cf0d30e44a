"""Sealing: an artifact at rest is one encrypted blob, bound to its digest, name and version.

Promise: what unseals is the artifact that was asked for, byte for byte, or nothing, and it
unseals for a permission only. The context of both keys is built from what the *caller* expects,
never from the blob, so that a blob that was changed, swapped with another or rolled back to an
older one does not open. A version counts the sealings under one name; the caller knows from the
ledger which one is the newest.

    "keepstone-seal/v1\\n" || length of the header (4) || header || chunked encryption of the body
    header = canonical JSON {"kek": key id, "version", "wrapped": base64 of the wrapped data key}
    body   = length of the listing (4) || canonical JSON [{"path", "sha256", "size"}] || contents
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from typing import Any, TypeVar

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.core.ports import Randomness, SystemRandomness
from keepstone.errors import InputError, VerificationError
from keepstone.vault import chunked
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.memory import Memory
from keepstone.vault.overlap import Sink
from keepstone.vault.permission import Permission, require_permission
from keepstone.vault.staging import Staged
from keepstone.vault.stores.port import BlobStore, Stream
from keepstone.vault.verified import Files, Filling, VerifiedFiles, filling

T = TypeVar("T")

MAGIC = b"keepstone-seal/v1\n"
_FAMILY = b"keepstone-seal/"
_MAX_HEADER = 4096
_MAX_LISTING = 16 << 20
_LENGTH = 4
_MAX_VERSION = 1 << 53


@dataclass(frozen=True, slots=True)
class Sealed:
    """Where an artifact lies in the vault, as which sealing under its name."""

    digest: Digest
    name: str
    version: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """The clear part of a blob. Only what opens under its context is true of it."""

    kek: str
    version: int
    wrapped: bytes

    def to_bytes(self) -> bytes:
        wrapped = base64.b64encode(self.wrapped).decode("ascii")
        return canonical({"kek": self.kek, "version": self.version, "wrapped": wrapped})


def seal(
    staged: Staged,
    store: BlobStore,
    kek: KeyEncryptionKey,
    name: str,
    version: int = 1,
    randomness: Randomness | None = None,
) -> Sealed:
    """Encrypt the staged copy into `store` as sealing `version` of `name`; durable on return.

    Raises VerificationError `staging.changed` if the copy is no longer what was hashed; and as
    the store's `write` does.
    """
    source = randomness or SystemRandomness()
    context = seal_context(staged.digest, name, version)
    data_key = source.token_bytes(chunked.KEY_SIZE)
    header = Header(kek.key_id, version, kek.wrap(data_key, context, source)).to_bytes()

    def fill(sink: Sink) -> None:
        sink(memoryview(MAGIC + len(header).to_bytes(_LENGTH, "big") + header))
        # What is encrypted is held against what was hashed, as it would be to be unsealed.
        checker = Checker(staged.digest)
        try:
            with Body(staged) as body:
                chunked.encrypt(data_key, context, body, sink, source, checker.take)
            checker.finish()
        except VerificationError as error:
            if error.code != "seal.corrupt":
                raise
            raise VerificationError(
                "staging.changed",
                "The staged copy changed after it was judged.",
                "Run the command again; if it happens again, look who writes to the workspace.",
            ) from error

    written = store.write(staged.digest, name, fill)
    return Sealed(staged.digest, name, version, written.size)


def sealed_bytes(staged: Staged) -> int:
    """How many bytes of the vault the staged copy takes once it is sealed, its header apart."""
    return chunked.sealed_size(plain_bytes(staged.artifact))


def plain_bytes(files: Sequence[FileDigest]) -> int:
    """How long the plaintext of a seal is: the list of the files, and their contents."""
    return _LENGTH + len(_listing(files)) + sum(file.size for file in files)


def unseal(
    store: BlobStore,
    kek: KeyEncryptionKey,
    permission: Permission,
    *,
    now: int,
    version: int = 1,
) -> VerifiedFiles:
    """Return the files that `permission` names, verified; the blob is read once.

    (1) The permission is one that was verified, and holds at `now`: else no key is released.
    (2) Everything that `check_sealed` checks, of the bytes that are returned.

    Raises as `require_permission` and the store's `open` do; VerificationError `seal.*`,
    OperationalError `memory.exhausted`.
    """
    # (1)
    require_permission(permission, now)
    # (2)
    with filling() as state:
        checker = Checker(permission.artifact)
        keeper = _Keeper(permission.artifact, state)
        read_blob(store, kek, (permission.artifact, permission.name, version), keeper, checker)
        return state.verified(checker.listing, permission.artifact)


def check_sealed(
    store: BlobStore, kek: KeyEncryptionKey, digest: Digest, name: str, version: int = 1
) -> None:
    """Return if the blob unseals to `digest`, in flat memory; no plaintext leaves this function.

    Raises as `unseal` does of the blob.
    """
    read_blob(store, kek, (digest, name, version), None, Checker(digest))


def look_into(
    store: BlobStore,
    kek: KeyEncryptionKey,
    digest: Digest,
    name: str,
    look: Callable[[Files], T],
) -> T:
    """What `look` finds in a blob as it lies in the vault, whichever sealing of `name` that is.

    The one use of a key without a permission: what is sealed must be judged anew by rules that
    came later, before anybody may load it. The bytes are let go when `look` returns. Raises as
    `unseal` does of the blob, and what `look` raises.
    """
    with store.open(digest, name) as blob:
        version = read_header(blob).version
    with filling() as state:
        checker = Checker(digest)
        read_blob(store, kek, (digest, name, version), _Keeper(digest, state), checker)
        with state.verified(checker.listing, digest) as files:
            return look(files)


def read_blob(
    store: BlobStore,
    kek: KeyEncryptionKey,
    address: tuple[Digest, str, int],
    keeper: Split | None,
    checker: Checker,
) -> None:
    """Read the blob at (digest, name, version) to its end, verified; for this room alone."""
    digest, name, version = address
    context = seal_context(digest, name, version)
    with store.open(digest, name) as blob:
        # (a) The header names a key-encryption key and carries the wrapped data key.
        header = read_header(blob)
        _require_expected(header, kek, version)
        # (b) The data key opens only under the context that the caller expects.
        data_key = kek.unwrap(header.wrapped, context)
        # (c) C2SP chunked-encryption: every chunk is authentic and none is missing.
        if keeper is None:
            chunked.decrypt(data_key, context, blob, checker.take)
        else:
            chunked.decrypt(data_key, context, blob, keeper.take, checker.take)
            keeper.finish()
        # (d) The contents hash to the digest that was asked for.
        checker.finish()


def seal_context(digest: Digest, name: str, version: int) -> bytes:
    """What both keys of a blob are bound to."""
    return canonical(
        {
            "schema": "keepstone.seal/v1",
            "artifact": digest.hex,
            "name": name,
            "version": version,
        }
    )


def read_header(blob: Stream) -> Header:
    """Read the clear part of a blob. Raises VerificationError `seal.*`."""
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
        return _header_members(document)
    except (InputError, binascii.Error) as error:
        raise _corrupt("its header cannot be read") from error


def _require_expected(header: Header, kek: KeyEncryptionKey, version: int) -> None:
    if header.kek != kek.key_id:
        raise VerificationError(
            "seal.wrong_key",
            "The blob was sealed under another key-encryption key.",
            "Restore the vault and its key file from one backup.",
        )
    # Said by its own name where the blob is honest about it; where it lies, its key does not open.
    if header.version != version:
        raise VerificationError(
            "seal.rolled_back",
            f"The blob is sealing {header.version}, and the newest one is {version}.",
            "Add the artifact again with `keepstone up`, and look who writes to the vault.",
        )


def _header_members(document: Any) -> Header:
    match document:
        case {
            "kek": str() as key_id,
            "version": int() as version,
            "wrapped": str() as text,
        } if len(document) == 3 and type(version) is int and 0 < version < _MAX_VERSION:
            return Header(key_id, version, base64.b64decode(text, validate=True))
    raise _corrupt("its header cannot be read")


def _exactly(blob: Stream, count: int) -> bytes:
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


def _listing(files: Sequence[FileDigest]) -> bytes:
    return canonical([{"path": f.path, "sha256": f.sha256.hex, "size": f.size} for f in files])


class Body:
    """The plaintext of a seal as one stream: the listing, then each staged file in order."""

    def __init__(self, staged: Staged) -> None:
        self._staged = staged
        listing = _listing(staged.artifact)
        if len(listing) > _MAX_LISTING:
            raise InputError("model.too_large", "The artifact's list of files is too long.")
        self._head = memoryview(len(listing).to_bytes(_LENGTH, "big") + listing)
        self._files = iter(staged.artifact)
        self._open: FileIO | None = None

    def __enter__(self) -> Body:
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
        while self._open is not None or self._next():
            assert self._open is not None
            count = self._open.readinto(buffer)
            if count:
                return count
            self._open.close()
            self._open = None
        return 0

    def _next(self) -> bool:
        file = next(self._files, None)
        if file is None:
            return False
        self._open = FileIO(self._staged.file(file.path), "rb")
        return True


class Split:
    """Takes the authentic plaintext in pieces and splits it into the files of its listing."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._head = bytearray()
        self._needed = _LENGTH
        self._listed: list[FileDigest] | None = None
        self._at = 0
        self._offset = 0

    @property
    def listing(self) -> list[FileDigest]:
        return self._listed or []

    def begin(self, file: FileDigest) -> None:
        """A file of the listing comes next."""

    def piece(self, file: FileDigest, data: memoryview) -> None:
        """Some more bytes of that file."""

    def end(self, file: FileDigest) -> None:
        """That was the last of them."""

    def take(self, data: memoryview) -> None:
        data = self._take_listing(data)
        while data:
            assert self._listed is not None
            if self._at == len(self._listed):
                raise _corrupt("it holds more than its listing says")
            file = self._listed[self._at]
            part = data[: file.size - self._offset]
            self.piece(file, part)
            self._offset += len(part)
            data = data[len(part) :]
            self._end_finished()

    def finish(self) -> None:
        if self._listed is None or self._at != len(self._listed):
            raise _corrupt("it holds less than its listing says")

    def _take_listing(self, data: memoryview) -> memoryview:
        while self._listed is None and data:
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
        self._listed = _parse_listing(bytes(self._head[_LENGTH:]), self._digest)
        self.begin(self._listed[0])
        self._end_finished()

    def _end_finished(self) -> None:
        """End every file that is complete, empty ones at once."""
        assert self._listed is not None
        while self._at < len(self._listed) and self._offset == self._listed[self._at].size:
            self.end(self._listed[self._at])
            self._at, self._offset = self._at + 1, 0
            if self._at < len(self._listed):
                self.begin(self._listed[self._at])


class Checker(Split):
    """Hashes each file and compares it with the listing; keeps nothing."""

    def begin(self, file: FileDigest) -> None:
        self._hash = sha256()

    def piece(self, file: FileDigest, data: memoryview) -> None:
        self._hash.update(data)

    def end(self, file: FileDigest) -> None:
        if self._hash.hexdigest() != file.sha256.hex:
            raise _corrupt("a file in it has another digest")


class _Keeper(Split):
    """Keeps each file in memory of its own; the checker sees the same buffers."""

    def __init__(self, digest: Digest, state: Filling) -> None:
        super().__init__(digest)
        self._state = state
        self._memory: Memory | None = None

    def begin(self, file: FileDigest) -> None:
        self._memory = self._state.add(file.path, file.size)

    def piece(self, file: FileDigest, data: memoryview) -> None:
        assert self._memory is not None
        self._memory.write(data)


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
