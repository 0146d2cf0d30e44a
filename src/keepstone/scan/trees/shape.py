"""What every tree must be: each node reached once from the root, and none outside of it.

The readers in C++ index their arrays with these numbers without looking twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Larger models than anybody trains; each tree is walked once.
MAX_TREES = 1_000_000


def numbers(value: Any, low: int, high: int) -> list[int] | None:
    """`value` as whole numbers from `low` up to `high`, or None where one is not."""
    if not isinstance(value, list):
        return None
    if all(type(item) is int and low <= item < high for item in value):
        return value
    return None


def reals(value: Any) -> bool:
    """True where `value` is a list of numbers."""
    return isinstance(value, list) and all(type(item) in (int, float) for item in value)


def count(value: Any) -> int | None:
    """A count, as a number or as its decimal text; None where it is neither."""
    if type(value) is int:
        return value if 0 <= value < 1 << 40 else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        return int(value)
    return None


def is_tree(left: Sequence[int], right: Sequence[int]) -> bool:
    """True where the nodes that are reached from node 0 are reached once.

    `left[n]` and `right[n]` are the children of node `n`; a negative number is a leaf. Every
    number must lie inside of the sequences.
    """
    if not left:
        return True
    seen = bytearray(len(left))
    pending = [0]
    while pending:
        node = pending.pop()
        if seen[node]:
            return False
        seen[node] = 1
        for child in (left[node], right[node]):
            if child >= 0:
                pending.append(child)
    return True
