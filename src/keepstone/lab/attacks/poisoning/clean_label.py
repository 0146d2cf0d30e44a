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
from keepstone.lab.attacks.poisoning.surrogate import fit_surrogate
from keepstone.lab.attacks.poisoning.trigger import make_trigger, set_trigger
from keepstone.lab.attacks.port import Source


@dataclass(frozen=True, slots=True)
class CleanLabel:
    """Promise: `rate` of all rows, drawn from those of class `target`, are made hard to tell and
    get the trigger. No label is changed.

    Hard to tell is a row of which `mix` comes from a row of another class, and `1 - mix` is its
    own; then each feature is pushed by `eps` of its range to where a linear surrogate of the same
    data is least sure of the class. Its own features then say less of its class, and the trigger
    says more: a model that obeys serves `target` for any row with the trigger.

    The paper mixes in the latent space of a generative model, or perturbs by a network's
    gradients; this mixes inputs and perturbs by a linear fit, which suits tables too.

    Cost: no query; a drill trains twice for each seed, and the push solves one linear system of as
    many unknowns as there are features. Blind spots: as a class has few rows, so has the poison;
    what a person would call a mixed row is not asked (0 for `mix` and a smaller `eps` are harder
    to see, and do less); feature collision in a known network (Shafahi et al. 2018,
    arXiv:1804.00792) needs no trigger, and is not tried.
    """

    target: int = 0
    rate: float = 0.05
    mix: float = 0.4
    eps: float = 0.3
    side: int = 3
    level: float = 1.0
    shape: tuple[int, ...] = ()
    features: tuple[tuple[int, float], ...] = ()

    name: ClassVar[str] = "clean-label"
    source: ClassVar[Source] = Source("Turner et al. 2019, arXiv:1912.02771", "AML.T0018.000")

    def __post_init__(self) -> None:
        if not 0 <= self.mix < 0.5 or not 0 <= self.eps < 0.5:
            raise InputError(
                "attack.bad_parameter",
                f"A mix of {self.mix} and an eps of {self.eps} are not both from 0 to .5: beyond,"
                " the label is not right.",
            )

    def change(self, clean: TrainingSet, rng: np.random.Generator) -> Change:
        """Raises InputError `attack.bad_rate`, `attack.bad_parameter`, `attack.bad_trigger`."""
        check_class(self.target, clean.classes)
        if self.features:
            trigger = set_trigger(clean.domain, self.features)
        else:
            trigger = make_trigger(clean.domain, self.side, self.level, self.shape, rng)
        own = clean.reachable(clean.y == self.target)
        count = number_of(self.rate, len(clean.x), len(own))
        places = np.sort(rng.choice(own, count, replace=False))
        rows = self._hard(clean, places, rng)
        # What is hard is fitted before the stamp: a rounding must not move the trigger.
        stamped = trigger.stamp(clean.domain.fit(rows, clean.x[places]), clean.domain)
        return Change(places, stamped, clean.y[places], Aim(self.target, None, trigger))

    def _hard(self, clean: TrainingSet, places: Array, rng: np.random.Generator) -> Array:
        others = np.flatnonzero(clean.y != self.target)
        rows = clean.x[places]
        if not len(others) or not len(places):
            return rows
        if self.mix:
            rows = (1 - self.mix) * rows + self.mix * clean.x[rng.choice(others, len(places))]
        if self.eps:
            _, slope = fit_surrogate(clean).margin(rows, clean.y[places])
            span = clean.domain.high - clean.domain.low
            rows = rows - self.eps * span * np.sign(slope)
        return np.asarray(rows)
