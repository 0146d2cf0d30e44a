"""Targets that count and watch what they are asked, for the tests of attacks without gradients."""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.boundary import Boundary
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.patch import Patch
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square
from keepstone.lab.attacks.evasion.transfer import Transfer
from keepstone.lab.attacks.evasion.trees import TreeAttack
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter, Tally
from keepstone.lab.norms import norm_called
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability
from keepstone.lab.targets.trees import Trees

ATTACKS: tuple[Attack, ...] = (
    RandomSearch(),
    Square(),
    HopSkipJump(probes=10),
    Boundary(),
    Transfer(probes=2),
    Patch(2),
    TreeAttack(),
)


class Watched:
    """A linear classifier that keeps every row it is asked; `steps` makes its scores tie."""

    def __init__(
        self,
        domain: Domain,
        *,
        classes: int = 3,
        scores: bool = True,
        silent: float = 0.0,
        steps: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.domain, self.classes = domain, classes
        rng = np.random.default_rng(seed)
        self.weights = rng.standard_normal((domain.width, classes))
        self.middle = (domain.low + domain.high) / 2
        self.capabilities = frozenset(
            {Capability.LABEL, Capability.SCORES} if scores else {Capability.LABEL}
        )
        self._silent, self._steps, self._rng = silent, steps, rng
        self.asked: list[Array] = []

    def predict(self, rows: Array) -> Answers:
        self.asked.append(rows.copy())
        span = np.where(self.domain.high > self.domain.low, self.domain.high - self.domain.low, 1)
        found = ((rows - self.middle) / span) @ self.weights
        if self._steps:
            found = np.round(found / self._steps) * self._steps
        labels = found.argmax(axis=1)
        labels[self._rng.random(len(rows)) < self._silent] = UNANSWERED
        return Answers(labels, found if Capability.SCORES in self.capabilities else None)


class Stump(Watched):
    """A sum of trees of one split each, which shows them: what `Watched` is, by its signs."""

    def __init__(self, domain: Domain, *, trees: int = 12, seed: int = 0) -> None:
        super().__init__(domain, classes=2, seed=seed)
        rng = np.random.default_rng(seed)
        at = 3 * np.arange(trees)
        count = 3 * trees
        feature, cut = np.zeros(count, np.int64), np.full(count, np.inf)
        left, right = np.arange(count), np.arange(count)
        feature[at] = rng.integers(0, domain.width, trees)
        cut[at] = rng.uniform(domain.low[feature[at]], domain.high[feature[at]])
        left[at], right[at] = at + 1, at + 2
        value = np.zeros((count, 2))
        value[at + 1, 0], value[at + 2, 1] = rng.uniform(0.5, 1, (2, trees))
        self.trees = Trees(feature, cut, left, right, value, at, 1, np.zeros(2))
        self.capabilities |= {Capability.TREES}

    def predict(self, rows: Array) -> Answers:
        self.asked.append(rows.copy())
        found = self.trees.scores(rows)
        return Answers(found.argmax(axis=1), found)


def attacked(
    attack: Attack,
    target: Watched,
    x: Array,
    *,
    norm: str | None = None,
    eps: float = 0.3,
    budget: int = 40,
    seed: int = 0,
) -> tuple[Meter, Tally]:
    """The meter and its tally after `attack`; the right labels are those that are served."""
    silent, target._silent = target._silent, 0.0
    y = target.predict(target.domain.fit(x, x)).labels
    target._silent = silent
    target.asked.clear()
    name = norm or ("linf" if "linf" in attack.norms else min(attack.norms))
    meter = Meter(target, x, y, Goal(norm_called(name), eps, budget))
    run_attack(attack, meter, np.random.default_rng(seed))
    return meter, meter.tally()
