"""Two threads and a ring of buffers: one fills, the other takes, in order, in flat memory.

Hashing, encrypting and the system's reads and writes all let go of the interpreter, so a stream
takes as long as the slower of its two halves, not as long as both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Sink = Callable[[memoryview], object]

# What is shorter than one buffer is done in the calling thread.
BUFFER = 1 << 20
_BUFFERS = 4


class Ring:
    """Hands buffers to `take` on a second thread, each once and in order.

    `free` gives a buffer that nobody uses; `hand` passes a view of it on, and the caller may go
    on *reading* it until its next `free`. Whatever `take` raises is raised again by the next
    call or at the end of the block, and no later buffer reaches it.
    """

    def __init__(self, take: Sink, size: int = BUFFER) -> None:
        self._take = take
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._handed: SimpleQueue[tuple[memoryview, memoryview] | None] = SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(memoryview(bytearray(size)))
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="keepstone-ring", daemon=True)

    def __enter__(self) -> Ring:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._handed.put(None)
        self._thread.join()
        # An error of the filling side is the first one: it hides nothing that came before it.
        if kind is None:
            self._raise()

    def free(self) -> memoryview:
        self._raise()
        return self._free.get()

    def hand(self, buffer: memoryview, view: memoryview) -> None:
        """Pass `view`, which lies in `buffer`, to the other thread."""
        self._raise()
        self._handed.put((buffer, view))

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (item := self._handed.get()) is not None:
            buffer, view = item
            if self._failure is None:
                try:
                    self._take(view)
                except BaseException as failure:  # a thread's edge: the filler raises it  # noqa: BLE001
                    self._failure = failure
            self._free.put(buffer)


def pour(read: Callable[[memoryview], int], write: Sink, behind: Sink, expected: int) -> int:
    """Read to the end; what was read goes to `write` here and to `behind` on a second thread.

    Both see the same buffer, so what one hashes is what the other wrote. `expected` bytes that
    fit one buffer are done on this thread alone. Returns the number of bytes.
    """
    total = 0
    if expected < BUFFER:
        buffer = memoryview(bytearray(max(1, min(expected + 1, BUFFER))))
        while count := read(buffer):
            behind(buffer[:count])
            write(buffer[:count])
            total += count
        return total
    with Ring(behind) as ring:
        while count := read(buffer := ring.free()):
            ring.hand(buffer, buffer[:count])
            write(buffer[:count])
            total += count
    return total
