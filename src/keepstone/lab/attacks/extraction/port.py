"""The one protocol of every extraction attack."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.surrogate import StolenModel
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Capability


class ExtractionAttack(Protocol):
    """A frozen dataclass of its parameters, whose repr states each of them but its data."""

    name: ClassVar[str]
    source: ClassVar[Source]
    needs: ClassVar[Capability]

    def ask(self, meter: QueryMeter, rng: np.random.Generator) -> None:
        """Ask the meter until it raises BudgetSpent, or there is nothing left to ask.

        The rows depend on the draws and on the answers, never on the budget.
        """
        ...

    def copy(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> StolenModel:
        """The copy that the answers make. `seen` has only usable ones, at least one of them."""
        ...
