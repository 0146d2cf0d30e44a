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
from keepstone.errors import OperationalError
from keepstone.files import Growing, make_private_directory, storage_errors, sync_directory
from keepstone.vault.overlap import Sink
from keepstone.vault.stores.port import (
    SUFFIX,
    Fact,
    Held,
    Leftover,
    Written,
    blob_path,
    missing,
    parse_blob_path,
)


@dataclass(frozen=True, slots=True)
class FileStore:
    """Blobs under `root`: `blobs/<digest>/<name>.sealed`."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root)

    def path(self, digest: Digest, name: str) -> Path:
        return self.root / blob_path(digest, name)

    def write(self, digest: Digest, name: str, fill: Callable[[Sink], object]) -> Written:
        """Raises OperationalError `disk.full`, `file.unwritable`, and whatever `fill` raises."""
        path = self.path(digest, name)
        make_private_directory(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with storage_errors(path):
                descriptor = os.open(temporary, flags, 0o600)
                try:
                    fill(Growing(descriptor).write)
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
        return Written(size)

    @contextmanager
    def open(self, digest: Digest, name: str, pin: str | None = None) -> Iterator[FileIO]:
        """Raises InputError `blob.missing`, else OperationalError `blob.unreadable`.

        One write is kept, so that no pin but None can be met.
        """
        path = self.path(digest, name)
        if pin is not None:
            raise missing(digest, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise missing(digest, name) from error
            raise _unreadable(path, error.strerror) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _unreadable(path, "not a regular file")
        with FileIO(descriptor, "rb") as file:
            yield file

    def has(self, digest: Digest, name: str) -> bool:
        return self.path(digest, name).is_file()

    def delete(self, digest: Digest, name: str) -> None:
        path = self.path(digest, name)
        with storage_errors(path):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_directory(path.parent)

    def addresses(self) -> Iterator[Held]:
        for path in sorted((self.root / "blobs").glob(f"*/*{SUFFIX}")):
            address = parse_blob_path(path.relative_to(self.root).as_posix())
            if address is not None:
                yield Held(*address, path.lstat().st_size)

    def leftovers(self) -> Iterator[Leftover]:
        for path in sorted((self.root / "blobs").glob(f"*/.*{SUFFIX}.*")):
            since = path.lstat().st_mtime_ns // 1_000_000
            yield Leftover(path.relative_to(self.root).as_posix(), since)

    def remove(self, leftover: Leftover) -> None:
        path = self.root / leftover.place
        if leftover not in self.leftovers():
            return
        with storage_errors(path):
            path.unlink(missing_ok=True)

    def require_usable(self) -> None:
        """A folder is made where it is needed."""

    def examine(self) -> Iterator[Fact]:
        yield Fact("ok", "sealed models lie in the workspace's own folder")

    def close(self) -> None:
        """Nothing is held open between two calls."""


def _unreadable(path: Path, why: str | None) -> OperationalError:
    return OperationalError(
        "blob.unreadable", f"Cannot read the vault's {path.name}: {why}.", "Run `keepstone doctor`."
    )
