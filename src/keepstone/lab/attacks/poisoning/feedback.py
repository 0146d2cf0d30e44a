"""Feedback poisoning: users' corrections that are folded into retraining, and are lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.errors import InputError
from keepstone.lab.attacks.poisoning.port import (
    Aim,
    Change,
    TrainingSet,
    check_class,
    number_of,
)
from keepstone.lab.attacks.port import Source


@dataclass(frozen=True, slots=True)
class Feedback:
    """Promise: the first model is trained on `base` of the rows; the others arrive as feedback in
    `rounds` equal rounds, after each of which a model is trained on all that is there. Of every
    round the attacker sends `rate`, to the nearest row: rows of the class `victim`, as the first
    set has them, labelled as `target`. The others of the round are honest.

    A drill judges the model of every round, for each of them is served.

    Cost: no query; a drill trains twice for each seed and round. Blind spots: an attacker who asks
    the model between rounds and sends what it still gets right does more; feedback that is
    weighed, limited by sender or held back for review does less than is measured here.
    """

    victim: int = 1
    target: int = 0
    rate: float = 0.3
    base: float = 0.5
    rounds: int = 3

    name: ClassVar[str] = "feedback"
    source: ClassVar[Source] = Source("Wang, Chaudhuri 2018, arXiv:1808.08994", "AML.T0020")

    def __post_init__(self) -> None:
        if self.victim == self.target or self.rounds < 1 or not 0 < self.base < 1:
            raise InputError(
                "attack.bad_parameter",
                "Feedback takes two classes, a round at least, and a base between 0 and 1.",
            )

    def change(self, clean: TrainingSet, rng: np.random.Generator) -> Change:
        """Raises InputError `attack.bad_rate`, `attack.bad_parameter`."""
        check_class(self.victim, clean.classes)
        check_class(self.target, clean.classes)
        order = rng.permutation(len(clean.x))
        first, rest = np.split(order, [round(self.base * len(order))])
        known = first[clean.y[first] == self.victim]
        if len(rest) < self.rounds or not len(known):
            raise InputError(
                "attack.bad_data",
                "There is no row for each round, or none of the victim's class before them.",
                "Give more rows, or fewer rounds.",
            )
        arrives = np.zeros(len(clean.x), np.int64)
        sent = []
        for number, part in enumerate(np.array_split(rest, self.rounds), start=1):
            arrives[part] = number
            mine = part[~clean.fixed[part]]
            # Who arrives in the attacker's name is drawn already: the order is random.
            sent.append(mine[: number_of(self.rate, len(part), len(mine))])
        places = np.sort(np.concatenate(sent))
        rows = clean.x[rng.choice(known, len(places))]
        labels = np.full(len(places), self.target)
        return Change(places, rows, labels, Aim(self.target, self.victim), arrives, rows)
