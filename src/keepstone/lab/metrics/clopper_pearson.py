"""The Clopper-Pearson bound: what the chance of an event is at least, by how often it came.

Source: Clopper and Pearson 1934. It is exact: whatever the chance is, the bound is above it in at
most `alpha` of all experiments. Wilson's interval (`wilson.py`) keeps that promise on average only,
so a certificate rests on this one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from keepstone.errors import InputError

# Sums of so many logarithms are off by less than this part; the bound errs to the low side.
_SLACK = 1e-7
_HALVINGS = 60


@lru_cache(maxsize=4096)
def at_least(hits: int, n: int, alpha: float) -> float:
    """The one-sided lower bound at confidence 1 - alpha; 0 where nothing was hit or asked.

    Raises InputError `attack.bad_share` for counts that are no share.
    """
    if not 0 <= hits <= n or not 0 < alpha < 1:
        raise InputError("attack.bad_share", f"{hits} of {n} is no share.")
    if hits == 0:
        return 0.0
    most = np.log(alpha) - _SLACK
    k = np.arange(hits, n + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    ways = factorials[n] - factorials[k] - factorials[n - k]
    low, high = 0.0, hits / n
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # The chance of so many hits or more, were `middle` that of one; it grows with it.
        terms = ways + k * np.log(middle) + (n - k) * np.log1p(-middle)
        top = terms.max()
        if top + np.log(np.exp(terms - top).sum()) <= most:
            low = middle
        else:
            high = middle
    return float(low)
