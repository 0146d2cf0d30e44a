"""Functions of rows that know their slope: what a gradient is put together from, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from keepstone.contract.validate import Array

# Takes a weight for each number that came out `(n, k)`, and gives the gradient `(n, d)` of their
# weighted sum by what went in.
Pull = Callable[[Array], Array]
# Of rows `(n, d)`: what comes out `(n, k)`, and the way back.
Slope = Callable[[Array], tuple[Array, Pull]]


def chained(parts: Sequence[Slope]) -> Slope:
    """One after another; of none, what went in."""

    def run(rows: Array) -> tuple[Array, Pull]:
        pulls = []
        for part in parts:
            rows, pull = part(rows)
            pulls.append(pull)

        def back(weights: Array) -> Array:
            for pull in reversed(pulls):
                weights = pull(weights)
            return weights

        return rows, back

    return run


def scaled(factor: Array, offset: Array) -> Slope:
    """Each number by its own factor."""
    return lambda rows: (rows * factor + offset, lambda weights: weights * factor)


def multiplied(matrix: Array, offset: Array) -> Slope:
    """Rows times a `matrix` (d, k)."""
    return lambda rows: (rows @ matrix + offset, lambda weights: weights @ matrix.T)


def clipped(low: float, high: float) -> Slope:
    """Held within two ends.

    An end is passed through as if it were none: what lies at it may be led back from there.
    """

    def run(rows: Array) -> tuple[Array, Pull]:
        inside = (rows >= low) & (rows <= high)
        return np.clip(rows, low, high), lambda weights: weights * inside

    return run


def two_scores(rows: Array) -> tuple[Array, Pull]:
    """One margin a row, as the scores of two classes."""
    return np.concatenate([np.zeros_like(rows), rows], axis=1), lambda weights: weights[:, 1:]


def normed(norm: str) -> Slope:
    """Rows divided by their length: `l1`, `l2` or `max`; one of zeros stays."""

    def run(rows: Array) -> tuple[Array, Pull]:
        size = np.abs(rows)
        if norm == "l2":
            length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
            way = rows / np.where(length == 0, 1.0, length)
        elif norm == "l1":
            length = size.sum(axis=1, keepdims=True)
            way = np.sign(rows)
        else:
            length = size.max(axis=1, keepdims=True)
            way = np.zeros_like(rows)
            at = np.arange(len(rows)), size.argmax(axis=1)
            way[at] = np.sign(rows[at])
        length = np.where(length == 0, 1.0, length)
        found = rows / length

        def back(weights: Array) -> Array:
            along = (weights * found).sum(axis=1, keepdims=True)
            return np.asarray((weights - along * way) / length)

        return found, back

    return run


def bent(bend: Callable[[Array], Array], slope: Callable[[Array, Array], Array]) -> Slope:
    """Each number through `bend`, whose slope is that of what went in and what came out."""

    def run(rows: Array) -> tuple[Array, Pull]:
        found = bend(rows)
        return found, lambda weights: weights * slope(rows, found)

    return run
