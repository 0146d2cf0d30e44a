"""Minimise a smooth function of many variables: L-BFGS with a search for Wolfe's conditions.

Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5; the search
halves and doubles a bracket, which meets the weak conditions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from keepstone.contract.validate import Array

Objective = Callable[[Array], tuple[float, Array]]
_SUFFICIENT, _CURVATURE = 1e-4, 0.9


def minimize(
    objective: Objective, start: Array, *, steps: int, tolerance: float = 1e-9, memory: int = 20
) -> Array:
    """The best point after at most `steps` steps, or where the gradient's largest element is
    below `tolerance`. `objective` gives a value and its gradient."""
    point = start.copy()
    value, slope = objective(point)
    pairs: deque[tuple[Array, Array, float]] = deque(maxlen=memory)
    for _ in range(steps):
        if np.abs(slope).max() <= tolerance:
            break
        found = _search(objective, point, value, slope, _direction(slope, pairs), first=not pairs)
        if found is None:
            if not pairs:
                break
            # What was remembered misleads: start again from the steepest descent.
            pairs.clear()
            continue
        moved, value, new = found
        step, change = moved - point, new - slope
        along = float(step @ change)
        if along > 1e-12 * float(change @ change):
            pairs.append((step, change, 1 / along))
        point, slope = moved, new
    return point


def _direction(slope: Array, pairs: deque[tuple[Array, Array, float]]) -> Array:
    way = -slope
    weights = []
    for step, change, inverse in reversed(pairs):
        weight = inverse * float(step @ way)
        weights.append(weight)
        way = way - weight * change
    if pairs:
        step, change, inverse = pairs[-1]
        way = way / (inverse * float(change @ change))
    for (step, change, inverse), weight in zip(pairs, reversed(weights), strict=True):
        way = way + (weight - inverse * float(change @ way)) * step
    return way


def _search(
    objective: Objective, point: Array, value: float, slope: Array, way: Array, *, first: bool
) -> tuple[Array, float, Array] | None:
    down = float(slope @ way)
    if not down < 0:
        return None
    low, high = 0.0, np.inf
    length = min(1.0, 1 / float(np.abs(slope).sum())) if first else 1.0
    best: tuple[Array, float, Array] | None = None
    for _ in range(30):
        moved = point + length * way
        reached, new = objective(moved)
        if not reached <= value + _SUFFICIENT * length * down:
            high = length
        else:
            best = (moved, reached, new)
            if float(new @ way) >= _CURVATURE * down:
                break
            low = length
        length = (low + high) / 2 if np.isfinite(high) else 2 * length
    return best
