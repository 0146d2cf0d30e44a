"""Bytes in memory that nothing can change any more, whoever else holds the file they came from.

On Linux they lie in a memfd that is sealed once it is filled: the kernel then refuses every
write, growth and cut, to us as well. Elsewhere they lie in an anonymous mapping of this process.
"""

from __future__ import annotations

import mmap
import os
from typing import Protocol

from keepstone.errors import OperationalError
from keepstone.files import write_all


class Memory(Protocol):
    """Room for one file: written in order, then fixed, then read as often as needed."""

    def write(self, data: memoryview) -> None: ...

    def fix(self) -> None:
        """End the writing for good."""
        ...

    def view(self) -> memoryview:
        """The bytes. Writing to the view changes a private copy of the page, never the bytes."""
        ...

    @property
    def place(self) -> str | None:
        """A path under which this process can open the very bytes, or None where there is none."""
        ...

    def close(self) -> None: ...


def make_memory(size: int) -> Memory:
    """Room for `size` bytes. Raises OperationalError `memory.exhausted`."""
    try:
        return SealedMemory() if hasattr(os, "memfd_create") else PrivateMemory(size)
    except OSError as error:
        raise exhausted(error) from error


class SealedMemory:
    """A memfd; `fix` puts every seal on it (memfd_create(2), fcntl(2) F_ADD_SEALS)."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("keepstone", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._view: memoryview | None = None

    def write(self, data: memoryview) -> None:
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            raise exhausted(error) from error

    def fix(self) -> None:
        # Imported here: the module is not there on every system, and neither is this class.
        import fcntl

        every = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, every)

    def view(self) -> memoryview:
        if self._view is None:
            # A private mapping: seals forbid a shared one that could be written.
            size = os.fstat(self._descriptor).st_size
            self._view = (
                memoryview(mmap.mmap(self._descriptor, size, access=mmap.ACCESS_COPY))
                if size
                else memoryview(bytearray())
            )
        return self._view

    @property
    def place(self) -> str | None:
        return f"/proc/self/fd/{self._descriptor}"

    def close(self) -> None:
        """Let go of the descriptor; views that are still held keep the bytes alive."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._view = None


class PrivateMemory:
    """An anonymous mapping: no other process can reach it, but it has no path either."""

    def __init__(self, size: int) -> None:
        self._view = memoryview(mmap.mmap(-1, size) if size else bytearray())
        self._filled = 0
        self._fixed = False

    def write(self, data: memoryview) -> None:
        if self._fixed or self._filled + len(data) > len(self._view):
            raise ValueError("the memory is fixed, or full")
        self._view[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def fix(self) -> None:
        self._fixed = True

    def view(self) -> memoryview:
        return self._view[: self._filled]

    @property
    def place(self) -> str | None:
        return None

    def close(self) -> None:
        self._view = memoryview(b"")
        self._filled = 0


def exhausted(error: OSError) -> OperationalError:
    return OperationalError(
        "memory.exhausted",
        f"There is no memory to hold the model: {error.strerror}.",
        "Free some memory, or raise the limit that this process runs under.",
    )
