"""Label flips: rows that are right, with labels that are wrong."""

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
from keepstone.lab.attacks.poisoning.surrogate import Surrogate, fit_surrogate
from keepstone.lab.attacks.port import Source


@dataclass(frozen=True, slots=True)
class LabelFlip:
    """Promise: the labels of `rate` of all rows, to the nearest row, are made wrong; no row is
    touched otherwise.

    `victim` and `target` say whose labels are flipped to what; without them any label is flipped
    to another, and the aim is that the model is worse. `guided` takes the rows that a surrogate
    is surest of (farthest first), and without a target gives them the class that it finds least
    likely; else both are drawn. The surrogate is a linear least-squares fit of the same data.

    Cost: no query; a drill trains twice for each seed, and guiding solves one linear system of as
    many unknowns as there are features. Blind spots: it knows neither the model nor its training,
    and so does less than flips that are optimised against both (Biggio et al. 2011); what is sure
    for a linear surrogate may not be so for the model.
    """

    rate: float = 0.1
    victim: int | None = None
    target: int | None = None
    guided: bool = False

    name: ClassVar[str] = "label-flip"
    source: ClassVar[Source] = Source(
        "Xiao et al. 2012: Adversarial Label Flips Attack on Support Vector Machines", "AML.T0020"
    )

    def __post_init__(self) -> None:
        if self.victim is not None and self.target is None:
            raise _bad("a victim needs a target")
        if self.victim is not None and self.victim == self.target:
            raise _bad("the victim's labels are the target's already")

    def change(self, clean: TrainingSet, rng: np.random.Generator) -> Change:
        """Raises InputError `attack.bad_rate`, `attack.bad_parameter`."""
        check_class(self.victim, clean.classes)
        check_class(self.target, clean.classes)
        wanted = np.ones(len(clean.y), bool)
        if self.target is not None:
            wanted = clean.y != self.target
        if self.victim is not None:
            wanted = clean.y == self.victim
        rows = clean.reachable(wanted)
        count = number_of(self.rate, len(clean.x), len(rows))
        guide = fit_surrogate(clean) if self.guided else None
        places = self._chosen(clean, rows, count, guide, rng)
        return Change(
            places,
            clean.x[places],
            self._labels(clean, places, guide, rng),
            Aim(self.target, self.victim),
        )

    def _chosen(
        self,
        clean: TrainingSet,
        rows: Array,
        count: int,
        guide: Surrogate | None,
        rng: np.random.Generator,
    ) -> Array:
        if guide is None:
            return np.sort(rng.choice(rows, count, replace=False))
        margin, _ = guide.margin(clean.x[rows], clean.y[rows])
        return np.sort(rows[np.argsort(-margin, kind="stable")[:count]])

    def _labels(
        self,
        clean: TrainingSet,
        places: Array,
        guide: Surrogate | None,
        rng: np.random.Generator,
    ) -> Array:
        if self.target is not None:
            return np.full(len(places), self.target)
        own = clean.y[places]
        if guide is None:
            # One step from the own class at least, and never all the way round.
            return (own + rng.integers(1, clean.classes, len(places))) % clean.classes
        others = guide.scores(clean.x[places])
        others[np.arange(len(places)), own] = np.inf
        return np.asarray(others.argmin(axis=1))


def _bad(why: str) -> InputError:
    return InputError("attack.bad_parameter", f"No labels can be flipped so: {why}.")
