"""What a place for sealed artifacts must be able to do: a folder, S3, an OCI registry.

Promise, of every store: a blob is there whole or not at all, whatever fails meanwhile, and it is
durable when `write` returns. A store holds ciphertext and is not trusted: what it returns is
verified by whoever reads it, and which sealing is the newest is in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from keepstone.core.digest import Digest
from keepstone.core.subject import check_name
from keepstone.errors import InputError
from keepstone.vault.overlap import Sink

SUFFIX = ".sealed"


class Stream(Protocol):
    """A blob on its way to its reader, read once from front to back."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill `buffer` from the front and return how many bytes came; 0 at the end."""
        ...

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A blob that is in the store now. `pin` is the store's own name for this very write.

    None where the store keeps one write only.
    """

    size: int
    pin: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Held:
    """An address that holds a blob, and the blob's size in bytes as the store tells it."""

    digest: Digest
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a write that was cut short left: worth nothing, and nobody can read it as a blob.

    `since` is when it was begun, in milliseconds; a write under way looks the same.
    """

    place: str
    since: int
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that `doctor` tells of a store, and the command that mends it."""

    state: Literal["ok", "warn", "fail"]
    message: str
    mend: str = ""


class BlobStore(Protocol):
    """Sealed blobs by the artifact's digest and the name it is sealed under.

    Each method raises OperationalError where it cannot do or tell.
    """

    @property
    def place(self) -> str:
        """Where it is, for people: a path or an address, never with a secret in it."""
        ...

    def write(self, digest: Digest, name: str, fill: Callable[[Sink], object]) -> Written:
        """Store what `fill` gives to the sink, in the place of an older blob.

        Whole and durable when this returns; where it raises, or `fill` does, the older blob
        still stands. The sink takes the bytes before it returns.
        """
        ...

    def open(
        self, digest: Digest, name: str, pin: str | None = None
    ) -> AbstractContextManager[Stream]:
        """Open a blob for one reading; with `pin`, the very write that had it.

        Raises InputError `blob.missing`.
        """
        ...

    def has(self, digest: Digest, name: str) -> bool:
        """True where a blob has this address; says nothing about what is in it."""
        ...

    def delete(self, digest: Digest, name: str) -> None:
        """Remove a blob. One that is not there is no error."""
        ...

    def addresses(self) -> Iterator[Held]:
        """Every address that holds a blob, in order."""
        ...

    def leftovers(self) -> Iterator[Leftover]:
        """What writes that were cut short left behind, as far as the store can tell."""
        ...

    def remove(self, leftover: Leftover) -> None:
        """Remove a leftover. One that is gone is no error."""
        ...

    def require_usable(self) -> None:
        """Return if blobs may be kept here, else raise: asked before a workspace rests on it."""
        ...

    def examine(self) -> Iterator[Fact]:
        """What `doctor` should know about the store; raises what makes it unusable."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def blob_path(digest: Digest, name: str) -> str:
    """Where a blob lies below its store. Raises InputError `name.invalid`."""
    return f"blobs/{digest.hex}/{check_name(name)}{SUFFIX}"


def parse_blob_path(path: str) -> tuple[Digest, str] | None:
    """The address that `path` belongs to, or None: whatever else lies there is no blob."""
    match path.split("/"):
        case ["blobs", digest, file] if file.endswith(SUFFIX):
            try:
                return Digest(digest), check_name(file.removesuffix(SUFFIX))
            except InputError:
                return None
    return None


def missing(digest: Digest, name: str) -> InputError:
    return InputError(
        "blob.missing",
        f"The vault holds no {name!r} with digest {digest.short}.",
        "Add the artifact again, or restore the vault from a backup.",
    )
