"""Who is told how far a run is."""

from __future__ import annotations

from typing import Protocol

from keepstone.lab.suites.result import Ran


class Observer(Protocol):
    """Told of each attack, and of each part of a run that is spread; the default tells nobody."""

    def begins(self, attack: str, eps: float | None, standing: int) -> None: ...

    def ended(self, ran: Ran) -> None: ...

    def shard_ended(self, number: int, of: int, lost: str | None) -> None:
        """`lost` is why nothing came of it."""
        ...


class Nobody:
    def begins(self, attack: str, eps: float | None, standing: int) -> None:
        """Nothing."""

    def ended(self, ran: Ran) -> None:
        """Nothing."""

    def shard_ended(self, number: int, of: int, lost: str | None) -> None:
        """Nothing."""
