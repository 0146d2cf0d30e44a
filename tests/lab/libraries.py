"""What the tests of ART, Foolbox and CleverHans share: models of digits, and counted targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter, Tally
from keepstone.lab.norms import LINF, Norm
from keepstone.lab.targets.port import Answers, Capability, GradientTarget, Target
from keepstone.lab.targets.python import PythonTarget
from keepstone.lab.targets.torch import TorchTarget

LABEL, SCORES, GRADIENT = Capability.LABEL, Capability.SCORES, Capability.GRADIENT
# They warn of NumPy's and of torch's deprecations, which are theirs.
real = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PICTURE = Domain.of((1, 8, 8), 0.0, 1.0)
ROW = Domain.of((64,), 0.0, 1.0)


class Counting:
    """What a target is asked, counted by nobody who attacks."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.rows = 0
        self.domain, self.classes = target.domain, target.classes
        self.capabilities = target.capabilities

    def predict(self, rows: Array) -> Answers:
        self.rows += len(rows)
        found: Answers = self._target.predict(rows)
        return found

    def linearize(self, rows: Array) -> Any:
        self.rows += len(rows)
        return self._target.linearize(rows)


class Models:
    """A forest, a tree, a regression and a network that read digits well, and digits to attack."""

    def __init__(self) -> None:
        import torch
        from sklearn.datasets import load_digits
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.tree import DecisionTreeClassifier

        x, y = load_digits(return_X_y=True)
        x = (x / 16).astype(np.float32)
        held, known = slice(1200, None), slice(0, 1200)
        self.x, self.y = x[held], y[held]
        self.forest = RandomForestClassifier(10, random_state=0).fit(x[known], y[known])
        self.tree = DecisionTreeClassifier(random_state=0).fit(x[known], y[known])
        self.regression = LogisticRegression(max_iter=500).fit(x[known], y[known])
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )
        inputs, labels = torch.from_numpy(x[known]), torch.from_numpy(y[known])
        steps = torch.optim.Adam(self.network.parameters(), 0.01)
        for _ in range(150):
            steps.zero_grad()
            torch.nn.functional.cross_entropy(self.network(inputs), labels).backward()
            steps.step()
        self.network.eval()

    def target(self, name: str) -> Counting:
        if name == "network":
            return Counting(TorchTarget(self.network, PICTURE))
        return Counting(PythonTarget(getattr(self, name), ROW))

    def attacked(
        self,
        target: Target,
        attack: Attack,
        *,
        norm: Norm = LINF,
        eps: float | None = 0.2,
        budget: int = 300,
        count: int = 8,
    ) -> Tally:
        right = np.flatnonzero(target.predict(self.x[:100]).labels == self.y[:100])[:count]
        m = Meter(target, self.x[right], self.y[right], Goal(norm, eps, budget))
        before = target.rows if isinstance(target, Counting) else 0
        run_attack(attack, m, np.random.default_rng(0))
        tally = m.tally()
        if isinstance(target, Counting):
            assert target.rows - before == tally.queries.sum()
        assert tally.queries.max() <= budget
        broken = np.isfinite(tally.distance)
        # The nearest lie so near a boundary that another batch's rounding tells them otherwise.
        scores = target.predict(tally.rows[broken]).scores
        assert scores is not None
        right_score = scores[np.arange(len(scores)), m.y[broken]]
        assert (scores.max(axis=1) >= right_score).all()
        assert (scores.argmax(axis=1) != m.y[broken])[scores.max(axis=1) > right_score + 1e-4].all()
        return tally


def assert_gradient_is_true(target: GradientTarget, rows: Array) -> None:
    """It agrees with finite differences of the scores."""
    draw = np.random.default_rng(1)
    found = target.linearize(rows)
    weights = draw.standard_normal(found.scores.shape)
    step = (draw.standard_normal(rows.shape) * 1e-3).astype(rows.dtype)
    told = (found.vjp(weights) * step).sum(axis=1)
    before, after = (target.predict(at).scores for at in (rows - step, rows + step))
    assert before is not None
    assert after is not None
    change = ((after.astype(np.float64) - before) * weights).sum(axis=1) / 2
    # A step over a kink of one row's activations is no difference of the gradient.
    assert np.median(np.abs(told - change)) <= 0.01 * np.abs(change).max()
