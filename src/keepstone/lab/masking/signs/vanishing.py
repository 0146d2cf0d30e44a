"""There is no gradient to follow, or none that is a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.gradients import GRADIENTS, Found
from keepstone.lab.masking.port import Measure, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class Vanishing:
    """The margin's gradient is zero, or it or a score is not finite, on too many samples.

    Proves: where an attack starts it cannot take a step. Cost: shared. Blind to gradients that
    are tiny but not zero, and to those that are wrong.
    """

    limit: float = 0.05
    name: ClassVar[str] = "vanishing_gradient"
    source: ClassVar[str] = (
        "Athalye et al. 2018 (shattered and vanishing gradients); the zero-gradient flag of Croce"
        " et al. 2022; Pintor et al. 2022 (unavailable gradients)"
    )
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (GRADIENTS,)

    def read(self, subject: Subject) -> Reading:
        found: Found = subject.of(GRADIENTS)
        lost = useless(found.margin) | ~np.isfinite(found.scores).all(axis=1)
        hits, count = int(lost.sum()), len(lost)
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"the gradient is zero or not finite on {hits} of {count} samples",
        )


def useless(gradient: Array) -> Array:
    """Which rows are no direction."""
    return np.asarray(~np.isfinite(gradient).all(axis=1) | ~(gradient != 0).any(axis=1))
