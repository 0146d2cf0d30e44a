"""Files of this machine that an image is read from: regular ones, as they were when opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keepstone.errors import InputError
from keepstone.scan.images.blobs import STEP
from keepstone.scan.rules import printable


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a regular file. Raises InputError `image.unreadable`."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        # A look before the open: opening a device can itself do something.
        regular = stat.S_ISREG(path.stat().st_mode)
        descriptor = os.open(path, flags) if regular else -1
    except (OSError, ValueError) as error:
        raise unreadable(path, getattr(error, "strerror", None) or "no such name") from error
    if descriptor < 0:
        raise unreadable(path, "not a regular file")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_from(descriptor: int, start: int, size: int) -> Iterator[bytes]:
    """`size` bytes from `start`, in pieces; fewer where the file ends."""
    while size > 0:
        piece = os.pread(descriptor, min(STEP, size), start)
        if not piece:
            return
        yield piece
        start += len(piece)
        size -= len(piece)


def unreadable(path: Path, why: str) -> InputError:
    return InputError("image.unreadable", f"Cannot read {printable(str(path), 4096)}: {why}.")
