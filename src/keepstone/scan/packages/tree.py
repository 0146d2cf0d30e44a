"""A file system to look into, wherever it is: a folder, or the layers of an image as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class FileTree(Protocol):
    """Regular files by path. Paths are relative, with `/` between parts and none in front."""

    def paths(self) -> Iterator[str]:
        """Every regular file, in order."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """The content of one file. No link is followed out of the tree.

        Raises InputError `scan.unreadable` where there is no such file, and `scan.too_large`
        beyond `limit` bytes.
        """
        ...
