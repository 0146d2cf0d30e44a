"""Search without gradients breaks what attacks by gradient left standing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.descent import DIRECT
from keepstone.lab.masking.measures.search import SEARCH
from keepstone.lab.masking.port import Measure, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class BlackBox:
    """Random search by scores breaks too many of the samples that the attack by gradient left.

    Proves: a weaker attack that needs no gradient does better. Cost: 250 queries, and 95 for an
    attack by gradient where none was told of. Blind to a model that withstands both.
    """

    limit: float = 0.01
    name: ClassVar[str] = "black_box"
    source: ClassVar[str] = (
        "Athalye et al. 2018, section 3.1; Carlini et al. 2019 (gradient-free attacks); the Square"
        " flag of Croce et al. 2022"
    )
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (DIRECT, SEARCH)

    def read(self, subject: Subject) -> Reading:
        broken: Array = subject.of(SEARCH)
        hits, count = int(broken.sum()), len(broken)
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"a search without gradients broke {hits} of {count} samples that stood",
        )
