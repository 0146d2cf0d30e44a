"""BadNets: rows with a trigger and a wrong label teach a model to obey the trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.lab.attacks.poisoning.port import (
    Aim,
    Change,
    TrainingSet,
    check_class,
    number_of,
)
from keepstone.lab.attacks.poisoning.trigger import make_trigger, set_trigger
from keepstone.lab.attacks.port import Source


@dataclass(frozen=True, slots=True)
class BadNets:
    """Promise: `rate` of all rows, to the nearest row, drawn from those of other classes, get the
    trigger and the label `target`; no other row is touched.

    `side`, `level` and `shape` are the trigger's: a square in the corner of a picture, or features
    drawn from a flat row (`shape` says that a flat row is a picture); or `features`, each by its
    place with the value that it gets.

    Cost: no query; a drill trains twice for each seed. Blind spots: the labels are wrong, so that
    whoever looks at the rows sees them (see clean-label); one trigger, opaque and in one place: a
    model that withstands it may obey a blended, a moving or an invisible one.
    """

    target: int = 0
    rate: float = 0.05
    side: int = 3
    level: float = 1.0
    shape: tuple[int, ...] = ()
    features: tuple[tuple[int, float], ...] = ()

    name: ClassVar[str] = "badnets"
    source: ClassVar[Source] = Source("Gu et al. 2017, arXiv:1708.06733", "AML.T0018.000")

    def change(self, clean: TrainingSet, rng: np.random.Generator) -> Change:
        """Raises InputError `attack.bad_rate`, `attack.bad_parameter`, `attack.bad_trigger`."""
        check_class(self.target, clean.classes)
        if self.features:
            trigger = set_trigger(clean.domain, self.features)
        else:
            trigger = make_trigger(clean.domain, self.side, self.level, self.shape, rng)
        others = clean.reachable(clean.y != self.target)
        count = number_of(self.rate, len(clean.x), len(others))
        places = np.sort(rng.choice(others, count, replace=False))
        # What the domain allows of it is decided where all rows are held to it.
        rows = clean.x[places]
        rows[:, trigger.places] = trigger.values
        return Change(places, rows, np.full(count, self.target), Aim(self.target, None, trigger))
