"""Ports to the world that deciding code needs: a clock and randomness.

Deciding code takes these as arguments and never reads them from a module, so that one
decision sees one `now` and a test can set it.
"""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Protocol

from keepstone.errors import InputError

_LAST = 253_402_300_799_999
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)


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
    """`2026-11-23T12:00:00.000Z`: always UTC, always three digits of a second.

    Raises InputError `time.out_of_range` outside the years 1970 to 9999.
    """
    if not 0 <= milliseconds <= _LAST:
        raise InputError("time.out_of_range", "The time is outside the years 1970 to 9999.")
    stamp = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """Read an RFC 3339 time into milliseconds; what is finer is cut off.

    Raises InputError `time.malformed` for any other form, a missing offset or a leap second,
    `time.out_of_range` outside the years 1970 to 9999.
    """
    # fromisoformat alone reads much more than RFC 3339: week dates, bare dates, commas.
    if not _RFC3339.match(text):
        raise InputError("time.malformed", f"{text[:60]!r} is not an RFC 3339 time.")
    try:
        stamp = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise InputError("time.malformed", f"{text!r} is not an RFC 3339 time.") from error
    # Integer arithmetic: a float here would lose the last millisecond of late dates.
    delta = stamp - datetime(1970, 1, 1, tzinfo=UTC)
    milliseconds = (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
    if not 0 <= milliseconds <= _LAST:
        raise InputError("time.out_of_range", f"{text!r} is outside the years 1970 to 9999.")
    return milliseconds
