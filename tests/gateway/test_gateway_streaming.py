"""Bodies and answers in pieces: neither side's memory fills, and nothing half passes for whole."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from keepstone.gateway.connections import ConnectionLimits
from keepstone.gateway.http_exchange import HIGH_WATER

PIECE = 64 << 10
pytestmark = pytest.mark.loopback


@dataclass
class Echo:
    """Takes a body piece by piece; answers with its hash, or with `pieces` of `promised` bytes."""

    pieces: int = 0
    promised: int | None = None
    slow: Callable[[], Any] | None = None
    hot: frozenset[bytes] = frozenset()
    gauges: list[Any] = field(default_factory=list)
    largest: int = 0
    sent: int = 0
    gone: bool = False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        state = hashlib.sha256()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                return
            self.largest = max(self.largest, len(message["body"]))
            state.update(message["body"])
            if not message["more_body"]:
                break
            if self.slow is not None:
                await self.slow()
        if not self.pieces:
            await self._whole(send, state.hexdigest().encode())
            return
        length = self.pieces * PIECE if self.promised is None else self.promised
        headers = [(b"content-length", str(length).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for _ in range(self.pieces):
                await send({"type": "http.response.body", "body": bytes(PIECE), "more_body": True})
                self.sent += 1
        except ConnectionError:
            self.gone = True
            raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @staticmethod
    async def _whole(send: Any, body: bytes) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def start(serve: Any) -> Callable[..., Any]:
    def begin(app: Echo, **limits: Any) -> Any:
        return serve(SimpleNamespace(gateway=app), limits=ConnectionLimits(**limits))

    return begin


def test_a_large_body_goes_through_in_pieces(start: Any) -> None:
    app = Echo()
    running = start(app, body_in_pieces=True)
    body = bytes(range(256)) * (64 << 10)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    for _ in range(2):
        connection.request("PUT", "/", body)
        assert connection.getresponse().read() == hashlib.sha256(body).hexdigest().encode()
    assert app.largest <= HIGH_WATER + (1 << 20)
    connection.close()


def test_a_body_whose_pieces_keep_coming_is_not_late_and_one_that_stalls_is(start: Any) -> None:
    running = start(Echo(), body_in_pieces=True, body_s=1.5)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\n")
        for letter in b"abcdef":
            time.sleep(0.5)
            client.sendall(bytes([letter]))
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nab")
        assert client.recv(4096).startswith((b"HTTP/1.1 408", b"HTTP/1.1 500"))


def test_an_application_that_is_slow_to_take_a_body_makes_no_client_late(start: Any) -> None:
    app = Echo(slow=lambda: asyncio.sleep(0.8))
    running = start(app, body_in_pieces=True, body_s=0.5)
    body = bytes(2 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    connection.request("PUT", "/", body)
    assert connection.getresponse().read() == hashlib.sha256(body).hexdigest().encode()
    connection.close()


def test_an_answer_in_pieces_waits_for_its_reader(start: Any) -> None:
    app = Echo(pieces=512)
    running = start(app)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(1.0)
        # What the kernel's buffers and one high-water mark hold, and no more.
        held = app.sent
        time.sleep(0.5)
        assert app.sent == held < 512
        _, _, rest = client.recv(65536).partition(b"\r\n\r\n")
        got = len(rest)
        while got < 512 * PIECE:
            got += len(client.recv(1 << 20))
        # The connection lives on.
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.recv(16).startswith(b"HTTP/1.1 200")


def test_a_reader_that_leaves_ends_the_answer(start: Any) -> None:
    app = Echo(pieces=4096)
    running = start(app)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.recv(4096)
    deadline = time.monotonic() + 20
    while not app.gone and time.monotonic() < deadline:
        time.sleep(0.05)
    assert app.gone
    assert app.sent < 4096


@pytest.mark.parametrize("promised", [3 * PIECE, PIECE])
def test_an_answer_of_another_length_than_promised_never_passes_for_whole(
    start: Any, promised: int
) -> None:
    running = start(Echo(pieces=2, promised=promised))
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("GET", "/")
    answer = connection.getresponse()
    if promised > 2 * PIECE:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
    else:
        # The surplus is never sent, and the connection is broken off.
        assert len(answer.read()) == promised
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            _ask_again(connection)
    connection.close()


def _ask_again(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/")
    connection.getresponse()
