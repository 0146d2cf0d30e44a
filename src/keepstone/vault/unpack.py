"""Taking an artifact out of the vault: whole and verified at its place, or not there at all.

The blob is decrypted into a file or folder beside the target, while a second thread hashes what
is written; the name appears when the last byte has been compared and is durable.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest
from keepstone.errors import InputError, OperationalError
from keepstone.files import Growing, storage_errors, sync_directory
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.overlap import Sink
from keepstone.vault.registry.release import Release
from keepstone.vault.seal import Checker, Split, read_blob
from keepstone.vault.stores.port import BlobStore


def unpack(
    store: BlobStore,
    kek: KeyEncryptionKey,
    release: Release,
    target: Path,
    *,
    now: int,
    sealing: int,
) -> None:
    """Write the released artifact to `target`, a file or a folder as it came in; mode 0600, 0700.

    (1) The release holds at `now`. (2) Nothing is at `target`. (3) Every byte is authentic, and
    the whole is the artifact that was released. (4) It is durable before it has its name.

    Raises DeniedError `release.expired`; InputError `target.exists`, `file.missing`,
    `blob.missing`; VerificationError `seal.*`; OperationalError `disk.full`, `file.unwritable`.
    """
    # (1)
    release.require(now)
    # (2)
    if os.path.lexists(target):
        raise taken(target)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}")
    writer = Writer(release.artifact, temporary)
    try:
        # (3)
        address = (release.artifact, release.version.name, sealing)
        read_blob(store, kek, address, writer, Checker(release.artifact))
        # (4)
        writer.sync()
        give_name(temporary, target)
    finally:
        writer.close()
        remove_partial(temporary)


def pour_out(
    store: BlobStore,
    kek: KeyEncryptionKey,
    release: Release,
    sink: Sink,
    *,
    now: int,
    sealing: int,
) -> None:
    """Give the released artifact to `sink` as `vault.carry` writes it; each byte is authentic.

    What fails on the way raises when part of it is out: only what ends without is whole. Raises
    as `unpack` does of the release and of the blob.
    """
    release.require(now)
    address = (release.artifact, release.version.name, sealing)
    read_blob(store, kek, address, _Through(release.artifact, sink), Checker(release.artifact))


def read_listing(
    store: BlobStore, kek: KeyEncryptionKey, digest: Digest, name: str, sealing: int
) -> tuple[FileDigest, ...]:
    """The paths, sizes and digests of an artifact in the vault, held against its digest.

    No content is read beyond the list. Raises as `check_sealed`.
    """
    reader = _ListingOnly(digest)
    with suppress(_Listed):
        read_blob(store, kek, (digest, name, sealing), reader, Checker(digest))
    return tuple(reader.listing)


class _Listed(Exception):  # noqa: N818  # no error
    """The listing is complete: there is nothing more to read."""


class _ListingOnly(Split):
    def begin(self, file: FileDigest) -> None:
        raise _Listed


class _Through(Split):
    """Passes everything on as it is; whether it is whole, the checker says."""

    def __init__(self, digest: Digest, sink: Sink) -> None:
        super().__init__(digest)
        self._sink = sink

    def take(self, data: memoryview) -> None:
        self._sink(data)

    def finish(self) -> None:
        """That was all of it."""


class Writer(Split):
    """Writes each file of the artifact under `root`, or as `root` where it is a single file."""

    def __init__(self, digest: Digest, root: Path) -> None:
        super().__init__(digest)
        self._root = root
        self._descriptor: int | None = None
        self._folders: set[Path] = set()

    def begin(self, file: FileDigest) -> None:
        path = self._root
        if file.path != SINGLE_FILE:
            path = self._root / file.path
            self._make(path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with storage_errors(path):
            self._descriptor = os.open(path, flags, 0o600)
        self._growing = Growing(self._descriptor)

    def _make(self, folder: Path) -> None:
        if folder not in self._folders:
            if folder != self._root:
                self._make(folder.parent)
            with storage_errors(folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._folders.add(folder)

    def piece(self, file: FileDigest, data: memoryview) -> None:
        with storage_errors(self._root):
            self._growing.write(data)

    def end(self, file: FileDigest) -> None:
        assert self._descriptor is not None
        with storage_errors(self._root):
            os.fsync(self._descriptor)
        self.close()

    def sync(self) -> None:
        for folder in sorted(self._folders, reverse=True):
            with storage_errors(folder):
                sync_directory(folder)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def give_name(temporary: Path, target: Path) -> None:
    """Rename, and never over what somebody put there meanwhile."""
    with storage_errors(target):
        try:
            if temporary.is_dir():
                # A folder replaces an empty folder at most.
                temporary.rename(target)
            else:
                os.link(temporary, target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                raise taken(target) from error
            raise OperationalError(
                "file.unwritable", f"Cannot write {target}: {error.strerror}."
            ) from error
        sync_directory(target.parent)


def remove_partial(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def taken(target: Path) -> InputError:
    """Something is where an artifact was to go."""
    return InputError(
        "target.exists", f"There is something at {target} already.", "Choose another place."
    )
