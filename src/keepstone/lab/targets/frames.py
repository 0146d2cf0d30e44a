"""Messages between a process and the child that holds a model: a length, then so many bytes."""

from __future__ import annotations

import os
import select
import time

from keepstone.errors import OperationalError

MAX_FRAME = 64 << 20
_LENGTH = 4


def send(descriptor: int, data: bytes) -> None:
    """Write one message. Raises OperationalError `target.ended`."""
    left = memoryview(len(data).to_bytes(_LENGTH, "big") + data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError as error:
        raise _ended() from error


def receive(descriptor: int, seconds: float | None = None) -> bytes:
    """The next message, whole, within `seconds`.

    Raises OperationalError `target.ended`, `target.too_slow`, `target.too_large`.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    size = int.from_bytes(_exactly(descriptor, _LENGTH, deadline), "big")
    if size > MAX_FRAME:
        raise OperationalError("target.too_large", f"An answer has more than {MAX_FRAME} bytes.")
    return _exactly(descriptor, size, deadline)


def _exactly(descriptor: int, count: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        left = None if deadline is None else deadline - time.monotonic()
        ready = left is None or (left > 0 and select.select([descriptor], [], [], left)[0])
        if not ready:
            raise OperationalError("target.too_slow", "The model does not answer in time.")
        block = os.read(descriptor, count - len(parts))
        if not block:
            raise _ended()
        parts += block
    return bytes(parts)


def _ended() -> OperationalError:
    return OperationalError(
        "target.ended", "The process that held the model ended.", "See `keepstone scan MODEL`."
    )
