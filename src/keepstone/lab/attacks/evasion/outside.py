"""Rows that are served another label, and the way from them back to their samples.

What attacks by label alone start from: they walk on the far side of the boundary.
"""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.bounds import costs, lengths
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import UNANSWERED

# Of the other classes' samples, how many of the nearest are tried before noise is.
_NEAREST = 5


def is_wrong(meter: Meter, places: Array, rows: Array) -> Array:
    """Which rows are served a label, and not the right one."""
    labels = meter.ask(places, rows).labels
    return np.asarray((labels != meter.y[places]) & (labels != UNANSWERED))


def able(meter: Meter, places: Array, cost: int = 1) -> Array:
    """Those of `places` that still stand and can be asked so often."""
    return places[np.isin(places, meter.standing(cost))]


def between(meter: Meter, places: Array, rows: Array, share: Array) -> Array:
    """Rows on the way from the samples (a share of 0) to `rows` (of 1), in the domain.

    Where they are on it the goal's norm decides: a line for l2, a shrinking box for linf.
    """
    cost, origin = costs(meter), meter.x[places]
    delta = (rows - origin) * cost
    most = meter.goal.norm.distance(delta) * share
    return meter.domain.fit(origin + meter.goal.norm.project(delta, most) / cost, origin)


def find_starts(meter: Meter, rng: np.random.Generator, most: int) -> tuple[Array, Array]:
    """A row for each sample `(n, d)`, and the places of those whose row is served wrong.

    Tries the nearest samples of other classes, then noise, and asks `most` times at most.
    """
    found, done = meter.x.copy(), np.zeros(len(meter.x), bool)
    near = _others(meter)
    for turn in range(most):
        at = meter.standing()
        at = at[~done[at]]
        if not at.size:
            break
        if turn < near.shape[1]:
            rows = meter.x[near[at, turn]]
        else:
            drawn = rng.uniform(0, 1, (len(at), meter.domain.width))
            rows = meter.domain.low + drawn * lengths(meter)
        rows = meter.domain.fit(rows.astype(meter.x.dtype), meter.x[at])
        wrong = is_wrong(meter, at, rows)
        found[at[wrong]], done[at[wrong]] = rows[wrong], True
    return found, np.flatnonzero(done)


def bisect(meter: Meter, places: Array, rows: Array, steps: int) -> Array:
    """Rows as near to the boundary as `steps` halvings bring those of `places`; all `(n, d)`."""
    found = rows.copy()
    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(steps):
        at = able(meter, places)
        if not at.size:
            break
        middle = (low[at] + high[at]) / 2
        tried = between(meter, at, rows[at], middle)
        wrong = is_wrong(meter, at, tried)
        found[at[wrong]] = tried[wrong]
        high[at[wrong]], low[at[~wrong]] = middle[wrong], middle[~wrong]
    return found


def _others(meter: Meter) -> Array:
    """For each sample the places of the nearest ones of other classes, `(n, few)`."""
    rows = (meter.x * costs(meter)).astype(np.float64)
    square = (rows**2).sum(axis=1)
    few = min(_NEAREST, len(rows) - 1)
    found = np.zeros((len(rows), few), np.int64)
    known = np.ones(few, bool)
    for at in range(0, len(rows), 512):
        part = slice(at, at + 512)
        distance = square[part, None] + square - 2 * rows[part] @ rows.T
        distance[meter.y[part, None] == meter.y] = np.inf
        found[part] = np.argsort(distance, axis=1)[:, :few]
        known &= np.isfinite(np.take_along_axis(distance, found[part], axis=1)).all(axis=0)
    return found[:, known]
