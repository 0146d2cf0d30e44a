"""Sponge: inputs that make the target do the most work, bred from ordinary ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.availability.cost import CostMeter
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain


@dataclass(frozen=True, slots=True)
class Sponge:
    """Promise: a population of `population` rows, half of them ordinary and half drawn from all
    over the domain, is bred for `generations` at most towards what costs most. Each child takes
    every feature from one of two rows of the best `elite`; a feature is drawn anew with chance
    `mutation` (its low end, its high end or between). A tenth of each generation is drawn anew.

    It needs nothing but what rows cost: no gradient, no score, no label.

    Cost: `population` rows a generation, within the meter's budget and time. Blind spots: energy,
    which only the hardware shows; costs that need many features to be right at once, where no
    part of them costs more; what requests cost together, or one after the other. Of a model
    whose work is the same for every row there is nothing to find.
    """

    population: int = 40
    generations: int = 100
    elite: float = 0.25
    mutation: float = 0.05

    name: ClassVar[str] = "sponge"
    source: ClassVar[Source] = Source("Shumailov et al. 2021, arXiv:2006.03463", "AML.T0034.001")

    def __post_init__(self) -> None:
        shares = 0 < self.elite <= 1 and 0 <= self.mutation <= 1
        if self.population < 4 or self.generations < 1 or not shares:
            raise InputError(
                "attack.bad_parameter",
                "A sponge takes four rows at least, a generation, and shares from 0 to 1.",
            )

    def run(self, meter: CostMeter, rng: np.random.Generator) -> None:
        count = self.population
        places = rng.integers(0, len(meter.x), count)
        rows = meter.x[places]
        drawn = _anywhere(meter.domain, count - count // 2, rng)
        rows = meter.fit(places, np.concatenate([rows[: count // 2], drawn.astype(rows.dtype)]))
        costs = meter.ask(places, rows)
        parents = max(2, round(self.elite * count))
        for _ in range(self.generations):
            best = np.argsort(-costs, kind="stable")[:parents]
            places, rows, costs = places[best], rows[best], costs[best]
            born, children = self._children(meter, places, rows, rng)
            found = meter.ask(born, children)
            places = np.concatenate([places, born])
            rows = np.concatenate([rows, children])
            costs = np.concatenate([costs, found])

    def _children(
        self, meter: CostMeter, places: Array, rows: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        count, width = self.population, meter.domain.width
        first, second = rng.integers(0, len(rows), (2, count))
        children = np.where(rng.random((count, width)) < 0.5, rows[first], rows[second])
        # One feature of each at least, however few there are.
        chance = max(self.mutation, 1 / width) if self.mutation else 0.0
        changed = rng.random((count, width)) < chance
        changed[: count // 10] = True
        fresh = _anywhere(meter.domain, count, rng)
        children = np.where(changed, fresh, children).astype(rows.dtype)
        return places[first], meter.fit(places[first], children)


def _anywhere(domain: Domain, count: int, rng: np.random.Generator) -> Array:
    """Rows from all over the domain, whose ends are as likely as what lies between."""
    between = rng.random((count, domain.width))
    kind = rng.integers(0, 3, between.shape)
    level = np.select([kind == 0, kind == 1], [0.0, 1.0], between)
    return np.asarray(domain.low + level * (domain.high - domain.low))
