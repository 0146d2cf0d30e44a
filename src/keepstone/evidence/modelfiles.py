"""Reading a model's files for a signature: every file hashed once, in 1 MiB reads.

Folders are walked by open descriptors and without following links, so a folder that is
swapped for a link while we walk is refused, not followed. Symbolic links and special files
are refused wherever they stand.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from io import FileIO
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, check_relative_path
from keepstone.errors import InputError, OperationalError

BLOCK = 1 << 20
_MAX_DEPTH = 64
# Some more than there are cores: one that waits for the disk leaves its core to another.
_THREADS = min(32, (os.cpu_count() or 1) + 4)
# Open files waiting for a hashing thread: keeps descriptors and memory flat, and is enough that
# one slow file at the head of the line leaves no thread without work.
_WAITING = 64
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
Item = TypeVar("Item")
Result = TypeVar("Result")


def hash_model(path: Path, left_out: Callable[[str], bool]) -> tuple[FileDigest, ...]:
    """Return the digest of every file of a model, a single file under the path `.`.

    `left_out(relative path)` says of a file or folder that it is not to be read. Raises
    InputError `model.missing`, `model.symlink`, `model.special_file`, `model.too_deep`,
    `path.unsafe`; OperationalError `model.unreadable`.
    """
    return tuple(sorted(in_threads(open_files(path, left_out), hash_open)))


def open_files(
    path: Path,
    left_out: Callable[[str], bool] = lambda _: False,
    known: Callable[[str, os.stat_result], bool] = lambda _, __: False,
) -> Iterator[tuple[str, int]]:
    """Each file of a model: its path and an open descriptor, which is the caller's to close.

    A file of which `known(relative path, status)` says yes is passed over unopened. Else as
    `hash_model`.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise read_error(error, path.name) from error
    if stat.S_ISDIR(status.st_mode):
        yield from _walk(_open(path, _FOLDER, None, path.name), "", left_out, known, 0)
    elif not (stat.S_ISREG(status.st_mode) and known(SINGLE_FILE, status)):
        yield SINGLE_FILE, _open(path, _FILE, None, path.name)


def in_threads(items: Iterator[Item], work: Callable[[Item], Result]) -> Iterator[Result]:
    """`work(item)` for each item on every core, in order, with few items waiting."""
    begun = list(islice(items, 1))
    try:
        begun += islice(items, 1)
    except BaseException:
        # The first one may hold an open file, which only its work lets go.
        list(map(work, begun))
        raise
    if len(begun) < 2:
        # One file needs no threads, nor the time to import them.
        yield from map(work, begun)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in chain(begun, items):
            waiting.append(pool.submit(work, item))
            if len(waiting) > _WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _walk(
    folder: int,
    prefix: str,
    left_out: Callable[[str], bool],
    known: Callable[[str, os.stat_result], bool],
    depth: int,
) -> Iterator[tuple[str, int]]:
    """Each file under an open folder, which is closed at the end: its path and a descriptor."""
    try:
        if depth > _MAX_DEPTH:
            raise InputError("model.too_deep", f"Folders nest deeper than {_MAX_DEPTH} levels.")
        for name in sorted(os.listdir(folder)):
            relative = _plain(prefix + name)
            if left_out(relative):
                continue
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                inner = _open(name, _FOLDER, folder, relative)
                yield from _walk(inner, relative + "/", left_out, known, depth + 1)
            elif not (stat.S_ISREG(status.st_mode) and known(relative, status)):
                yield relative, _open(name, _FILE, folder, relative)
    except OSError as error:
        raise read_error(error, prefix or ".") from error
    finally:
        os.close(folder)


def _plain(relative: str) -> str:
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("path.unsafe", f"{relative!r} is not a UTF-8 path.") from error
    return check_relative_path(relative)


def _open(path: Path | str, flags: int, folder: int | None, shown: str) -> int:
    try:
        descriptor = os.open(path, flags, dir_fd=folder)
    except OSError as error:
        raise read_error(error, shown) from error
    if flags == _FILE and not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("model.special_file", f"{shown!r} is neither a regular file nor a folder.")
    return descriptor


def read_error(error: OSError, shown: str) -> InputError | OperationalError:
    # ELOOP is what O_NOFOLLOW says to a link, ENOTDIR what it says where a folder was asked for.
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return InputError(
            "model.symlink",
            f"{shown!r} is a symbolic link.",
            "Replace the link by the file it points to.",
        )
    if error.errno == errno.ENOENT:
        return InputError("model.missing", f"{shown!r} does not exist.")
    if error.errno == errno.ENXIO:
        return InputError("model.special_file", f"{shown!r} is a socket or a device.")
    return OperationalError("model.unreadable", f"Cannot read {shown!r}: {error.strerror}.")


def hash_open(opened: tuple[str, int]) -> FileDigest:
    """Hash and close an open file, given as `open_files` gives it."""
    relative, descriptor = opened
    with FileIO(descriptor) as file:
        return hash_file(file, relative)


def hash_file(file: FileIO, relative: str) -> FileDigest:
    """Hash an open file from where it stands. The size is what was read, so it fits the digest."""
    state = hashlib.sha256()
    block = bytearray(BLOCK)
    view = memoryview(block)
    size = 0
    try:
        while count := file.readinto(block):
            state.update(view[:count])
            size += count
    except OSError as error:
        raise read_error(error, relative) from error
    return FileDigest(relative, size, Digest(state.hexdigest()))
