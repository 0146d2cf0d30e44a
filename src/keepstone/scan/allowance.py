"""What one file may still cost its scanners: shared by everything inside it, never renewed.

Whatever runs out is said, and leaves the file not evaluated: a limit is no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

# Containers in containers: deeper than this nothing is opened.
MAX_DEPTH = 6


@dataclass(slots=True)
class Allowance:
    """`opcodes` of pickles to walk, `unpacked` bytes to hold, `members` to open."""

    opcodes: int = 2_000_000
    unpacked: int = 512 << 20
    members: int = 100_000
