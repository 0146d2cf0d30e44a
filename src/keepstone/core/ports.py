"""Ports to the world that deciding code needs: a clock and randomness.

Deciding code takes these as arguments and never reads them from a module, so that one
decision sees one `now` and a test can set it.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Protocol

from keepstone.errors import InputError


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...


class Randomness(Protocol):
    def token_bytes(self, count: int) -> bytes:
        """`count` bytes fit for keys."""
        ...


class SystemClock:
    """The wall clock. A workspace reads time through its own clock, which never runs back."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SystemRandomness:
    def token_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)


def rfc3339(milliseconds: int) -> str:
    """`2026-11-23T12:00:00.000Z`: always UTC, always three digits of a second."""
    stamp = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """Read an RFC 3339 time with an offset into milliseconds. Raises `time.malformed`."""
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError("time.malformed", f"{text!r} is not an RFC 3339 time.") from error
    if stamp.tzinfo is None:
        raise InputError("time.malformed", f"{text!r} names no offset from UTC.")
    # Integer arithmetic: a float here would lose the last millisecond of late dates.
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    delta = stamp - epoch
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
