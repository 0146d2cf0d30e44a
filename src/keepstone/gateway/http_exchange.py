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
    """Answers are whole: one start, one body. A second answer, or none, is an internal error.

    `more` is whether more of the body is to come. Running without a task, `step` is what a task
    would be: it runs the application until it waits for a future, and comes back with that.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_connection",
        "_continued",
        "_coroutine",
        "_delivered",
        "_head",
        "_hung_up",
        "_keep_alive",
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
        except Exception as error:  # the process edge  # noqa: BLE001
            self._finish(error)
        else:
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        self._coroutine = None
        if error is not None:
            _log.error("the application failed", exc_info=error)
        if not self.answered:
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
                    connection.resume_reading()
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
        if self._head is None or self.answered or message.get("more_body", False):
            raise RuntimeError("the application did not send one start and one whole body")
        status, headers = self._head
        self._answer(status, headers, message.get("body", b""))

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.answered = True
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
        connection.write(b"".join(parts))
        connection.answered(self, keep_alive=keep_alive)
