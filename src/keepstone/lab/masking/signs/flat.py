"""The loss is flat along the gradient, and not elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.gradients import GRADIENTS
from keepstone.lab.masking.measures.steps import STEPS, Stepped
from keepstone.lab.masking.port import Measure, NotEvaluated, Reading, Weight
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class Flat:
    """Within epsilon the margin spreads less along the gradient than along random directions.

    `value` is the median over samples of how much less: above `limit` random directions spread
    it more. Hints: sharply curved losses look so too. Cost: shared with `noise_as_good`.
    """

    limit: float = 1.1
    name: ClassVar[str] = "flat_along_gradient"
    source: ClassVar[str] = (
        "Tramer et al. 2018 (gradient masking by curvature near the sample); Carlini et al. 2019"
    )
    weight: ClassVar[Weight] = Weight.HINTS

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (GRADIENTS, STEPS)

    def read(self, subject: Subject) -> Reading:
        found: Stepped = subject.of(STEPS)
        along = _spread(found.along)
        elsewhere = _spread(found.elsewhere).mean(axis=1)
        moved = (along > 0) | (elsewhere > 0)
        if not moved.any():
            raise NotEvaluated("the scores change nowhere within epsilon")
        # One that is flat along the gradient alone has no finite ratio: any large one serves.
        ratio = elsewhere[moved] / np.maximum(along[moved], 1e-6 * elsewhere[moved])
        value = float(np.median(ratio))
        return Reading(
            value > self.limit,
            value,
            f"random directions change the margin {value:.2g} times as much as the gradient's",
        )


def _spread(changes: Array) -> Array:
    """Between the least and the greatest of a line of changes, the sample's own 0 included."""
    return np.asarray(np.maximum(changes.max(axis=-1), 0.0) - np.minimum(changes.min(axis=-1), 0.0))
