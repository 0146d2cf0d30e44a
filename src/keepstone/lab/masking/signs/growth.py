"""More room does not mean more success."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.descent import Ladder
from keepstone.lab.masking.port import Measure, Reading, Weight
from keepstone.lab.masking.subject import Subject

LADDER = Ladder()


@dataclass(frozen=True, slots=True)
class Growth:
    """Samples that fell within a radius stand within a larger one, on too many samples.

    Hints: overshooting does that too. Cost: shared with `unbounded_fails`. Blind to success that
    grows by chance alone.
    """

    limit: float = 0.1
    name: ClassVar[str] = "no_growth"
    source: ClassVar[str] = "Athalye et al. 2018, section 3.1; Carlini et al. 2019 (budget curves)"
    weight: ClassVar[Weight] = Weight.HINTS

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (LADDER,)

    def read(self, subject: Subject) -> Reading:
        radii, broken = subject.of(LADDER)
        shares: Array = broken.mean(axis=1)
        drop = float(np.max(np.maximum.accumulate(shares) - shares))
        steps = ", ".join(f"{s:.2f} at {r:.3g}" for r, s in zip(radii, shares, strict=True))
        return Reading(drop > self.limit, drop, f"success by radius: {steps}")
