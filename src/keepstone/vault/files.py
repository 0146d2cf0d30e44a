"""The local blob store: one file per sealed artifact and name, addressed by the digest.

Promise: a blob is there whole or not at all, whatever fails meanwhile; folders are 0700 and
files 0600. The store holds ciphertext and is not trusted: what it returns is verified.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.core.subject import check_name
from keepstone.errors import InputError, OperationalError
from keepstone.files import make_private_directory, storage_errors, sync_directory

Sink = Callable[[memoryview], None]

_SUFFIX = ".sealed"


def write_all(descriptor: int, data: memoryview) -> None:
    """Write every byte: one call may write fewer, on a full disk for one."""
    while data:
        data = data[os.write(descriptor, data) :]


@dataclass(frozen=True, slots=True)
class FileStore:
    """Blobs under `root`: `blobs/<digest>/<name>.sealed`."""

    root: Path

    def path(self, digest: Digest, name: str) -> Path:
        return self.root / "blobs" / digest.hex / f"{check_name(name)}{_SUFFIX}"

    def write(self, digest: Digest, name: str, fill: Callable[[Sink], None]) -> int:
        """Store what `fill` gives to the sink, replacing an older blob; return its size.

        Durable when this returns. Raises OperationalError `disk.full`, `file.unwritable`, and
        whatever `fill` raises; the older blob then still stands.
        """
        path = self.path(digest, name)
        make_private_directory(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with storage_errors(path):
                descriptor = os.open(temporary, flags, 0o600)
                try:
                    fill(lambda data: write_all(descriptor, data))
                    size = os.fstat(descriptor).st_size
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                temporary.replace(path)
                for folder in (path.parent, path.parent.parent, self.root):
                    sync_directory(folder)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        return size

    @contextmanager
    def open(self, digest: Digest, name: str) -> Iterator[FileIO]:
        """Open a blob for one reading. Raises InputError `blob.missing`, else `blob.unreadable`."""
        path = self.path(digest, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise InputError(
                    "blob.missing",
                    f"The vault holds no {name!r} with digest {digest.short}.",
                    "Add the artifact again, or restore the vault from a backup.",
                ) from error
            raise _unreadable(path, error.strerror) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _unreadable(path, "not a regular file")
        with FileIO(descriptor, "rb") as file:
            yield file

    def has(self, digest: Digest, name: str) -> bool:
        """True where a blob has this address; says nothing about what is in it."""
        return self.path(digest, name).is_file()

    def delete(self, digest: Digest, name: str) -> None:
        """Remove a blob. One that is not there is no error."""
        path = self.path(digest, name)
        with storage_errors(path):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_directory(path.parent)

    def addresses(self) -> Iterator[tuple[Digest, str]]:
        """Every address that holds a blob, in order."""
        for path in sorted((self.root / "blobs").glob(f"*/*{_SUFFIX}")):
            if not path.name.startswith("."):
                yield Digest(path.parent.name), path.name.removesuffix(_SUFFIX)


def _unreadable(path: Path, why: str | None) -> OperationalError:
    return OperationalError(
        "blob.unreadable", f"Cannot read the vault's {path.name}: {why}.", "Run `keepstone doctor`."
    )
