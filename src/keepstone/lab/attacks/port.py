"""The one protocol of every attack on predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keepstone.lab.meter import BudgetSpent, Meter
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class Source:
    """Where an attack is from, and what it is called in MITRE ATLAS."""

    paper: str
    atlas: str


class Attack(Protocol):
    """A frozen dataclass of its parameters, whose repr states each of them.

    What our own say of their class, adapters of other libraries say of an instance.
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> Source: ...

    @property
    def needs(self) -> Capability: ...

    @property
    def norms(self) -> frozenset[str]:
        """By their names, each that it bounds or minimises."""
        ...

    @property
    def minimizes(self) -> bool:
        """Whether it seeks the smallest perturbation, rather than any within epsilon."""
        ...

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        """Ask the meter, until every sample is broken or given up, and return.

        May end by BudgetSpent; what was found before that counts.
        """
        ...


def run_attack(attack: Attack, meter: Meter, rng: np.random.Generator) -> None:
    """Run `attack` to its end, or to that of its budget."""
    try:
        attack.run(meter, rng)
    except BudgetSpent:
        return
