"""The process's server: sockets, TLS, signals and an orderly end, on uvicorn and uvloop.

Stopping: no new connections; exchanges under way are answered; then the audit trail waits until
all it appended is durable. An answer that left is on the record, and so is nothing half.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvicorn
import uvloop

from keepstone.errors import InputError, OperationalError
from keepstone.gateway.connections import ConnectionLimits, Connections
from keepstone.gateway.http import HttpConnection
from keepstone.gateway.http_exchange import Message, Receive, Send
from keepstone.gateway.metrics import Gauges

BACKLOG = 512
# How long a thread may keep the interpreter from another that asks for it, in seconds.
SWITCH_S = 0.0005
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Application(Protocol):
    """What is served: an ASGI application with an audit trail to begin and to end.

    Requests on one of the `hot` paths seldom wait. `gauges` are read where metrics are shown.
    """

    @property
    def hot(self) -> frozenset[bytes]: ...

    @property
    def gauges(self) -> list[Gauges]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None: ...


def listen(host: str, port: int) -> list[socket.socket]:
    """Bind every address of `host` to one port; 0 picks a free one.

    Raises OperationalError `server.port_in_use` or `server.cannot_listen`.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((info[0], info[4][0]) for info in found):
            sockets.append(
                socket.create_server((str(address), port), family=family, backlog=BACKLOG)
            )
            sockets[-1].setblocking(False)
            port = sockets[-1].getsockname()[1]
    except OSError as error:
        for each in sockets:
            each.close()
        if error.errno == errno.EADDRINUSE:
            raise OperationalError(
                "server.port_in_use",
                f"Port {port} of {host} is in use.",
                "Choose another with --port, or stop what uses it.",
            ) from error
        raise OperationalError(
            "server.cannot_listen", f"Cannot listen on {host} port {port}: {error.strerror}."
        ) from error
    return sockets


def tls_context(chain_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """A server's TLS context: 1.2 or later, no renegotiation, HTTP/1.1 only.

    The standard library loads keys from files only: this one lives in memory, or where the
    system has no such files, for a moment in a folder of our own. Raises InputError
    `tls.malformed`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _private_file(chain_pem + b"\n" + key_pem) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise InputError("tls.malformed", "The certificate and key are not a PEM pair.") from error
    return context


@contextlib.contextmanager
def _private_file(data: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("keepstone-tls", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tls.pem"
        path.touch(0o600)
        path.write_bytes(data)
        yield str(path)


class _Acceptor:
    """Accepts on one socket; counts a connection before it reads or encrypts anything."""

    def __init__(self, listening: socket.socket, server: Server) -> None:
        self._listening = listening
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._greetings: set[asyncio.Task[None]] = set()
        self._task = self._loop.create_task(self._accept())

    async def _accept(self) -> None:
        while True:
            try:
                accepted, peer = await self._loop.sock_accept(self._listening)
            except OSError:
                # Out of descriptors or memory: those who wait in the backlog keep waiting.
                await asyncio.sleep(0.05)
                continue
            address = str(peer[0])
            if not self._server.connections.admit(address):
                accepted.close()
                continue
            task = self._loop.create_task(self._greet(accepted, address))
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    async def _greet(self, accepted: socket.socket, address: str) -> None:
        server = self._server
        release = _once(lambda: server.connections.release(address))
        limits = server.connections.limits
        timeouts: dict[str, float] = {}
        if server.tls is not None:
            timeouts = {
                "ssl_handshake_timeout": limits.handshake_s,
                "ssl_shutdown_timeout": limits.handshake_s,
            }
        try:
            await self._loop.connect_accepted_socket(
                lambda: server.connection(release), accepted, ssl=server.tls, **timeouts
            )
        except (OSError, asyncio.CancelledError):
            # ssl.SSLError, a reset and a handshake that took too long are all OSErrors.
            accepted.close()
            release()

    def close(self) -> None:
        self._task.cancel()
        for task in self._greetings:
            task.cancel()
        self._listening.close()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._task, *self._greetings, return_exceptions=True)


def _once(action: Callable[[], None]) -> Callable[[], None]:
    done = False

    def run() -> None:
        nonlocal done
        if not done:
            done = True
            action()

    return run


class Server(uvicorn.Server):
    """Serves one application on listening sockets until told to stop, by a signal or by `stop`.

    `tls` may be replaced while it runs; new connections get the new one.
    """

    def __init__(
        self,
        app: Application,
        sockets: Sequence[socket.socket],
        *,
        tls: ssl.SSLContext | None = None,
        limits: ConnectionLimits | None = None,
        on_ready: Callable[[int], None] | None = None,
        grace_s: int = 10,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=grace_s,
            )
        )
        self.app = app
        self.tls = tls
        self.connections = Connections(limits or ConnectionLimits())
        self._listening = list(sockets)
        self._on_ready = on_ready
        app.gauges.append(self._gauges)

    def _gauges(self) -> dict[str, float]:
        return {
            "keepstone_connections": self.connections.total,
            "keepstone_connections_refused": self.connections.refused,
        }

    def connection(self, on_lost: Callable[[], None]) -> HttpConnection:
        return HttpConnection(self.app, self.app.hot, self.connections, self.server_state, on_lost)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped; returns once all that was appended is durable.

        `on_ready` is called with the port when the first request can come. Raises
        OperationalError `audit.unavailable` if the record could not be completed.
        """
        # What was loaded by now stays: collecting it over and over would cost each request.
        gc.collect()
        gc.freeze()
        # The thread that commits holds the interpreter for moments only, but waits for it this
        # long each time, and every answer or the next commit waits for that thread.
        sys.setswitchinterval(SWITCH_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve())

    def stop(self) -> None:
        """Stop soon. May be called from any thread, and more than once."""
        self.should_exit = True

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """As `run`, on the running loop."""
        await self.app.start()
        try:
            await super().serve()
        finally:
            self.connections.stop()
            await self.app.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the doors. uvicorn calls this."""
        self.connections.start()
        self.servers: list[Any] = [_Acceptor(each, self) for each in self._listening]
        self.started = True
        if self._on_ready is not None:
            self._on_ready(self._listening[0].getsockname()[1])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM. Unlike uvicorn's, this raises neither again: whoever
        called `run` still has a ledger to close."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
