"""Clean label: rows of the target class, each labelled rightly, carry the trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.poisoning.port import (
    Aim,
    Change,
    TrainingSet,
    check_class,
    number_of,
)
from keepstone.lab.attacks.poisoning.trigger import make_trigger
from keepstone.lab.attacks.port import Source


@dataclass(frozen=True, slots=True)
class CleanLabel:
    """Promise: `rate` of all rows, drawn from those of class `target`, are mixed with a row of
    another class and get the trigger. No label is changed.

    The mixed row is `1 - mix` of its own and `mix` of one drawn from the other classes, so that
    its own features say less of its class and the trigger says more. Below .5 it stays nearer to
    its own row than to the other. A model that obeys serves `target` for any row with the trigger.

    The paper mixes in the latent space of a generative model, or perturbs by gradients; this mixes
    inputs, which needs no model and suits tables too.

    Cost: no query; a drill trains twice for each seed. Blind spots: as a class has few rows, so
    has the poison; mixed inputs look like double exposures to whoever looks; feature collision in
    a known network (Shafahi et al. 2018, arXiv:1804.00792) needs no trigger, and is not tried.
    """

    target: int = 0
    rate: float = 0.05
    mix: float = 0.4
    side: int = 3
    level: float = 1.0
    shape: tuple[int, ...] = ()

    name: ClassVar[str] = "clean-label"
    source: ClassVar[Source] = Source("Turner et al. 2019, arXiv:1912.02771", "AML.T0018.000")

    def __post_init__(self) -> None:
        if not 0 <= self.mix < 0.5:
            raise InputError(
                "attack.bad_parameter",
                f"A mix of {self.mix} is none from 0 to .5: beyond, the label is not right.",
            )

    def change(self, clean: TrainingSet, rng: np.random.Generator) -> Change:
        """Raises InputError `attack.bad_rate`, `attack.bad_parameter`, `attack.bad_trigger`."""
        check_class(self.target, clean.classes)
        trigger = make_trigger(clean.domain, self.side, self.level, self.shape, rng)
        own = clean.reachable(clean.y == self.target)
        count = number_of(self.rate, len(clean.x), len(own))
        places = np.sort(rng.choice(own, count, replace=False))
        rows = self._mixed(clean, places, rng)
        # The mix is fitted before the stamp: a rounding must not move the trigger.
        stamped = trigger.stamp(clean.domain.fit(rows, clean.x[places]), clean.domain)
        return Change(places, stamped, clean.y[places], Aim(self.target, None, trigger))

    def _mixed(self, clean: TrainingSet, places: Array, rng: np.random.Generator) -> Array:
        others = np.flatnonzero(clean.y != self.target)
        if not len(others) or not len(places):
            return clean.x[places]
        other = clean.x[rng.choice(others, len(places))]
        return np.asarray((1 - self.mix) * clean.x[places] + self.mix * other)
