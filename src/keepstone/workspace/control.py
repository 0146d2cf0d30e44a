"""The owner's door for other processes of the same user: one JSON line in, one out.

The socket has mode 0600 and the peer's user id is checked with SO_PEERCRED, so the door is no
wider than the workspace's own files.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.errors import (
    DeniedError,
    InputError,
    KeepstoneError,
    OperationalError,
    VerificationError,
)
from keepstone.workspace.layout import Layout

_REQUEST_LIMIT = 1 << 20
# A list of every API key is the largest answer.
_ANSWER_LIMIT = 64 << 20
_FAMILIES = {
    kind.family: kind for kind in (InputError, VerificationError, DeniedError, OperationalError)
}
# The operation, its arguments, and the user at the other end as the kernel says.
Handler = Callable[[str, dict[str, Any], int], dict[str, Any]]


@contextlib.contextmanager
def _socket_address(layout: Layout) -> Iterator[str]:
    """An address for the socket that fits the 107 bytes of `sun_path` however deep it lies."""
    directory = os.open(layout.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{layout.socket.name}"
    finally:
        os.close(directory)


def _read_line(connection: socket.socket, limit: int) -> bytes:
    chunks: list[bytes] = []
    total = 0
    while chunk := connection.recv(65536):
        chunks.append(chunk)
        total += len(chunk)
        if chunk.endswith(b"\n"):
            return b"".join(chunks)
        if total > limit:
            break
    raise OperationalError("control.broken", "The control socket ended in the middle of a line.")


def ask(
    layout: Layout, operation: str, arguments: dict[str, Any], *, wait_s: float = 60.0
) -> dict[str, Any]:
    """Have the owner perform `operation`; return its answer or raise the error it raised.

    It may take `wait_s` seconds.

    Raises OperationalError `control.no_owner` where nobody listens.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        try:
            with _socket_address(layout) as address:
                connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError, TimeoutError) as error:
            # Gone, or so busy that its queue is full: either way nobody has taken the request.
            raise OperationalError(
                "control.no_owner", f"No owner of {layout.root} answers.", "Try again."
            ) from error
        try:
            # Some of what is asked for takes as long as a large file does.
            connection.settimeout(wait_s)
            request = {"operation": operation, "arguments": arguments}
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = parse_json(_read_line(connection, _ANSWER_LIMIT), limit=2 * _ANSWER_LIMIT)
        except OSError as error:
            raise OperationalError(
                "control.broken", f"The owner's answer did not arrive: {error}."
            ) from error
    if "error" in answer:
        fault = answer["error"]
        raise _FAMILIES.get(fault["family"], OperationalError)(
            fault["code"], fault["cause"], fault["next_step"]
        )
    result: dict[str, Any] = answer["result"]
    return result


class ControlServer:
    """Answers other processes on a thread of its own until closed."""

    def __init__(self, layout: Layout, handler: Handler) -> None:
        self._layout = layout
        self._handler = handler
        self._listener = socket.socket(socket.AF_UNIX)
        # Whoever holds the workspace's lock may remove what a dead owner left behind.
        layout.socket.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            with _socket_address(layout) as address:
                self._listener.bind(address)
        finally:
            os.umask(previous)
        self._listener.listen(128)
        self._thread = threading.Thread(target=self._accept, name="keepstone-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)
        self._layout.socket.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # A thread each: a client that stalls must not keep a revocation waiting.
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, OperationalError):
            connection.settimeout(10)
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            _, uid, _ = struct.unpack("3i", credentials)
            if uid not in (os.geteuid(), 0):
                return
            answer = self._answer(_read_line(connection, _REQUEST_LIMIT), uid)
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def _answer(self, line: bytes, uid: int) -> dict[str, Any]:
        try:
            match parse_json(line, limit=2 * _REQUEST_LIMIT):
                case {"operation": str() as operation, "arguments": dict() as arguments}:
                    return {"result": self._handler(operation, arguments, uid)}
            raise InputError("control.malformed", "Not a control request.")
        except KeepstoneError as error:
            fault = {
                "family": error.family,
                "code": error.code,
                "cause": error.cause,
                "next_step": error.next_step,
            }
            return {"error": fault}
        except Exception as error:  # noqa: BLE001  # a process edge: the caller gets an answer
            fault = {
                "family": "operational",
                "code": "control.failed",
                "cause": f"The owner failed: {type(error).__name__}: {error}",
                "next_step": "Look at the owner's messages.",
            }
            return {"error": fault}
