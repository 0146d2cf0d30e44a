"""The same question gets different answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.gradients import GRADIENTS, Found
from keepstone.lab.masking.measures.repeats import REPEATS
from keepstone.lab.masking.port import Measure, NotEvaluated, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject

# Labels of tied scores change by rounding, on so few samples.
_TIES = 0.01
_WORST = 0.9


@dataclass(frozen=True, slots=True)
class Randomised:
    """Scores, labels or gradients of the same rows differ by more than `limit` of their length.

    Proves that attacks without expectation over transformation (EOT) mean nothing here. Cost: 5
    queries. Blind to noise that is fixed by the input: that is `finite_differences`'s to see.
    """

    limit: float = 1e-3
    name: ClassVar[str] = "randomised"
    source: ClassVar[str] = (
        "Athalye et al. 2018 (stochastic gradients, EOT); the randomised flag of Croce et al."
        " 2022; Pintor et al. 2022 (unstable predictions)"
    )
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (REPEATS, GRADIENTS)

    def read(self, subject: Subject) -> Reading:
        labels, scores = subject.of(REPEATS)
        answered = (labels >= 0).all(axis=0)
        if not answered.any():
            raise NotEvaluated("the target does not answer the same question every time")
        changed = int((labels[:, answered] != labels[0, answered]).any(axis=0).sum())
        moved = 0.0
        if scores is not None:
            moved = _spread(scores[:, answered])
        if "gradient" in subject.target.capabilities:
            found: Found = subject.of(GRADIENTS)
            moved = max(moved, _spread(np.stack([found.margin, found.again])))
        count = int(answered.sum())
        seen = moved > self.limit or exceeds(changed, count, _TIES)
        advice = ": attacks need EOT" if seen else ""
        return Reading(
            seen,
            moved,
            f"{changed} of {count} labels changed between identical questions, and"
            f" scores or gradients by {moved:.1e} of their length{advice}",
        )


def _spread(asked: Array) -> float:
    """How far `(times, n, k)` answers to `n` questions lie apart, by one of the worst questions.

    Not the worst: rounding may tip a score that is zero, or a gradient at a kink.
    """
    found = np.nan_to_num(asked.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    apart = np.sqrt(((found - found[0]) ** 2).sum(axis=2)).max(axis=0)
    length = np.sqrt((found**2).sum(axis=2)).max(axis=0)
    return float(np.quantile(apart / np.where(length > 0, length, 1.0), _WORST))
