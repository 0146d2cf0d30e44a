"""The one protocol of every attack on availability."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from keepstone.lab.attacks.availability.cost import CostMeter
from keepstone.lab.attacks.port import Source
from keepstone.lab.meter import BudgetSpent


class AvailabilityAttack(Protocol):
    """A frozen dataclass of its parameters, whose repr states each of them."""

    name: ClassVar[str]
    source: ClassVar[Source]

    def run(self, meter: CostMeter, rng: np.random.Generator) -> None:
        """Ask the meter for rows that may cost much, and return. May end by BudgetSpent.

        What was found is judged afterwards, by measuring it again: nothing is given back.
        """
        ...


def run_within(attack: AvailabilityAttack, meter: CostMeter, rng: np.random.Generator) -> None:
    """Run `attack` to its end, or to that of its means."""
    try:
        attack.run(meter, rng)
    except BudgetSpent:
        return
