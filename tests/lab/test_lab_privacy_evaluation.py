"""A proven epsilon beside attacks: what they show may contradict it, and never proves it."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.lab.attacks.privacy.shadows import make_shadows
from keepstone.lab.defences.accounting import Epsilon
from keepstone.lab.defences.dp_sgd import Private
from keepstone.lab.defences.privacy_evaluation import (
    PrivacyEvaluation,
    attacked,
    epsilon_at_least,
)
from keepstone.lab.domain import Domain
from keepstone.lab.metrics.roc import roc_of
from keepstone.lab.problem import Verdict, invalid
from keepstone.lab.targets.port import Answers, Capability, best_class

DOMAIN = Domain.of((1,), 0.0, 1.0, "float64")
COUNT = 500
DELTA = 1e-5


@dataclass
class Remembers:
    """Two classes; surer by `edge` of the rows that are in `known`."""

    known: Array
    edge: float
    classes: int = 2
    domain: Domain = DOMAIN
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL, Capability.SCORES})

    def predict(self, rows: Array) -> Answers:
        inside = np.isin(rows[:, 0], self.known)
        # How sure it is of others is told by the row, and by nothing else.
        sure = 1 + np.abs(np.sin(rows[:, 0] * 1e4)) + self.edge * inside
        right = rows[:, 0] > 0.5
        scores = np.stack([np.where(right, 0, sure), np.where(right, sure, 0)], axis=1)
        return Answers(best_class(scores), scores)


def rows(count: int = COUNT) -> tuple[Array, Array, Array]:
    x = np.random.default_rng(0).uniform(0, 1, (2 * count, 1))
    return x, (x[:, 0] > 0.5).astype(np.int64), np.arange(2 * count) < count


def proved(epsilon: float, target: Any, problems: tuple[Any, ...] = ()) -> Private:
    told = Epsilon(epsilon, DELTA, "pld", (("prv", epsilon), ("pld", epsilon)), 1.0, 0.1, 10)
    return Private(target, told, 1.0, problems)


def judged(edge: float, epsilon: float, count: int = COUNT, **given: Any) -> PrivacyEvaluation:
    x, y, members = rows(count)
    private = Remembers(x[members, 0], edge)
    return attacked(proved(epsilon, private, **given), Remembers(x[members, 0], 5.0), x, y, members)


def test_a_model_that_tells_nothing_contradicts_nothing() -> None:
    found = judged(0.0, 0.5)
    assert found.verdict is Verdict.PASS
    assert found.lower == 0.0
    (beside,) = found.attacks
    told = beside.to_dict()
    assert told["undefended"]["value"] == 1.0
    assert told["private"]["value"] < 0.05


def test_an_epsilon_that_an_attack_contradicts_is_invalid() -> None:
    found = judged(5.0, 1.0)
    assert [one.code for one in found.problems] == ["defence.epsilon_contradicted"]
    assert found.verdict is Verdict.INVALID
    assert found.lower > 3
    told = found.to_dict()
    assert told["schema"] == "keepstone.privacy/v1"
    assert told["verdict"] == "invalid"
    assert told["epsilon_at_least"] > told["privacy"]["epsilon"] == 1.0
    # The same attack is no contradiction of an epsilon that allows it.
    assert judged(5.0, 12.0).verdict is Verdict.PASS


def test_what_voids_the_training_voids_its_evaluation() -> None:
    seeded = invalid("defence.seeded", "The noise was drawn by a known seed.")
    assert judged(0.0, 0.5, problems=(seeded,)).verdict is Verdict.INVALID


def test_too_few_rows_say_nothing_of_one_in_a_hundred() -> None:
    found = judged(0.0, 0.5, count=100)
    assert [one.code for one in found.problems] == ["defence.too_few"]
    assert found.verdict is Verdict.INSUFFICIENT


def test_a_model_that_cannot_be_attacked_is_insufficient() -> None:
    class Constant(Remembers):
        def predict(self, rows: Array) -> Answers:
            scores = np.zeros((len(rows), 2))
            return Answers(best_class(scores), scores)

    x, y, members = rows()
    found = attacked(
        proved(0.5, Constant(x[:0, 0], 0.0)), Remembers(x[members, 0], 5.0), x, y, members
    )
    assert [one.code for one in found.problems] == ["defence.not_attacked"]
    assert found.verdict is Verdict.INSUFFICIENT


def test_shadow_models_are_an_attack_more() -> None:
    x, y, members = rows()

    def train(x: Array, y: Array, seed: int) -> Remembers:
        return Remembers(x[:, 0], 5.0)

    shadows = make_shadows(train, x, y, 4, 0)
    private = Remembers(x[members, 0], 5.0)
    found = attacked(proved(1.0, private), private, x, y, members, shadows)
    assert [one.private.attack for one in found.attacks] == ["loss-threshold", "rmia"]
    assert found.attacks[1].private.shadows == 4
    assert found.verdict is Verdict.INVALID


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_randomised_response_is_never_said_to_need_more_than_it_does(epsilon: float) -> None:
    # Each row's membership is told through a coin of just this epsilon: the best attack there is.
    chance = exp(epsilon) / (1 + exp(epsilon))
    rng = np.random.default_rng(7)
    over, found = 0, []
    for _ in range(200):
        members = (rng.random(COUNT) < chance) + rng.random(COUNT) / 1e6
        others = (rng.random(COUNT) < 1 - chance) + rng.random(COUNT) / 1e6
        found.append(epsilon_at_least(roc_of(members, others), 0.0, 0.01))
        over += found[-1] > epsilon
    assert over <= 6
    # And it comes near to it where there is much to see.
    assert np.median(found) > (0.6 * epsilon if epsilon >= 1 else -1)


def test_who_is_not_accused_tells_as_much() -> None:
    # Members are never accused among the surest, but all of them are in the upper half.
    members = np.linspace(0.5, 0.9, COUNT)
    others = np.concatenate([np.linspace(0, 0.4, COUNT // 2), np.linspace(0.95, 1, COUNT // 2)])
    found = epsilon_at_least(roc_of(members, others), 0.0, 0.01)
    assert found > log(20)
