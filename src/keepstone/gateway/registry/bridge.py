"""A request's body and its answer as a thread sees them: something to read, something to write.

The registry's work blocks: it hashes, encrypts, waits for disks. It runs on threads, and each
piece that comes or goes is fetched from, or given to, the event loop, which holds back whoever is
quicker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from time import monotonic
from typing import Any, TypeVar

from keepstone.errors import OperationalError
from keepstone.gateway.http_exchange import Receive, Send
from keepstone.gateway.problem import Headers

T = TypeVar("T")

# Fewer, larger pieces: each crosses to the loop's thread and back.
PIECE = 1 << 20
# A body that comes slower than this, after a while, holds a place that others could use.
LEAST_RATE = 16 << 10
PATIENCE_S = 30.0


def _interrupted() -> OperationalError:
    return OperationalError(
        "registry.interrupted", "The other side ended the transfer before it was whole."
    )


class Bridge:
    """One exchange between the loop and the thread that works for it.

    Its methods are the thread's, but for `abort`, which the loop calls. Raises OperationalError
    `registry.interrupted` where the client is gone or the server stops.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive, send: Send) -> None:
        self._loop = loop
        self._receive = receive
        self._send = send
        self._left = memoryview(b"")
        self._ended = False
        self._aborted = False
        self._waiting: Any = None
        self._gathered = bytearray()
        # Bytes of the body, and the seconds that were spent waiting for them.
        self._taken = 0
        self._waited = 0.0
        # Whether an answer has begun, which no other can replace any more.
        self.begun = False

    def abort(self) -> None:
        """Let the thread go, whatever it waits for."""
        self._aborted = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _await(self, step: Coroutine[Any, Any, T]) -> T:
        if self._aborted:
            step.close()
            raise _interrupted()
        self._waiting = asyncio.run_coroutine_threadsafe(step, self._loop)
        try:
            found: T = self._waiting.result()
        except (ConnectionError, CancelledError, asyncio.CancelledError) as error:
            raise _interrupted() from error
        return found

    # The body

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` with what comes next; 0 at the end of a body that is whole."""
        while not self._left:
            if self._ended:
                return 0
            begun = monotonic()
            message = self._await(self._next())
            if message["type"] == "http.disconnect":
                raise _interrupted()
            self._left = memoryview(message.get("body", b""))
            self._taken += len(self._left)
            self._waited += monotonic() - begun
            if self._waited > PATIENCE_S and self._taken < LEAST_RATE * self._waited:
                raise OperationalError(
                    "registry.too_slow", "The artifact comes too slowly.", "Try again."
                )
            self._ended = not message.get("more_body", False)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    async def _next(self) -> Any:
        return await self._receive()

    # The answer

    def begin(self, status: int, headers: Headers, length: int) -> None:
        """Say what comes: `length` bytes of it, exactly."""
        self.begun = True
        sized = [*headers, (b"content-length", str(length).encode("ascii"))]
        self._await(self._give({"type": "http.response.start", "status": status, "headers": sized}))

    def write(self, data: memoryview) -> None:
        """Some more of the answer."""
        self._gathered += data
        if len(self._gathered) >= PIECE:
            self._flush(more=True)

    def end(self) -> None:
        """That was all of it."""
        self._flush(more=False)

    def _flush(self, *, more: bool) -> None:
        piece, self._gathered = bytes(self._gathered), bytearray()
        self._await(self._give({"type": "http.response.body", "body": piece, "more_body": more}))

    async def _give(self, message: dict[str, Any]) -> None:
        await self._send(message)
