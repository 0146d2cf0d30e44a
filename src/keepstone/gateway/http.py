"""HTTP/1.1 with limits at every step, on the httptools parser, as a protocol for an event loop.

It stands in for uvicorn's own protocol where an open port needs more: bounded headers, deadlines
for headers, bodies, idling and unread answers, no upgrades, no buffering of a body nobody asked
for. And it is quicker: an answer is one write, and a request on one of the application's `hot`
paths whose body has arrived runs without a task of its own, for it seldom waits.

Framing is llhttp's in its strict mode (RFC 9112): two lengths, a length beside chunks, folded
headers, a bare CR and unknown codings are refused, and so is any upgrade.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import httptools

from keepstone.gateway.connections import Connections
from keepstone.gateway.http_exchange import STATUS_LINES, App, HttpExchange
from keepstone.gateway.problem import PROBLEMS, Problem

MAX_PIPELINED = 16
LINGER_S = 2.0
FOREVER = float("inf")
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class ServerState(Protocol):
    """What uvicorn shares among its connections, and looks at while it shuts down."""

    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    total_requests: int


class _RefusedError(Exception):
    """Ends the parser's run from inside one of its callbacks."""


class HttpConnection(asyncio.Protocol):
    """One connection: requests in, answers out, in order, none of it past its deadline.

    `on_lost` is called once, when the connection is gone.
    """

    def __init__(
        self,
        app: App,
        hot: frozenset[bytes],
        connections: Connections,
        state: ServerState,
        on_lost: Callable[[], None],
    ) -> None:
        self.app = app
        self.hot = hot
        self.loop = asyncio.get_running_loop()
        self.state = state
        self.connections = connections
        self.deadline = FOREVER
        self.transport: asyncio.Transport | None = None
        self.stopping = False
        self._on_lost = on_lost
        self._limits = connections.limits
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[HttpExchange] = deque()
        self._reading: HttpExchange | None = None
        self._refusal: Problem | None = None
        self._closing = False
        self._advancing = False
        self._read_paused = False
        self._write_paused = False
        self._writer: asyncio.Future[None] | None = None
        # The request whose headers are arriving.
        self._in_head = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._fed_bytes = 0

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's, as create_server has it
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._client = (str(peer[0]), int(peer[1])) if peer else None
        self._server = (str(own[0]), int(own[1])) if own else None
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.state.connections.add(self)
        self.connections.open.add(self)
        self.deadline = self.loop.time() + self._limits.header_s

    def connection_lost(self, error: Exception | None) -> None:
        self.state.connections.discard(self)
        self.connections.open.discard(self)
        self._closing = True
        for exchange in self._exchanges:
            exchange.hang_up()
        self._exchanges.clear()
        self._let_write()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return
        self._feeding = len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._refusal or PROBLEMS["request.bad_http"])
            return
        if self._in_head:
            # The parser keeps an unfinished header to itself: what it was fed is what it holds.
            self._fed_bytes += len(data)
            if self._fed_bytes > self._limits.header_bytes:
                self._refuse(PROBLEMS["request.headers_too_large"])
                return
        if len(self._exchanges) > 1:
            self.pause_reading()
        self._advance()

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self.loop.time() + self._limits.write_s

    def resume_writing(self) -> None:
        self._write_paused = False
        self._let_write()
        self._rest()
        self._advance()

    def _let_write(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    async def writable(self) -> None:
        """Wait until the client has taken most of what was written, or is gone."""
        # The transport looks at what has piled up between two turns of the loop only.
        await asyncio.sleep(0)
        if self._write_paused and not self._closing:
            self._writer = self.loop.create_future()
            await self._writer
            self._writer = None

    # Called by the parser

    def on_message_begin(self) -> None:
        self._in_head = True
        self._url = b""
        self._headers = []
        self._fed_bytes = 0
        if not self._exchanges:
            self._rest()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come after the head: they are bounded like all that is fed, and dropped.
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser, headers, limits = self._parser, self._headers, self._limits
        # What was fed for this head is never more than it, so the sum is seldom needed.
        if len(headers) > limits.header_count or (
            self._fed_bytes + self._feeding > limits.header_bytes
            and len(self._url) + sum(len(n) + len(v) + 4 for n, v in headers) > limits.header_bytes
        ):
            self._stop(PROBLEMS["request.headers_too_large"])
        if parser.should_upgrade() or len(self._exchanges) >= MAX_PIPELINED:
            self._stop(PROBLEMS["request.bad_http"])
        version = parser.get_http_version()
        path, _, query = self._url.partition(b"?")
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self._scheme,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._server,
        }
        keep_alive = version == "1.1" and parser.should_keep_alive()
        self._reading = HttpExchange(self, scope, keep_alive)
        self._exchanges.append(self._reading)
        if len(self._exchanges) == 1:
            self._rest()

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.feed(body)
            if self._limits.body_in_pieces and self._reading is self._exchanges[0]:
                self._rest()

    def on_message_complete(self) -> None:
        exchange = self._reading
        self._reading = None
        if exchange is not None:
            exchange.complete_body()
        if self._exchanges and exchange is self._exchanges[0]:
            self._rest()

    def _stop(self, problem: Problem) -> None:
        self._refusal = problem
        raise _RefusedError

    # One exchange after the other

    def _advance(self) -> None:
        """Start the first exchange that waits; each that ends at once makes room for the next."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._exchanges and not (self._write_paused or self._closing):
                if self._exchanges[0].started:
                    return
                self._exchanges[0].start()
        finally:
            self._advancing = False
        if self._refusal is not None and not self._exchanges:
            self._write_refusal(self._refusal)

    def answered(self, exchange: HttpExchange, *, keep_alive: bool) -> None:
        """The exchange has written its answer; go on, or close."""
        self.state.total_requests += 1
        if self._closing:
            return
        if self._exchanges and self._exchanges[0] is exchange:
            self._exchanges.popleft()
        if not keep_alive:
            self._close(linger=exchange.more)
            return
        if len(self._exchanges) <= 1:
            self.resume_reading()
        self._rest()
        self._advance()

    def _rest(self) -> None:
        """Set the deadline for what the client owes us next, if it is the one to act."""
        if self._closing or self._write_paused:
            return  # closing and unread answers have deadlines that nothing else moves
        first = self._exchanges[0] if self._exchanges else None
        if first is None:
            limits = self._limits
            self.deadline = self.loop.time() + (limits.header_s if self._in_head else limits.idle_s)
        elif first.more and not (self._read_paused and self._limits.body_in_pieces):
            self.deadline = self.loop.time() + self._limits.body_s
        else:
            self.deadline = FOREVER

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self._closing:
            self.transport.write(data)

    def pause_reading(self) -> None:
        if not self._read_paused and self.transport is not None and not self._closing:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._read_paused and self.transport is not None and not self._closing:
            self._read_paused = False
            self.transport.resume_reading()

    def resume_body(self) -> None:
        """The application took what had piled up: the client may go on."""
        self.resume_reading()
        if self._limits.body_in_pieces:
            self._rest()

    # Ending

    def abort(self) -> None:
        """Break the connection off: the answer that was begun will never be whole."""
        if self.transport is not None:
            self.transport.abort()

    def _refuse(self, problem: Problem) -> None:
        """Take nothing more from this client; answer what is under way, then say why."""
        self._refusal = problem
        if self._reading is not None:
            # Its body will never be whole. The application answers, and that answer is the last.
            self._reading.hang_up()
        self._advance()

    def _write_refusal(self, problem: Problem) -> None:
        lines = [b"%b: %b\r\n" % header for header in problem.headers]
        self.write(
            b"%b%b%bconnection: close\r\n\r\n%b"
            % (STATUS_LINES[problem.status], self.connections.date, b"".join(lines), problem.body)
        )
        self._close(linger=True)

    def _close(self, *, linger: bool = False) -> None:
        """Send what is written, then close.

        Closing while the client still sends would reset the connection, and the client could
        lose the answer (RFC 9112 9.6): linger first, and throw away what comes.
        """
        if self._closing or self.transport is None:
            return
        self.resume_reading()
        self._closing = True
        self.deadline = self.loop.time() + (LINGER_S if linger else self._limits.write_s)
        if not linger:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()

    def on_overdue(self) -> None:
        """The client let its deadline pass."""
        self.deadline = self.loop.time() + LINGER_S
        if self._closing or self._write_paused:
            if self.transport is not None:
                self.transport.abort()
        elif self._reading is not None or self._in_head:
            self._refuse(PROBLEMS["request.timeout"])
        else:
            self._close()

    def shutdown(self) -> None:
        """The server stops: finish the exchange under way, if any, and close."""
        self.stopping = True
        if not self._exchanges:
            self._close()
