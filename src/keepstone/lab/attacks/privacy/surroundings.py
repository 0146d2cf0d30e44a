"""What a model says of the rows around a row, and how much that tells of the row.

Models differ in how sure they are of a row whether they saw it or not, for they saw other rows
around it; what they say of those rows shows it. Rows are taken in rings of growing distance, once
with every feature as it is and once with each of the same spread; in a ring, rows of the same
class and rows of others count apart. What a ring weighs is the same for every row, so that least
squares over few shadow models finds it.

Cost: distances between all rows, once; no query. Blind spots: distances say little of pictures
that are alike without their pixels being so, and rings tell little then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array

# The nearest row, the next one, the next two, four, ...
_EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128)
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The nearest rows of each (n, k), the nearest first, by each way to measure, and which of
    them are of its class."""

    nearest: tuple[Array, ...]
    same: tuple[Array, ...]

    @classmethod
    def of(cls, x: Array, y: Array) -> Surroundings:
        """Those of rows `x` (n, d) of classes `y` (n,)."""
        rows = np.asarray(x, np.float64).reshape(len(x), -1)
        # No square overflows.
        most = np.abs(rows).max(axis=0, initial=0)
        scaled = rows / np.where(most > 0, most, 1)
        spread = scaled.std(axis=0)
        scaled = (scaled - scaled.mean(axis=0)) / np.where(spread > 0, spread, 1)
        nearest = tuple(_nearest(one) for one in (rows / max(most.max(initial=0), 1e-300), scaled))
        return cls(nearest, tuple(y[near] == y[:, None] for near in nearest))

    def rings(self, said: Array) -> Array:
        """The sums of what was `said` of rows (n,), in each ring of each row (n, rings)."""
        found = []
        for near, same in zip(self.nearest, self.same, strict=True):
            starts = [edge for edge in _EDGES if edge < near.shape[1]]
            told = said[near]
            for part in (same, ~same):
                found.append(np.add.reduceat(np.where(part, told, 0), starts, axis=1))
        return np.concatenate(found, axis=1)

    def weights(self, models: Array, inside: Array) -> Array:
        """What each ring weighs (rings,): by it they tell best how `models` (m, n) differ among
        those with a row and among those without, `inside` (m, n)."""
        kinds = (inside, ~inside)
        means = [_mean(models, kind) for kind in kinds]
        first = self.rings(models[0])
        square, cross = np.zeros((first.shape[1],) * 2), np.zeros(first.shape[1])
        sums = [np.zeros_like(first) for _ in kinds]
        for at, said in enumerate(models):
            rings = self.rings(said)
            square += rings.T @ rings
            cross += rings.T @ (said - np.where(inside[at], *means))
            for total, kind in zip(sums, kinds, strict=True):
                total[kind[at]] += rings[kind[at]]
        # What varies around the means of either kind counts, not the means.
        for total, kind in zip(sums, kinds, strict=True):
            square -= (total / kind.sum(axis=0)[:, None]).T @ total
        # Rings that are empty everywhere weigh nothing.
        return np.asarray(np.linalg.pinv(square, rcond=1e-9, hermitian=True) @ cross)


def _mean(models: Array, chosen: Array) -> Array:
    return np.asarray(np.where(chosen, models, 0).sum(axis=0) / chosen.sum(axis=0))


def _nearest(rows: Array) -> Array:
    """The places (n, k) of the rows that are nearest to each, itself left out."""
    count = min(_EDGES[-1], len(rows) - 1)
    square = (rows**2).sum(axis=1)
    found = np.empty((len(rows), count), np.int64)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        apart = square - 2 * (some @ rows.T)
        apart[np.arange(len(some)), np.arange(start, start + len(some))] = np.inf
        near = np.argpartition(apart, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(apart, near, axis=1), axis=1, kind="stable")
        found[start : start + _BLOCK] = np.take_along_axis(near, order, axis=1)
    return found
