"""A small random search by scores: no gradient, so nothing that masks one misleads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.domain import Domain
from keepstone.lab.losses import margin
from keepstone.lab.masking.measures.descent import standing
from keepstone.lab.masking.port import Meters, NotEvaluated
from keepstone.lab.masking.subject import Subject
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability

# The part of the features that one try changes, at first and at last.
_PARTS = (0.5, 0.03)


@dataclass(frozen=True, slots=True)
class Search:
    """Gives which of the samples that stand it broke `(n,)`, others False.

    Each try sets a window of the input to an extreme of the ball, and is kept where the margin
    does not fall. After Square (Andriushchenko et al. 2020), without its schedule and starts.
    """

    queries: int = 250
    name: ClassVar[str] = "search"
    needs: ClassVar[Capability] = Capability.SCORES

    @property
    def cost(self) -> int:
        return self.queries

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Array:
        at = np.flatnonzero(standing(subject))
        broken = np.zeros(len(subject.x), bool)
        if at.size:
            meter = meters(subject.eps, self.queries, at)
            search(meter, rng, self.queries)
            broken[at] = meter.broken
        return broken


def search(meter: Meter, rng: np.random.Generator, queries: int) -> None:
    """Try windows on every sample that stands, by `queries` for each."""
    every = np.arange(len(meter.x))
    best = _moved(meter, rng, every, meter.x, np.ones(meter.x.shape, bool))
    loss = _margin(meter, every, best)
    for part in np.geomspace(*_PARTS, max(1, queries - 1)):
        at = meter.standing()
        if not at.size:
            return
        window = windows(meter.domain, rng, len(at), float(part))
        rows = _moved(meter, rng, at, best[at], window)
        tried = _margin(meter, at, rows)
        kept = tried >= loss[at]
        best[at[kept]], loss[at[kept]] = rows[kept], tried[kept]


def _margin(meter: Meter, places: Array, rows: Array) -> Array:
    scores = meter.ask(places, rows).scores
    if scores is None:
        raise NotEvaluated("the target served no scores")
    with np.errstate(all="ignore"):
        found, _ = margin(scores, meter.y[places])
    return np.nan_to_num(found, nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def _moved(meter: Meter, rng: np.random.Generator, places: Array, rows: Array, at: Array) -> Array:
    """`rows` with the features `at` set to where the ball of each sample ends."""
    eps, norm, origin = meter.goal.eps, meter.goal.norm, meter.x[places]
    assert eps is not None
    delta = rows - origin
    # One sign for a whole window, as often as one for each feature: pictures are smooth.
    signs = rng.choice((-1.0, 1.0), delta.shape)
    signs = np.where(rng.random((len(delta), 1)) < 0.5, signs, signs[:, :1])
    size = eps if norm.name == "linf" else 2.0 * eps / np.sqrt(at.sum(axis=1, keepdims=True))
    delta = np.where(at, (signs * size).astype(delta.dtype), delta)
    return meter.domain.fit(origin + norm.project(delta, eps), origin)


def windows(domain: Domain, rng: np.random.Generator, count: int, part: float) -> Array:
    """Squares of pictures, whatever their channels; of other inputs single features `(n, d)`."""
    if len(domain.shape) < 2 or min(domain.shape[-2:]) < 2:
        at = rng.random((count, domain.width)) < part
        at[np.arange(count), rng.integers(domain.width, size=count)] = True
        return at
    height, width = domain.shape[-2:]
    side = max(1, round(np.sqrt(part * height * width)))
    spans = []
    for length in (height, width):
        first = rng.integers(0, max(1, length - side + 1), count)[:, None]
        place = np.arange(length)[None]
        spans.append((place >= first) & (place < first + side))
    window = (spans[0][:, :, None] & spans[1][:, None, :]).reshape(count, -1)
    return np.tile(window, (1, domain.width // (height * width)))


SEARCH = Search()
