"""Swap a folder for another in one step: whoever looks sees the old one or the new one, whole.

Source: renameat2(2), RENAME_EXCHANGE.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from keepstone.errors import OperationalError
from keepstone.files import storage_error, sync_directory

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.ENOTSUP)


def put_in_place(new: Path, place: Path) -> None:
    """Make `new` stand at `place`; what stood there, if anything, then stands at `new`.

    Both are folders under one parent. Raises OperationalError `vulndb.cannot_swap`,
    `file.unwritable`.
    """
    try:
        # Not `exists`: a link to nowhere is something, too.
        if os.path.lexists(place):
            _exchange(new, place)
        else:
            new.rename(place)
        sync_directory(place.parent)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise OperationalError(
                "vulndb.cannot_swap",
                f"The file system of {place} cannot swap two folders in one step.",
                "Keep the database on a local file system.",
            ) from error
        raise storage_error(error, place) from error


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
