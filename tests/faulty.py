"""A server on loopback that answers as it is told: wrongly, slowly, half, or not at all."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One request as it came: its first line's two words, and its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Reply:
    """What to say. `length` is the Content-Length that is told, true where it is None.

    `every` sends one byte of the body (or, with `drip_head`, of the head) each so many seconds;
    `silent` says nothing at all and keeps the connection.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    repeat: int = 1
    every: float = 0.0
    drip_head: bool = False
    silent: bool = False


Answer = Callable[[Asked], Reply]


class Faulty:
    """Runs until it is ended. `asked` is every request that came, in order."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._tls = tls
        self._ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def end(self) -> None:
        self._ended.set()
        for thread in list(self._threads):
            thread.join(10)
        self._socket.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                connection, _ = self._socket.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            asked = _read(connection)
            if asked is not None:
                self.asked.append(asked)
                self._say(connection, asked, self.answer(asked))
        connection.close()

    def _say(self, connection: socket.socket, asked: Asked, reply: Reply) -> None:
        if reply.silent:
            self._ended.wait(30)
            return
        length = len(reply.body) * reply.repeat if reply.length is None else reply.length
        lines = [f"HTTP/1.1 {reply.status} Said", f"Content-Length: {length}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._send(connection, head, reply.every if reply.drip_head else 0)
        if asked.method != "HEAD":
            for _ in range(reply.repeat):
                self._send(connection, reply.body, 0 if reply.drip_head else reply.every)

    def _send(self, connection: socket.socket, data: bytes, every: float) -> None:
        if not every:
            connection.sendall(data)
            return
        for place in range(len(data)):
            if self._ended.wait(every):
                return
            connection.sendall(data[place : place + 1])


def _read(connection: socket.socket) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < int(headers.get("content-length", "0")):
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    method, path, _ = first.split(" ", 2)
    return Asked(method, path, headers, body)


@contextmanager
def faulty(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Faulty]:
    running = Faulty(answer, tls)
    try:
        yield running
    finally:
        running.end()
