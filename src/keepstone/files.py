"""Writing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from keepstone.errors import InputError, KeepstoneError, OperationalError

# How much is written before the disk is set to work on it.
_WRITE_BACK = 32 << 20


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


def write_all(descriptor: int, data: memoryview) -> None:
    """Write every byte: one call may write fewer, on a full disk for one."""
    while data:
        data = data[os.write(descriptor, data) :]


class Growing:
    """A file that is written from front to back and has to be durable at the end.

    The disk takes what was written while more is computed, so that the last sync finds little
    left to do. Nothing is durable before that sync.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = 0
        self._begun = 0

    def write(self, data: memoryview) -> None:
        write_all(self._descriptor, data)
        self._written += len(data)
        if self._written - self._begun >= _WRITE_BACK:
            # For pages that are not on the disk yet, this is what makes Linux write them.
            length = self._written - self._begun
            os.posix_fadvise(self._descriptor, self._begun, length, os.POSIX_FADV_DONTNEED)
            self._begun = self._written


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data`, durable when this returns.

    Raises OperationalError `disk.full` or `file.unwritable`; the old file then still stands.
    """
    with _written(path, data, mode) as temporary:
        temporary.replace(path)


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write `data` where nothing stands yet, durable when this returns.

    Raises InputError `file.exists`; OperationalError `disk.full` or `file.unwritable`.
    """
    with _written(path, data, mode) as temporary:
        try:
            # A link takes no name that is taken, where a rename would.
            os.link(temporary, path)
        except FileExistsError as error:
            raise exists(path) from error
        finally:
            temporary.unlink()


def exists(path: Path, hint: str = "Choose another path.") -> InputError:
    return InputError("file.exists", f"{path} already exists.", hint)


def require_place(path: Path, *, replace: bool | None = None) -> None:
    """Before the work is done whose result goes to `path`: that it can go there.

    Only a plain file is ever written over, and only with `replace`; None: whoever asks has no
    --force. A device, a pipe, a folder or a link never is. Raises InputError `file.exists`,
    `file.not_plain`, `file.missing` of the folder; OperationalError `file.unwritable`.
    """
    folder = path.absolute().parent
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise storage_error(error, path) from error
    if mode is not None and not stat.S_ISREG(mode):
        raise InputError(
            "file.not_plain",
            f"{path} is {_kind_of(mode)}: nothing is written in its place.",
            "Choose another path: a new one, or that of a plain file.",
        )
    if mode is not None and not replace:
        force = "" if replace is None else ", or write over it with --force"
        raise exists(path, f"Choose another path{force}.")
    if not folder.is_dir():
        raise storage_error(FileNotFoundError(errno.ENOENT, ""), folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise storage_error(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), path)


def _kind_of(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def write_place(path: Path, data: bytes, mode: int = 0o644, *, replace: bool | None = None) -> None:
    """Write `data` where `require_place` lets it, durable when this returns.

    Raises as that does; OperationalError `disk.full`.
    """
    # Once more: the work may have taken a night.
    require_place(path, replace=replace)
    (write_atomic if replace else write_new)(path, data, mode)


@contextlib.contextmanager
def _written(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A file beside `path` that has `data`; what it becomes is durable after the block."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def append_line(path: Path, line: bytes, mode: int = 0o644) -> None:
    """Add one line to a file of lines, durable when this returns; whoever else adds loses none.

    A last line that a crash left without its end stays a line of its own.
    Raises OperationalError `disk.full` or `file.unwritable`.
    """
    with storage_errors(path):
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, mode)
        try:
            size = os.fstat(descriptor).st_size
            whole = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
            data = (b"" if whole else b"\n") + line + b"\n"
            # In one write: the kernel puts it at the end, whoever else writes there.
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(path.parent)


def read_private(path: Path, limit: int) -> bytes | None:
    """The content of a file that only this user can read and write, None where there is none.

    Raises OperationalError `file.not_private` for a file of others, open to others, larger than
    `limit` bytes, or that cannot be read: none of these is a file that was never written.
    """
    try:
        # Non-blocking: a pipe in its place must not hang us before it is refused.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_private(path, f"it cannot be opened ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise _not_private(path, "it is not a file of this user")
        if status.st_mode & 0o077:
            raise _not_private(path, "others may read or write it")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _not_private(path, f"it is larger than {limit} bytes")
    return data


def _not_private(path: Path, why: str) -> OperationalError:
    return OperationalError(
        "file.not_private", f"{path} is not used: {why}.", "Look at who wrote it, and remove it."
    )


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
