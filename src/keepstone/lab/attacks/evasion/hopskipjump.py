"""HopSkipJump: the smallest perturbation by labels alone, by walking along the boundary.

Promise: needs nothing but the served label; every point that it walks on was served a wrong one. A
row that got no answer counts as not broken.

How: a start that is served another label (the nearest sample of another class, else noise), a
binary search to the boundary, then rounds of: the boundary's normal from the labels of rows
around, a step along it that is halved until it is served the wrong label, and a binary search back
towards the sample.

Cost: about 15 queries for a start, then `probes * sqrt(round)` and about 15 more for each round,
within the budget. Blind spots: targets whose boundary is a staircase coarser than the probes
(single trees); random answers. Constraints are kept, but not searched cleverly.

Source: Chen, Jordan and Wainwright 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.bounds import costs
from keepstone.lab.attacks.evasion.outside import able, bisect, find_starts, is_wrong
from keepstone.lab.attacks.port import Source
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import UNANSWERED, Capability

_HALVINGS = 10
# What a round keeps back from its probes: for the step, and the way back.
_KEPT = 8


@dataclass(frozen=True, slots=True)
class HopSkipJump:
    """`probes` rows around each boundary point in the first round; `starts` rows tried to start
    from at most; a normal of fewer than `fewest` probes is not worth a round."""

    probes: int = 40
    starts: int = 25
    fewest: int = 10

    name: ClassVar[str] = "hopskipjump"
    source: ClassVar[Source] = Source("Chen et al. 2020, arXiv:1904.02144", "AML.T0043.001")
    needs: ClassVar[Capability] = Capability.LABEL
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    minimizes: ClassVar[bool] = True

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        edge, started = find_starts(meter, rng, self.starts)
        edge = bisect(meter, started, edge, _HALVINGS)
        turn = 1
        # Nothing is nearer to a sample than the sample itself.
        while (at := able(meter, started[_apart(meter, started, edge)], self._least)).size:
            normal = self._normal(meter, rng, at, edge[at], turn)
            stepped = _step(meter, at, edge, normal, turn)
            edge[stepped] = bisect(meter, stepped, edge, _HALVINGS)[stepped]
            turn += 1

    @property
    def _least(self) -> int:
        return self.fewest + _KEPT

    def _normal(
        self, meter: Meter, rng: np.random.Generator, at: Array, edge: Array, turn: int
    ) -> Array:
        """Where wrong labels lie, a direction of length 1 by the goal's norm for each sample."""
        count = np.minimum(round(self.probes * turn**0.5), meter.left[at] - _KEPT)
        owner = np.repeat(np.arange(len(at)), count)
        cost, linf = costs(meter), meter.goal.norm.name == "linf"
        shape = (len(owner), edge.shape[1])
        noise = rng.uniform(-1, 1, shape) if linf else rng.standard_normal(shape)
        noise /= np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), 1e-12)
        # So far that probes cross what steps there are, and not the whole of the way.
        size = meter.measure(at, edge)[owner] * (1.0 if linf else 0.25)
        rows = edge[owner] + noise * size[:, None] / cost
        rows = meter.domain.fit(rows.astype(edge.dtype), meter.x[at[owner]])
        labels = meter.ask(at[owner], rows).labels
        # What the domain cut off is no part of what was asked.
        asked = ((rows - edge[owner]) * cost).astype(np.float64)
        vote = np.where(labels != meter.y[at[owner]], 1.0, -1.0)
        known = labels != UNANSWERED
        vote, heard = np.where(known, vote, 0.0), np.bincount(owner[known], minlength=len(at))
        mean = np.bincount(owner, vote, len(at)) / np.maximum(heard, 1)
        # All alike: towards them, or away; else what sets them apart.
        centred = np.where(np.abs(mean[owner]) < 1, vote - mean[owner] * known, vote)
        starts = np.concatenate([[0], np.cumsum(count)[:-1]])
        summed = np.add.reduceat(asked * centred[:, None], starts, axis=0)
        return meter.goal.norm.steepest(summed)


def _apart(meter: Meter, places: Array, edge: Array) -> Array:
    return np.asarray(meter.measure(places, edge[places]) > 0)


def _step(meter: Meter, at: Array, edge: Array, normal: Array, turn: int) -> Array:
    """Move `edge` along the normals, in place; the places of those that moved."""
    length = meter.measure(at, edge[at]) / turn**0.5
    waits = np.ones(len(at), bool)
    for _ in range(_HALVINGS):
        going = np.flatnonzero(waits & np.isin(at, meter.standing()))
        if not going.size:
            break
        places = at[going]
        tried = edge[places] + normal[going] * length[going, None] / costs(meter)
        tried = meter.domain.fit(tried.astype(edge.dtype), meter.x[places])
        wrong = is_wrong(meter, places, tried)
        edge[places[wrong]] = tried[wrong]
        waits[going[wrong]] = False
        length[going[~wrong]] /= 2
    return at[~waits]
