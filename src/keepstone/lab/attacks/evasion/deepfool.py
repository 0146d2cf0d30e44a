"""DeepFool: to the nearest class boundary, as if the model were linear, and again from there.

Promise: a small perturbation, not the smallest: an upper bound of the distance to the boundary.
Each step goes to the nearest of the boundaries with the `candidates` likeliest wrong classes, by
the gradients there, and a little beyond. What was found is drawn back towards the sample by
bisection. Features at their bounds are left out of a step, so that it goes where it is meant to.

Source: Moosavi-Dezfooli et al. 2016, arXiv 1511.04599, equations 8 to 12 for l2 and linf.

Cost: one query, then `candidates` with gradients and one without for each iteration, then
`bisections`. Blind spots: gradients that are masked; boundaries that bend much; and in the middle
of a box, no step knows of the bounds that the next one meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.region import Region
from keepstone.lab.attacks.port import Source
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class DeepFool:
    """`overshoot` is how much further a step goes than its boundary seems to be."""

    iterations: int = 30
    candidates: int = 9
    overshoot: float = 0.02
    bisections: int = 10
    name: ClassVar[str] = "deepfool"
    source: ClassVar[Source] = Source("arXiv:1511.04599", "AML.T0043.000")
    needs: ClassVar[Capability] = Capability.GRADIENT
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    minimizes: ClassVar[bool] = True

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        places = meter.standing()
        answers = meter.ask(places, meter.x[places])
        right = answers.labels == meter.y[places]
        if answers.scores is None:
            return
        places, scores = places[right], answers.scores[right]
        rows, count = meter.x[places], min(self.candidates, meter.classes - 1)
        for _ in range(self.iterations):
            going = (meter.left[places] > count) & ~meter.broken[places]
            places, rows, scores = places[going], rows[going], scores[going]
            if not len(places):
                break
            step = self._step(meter, places, rows, scores, count)
            region = Region.around(meter, places)
            ahead = region.origin + (1 + self.overshoot) * (rows + step - region.origin)
            rows = np.clip(rows + step, region.low, region.high)
            answers = meter.ask(places, np.clip(ahead, region.low, region.high))
            going = answers.labels == meter.y[places]
            assert answers.scores is not None  # a target with gradients has scores
            places, rows, scores = places[going], rows[going], answers.scores[going]
        draw_back(meter, self.bisections)

    def _step(self, meter: Meter, places: Array, rows: Array, scores: Array, count: int) -> Array:
        """The way to the boundary that is nearest by the gradients at `rows`."""
        others = scores.copy()
        others[np.arange(len(places)), meter.y[places]] = -np.inf
        wanted = np.argsort(-others, axis=1, kind="stable")[:, :count].ravel()
        pair = np.repeat(np.arange(len(places)), count)
        answers = meter.linearize(places[pair], rows[pair])
        labels, at = meter.y[places[pair]], np.arange(len(pair))
        weights = np.zeros_like(answers.scores)
        weights[at, wanted], weights[at, labels] = 1, -1
        slope = answers.vjp(weights)
        gap = answers.scores[at, labels] - answers.scores[at, wanted]
        region = Region.around(meter, places[pair])
        room = np.where(slope > 0, region.high - rows[pair], rows[pair] - region.low)
        slope = np.where(room > 0, slope, 0)
        heading = region.steepest(slope)
        rate = np.einsum("ij,ij->i", heading, slope)
        far = np.full(len(pair), np.inf)
        np.divide(np.abs(gap), rate, out=far, where=rate > 0)
        nearest = far.reshape(-1, count).argmin(axis=1) + np.arange(len(places)) * count
        length = np.where(np.isfinite(far[nearest]), far[nearest], 0)[:, None]
        return np.asarray((length * heading[nearest]).astype(rows.dtype))


def draw_back(meter: Meter, bisections: int) -> None:
    """Ask for points between each sample and its nearest success, ever nearer to the boundary."""
    places = np.flatnonzero((meter.distance > 0) & np.isfinite(meter.distance))
    origin, found = meter.x[places], meter.best[places]
    kept, lost = np.ones(len(places)), np.zeros(len(places))
    for _ in range(bisections):
        able = np.flatnonzero(meter.left[places] > 0)
        if not len(able):
            return
        middle = (kept[able] + lost[able]) / 2
        rows = origin[able] + (found - origin)[able] * middle[:, None].astype(origin.dtype)
        wrong = meter.ask(places[able], rows).labels != meter.y[places[able]]
        kept[able] = np.where(wrong, middle, kept[able])
        lost[able] = np.where(wrong, lost[able], middle)
