"""Walking over an artifact: each regular file once, open, and nothing else.

Promise: no link inside a folder is followed, and no FIFO, device or socket is opened for its
content, also where one takes a file's place between the look and the open.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keepstone.core.digest import SINGLE_FILE, check_relative_path
from keepstone.errors import InputError, KeepstoneError


@dataclass(frozen=True, slots=True)
class StagingLimits:
    max_bytes: int = 1 << 38
    max_files: int = 10_000
    max_depth: int = 32


def walk(path: Path, limits: StagingLimits) -> Iterator[tuple[str, int]]:
    """Yield (relative path, open descriptor) for the file at `path` or every file under it.

    A single file has the path `.`. A descriptor is open until the next one is asked for. A link
    given as `path` is followed to a file, never to a folder. Raises InputError `model.missing`,
    `model.unreadable`, `model.symlink`, `model.not_regular`, `model.empty`, `model.too_large`,
    `path.unsafe`.
    """
    with reading(path):
        # A look before the open: opening a device can itself do something.
        mode = path.stat().st_mode
    count = 0
    if stat.S_ISREG(mode):
        with _opened(path, 0) as descriptor:
            _require_regular(descriptor, str(path))
            yield SINGLE_FILE, descriptor
        return
    if not stat.S_ISDIR(mode):
        raise _not_regular(str(path))
    with _opened(path, os.O_DIRECTORY | os.O_NOFOLLOW) as descriptor:
        for found in _folder(descriptor, "", 1, limits):
            count += 1
            if count > limits.max_files:
                raise too_large(f"more than {limits.max_files} files")
            yield found
    if not count:
        raise InputError("model.empty", f"{path} holds no files.")


def _folder(
    source: int, prefix: str, depth: int, limits: StagingLimits
) -> Iterator[tuple[str, int]]:
    if depth > limits.max_depth:
        raise too_large(f"folders nested deeper than {limits.max_depth}")
    with reading(Path(prefix or ".")):
        names = sorted(os.listdir(source))
    for name in names:
        relative = _checked(f"{prefix}{name}")
        with reading(Path(relative)):
            mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise _symlink(relative)
        if stat.S_ISDIR(mode):
            with _opened(Path(name), os.O_DIRECTORY | os.O_NOFOLLOW, source) as descriptor:
                yield from _folder(descriptor, f"{relative}/", depth + 1, limits)
        elif stat.S_ISREG(mode):
            with _opened(Path(name), os.O_NOFOLLOW, source) as descriptor:
                # Asked again of the open file: what the name meant a moment ago does not count.
                _require_regular(descriptor, relative)
                yield relative, descriptor
        else:
            raise _not_regular(relative)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a coded error about `path`."""
    try:
        yield
    except OSError as error:
        raise _read_error(error, path) from error


@contextmanager
def _opened(path: Path, flags: int, folder: int | None = None) -> Iterator[int]:
    """Open for reading; O_NONBLOCK so that a FIFO put in the place of a file cannot hang us."""
    with reading(path):
        descriptor = os.open(
            path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | flags, dir_fd=folder
        )
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _require_regular(descriptor: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise _not_regular(path)


def _read_error(error: OSError, path: Path) -> KeepstoneError:
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return InputError("model.missing", f"{path} does not exist.")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return _symlink(str(path))
    return InputError("model.unreadable", f"Cannot read {path}: {error.strerror}.")


def too_large(what: str) -> InputError:
    return InputError("model.too_large", f"The artifact has {what}.")


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
