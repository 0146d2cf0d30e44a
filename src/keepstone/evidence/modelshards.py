"""Hashing a model as a signature lists it: whole or in shards, with the listed function.

A file of many shards is hashed on every core at once, which no single SHA-256 over it can be.
Each shard is read through the one descriptor that its file was opened with, so all of them are of
one file whatever its name means meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from keepstone.errors import InputError, OperationalError
from keepstone.evidence.manifest import BLAKE2B, BLAKE3, SHA256, Hashing, root_of
from keepstone.evidence.modelfiles import BLOCK, in_threads, open_files, read_error


class Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class ResourceDigest:
    """One file of a model, hashed in another way than whole by SHA-256.

    `label` is the format's name for the way. `digests` are those of its resources by name; an
    empty file has no shard, so nothing can be signed of it.
    """

    path: str
    size: int
    label: str
    digests: tuple[tuple[str, str], ...]

    @property
    def hex(self) -> str:
        """The digest of a whole file; of a file in shards, SHA-256 over the shards' digests."""
        if len(self.digests) == 1:
            return self.digests[0][1]
        return root_of(digest for _, digest in self.digests)


def hash_resources(
    path: Path, left_out: Callable[[str], bool], hashing: Hashing
) -> tuple[ResourceDigest, ...]:
    """Hash every file of a model as `hashing` says. Else as `hash_model`.

    Raises OperationalError `hash.missing` where the function needs a package that is not
    installed; InputError `model.changing` for a file that does not keep its size.
    """
    new = _function(hashing.function)
    files: dict[str, tuple[int, list[tuple[str, str]]]] = {}

    def pieces() -> Iterator[_Piece]:
        for relative, descriptor in open_files(path, left_out):
            file = _Open(descriptor)
            size = os.fstat(descriptor).st_size
            files[relative] = (size, [])
            for start, end in _ranges(size, hashing.shard):
                name = relative if hashing.shard is None else f"{relative}:{start}:{end}"
                yield _Piece(file, relative, name, start, end, size)

    for piece, digest in in_threads(pieces(), lambda piece: (piece, piece.hash(new()))):
        files[piece.relative][1].append((piece.name, digest))
    return tuple(
        ResourceDigest(relative, size, hashing.label, tuple(digests))
        for relative, (size, digests) in sorted(files.items())
    )


def _ranges(size: int, shard: int | None) -> Iterator[tuple[int, int]]:
    if shard is None:
        yield 0, size
        return
    for start in range(0, size, shard):
        yield start, min(start + shard, size)


class _Open:
    """An open file that is closed when its last piece is let go."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class _Buffer(threading.local):
    """One block for each thread: a fresh one for each piece would be paid for in page faults."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(BLOCK))


_BUFFER = _Buffer()


@dataclass(frozen=True, slots=True)
class _Piece:
    file: _Open
    relative: str
    name: str
    start: int
    end: int
    size: int

    def hash(self, state: Hash) -> str:
        view, at, descriptor = _BUFFER.view, self.start, self.file.descriptor
        try:
            while at < self.end:
                count = os.preadv(descriptor, [view[: self.end - at]], at)
                if not count:
                    break
                state.update(view[:count])
                at += count
            grown = self.end == self.size and os.preadv(descriptor, [view[:1]], self.end)
        except OSError as error:
            raise read_error(error, self.relative) from error
        if at != self.end or grown:
            raise InputError("model.changing", f"{self.relative!r} changes while it is read.")
        return state.hexdigest()


def _function(name: str) -> Callable[[], Hash]:
    if name == BLAKE3:
        try:
            from blake3 import blake3
        except ImportError as error:
            raise OperationalError(
                "hash.missing",
                "This signature is over BLAKE3, which needs the package blake3.",
                "Install it: pip install 'keepstone[blake3]'.",
            ) from error
        return lambda: blake3(max_threads=blake3.AUTO)
    known: dict[str, Callable[[], Any]] = {SHA256: hashlib.sha256, BLAKE2B: hashlib.blake2b}
    return known[name]
