"""Disk space kept back, so that a full disk never delays a revocation."""

from __future__ import annotations

import contextlib
import os

from keepstone.files import storage_errors, sync_directory
from keepstone.workspace.layout import Layout

SIZE = 4 << 20


def keep_reserve(layout: Layout) -> bool:
    """Hold `SIZE` bytes back; return whether they are held (False on a disk already full)."""
    with contextlib.suppress(FileNotFoundError):
        if layout.reserve.stat().st_blocks * 512 >= SIZE:
            return True
    try:
        descriptor = os.open(layout.reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
    except OSError:
        os.ftruncate(descriptor, 0)
        return False
    finally:
        os.close(descriptor)
    return True


def release_reserve(layout: Layout) -> None:
    """Give the space back to the file system: something more important needs it."""
    with storage_errors(layout.reserve):
        layout.reserve.unlink(missing_ok=True)
        sync_directory(layout.reserve.parent)
