"""Limits on connections: how many, from whom, and how long each may take over each step.

One register per server. A sweep twice a second closes what is overdue, so that a request costs
no timer of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Counts, bytes and seconds. `header_s` runs from a request's first byte to its last header
    (and from the connection to its first byte), `body_s` from there to the end of the body,
    `idle_s` between requests, `write_s` while a client does not read its answer. With
    `body_in_pieces` it is from one piece of a body to the next that `body_s` runs: for uploads,
    whose length bounds nothing.
    """

    total: int = 1024
    per_address: int = 256
    header_bytes: int = 16 << 10
    header_count: int = 64
    header_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 30.0
    write_s: float = 30.0
    handshake_s: float = 5.0
    body_in_pieces: bool = False


class Connection(Protocol):
    """What the sweep asks of a connection."""

    deadline: float

    def on_overdue(self) -> None: ...


SWEEP_S = 0.5


class Connections:
    """Who is connected. `admit` counts a connection in before anything is read from it."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.refused = 0
        self.open: set[Connection] = set()
        self.date = b""
        self._total = 0
        self._by_address: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def total(self) -> int:
        return self._total

    def admit(self, address: str) -> bool:
        """Count one connection from `address` in, or refuse it."""
        count = self._by_address.get(address, 0)
        if self._total >= self.limits.total or count >= self.limits.per_address:
            self.refused += 1
            return False
        self._by_address[address] = count + 1
        self._total += 1
        return True

    def release(self, address: str) -> None:
        """Count one connection from `address` out."""
        self._total -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

    def start(self) -> None:
        """Sweep from now on, on the running loop."""
        loop = asyncio.get_running_loop()
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode("ascii")
        now = loop.time()
        for connection in [each for each in self.open if now > each.deadline]:
            connection.on_overdue()
        self._timer = loop.call_later(SWEEP_S, self.start)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
