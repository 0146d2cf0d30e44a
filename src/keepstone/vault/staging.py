"""Staging: one private copy of an artifact, hashed while it is written.

Promise: the digest is of the bytes in the copy, whatever happens to the source meanwhile; scan,
signature, seal and load see only that copy. Nothing but regular files is read, no link inside a
folder is followed, and a failure leaves nothing behind.
"""

from __future__ import annotations

import mmap
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, artifact_digest
from keepstone.errors import InputError
from keepstone.files import make_private_directory, storage_errors, write_all
from keepstone.vault.overlap import BUFFER, pour
from keepstone.vault.walk import StagingLimits, reading, too_large, walk

__all__ = ["BLOCK", "CONTRACT_FILE", "MODEL_FILE", "Staged", "StagingLimits", "stage"]

BLOCK = BUFFER
# What a model without room for its own contract is called beside the file that carries it:
# the name of the file on the disk must not make another artifact of the same bytes.
MODEL_FILE = "model"
CONTRACT_FILE = "keepstone.contract.json"

# Called with the bytes copied so far and the bytes expected; the second is a guess.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Staged:
    """A private copy. `path` is a file where `artifact` is the single path `.`, else a folder."""

    artifact: tuple[FileDigest, ...]
    digest: Digest
    path: Path
    size: int

    @property
    def is_single_file(self) -> bool:
        return self.artifact[0].path == SINGLE_FILE

    def file(self, path: str) -> Path:
        """Where the copy of one of the artifact's files lies."""
        return self.path if path == SINGLE_FILE else self.path / path

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.artifact)

    def view(self, path: str) -> memoryview:
        """One file's bytes, mapped: to look at before a load, which verifies what it reads."""
        with self.file(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Never closed by hand: an error's traceback may still hold views into it.
            return memoryview(
                mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
            )

    def place(self, path: str) -> str | None:
        """None: nothing may be loaded from the copy by its path."""
        return None

    def discard(self) -> None:
        """Delete the copy. Calling it again does nothing."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def stage(
    path: Path,
    staging: Path,
    limits: StagingLimits | None = None,
    progress: Progress | None = None,
    contract: Path | None = None,
) -> Staged:
    """Copy the file or folder at `path` into a new private folder under `staging`.

    A symbolic link given as `path` is followed to a file, never to a folder. A `contract` that
    lies beside the model becomes a file of the artifact, and so of its digest.
    Raises InputError `model.missing`, `model.unreadable`, `model.not_regular`, `model.symlink`,
    `model.empty`, `model.too_large`, `model.two_contracts`, `path.unsafe`; OperationalError
    `disk.full`.
    """
    make_private_directory(staging)
    private = staging / secrets.token_hex(8)
    with storage_errors(staging):
        private.mkdir(mode=0o700)
    try:
        copy = _Copy(private / "copy", limits or StagingLimits(), progress)
        copy.take(path, contract)
        return Staged(tuple(sorted(copy.files)), artifact_digest(copy.files), copy.to, copy.done)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise


@dataclass(slots=True)
class _Copy:
    """One copy under way: what it wrote so far."""

    to: Path
    limits: StagingLimits
    progress: Progress | None
    files: list[FileDigest] = field(default_factory=list)
    done: int = 0
    expected: int = 0

    def take(self, path: Path, contract: Path | None) -> None:
        for relative, descriptor in walk(path, self.limits):
            beside = contract is not None and relative == SINGLE_FILE
            self.file(descriptor, MODEL_FILE if beside else relative)
        if len(self.files) == 1 and not self.done:
            raise InputError("model.empty", f"{path} is empty.")
        if contract is not None:
            if any(file.path == CONTRACT_FILE for file in self.files):
                raise InputError(
                    "model.two_contracts",
                    f"The artifact holds a {CONTRACT_FILE}, and another one was given.",
                    "Leave one of them out.",
                )
            for relative, descriptor in walk(contract, self.limits):
                if relative != SINGLE_FILE:
                    raise InputError("model.not_regular", f"{contract} is not a file.")
                self.file(descriptor, CONTRACT_FILE)

    def file(self, source: int, relative: str) -> None:
        target = self.to if relative == SINGLE_FILE else self.to / relative
        size = os.fstat(source).st_size
        self.expected = max(self.expected, self.done + size)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        make_private_directory(target.parent)
        with storage_errors(target):
            output = os.fdopen(os.open(target, flags, 0o600), "wb", buffering=0)
        digest = sha256()
        before = self.done

        def read(buffer: memoryview) -> int:
            with reading(Path(relative)):
                return os.readv(source, [buffer])

        def write(data: memoryview) -> None:
            self.done += len(data)
            if self.done > self.limits.max_bytes:
                raise too_large(f"more than {self.limits.max_bytes} bytes")
            with storage_errors(target):
                write_all(output.fileno(), data)
            if self.progress is not None:
                self.progress(self.done, max(self.done, self.expected))

        # Nothing is synced: what is staged when a machine goes down is removed at the next start.
        with output:
            # The hash sees the buffer that is written, not the source.
            pour(read, write, digest.update, size)
        self.files.append(FileDigest(relative, self.done - before, Digest(digest.hexdigest())))
