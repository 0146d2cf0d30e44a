"""Observers for tests."""

from __future__ import annotations


class Silent:
    """Listens and says nothing."""

    def begin(self, step: str) -> None: ...

    def copied(self, done: int, expected: int) -> None: ...

    def end(self, detail: str) -> None: ...

    def warn(self, message: str) -> None: ...
