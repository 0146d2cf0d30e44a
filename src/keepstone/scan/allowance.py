"""What one file may still cost its scanners: shared by everything inside it, never renewed.

Whatever runs out is said, and leaves the file not evaluated: a limit is no verdict.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

# Containers in containers: deeper than this nothing is opened.
MAX_DEPTH = 12
MAX_SECONDS = 120.0


@dataclass(slots=True)
class Allowance:
    """`opcodes` of pickles to walk, `unpacked` bytes to hold, `members` to open.

    `until` is when it has taken too long, by the monotonic clock.
    `leaned` is no cost: the names in the file that only a site's own list allows.
    """

    opcodes: int = 10_000_000
    unpacked: int = 1 << 30
    members: int = 100_000
    leaned: set[str] = field(default_factory=set)
    until: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)

    def out_of_time(self) -> bool:
        """True where the file has taken as long as one file may."""
        return time.monotonic() > self.until
