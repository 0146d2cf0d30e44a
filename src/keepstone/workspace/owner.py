"""One process owns a workspace: it alone writes the ledger, the keys and the vault.

The lock is the kernel's (`flock`): it ends with the process however that ends, so a stale lock
file or socket means nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from keepstone.errors import OperationalError
from keepstone.files import storage_errors
from keepstone.workspace.layout import Layout


@contextlib.contextmanager
def own(layout: Layout, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the workspace's lock for the block, waiting at most `patience` seconds for it.

    Raises OperationalError `workspace.owned` when another process holds it.
    """
    with storage_errors(layout.lock):
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, layout, time.monotonic() + patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, layout: Layout, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace") or "unknown"
                raise OperationalError(
                    "workspace.owned",
                    f"Process {holder} owns the workspace {layout.root}.",
                    "Stop it, or use a command that asks the owner (approve, revoke, keys).",
                ) from error
            time.sleep(0.02)
