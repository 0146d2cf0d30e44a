"""A clock that never runs back: the later of the wall clock and the newest thing recorded."""

from __future__ import annotations

from keepstone.core.ports import Clock


class SteadyClock:
    """Reads `clock`, but never earlier than `floor` or than it has answered before.

    Setting the wall clock back must not revive an expired statement or token.
    """

    def __init__(self, clock: Clock, floor: int = 0) -> None:
        self._clock = clock
        self._latest = floor

    def now_ms(self) -> int:
        now = self._clock.now_ms()
        if now > self._latest:
            self._latest = now
        return self._latest

    def raise_floor(self, floor: int) -> None:
        """Take notice that something was recorded at `floor`."""
        if floor > self._latest:
            self._latest = floor

    @property
    def behind_ms(self) -> int:
        """How far the wall clock lies behind what was recorded; 0 when it does not."""
        return max(0, self._latest - self._clock.now_ms())
