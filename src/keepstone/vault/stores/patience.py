"""Waiting for others with an end to it: a call that must return, a stream that must go on.

A socket's timeout counts from one byte to the next, so a peer that sends a byte now and again
holds its caller for good. Here a whole step has a limit: what takes longer is left to a thread
that nobody waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from queue import Empty, Full, Queue, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

PIECE = 1 << 20
_AHEAD = 4


def within(
    seconds: float, call: Callable[[], T], discard: Callable[[T], object] = lambda found: None
) -> T:
    """What `call` returns or raises, if it does so within `seconds`, else TimeoutError.

    A result that comes too late is given to `discard`.
    """
    answer: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    lock, left = threading.Lock(), threading.Event()

    def run() -> None:
        found, failure = None, None
        try:
            found = call()
        except BaseException as error:  # a thread's edge: the caller raises it  # noqa: BLE001
            failure = error
        with lock:
            if not left.is_set():
                answer.put((found, failure))
                return
        if failure is None:
            discard(found)  # type: ignore[arg-type]  # a call without a failure has a result

    threading.Thread(target=run, name="keepstone-within", daemon=True).start()
    try:
        found, failure = answer.get(timeout=seconds)
    except Empty:
        with lock:
            left.set()
        # It may have come between the two.
        if answer.empty():
            raise TimeoutError from None
        found, failure = answer.get()
    if failure is not None:
        raise failure
    return found  # type: ignore[return-value]  # as above


class Ahead:
    """A stream read by a second thread, a few pieces ahead of whoever asks for them.

    `pieces` yields the content and raises what is wrong with it; that is raised again to the
    reader, in its place, and so is what `late` gives where no piece comes for `patience`
    seconds. Close it: the thread ends with its next piece, and closes `pieces` itself.
    """

    def __init__(
        self,
        pieces: Generator[bytes, None, None],
        patience: float,
        late: Callable[[], Exception],
    ) -> None:
        self._pieces = pieces
        self._patience = patience
        self._late = late
        self._queue: Queue[bytes | BaseException | None] = Queue(_AHEAD)
        self._current = memoryview(b"")
        self._over = False
        self._left = threading.Event()
        threading.Thread(target=self._run, name="keepstone-ahead", daemon=True).start()

    def close(self) -> None:
        self._left.set()
        self._current = memoryview(b"")

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from the front with what is there; 0 at the end."""
        while not self._current and not self._over:
            self._next()
        count = min(len(buffer), len(self._current))
        buffer[:count] = self._current[:count]
        self._current = self._current[count:]
        return count

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: self.readinto(buffer)])

    def _next(self) -> None:
        try:
            piece = self._queue.get(timeout=self._patience)
        except Empty:
            raise self._late() from None
        if isinstance(piece, BaseException):
            raise piece
        if piece is None:
            self._over = True
        else:
            self._current = memoryview(piece)

    def _run(self) -> None:
        try:
            with closing(self._pieces) as pieces:
                for piece in pieces:
                    if not self._hand(piece):
                        return
            self._hand(None)
        except BaseException as error:  # a thread's edge: the reader raises it  # noqa: BLE001
            self._hand(error)

    def _hand(self, piece: bytes | BaseException | None) -> bool:
        while not self._left.is_set():
            try:
                self._queue.put(piece, timeout=0.2)
            except Full:
                continue
            return True
        return False
