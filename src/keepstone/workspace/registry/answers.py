"""What a registry's server answers, read with limits; a no is raised as the error it was there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keepstone.errors import (
    DeniedError,
    InputError,
    KeepstoneError,
    OperationalError,
    VerificationError,
)

if TYPE_CHECKING:
    import httpx

PIECE = 1 << 20
_MAX_ANSWER = 64 << 20
_BY_STATUS: tuple[tuple[range, type[KeepstoneError]], ...] = (
    (range(401, 404), DeniedError),
    (range(422, 423), VerificationError),
    (range(400, 429), InputError),
)


class Reader:
    """An answer's pieces as something to read from, no further than asked."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def read_whole(answer: httpx.Response) -> bytes:
    data = bytearray()
    for piece in answer.iter_raw(PIECE):
        data += piece
        if len(data) > _MAX_ANSWER:
            raise OperationalError("registry.bad_answer", "The registry's answer is too large.")
    return bytes(data)


def read_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OperationalError(
            "registry.bad_answer", "The registry's answer cannot be read."
        ) from error
    if not isinstance(value, dict):
        raise OperationalError("registry.bad_answer", "The registry's answer is no object.")
    return value


def refused(status: int, data: bytes) -> KeepstoneError:
    """The server's no, as the error it was there."""
    try:
        said = read_object(data)
    except OperationalError:
        said = {}
    family = next((kind for codes, kind in _BY_STATUS if status in codes), OperationalError)
    cause = said.get("detail") or said.get("title") or f"The registry answered {status}."
    return family(
        shown(str(said.get("code", "registry.bad_answer")), 64),
        shown(str(cause), 1000),
        shown(str(said.get("next_step", "")), 500),
    )


def shown(text: str, limit: int = 1000) -> str:
    """What a server said, fit for a terminal: nothing in it moves a cursor."""
    return "".join(one if one.isprintable() else "?" for one in text[:limit])


def load_httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise OperationalError(
            "extra.http",
            "Asking another machine needs the extra `http`.",
            "Install it: pip install 'keepstone[http]'.",
        ) from error
    return httpx
