"""Boundary: a random walk on the far side of the decision boundary, towards each sample.

Promise: needs nothing but the served label, and few assumptions on the boundary: each try is a
small random turn around the sample and a step towards it, taken if it is still served a wrong
label. How far both go is learned for each sample from how often they succeed.

Cost: a query a step, and one more every fifth; hundreds to thousands for pictures. Blind spots:
slow where the input is wide; random answers pull it inside. HopSkipJump is nearly always nearer
for the same budget; this one is simpler to believe.

Source: Brendel, Rauber and Bethge 2018.
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
from keepstone.lab.targets.port import Capability

_EVERY = 5
_HALVINGS = 8
# How fast the steps adapt, and which share of successes they are held to.
_RATE, _TURNS, _STEPS = 0.3, 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Boundary:
    """`turn` and `step` are the first tries' lengths, as shares of the distance; `starts` rows are
    tried to start from at most."""

    turn: float = 0.1
    step: float = 0.1
    starts: int = 25

    name: ClassVar[str] = "boundary"
    source: ClassVar[Source] = Source("Brendel et al. 2018, arXiv:1712.04248", "AML.T0043.001")
    needs: ClassVar[Capability] = Capability.LABEL
    norms: ClassVar[frozenset[str]] = frozenset({"l2"})
    minimizes: ClassVar[bool] = True

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        edge, started = find_starts(meter, rng, self.starts)
        edge = bisect(meter, started, edge, _HALVINGS)
        turn, step = np.full(len(edge), self.turn), np.full(len(edge), self.step)
        count = 0
        while True:
            going = started[meter.measure(started, edge[started]) > 0]
            at = able(meter, going)
            if not at.size:
                return
            if count % _EVERY == 0:
                around = _turned(meter, rng, at, edge[at], turn[at])
                wrong = is_wrong(meter, at, _closer(meter, at, around, np.zeros(len(at))))
                turn[at] = np.clip(turn[at] * np.exp(_RATE * (wrong - _TURNS)), 1e-4, 1)
                at = able(meter, at)
            around = _turned(meter, rng, at, edge[at], turn[at])
            tried = _closer(meter, at, around, step[at])
            wrong = is_wrong(meter, at, tried)
            # The domain may have cut a try so that it is no nearer.
            nearer = meter.measure(at, tried) < meter.measure(at, edge[at])
            edge[at[wrong & nearer]] = tried[wrong & nearer]
            step[at] = np.clip(step[at] * np.exp(_RATE * (wrong - _STEPS)), 1e-4, 0.9)
            count += 1


def _turned(meter: Meter, rng: np.random.Generator, at: Array, edge: Array, turn: Array) -> Array:
    """Perturbations, in units of cost, as long as those to `edge`, turned at random."""
    delta = ((edge - meter.x[at]) * costs(meter)).astype(np.float64)
    length = np.maximum(np.linalg.norm(delta, axis=1, keepdims=True), 1e-12)
    noise = rng.standard_normal(delta.shape)
    noise -= delta * ((noise * delta).sum(axis=1, keepdims=True) / length**2)
    noise /= np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), 1e-12)
    found = delta + noise * length * turn[:, None]
    return np.asarray(found * (length / np.linalg.norm(found, axis=1, keepdims=True)))


def _closer(meter: Meter, at: Array, delta: Array, step: Array) -> Array:
    rows = meter.x[at] + delta * (1 - step[:, None]) / costs(meter)
    return meter.domain.fit(rows.astype(meter.x.dtype), meter.x[at])
