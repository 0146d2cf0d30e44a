"""Refusals, counted: the first few of a kind per window are entries, the rest one more entry.

A stranger can make us refuse as often as the network carries; what that costs the ledger is
bounded by the number of reasons, and for principals by their number, never by the requests.
No address and nothing a stranger sent is ever recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WINDOW_S = 10.0
FIRST = 3
MAX_KINDS = 1024


@dataclass(frozen=True, slots=True)
class Refused:
    """`count` refusals for one reason, of one verified principal or of strangers (None)."""

    reason: str
    principal: str | None
    count: int

    def fields(self) -> dict[str, Any]:
        """The members of the entry besides its kind and time."""
        return {"reason": self.reason, "principal": self.principal, "count": self.count}


class RefusalTally:
    """Says of each refusal whether it becomes an entry now, and counts the others."""

    __slots__ = ("_first", "_kinds", "_window", "_window_ends")

    def __init__(self, first: int = FIRST, window_s: float = WINDOW_S) -> None:
        self._first = first
        self._window = window_s
        self._window_ends = 0.0
        self._kinds: dict[tuple[str, str | None], int] = {}

    def add(self, reason: str, principal: str | None) -> bool:
        """Count one refusal. True: it is among the first of its kind in this window."""
        kind = (reason, principal)
        seen = self._kinds.get(kind)
        if seen is None:
            if len(self._kinds) >= MAX_KINDS:
                kind = (reason, None)
            seen = self._kinds.get(kind, 0)
        self._kinds[kind] = seen + 1
        return seen < self._first

    def close_window(self, now: float, *, force: bool = False) -> Iterator[Refused]:
        """Give what was counted beyond the first few, once the window is over (seconds)."""
        if now < self._window_ends and not force:
            return
        self._window_ends = now + self._window
        kinds, self._kinds = self._kinds, {}
        for (reason, principal), count in kinds.items():
            if count > self._first:
                yield Refused(reason, principal, count - self._first)
