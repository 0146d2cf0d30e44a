"""A smooth surrogate's adversarial examples beat those of the model's own gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.descent import DIRECT
from keepstone.lab.masking.measures.surrogate import TRANSFER
from keepstone.lab.masking.port import Measure, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class TransferBeats:
    """What breaks a small network trained on the target's answers breaks too many of the
    samples that the attack by gradient left.

    Proves: the gradient of another model is the better guide. Cost: 12 queries. Blind where the
    surrogate learns little, as of few samples.
    """

    limit: float = 0.02
    name: ClassVar[str] = "transfer"
    source: ClassVar[str] = (
        "Papernot et al. 2017; Athalye et al. 2018, section 3.1; Carlini et al. 2019 (transfer)"
    )
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (DIRECT, TRANSFER)

    def read(self, subject: Subject) -> Reading:
        broken: Array = subject.of(TRANSFER)
        hits, count = int(broken.sum()), len(broken)
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"a surrogate broke {hits} of {count} samples that stood",
        )
