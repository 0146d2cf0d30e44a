"""Targets and attacks of a few lines, for tests that ask what the lab itself does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import LINF
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, Linearization, Target

UNIT = Domain.of((2,), 0.0, 1.0, "float64")
# By `halves` both are served class 1, `.4` and `.2` from the boundary in l-infinity.
X = np.array([[0.9, 0.1], [0.7, 0.3]])
Y = np.array([1, 1])


@dataclass
class Linear:
    """Scores are `rows @ weights + bias`; every row that is asked is kept in `asked`."""

    weights: Array
    bias: Array
    domain: Domain = UNIT
    capabilities: frozenset[Capability] = frozenset(Capability)
    asked: list[Array] = field(default_factory=list)
    silent_from: int | None = None

    @property
    def classes(self) -> int:
        return len(self.bias)

    @property
    def rows_asked(self) -> int:
        return sum(map(len, self.asked))

    def predict(self, rows: Array) -> Answers:
        before = self.rows_asked
        self.asked.append(rows.copy())
        scores = rows @ self.weights + self.bias
        labels = scores.argmax(axis=1)
        if self.silent_from is not None:
            labels[max(0, self.silent_from - before) :] = UNANSWERED
        return Answers(labels, scores if Capability.SCORES in self.capabilities else None)

    def linearize(self, rows: Array) -> Linearization:
        found = self.predict(rows)
        assert found.scores is not None
        return Linearization(found.labels, found.scores, lambda given: given @ self.weights.T)


def halves(**changed: object) -> Linear:
    """Class 1 where the first of two numbers is the greater."""
    return Linear(np.array([[-1.0, 1.0], [1.0, -1.0]]), np.zeros(2), **changed)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Towards:
    """Goes from each sample towards `goal` in steps, by label alone."""

    name: ClassVar[str] = "towards"
    source: ClassVar[Source] = Source("none", "AML.T0043")
    needs: ClassVar[Capability] = Capability.LABEL
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1", "l0"})
    minimizes: ClassVar[bool] = False

    goal: tuple[float, ...] = (0.0, 1.0)
    steps: int = 20

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        for step in range(1, self.steps + 1):
            places = meter.standing()
            if not len(places):
                return
            x = meter.x[places]
            rows = x + (np.asarray(self.goal) - x) * step / self.steps
            if meter.goal.eps is not None:
                rows = x + meter.goal.norm.project(rows - x, meter.goal.eps)
            meter.ask(places, rows)


def meter(target: Target, *, budget: int = 10, eps: float | None = 0.3) -> Meter:
    """Of those two rows."""
    return Meter(target, X, Y, Goal(LINF, eps, budget))


LINE = Domain.of((1,), 0.0, 9.0, "float64")


@dataclass
class Nearest:
    """The label of the nearest row that it was trained on, the first of several."""

    x: Array
    y: Array
    classes: int = 3
    domain: Domain = LINE
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        return Answers(self.y[np.abs(rows[:, None, 0] - self.x[None, :, 0]).argmin(axis=1)])


def train(x: Array, y: Array, seed: int) -> Nearest:
    return Nearest(x, y)
