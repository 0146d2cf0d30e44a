"""Staging: one private copy of an artifact, hashed while it is written.

Promise: the digest is of the bytes in the copy, whatever happens to the source meanwhile; scan,
signature, seal and load see only that copy. Nothing but regular files is read, no link inside a
folder is followed, and a failure leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from keepstone.core.digest import (
    SINGLE_FILE,
    Digest,
    FileDigest,
    artifact_digest,
    check_relative_path,
)
from keepstone.errors import InputError, KeepstoneError
from keepstone.files import make_private_directory, storage_errors, sync_directory
from keepstone.vault.files import write_all

BLOCK = 1 << 20

# Called with the bytes copied so far and the bytes expected; the second is a guess.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StagingLimits:
    max_bytes: int = 1 << 38
    max_files: int = 10_000
    max_depth: int = 32


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

    def discard(self) -> None:
        """Delete the copy. Calling it again does nothing."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def stage(
    path: Path,
    staging: Path,
    limits: StagingLimits | None = None,
    progress: Progress | None = None,
) -> Staged:
    """Copy the file or folder at `path` into a new private folder under `staging`.

    A symbolic link given as `path` is followed to a file, never to a folder.
    Raises InputError `model.missing`, `model.unreadable`, `model.not_regular`, `model.symlink`,
    `model.empty`, `model.too_large`, `path.unsafe`; OperationalError `disk.full`.
    """
    make_private_directory(staging)
    private = staging / secrets.token_hex(8)
    with storage_errors(staging):
        private.mkdir(mode=0o700)
    try:
        copy = _Copy(private / "copy", limits or StagingLimits(), progress)
        copy.take(path)
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
    buffer: bytearray = field(default_factory=lambda: bytearray(BLOCK))

    def take(self, path: Path) -> None:
        with _reading(path):
            # A look before the open: opening a device can itself do something.
            mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with _opened(path, 0) as descriptor:
                self.file(descriptor, SINGLE_FILE, self.to)
            if not self.done:
                raise InputError("model.empty", f"{path} is empty.")
        elif stat.S_ISDIR(mode):
            with _opened(path, os.O_DIRECTORY | os.O_NOFOLLOW) as descriptor:
                self.folder(descriptor, "", self.to, 1)
            if not self.files:
                raise InputError("model.empty", f"{path} holds no files.")
        else:
            raise _not_regular(str(path))

    def folder(self, source: int, prefix: str, target: Path, depth: int) -> None:
        if depth > self.limits.max_depth:
            raise self._too_large(f"folders nested deeper than {self.limits.max_depth}")
        with storage_errors(target):
            target.mkdir(mode=0o700)
        with _reading(Path(prefix or ".")):
            names = sorted(os.listdir(source))
        for name in names:
            self.member(source, name, prefix, target, depth)
        with storage_errors(target):
            sync_directory(target)

    def member(self, source: int, name: str, prefix: str, target: Path, depth: int) -> None:
        relative = _checked(f"{prefix}{name}")
        with _reading(Path(relative)):
            mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise _symlink(relative)
        if stat.S_ISDIR(mode):
            with _opened(Path(name), os.O_DIRECTORY | os.O_NOFOLLOW, source) as descriptor:
                self.folder(descriptor, f"{relative}/", target / name, depth + 1)
        elif stat.S_ISREG(mode):
            with _opened(Path(name), os.O_NOFOLLOW, source) as descriptor:
                self.file(descriptor, relative, target / name)
        else:
            raise _not_regular(relative)

    def file(self, source: int, relative: str, target: Path) -> None:
        status = os.fstat(source)
        # Asked again of the open file: what the name meant a moment ago does not count.
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(relative)
        if len(self.files) >= self.limits.max_files:
            raise self._too_large(f"more than {self.limits.max_files} files")
        self.expected = max(self.expected, self.done + status.st_size)
        digest, size, view = sha256(), 0, memoryview(self.buffer)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with storage_errors(target):
            output = os.fdopen(os.open(target, flags, 0o600), "wb", buffering=0)
        with output:
            while True:
                with _reading(Path(relative)):
                    count = os.readv(source, [view])
                if not count:
                    break
                size += count
                self.done += count
                if self.done > self.limits.max_bytes:
                    raise self._too_large(f"more than {self.limits.max_bytes} bytes")
                # The hash sees the buffer that is written, not the source.
                digest.update(view[:count])
                with storage_errors(target):
                    write_all(output.fileno(), view[:count])
                if self.progress is not None:
                    self.progress(self.done, max(self.done, self.expected))
            with storage_errors(target):
                os.fsync(output.fileno())
        self.files.append(FileDigest(relative, size, Digest(digest.hexdigest())))

    def _too_large(self, what: str) -> InputError:
        return InputError("model.too_large", f"The artifact has {what}.")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _read_error(error, path) from error


@contextmanager
def _opened(path: Path, flags: int, folder: int | None = None) -> Iterator[int]:
    """Open for reading; O_NONBLOCK so that a FIFO put in the place of a file cannot hang us."""
    with _reading(path):
        descriptor = os.open(
            path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | flags, dir_fd=folder
        )
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_error(error: OSError, path: Path) -> KeepstoneError:
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return InputError("model.missing", f"{path} does not exist.")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return _symlink(str(path))
    return InputError("model.unreadable", f"Cannot read {path}: {error.strerror}.")


def _symlink(path: str) -> InputError:
    return InputError(
        "model.symlink",
        f"{path} is a symbolic link.",
        "Replace links inside an artifact by the files they point to.",
    )


def _not_regular(path: str) -> InputError:
    return InputError("model.not_regular", f"{path} is neither a regular file nor a folder.")


def _checked(path: str) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("path.unsafe", f"{path!r} is not a UTF-8 path.") from error
    return check_relative_path(path)
