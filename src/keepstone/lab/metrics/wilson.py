"""Wilson's interval for a share of a sample: what the true share may be, at some confidence.

Source: Wilson 1927; the one of the usual intervals that keeps its promise at shares near 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from keepstone.errors import InputError


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `n`, and the interval around it. With n = 0 nothing is known: 0 to 1."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else 0.0


def share(hits: int, n: int, confidence: float = 0.95) -> Share:
    """Raises InputError `attack.bad_share` for counts that are no share."""
    if not 0 <= hits <= n or not 0 < confidence < 1:
        raise InputError("attack.bad_share", f"{hits} of {n} is no share.")
    if n == 0:
        return Share(0, 0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = hits / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The rate lies between the ends, and floats may put it beyond: of none the lower one is 0.
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Share(hits, n, min(low, rate), max(high, rate))
