"""An artifact's files in memory, after they were verified: what every loader is given.

Promise: the bytes are the ones whose digest was asked for, and nobody can change them between
the check and the load, whatever becomes of the files that they were read from. Each file is read
once, into memory that is fixed when its last byte is in, and hashed on its way there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.errors import InputError, VerificationError
from keepstone.vault.memory import Memory, make_memory
from keepstone.vault.overlap import pour
from keepstone.vault.walk import StagingLimits, reading, too_large, walk

_SEAL = object()


class Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


class Files(Protocol):
    """The files of one artifact by path; a single file has the path `.`."""

    @property
    def paths(self) -> tuple[str, ...]: ...

    def view(self, path: str) -> memoryview:
        """The bytes of one file. Writing to the view never changes the file."""
        ...

    def place(self, path: str) -> str | None:
        """A path under which this process finds these very bytes, or None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class VerifiedFiles:
    """Made by `verify_files`, `read_files` and `unseal` alone, never by hand; close it once it is
    loaded. `digest` is that of exactly these bytes."""

    digest: Digest
    _held: dict[str, Memory] = field(repr=False)
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise VerificationError(
                "model.unverified", "Verified files are made by verifying them, never by hand."
            )

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(sorted(self._held))

    def view(self, path: str) -> memoryview:
        return self._held[path].view()

    def place(self, path: str) -> str | None:
        return self._held[path].place

    def close(self) -> None:
        """Let go of the bytes; what a loader made of them keeps what it needs."""
        for memory in self._held.values():
            memory.close()

    def __enter__(self) -> VerifiedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class Filling:
    """Files on their way into memory. `verified` is the one door from here to VerifiedFiles."""

    held: dict[str, Memory] = field(default_factory=dict)

    def add(self, path: str, size: int) -> Memory:
        memory = make_memory(size)
        self.held[path] = memory
        return memory

    def verified(self, found: list[FileDigest], expected: Digest | None) -> VerifiedFiles:
        """Fix everything and hand it out, if it is the artifact that was asked for, if one was."""
        digest = artifact_digest(found)
        if expected not in (None, digest) or {f.path for f in found} != set(self.held):
            raise wrong_artifact(expected or digest)
        for memory in self.held.values():
            memory.fix()
        return VerifiedFiles(digest, self.held, _SEAL)


@contextmanager
def filling() -> Iterator[Filling]:
    """A Filling that lets go of everything where the block raises."""
    state = Filling()
    try:
        yield state
    except BaseException:
        for memory in state.held.values():
            memory.close()
        raise


def verify_files(
    path: Path,
    expected: Digest,
    limits: StagingLimits | None = None,
) -> VerifiedFiles:
    """Read the file or folder at `path` once, and return it if it is the artifact `expected`.

    (1) Only regular files, no links, each read once into memory of its own.
    (2) What is hashed is the buffer that went into that memory.
    (3) Paths, sizes and contents make the digest that was asked for.
    (4) The memory is fixed before anybody sees it.

    Raises VerificationError `model.wrong_digest`; InputError as `walk` raises; OperationalError
    `memory.exhausted`.
    """
    return _read(path, expected, limits or StagingLimits())


def read_files(path: Path, limits: StagingLimits | None = None) -> VerifiedFiles:
    """Read the file or folder at `path` once, and say by its digest what it is.

    As `verify_files` without (3): for who learns from the digest what is permitted.
    """
    return _read(path, None, limits or StagingLimits())


def _read(path: Path, expected: Digest | None, limits: StagingLimits) -> VerifiedFiles:
    found: list[FileDigest] = []
    left = limits.max_bytes
    with filling() as state:
        # (1)
        for relative, descriptor in walk(path, limits):
            size, digest = _take(state, relative, descriptor, left)
            left -= size
            found.append(FileDigest(relative, size, digest))
        # (3), (4)
        return state.verified(found, expected)


def _take(state: Filling, relative: str, descriptor: int, most: int) -> tuple[int, Digest]:
    expected = os.fstat(descriptor).st_size
    if expected > most:
        raise too_large("more bytes than the limit")
    memory = state.add(relative, expected)
    return copy_hashed(descriptor, relative, memory, expected)


def copy_hashed(
    descriptor: int,
    shown: str,
    memory: Memory,
    expected: int,
    new_hash: Callable[[], Hash] = sha256,
) -> tuple[int, Digest]:
    """Fill `memory` from an open file; return the size and the digest of what went in."""
    digest, left = new_hash(), expected

    def read(buffer: memoryview) -> int:
        with reading(Path(shown)):
            return os.readv(descriptor, [buffer])

    def write(data: memoryview) -> None:
        nonlocal left
        left -= len(data)
        if left < 0:
            # It grows while it is read: whatever it will be, it is not what was asked for.
            raise InputError("model.unreadable", f"{shown} changes while it is read.")
        memory.write(data)

    # (2)
    size = pour(read, write, digest.update, expected)
    return size, Digest(digest.hexdigest())


def wrong_artifact(expected: Digest) -> VerificationError:
    return VerificationError(
        "model.wrong_digest",
        f"The files are not the artifact {expected.short}.",
        "Get the model from where it was published again.",
    )
