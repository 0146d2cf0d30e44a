"""The median of repeated measurements, and an interval that no noise's shape can break.

Source: the interval between two order statistics (Thompson 1936); it holds for any distribution
of independent values, with no assumption but their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

# Fewer values have no such interval at 95 %.
MIN_VALUES = 6


@dataclass(frozen=True, slots=True)
class Median:
    """The median of `n` values, and where that of all that could be measured lies.

    With fewer than six values nothing is known of the latter: 0 to infinity.
    """

    value: float
    n: int
    low: float
    high: float


def median_of(values: Sequence[float], confidence: float = 0.95) -> Median:
    """The median of positive `values`; with none it is 1, and unknown."""
    found = np.sort(np.asarray(values, np.float64))
    count = len(found)
    middle = float(np.median(found)) if count else 1.0
    rank = _rank(count, confidence)
    if not rank:
        return Median(middle, count, 0.0, float("inf"))
    return Median(middle, count, float(found[rank - 1]), float(found[count - rank]))


def _rank(count: int, confidence: float) -> int:
    """The greatest rank at which the interval holds; 0 where there is none."""
    most = (1 - confidence) / 2 * 2**count
    below, rank = 0, 0
    while rank < count and below + comb(count, rank) <= most:
        below += comb(count, rank)
        rank += 1
    return rank
