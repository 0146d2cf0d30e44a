"""One request and its answer on a connection: ASGI's receive and send, and what runs them."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import TYPE_CHECKING, Any

from keepstone.gateway.problem import PROBLEMS

if TYPE_CHECKING:
    from keepstone.gateway.http import HttpConnection

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]

HIGH_WATER = 256 << 10

STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in http.HTTPStatus
}
_log = logging.getLogger("keepstone.gateway")


class HttpExchange:
    """One start, then one body, whole or in pieces whose sum the start gave as content-length.

    A second answer, or none, is an internal error; one that ends too early ends the connection,
    so that nobody takes it for whole. `more` is whether more of the body is to come. Running
    without a task, `step` is what a task would be: it runs the application until it waits for a
    future, and comes back with that.
    """

    __slots__ = (
        "_begun",
        "_buffered",
        "_chunks",
        "_connection",
        "_continued",
        "_coroutine",
        "_delivered",
        "_head",
        "_hung_up",
        "_keep_alive",
        "_owed",
        "_waiter",
        "answered",
        "more",
        "scope",
        "started",
    )

    def __init__(self, connection: HttpConnection, scope: Message, keep_alive: bool) -> None:
        self.scope = scope
        self.started = False
        self.answered = False
        self.more = True
        self._connection = connection
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._keep_alive = keep_alive
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._continued = False
        self._delivered = False
        self._hung_up = False
        self._waiter: asyncio.Future[None] | None = None
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        # Of an answer in pieces: whether its head is sent, and how many bytes are still to come.
        self._begun = False
        self._owed = 0

    # Fed by the connection

    def feed(self, body: bytes) -> None:
        if self.answered:
            return
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > HIGH_WATER:
            self._connection.pause_reading()
        self._wake()

    def complete_body(self) -> None:
        self.more = False
        self._wake()

    def hang_up(self) -> None:
        """Nothing more comes from this client."""
        self._hung_up = True
        self._keep_alive = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Running

    def start(self) -> None:
        """Run the application: at once if it will not have to wait for us, else as a task."""
        self.started = True
        connection = self._connection
        if not self.more and self.scope["raw_path"] in connection.hot:
            self._coroutine = connection.app(self.scope, self.receive, self.send)
            self.step(None)
            return
        task = connection.loop.create_task(self._run())
        connection.state.tasks.add(task)
        task.add_done_callback(connection.state.tasks.discard)

    def step(self, _: object) -> None:
        """Run the application up to the next future it waits for."""
        assert self._coroutine is not None
        try:
            waited = self._coroutine.send(None)
        except StopIteration:
            self._finish(None)
        except Exception as error:  # the process edge  # noqa: BLE001
            self._finish(error)
        else:
            if waited is None:
                self._connection.loop.call_soon(self.step, None)
                return
            # What asyncio's own task does: take note that somebody waits, and come back.
            waited._asyncio_future_blocking = False
            waited.add_done_callback(self.step)

    async def _run(self) -> None:
        try:
            await self._connection.app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            # The server stops and waited long enough.
            self._connection.abort()
            raise
        except Exception as error:  # the process edge  # noqa: BLE001
            self._finish(error)
        else:
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        self._coroutine = None
        if error is not None and not (self._hung_up and isinstance(error, ConnectionError)):
            _log.error("the application failed", exc_info=error)
        if self._begun:
            if not self.answered:
                # It promised more than it sent: only a broken connection says so.
                self.answered = True
                self._connection.abort()
        elif not self.answered:
            self._keep_alive = False
            problem = PROBLEMS["internal.error"]
            self._answer(problem.status, problem.headers, problem.body)

    # ASGI

    async def receive(self) -> Message:
        connection = self._connection
        while not self._hung_up:
            if not self._delivered and (self._chunks or not self.more):
                body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks = []
                if self._buffered > HIGH_WATER:
                    connection.resume_body()
                self._buffered = 0
                self._delivered = not self.more
                return {"type": "http.request", "body": body, "more_body": self.more}
            self._continue()
            self._waiter = connection.loop.create_future()
            await self._waiter
            self._waiter = None
        return {"type": "http.disconnect"}

    def _continue(self) -> None:
        """The application wants a body that a client may be holding back (RFC 9110 10.1.1)."""
        if not self._continued:
            self._continued = True
            for name, value in self.scope["headers"]:
                if name == b"expect" and value.lower() == b"100-continue":
                    self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    return

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._head is not None:
                raise RuntimeError("the application answered twice")
            self._head = (message["status"], message["headers"])
            return
        if self._head is None or self.answered:
            raise RuntimeError("the application sent no start, or more than one body")
        status, headers = self._head
        body: bytes = message.get("body", b"")
        if self._begun or message.get("more_body", False):
            await self._send_piece(status, headers, body, message.get("more_body", False))
        else:
            self._answer(status, headers, body)

    async def _send_piece(
        self, status: int, headers: list[tuple[bytes, bytes]], piece: bytes, more: bool
    ) -> None:
        """Write a piece, and wait until the client has taken most of what was written.

        Raises ConnectionError where the client is gone.
        """
        connection = self._connection
        if not self._begun:
            self._owed = int(dict(headers)[b"content-length"])
            self._begun = True
            self._write_head(status, headers)
        self._owed -= len(piece)
        if self._owed < 0 or (not more and self._owed):
            raise RuntimeError("the application's pieces are not as long as it said")
        if piece and self.scope["method"] != "HEAD":
            connection.write(piece)
        if more:
            await connection.writable()
            if self._hung_up:
                raise ConnectionError("the client is gone")
        else:
            self.answered = True
            connection.answered(self, keep_alive=self._keep_alive and not connection.stopping)

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.answered = True
        self._write_head(status, headers, body)
        self._connection.answered(self, keep_alive=self._keep_alive)

    def _write_head(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b""
    ) -> None:
        """Write the head, and `body` with it, and settle whether the connection lives on."""
        connection = self._connection
        # What is left of a body that was not read cannot be told from a next request.
        keep_alive = self._keep_alive and not (self.more or connection.stopping)
        parts = [STATUS_LINES[status], connection.connections.date]
        for name, value in headers:
            if name == b"connection":
                keep_alive = False
            else:
                parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        if self.scope["method"] != "HEAD":
            parts.append(body)
        self._keep_alive = keep_alive
        connection.write(b"".join(parts))
