"""Square: random search with patches of one sign, by scores and without gradients.

Promise: the margin of what is kept never shrinks, and is the target's own. A target whose
gradients are masked is as open to it as any: where it finds more than PGD does, PGD was blind.

How: a picture (two axes, or three with one of 1, 3 or 4 channels) starts as vertical stripes, and
tries squares that get smaller on the schedule of the paper, scaled to the budget. Under l2 each
try moves perturbation from one window to another. A flat row has no neighbours: there a window
is a random set of as many features, each with a sign of its own.

Cost: `budget` queries at most. Blind spots: scores that are rounded or noisy; perturbations that
are no union of windows.

Source: Andriushchenko et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.bounds import costs, into, radius
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import margin
from keepstone.lab.meter import Meter
from keepstone.lab.norms import L2
from keepstone.lab.targets.port import Capability

# Of 10,000 queries, those after which the window's area is halved (the paper's schedule).
_HALVINGS = np.array([10, 50, 200, 1000, 2000, 4000, 6000, 8000]) / 10_000
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Square:
    """`share` of the picture is the first window. Raises InputError `attack.no_eps`."""

    share: float = 0.8

    name: ClassVar[str] = "square"
    source: ClassVar[Source] = Source(
        "Andriushchenko et al. 2020, arXiv:1912.00049", "AML.T0043.001"
    )
    needs: ClassVar[Capability] = Capability.SCORES
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        eps, cost = radius(meter), costs(meter)
        layout = picture(meter.domain.shape)
        euclid = meter.goal.norm.name == "l2"
        # Perturbations here are weighted by their features' costs, as the norm sees them.
        kept = np.zeros_like(meter.x)
        best = np.full(len(meter.x), -np.inf)
        while (at := meter.standing()).size:
            # All that stand were asked equally often.
            spent = 1 - float(meter.left[at[0]]) / meter.goal.budget
            share = self.share / 2 ** int((spent > _HALVINGS).sum())
            if spent == 0:
                tried = (
                    _tiles(rng, layout, len(at), eps) if euclid else _stripes(rng, layout, len(at))
                )
                tried = tried if euclid else tried * eps
            elif euclid:
                tried = _shifted(rng, layout, kept[at], eps, share)
            else:
                tried = _windowed(rng, layout, kept[at], eps, share)
            rows = into(meter, at, meter.x[at] + (tried / cost).astype(meter.x.dtype))
            answers = meter.ask(at, rows)
            assert answers.scores is not None
            found = margin(answers.scores, meter.y[at])[0]
            better = found >= best[at]
            best[at[better]] = found[better]
            kept[at[better]] = ((rows - meter.x[at]) * cost)[better]


def picture(shape: tuple[int, ...]) -> Array:
    """Where each element of a row is in a picture: its places as `(channels, height, width)`.

    What is no picture is `(1, 1, width)`.
    """
    places = np.arange(int(np.prod(shape)))
    if len(shape) == 2 and min(shape) > 1:
        return places.reshape(1, *shape)
    if len(shape) == 3:
        able = [axis for axis in (0, 2) if shape[axis] in _CHANNELS]
        if able:
            # Where both could be the channels, those are fewer than rows or columns.
            return np.moveaxis(places.reshape(shape), min(able, key=lambda at: shape[at]), 0)
    return places.reshape(1, 1, -1)


def windows(rng: np.random.Generator, layout: Array, count: int, area: float) -> Array:
    """The places of `count` random windows of about `area` pixels, `(count, channels, pixels)`.

    Squares in a picture; sets of features in a row, which has none.
    """
    channels, height, width = layout.shape
    if height == 1:
        many = int(np.clip(round(area), 1, width))
        chosen = rng.random((count, width)).argsort(axis=1)[:, :many]
        return np.asarray(layout[0, 0][chosen][:, None, :])
    side = int(np.clip(round(sqrt(area)), 1, min(height, width)))
    top = rng.integers(0, height - side + 1, count)[:, None, None] + np.arange(side)[:, None]
    left = rng.integers(0, width - side + 1, count)[:, None, None] + np.arange(side)
    return np.moveaxis(layout[:, top, left], 0, 1).reshape(count, channels, side * side)


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.choice((-1.0, 1.0), shape))


def _stripes(rng: np.random.Generator, layout: Array, count: int) -> Array:
    """One sign for each column and channel of each row."""
    channels, _, width = layout.shape
    found = np.empty((count, layout.size))
    columns = _signs(rng, (count, channels, 1, width))
    found[:, layout.ravel()] = np.broadcast_to(columns, (count, *layout.shape)).reshape(count, -1)
    return found


def _windowed(
    rng: np.random.Generator, layout: Array, kept: Array, eps: float, share: float
) -> Array:
    """One window of each row set to epsilon, with one sign for each channel."""
    channels, height, width = layout.shape
    places = windows(rng, layout, len(kept), share * height * width)
    signs = _signs(rng, (len(kept), channels, places.shape[2] if height == 1 else 1))
    found = kept.copy()
    rows = np.arange(len(kept))[:, None, None]
    found[rows, places] = eps * signs
    return found


def _peaks(pixels: int, flat: bool) -> Array:
    """A bump of two peaks of opposite sign, one above the other, of length 1: `(pixels,)`."""
    if flat:
        found = 1 / np.sqrt(np.arange(1, pixels + 1))
        return np.asarray(found / np.linalg.norm(found))
    side = round(sqrt(pixels))
    upper = side // 2
    bump = (
        np.concatenate([_bump(upper, side), -_bump(side - upper, side)])
        if side > 1
        else np.ones((1, 1))
    )
    return np.asarray((bump / np.linalg.norm(bump)).ravel())


def _bump(height: int, width: int) -> Array:
    """Nested rectangles around the middle, each ring of a distance worth less than the inner."""
    down = np.minimum(np.arange(height), np.arange(height)[::-1])
    across = np.minimum(np.arange(width), np.arange(width)[::-1])
    ring = np.minimum(down[:, None] * width / max(height, 1), across[None, :])
    rings = np.floor(ring).astype(int)
    inner = int(rings.max())
    worth = np.cumsum(1 / (inner + 1 - np.arange(inner + 1)) ** 2)
    return np.asarray(worth[rings])


def _bumps(rng: np.random.Generator, layout: Array, count: int, pixels: int) -> Array:
    """Random bumps `(count, channels, pixels)`, upright or on their side."""
    channels, height, _ = layout.shape
    flat = height == 1
    peak = _peaks(pixels, flat)
    if flat:
        return peak * _signs(rng, (count, channels, pixels))
    side = round(sqrt(pixels))
    turned = peak.reshape(side, side).T.ravel()
    upright = rng.random((count, 1, 1)) < 0.5
    return np.where(upright, peak, turned) * _signs(rng, (count, channels, 1))


def _tiles(rng: np.random.Generator, layout: Array, count: int, eps: float) -> Array:
    """A grid of bumps over the whole picture, of length epsilon."""
    channels, height, width = layout.shape
    found = np.zeros((count, layout.size))
    if height == 1:
        found[:, layout.ravel()] = rng.standard_normal((count, layout.size))
    else:
        side = max(1, min(height, width) // 5)
        rows = np.arange(count)[:, None, None]
        for top in range(0, height - side + 1, side):
            for left in range(0, width - side + 1, side):
                places = layout[:, top : top + side, left : left + side].reshape(1, channels, -1)
                found[rows, places] = _bumps(rng, layout, count, side * side)
    return _of_length(found, eps)


def _of_length(rows: Array, eps: float) -> Array:
    return np.asarray(rows * (eps / np.maximum(L2.distance(rows), 1e-12)[:, None]))


def _shifted(
    rng: np.random.Generator, layout: Array, kept: Array, eps: float, share: float
) -> Array:
    """The length in one window, and what the row has left of epsilon, moved to another."""
    channels, height, width = layout.shape
    count, rows = len(kept), np.arange(len(kept))[:, None, None]
    given = windows(rng, layout, count, share * height * width)
    taken = windows(rng, layout, count, share * height * width)
    found = kept.astype(np.float64)
    both = np.zeros(kept.shape, bool)
    both[rows, given] = both[rows, taken] = True
    inside = np.where(both, found, 0.0)
    left = np.maximum(eps**2 - (found**2).sum(axis=1), 0)
    old = found[rows, given]
    old = old / np.maximum(np.linalg.norm(old, axis=2, keepdims=True), 1e-12)
    new = old + _bumps(rng, layout, count, given.shape[2])
    new /= np.maximum(np.linalg.norm(new, axis=2, keepdims=True), 1e-12)
    # Each channel gets its share of the length that both windows held, and of what was left.
    found[rows, taken] = 0
    length = np.sqrt(((inside**2).sum(axis=1) + left) / channels)[:, None, None]
    found[rows, given] = new * length
    return _of_length(found, eps)
