"""Writing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from keepstone.errors import InputError, KeepstoneError, OperationalError


def storage_error(error: OSError, path: Path) -> KeepstoneError:
    """Name what went wrong with `path`: `disk.full`, `file.unwritable` or `file.missing`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OperationalError(
            "disk.full", f"There is no room left to write {path}.", "Free space and try again."
        )
    if error.errno == errno.ENOENT:
        return InputError("file.missing", f"{path} does not exist.")
    return OperationalError("file.unwritable", f"Cannot write {path}: {error.strerror}.")


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data`, durable when this returns.

    Raises OperationalError `disk.full` or `file.unwritable`; the old file then still stands.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def make_private_directory(path: Path) -> None:
    """Create `path` (and parents) with mode 0700 where it does not exist yet."""
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        # One by one: `parents=True` would give those on the way whatever mode the umask leaves.
        for folder in (*reversed(missing), path):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a coded error about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error
