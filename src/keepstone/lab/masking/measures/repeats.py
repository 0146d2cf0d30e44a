"""The same questions asked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.port import Meters
from keepstone.lab.masking.subject import Subject
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class Repeats:
    """Every sample `times` times, each time in another order. Gives labels `(times, n)` and
    scores `(times, n, k)` or None."""

    times: int = 5
    name: ClassVar[str] = "repeats"
    needs: ClassVar[Capability] = Capability.LABEL

    @property
    def cost(self) -> int:
        return self.times

    def take(
        self, subject: Subject, meters: Meters, rng: np.random.Generator
    ) -> tuple[Array, Array | None]:
        meter = meters(subject.eps, self.times)
        labels, scores = [], []
        for _ in range(self.times):
            order = rng.permutation(len(meter.x))
            answers = meter.ask(order, meter.x[order])
            back = np.argsort(order)
            labels.append(answers.labels[back])
            if answers.scores is not None:
                scores.append(answers.scores[back])
        return np.stack(labels), np.stack(scores) if scores else None


REPEATS = Repeats()
