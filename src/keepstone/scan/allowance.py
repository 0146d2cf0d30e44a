"""What one file may still cost its scanners: shared by everything inside it, never renewed.

Whatever runs out is said, and leaves the file not evaluated: a limit is no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Containers in containers: deeper than this nothing is opened.
MAX_DEPTH = 6


@dataclass(slots=True)
class Allowance:
    """`opcodes` of pickles to walk, `unpacked` bytes to hold, `members` to open.

    `leaned` is no cost: the names in the file that only a site's own list allows.
    """

    opcodes: int = 10_000_000
    unpacked: int = 1 << 30
    members: int = 100_000
    leaned: set[str] = field(default_factory=set)
