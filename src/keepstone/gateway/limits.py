"""A token bucket per key, in process, in bounded memory.

The generic cell rate algorithm (ITU-T I.371, annex A): a bucket is one number, the time at which
it would be full again, so a check is one look-up and one store.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from keepstone.errors import InputError
from keepstone.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` on average, at most `burst` at once."""

    per_second: float
    burst: int

    def __post_init__(self) -> None:
        if not (0 < self.per_second < 1e9 and 1 <= self.burst <= 1 << 30):
            raise InputError(
                "limit.invalid", "A limit needs a positive rate and a burst of at least 1."
            )


class TokenBuckets:
    """Promise: within any time t, a key is allowed at most `burst + per_second * t` times.

    At most `capacity` keys are remembered. A bucket that is full again is forgotten, which
    changes nothing; when every remembered bucket is in use, further keys share one, so a flood
    of new keys neither grows the table nor resets anybody's limit.
    """

    __slots__ = (
        "_capacity",
        "_full_at",
        "_interval",
        "_overflow",
        "_swept_at",
        "_window",
        "refused",
    )

    def __init__(self, rate: Rate, capacity: int = 65_536) -> None:
        self._interval = 1.0 / rate.per_second
        self._window = self._interval * rate.burst
        self._capacity = capacity
        self._full_at: dict[Hashable, float] = {}
        self._overflow = 0.0
        self._swept_at = float("-inf")
        self.refused = 0

    def take(self, key: Hashable, now: float) -> float:
        """Take a token at `now` (seconds, monotonic): 0.0, or the seconds to wait for one."""
        full_at = self._full_at.get(key)
        if full_at is None:
            if len(self._full_at) >= self._capacity and not self._sweep(now):
                return self._take_shared(now)
            full_at = now
        elif full_at < now:
            full_at = now
        full_at += self._interval
        wait = full_at - now - self._window
        # A billionth of a second of slack: sums of the interval are not exact.
        if wait > 1e-9:
            self.refused += 1
            return wait
        self._full_at[key] = full_at
        return 0.0

    def _take_shared(self, now: float) -> float:
        full_at = max(self._overflow, now) + self._interval
        wait = full_at - now - self._window
        if wait > 1e-9:
            self.refused += 1
            return wait
        self._overflow = full_at
        return 0.0

    def _sweep(self, now: float) -> bool:
        # Sweeping costs a pass over the table, so an attacker gets one a second, not one a key.
        if now - self._swept_at < 1.0:
            return False
        self._swept_at = now
        self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        return len(self._full_at) < self._capacity

    def __len__(self) -> int:
        return len(self._full_at)


class PrincipalBuckets:
    """A bucket per principal. Where `rate_of` gives a rate, it is of that rate, and else of `rate`.

    Promise: as for `TokenBuckets`. There are as many tables as there are rates, which the policy
    names.
    """

    __slots__ = ("_apart", "_common", "_rate_of")

    def __init__(
        self, rate: Rate, rate_of: Callable[[Principal], Rate | None] | None = None
    ) -> None:
        self._common = TokenBuckets(rate)
        self._rate_of = rate_of
        self._apart: dict[Rate, TokenBuckets] = {}

    def take(self, principal: Principal, now: float) -> float:
        """Take a token at `now` (seconds, monotonic): 0.0, or the seconds to wait for one."""
        own = None if self._rate_of is None else self._rate_of(principal)
        if own is None:
            return self._common.take(principal.id, now)
        buckets = self._apart.get(own)
        if buckets is None:
            buckets = self._apart[own] = TokenBuckets(own)
        return buckets.take(principal.id, now)

    def __len__(self) -> int:
        return len(self._common) + sum(map(len, self._apart.values()))
