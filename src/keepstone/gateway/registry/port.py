"""What the gateway asks of the registry behind it. It decides, and records, every attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from keepstone.identity.principal import Principal

Sink = Callable[[memoryview], None]
# Fills a buffer with what comes next and says with how many bytes; 0 at the end.
Read = Callable[[memoryview], int]
# Told how many bytes an answer has; returns where they go.
Open = Callable[[int], Sink]


class Registry(Protocol):
    """Called from threads, one for each request. Raises KeepstoneError for every no.

    To whom a model is not visible, it does not exist: `registry.not_found`, word for word.
    """

    def perform(
        self, who: Principal, operation: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Do one of the operations that take and return JSON."""
        ...

    def push(self, who: Principal, model: str, read: Read) -> Mapping[str, Any]:
        """Take an artifact in, as `vault.carry` writes it; nothing is read for who may not push."""
        ...

    def pull(self, who: Principal, model: str, reference: str, reason: str, begin: Open) -> None:
        """Give an artifact out. `reason` is why somebody wants one that the gate does not admit;
        empty where they do not. `begin` is called once it is known to be whole and allowed."""
        ...
