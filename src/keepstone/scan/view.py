"""One open file as its scanners see it: bytes that do not move while they look."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError

# Up to this size a file is read into memory, which nobody else can change; larger ones are
# mapped, and looked at again at the end.
_IN_MEMORY = 32 << 20


@dataclass(frozen=True, slots=True)
class FileView:
    """`path` is how reports name the file. `descriptor` is open for reading."""

    path: str
    data: memoryview
    sha256: Digest
    descriptor: int


@contextmanager
def open_view(path: Path, shown: str) -> Iterator[FileView]:
    """Open a regular file for scanning.

    Raises InputError `scan.unreadable` (also for what is not a regular file), OperationalError
    `scan.changed` where the file changed while it was scanned.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        # A look before the open: opening a device can itself do something.
        regular = stat.S_ISREG(path.stat().st_mode)
        descriptor = os.open(path, flags) if regular else -1
    except OSError as error:
        raise _unreadable(shown, error.strerror) from error
    if descriptor < 0:
        raise _unreadable(shown, "not a regular file")
    try:
        before = _state(descriptor, shown)
        with _content(descriptor, shown, before[0]) as data:
            yield FileView(shown, data, Digest.of(data), descriptor)
        if _state(descriptor, shown) != before:
            raise OperationalError(
                "scan.changed", f"{shown} changed while it was scanned.", "Scan it again."
            )
    finally:
        os.close(descriptor)


def _state(descriptor: int, shown: str) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(shown, "not a regular file")
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def _content(descriptor: int, shown: str, size: int) -> Iterator[memoryview]:
    if size <= _IN_MEMORY:
        try:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(_IN_MEMORY + 1)
        except OSError as error:
            raise _unreadable(shown, error.strerror) from error
        yield memoryview(data)
        return
    # Never closed by hand: what a scanner still holds would forbid it.
    yield memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))


def _unreadable(shown: str, why: str | None) -> InputError:
    return InputError("scan.unreadable", f"Cannot read {shown}: {why}.")
