"""Adversarial training raises what is left, and says so where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.defences.adversarial_training import (
    FastTraining,
    PgdTraining,
    Schedule,
    Trades,
    harden,
)
from keepstone.lab.defences.evaluate import evaluate
from keepstone.lab.norms import LINF
from keepstone.lab.problem import Verdict
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question

WHITE = Suite("small", 200, lambda able: (Step(WhiteBox(sweep=5, near=()), 100, 100),))


def taught(zoo: Any, lesson: Any, epochs: int = 8) -> Any:
    import torch

    from bench.zoo import DOMAIN, perceptron

    torch.manual_seed(0)
    module = perceptron()
    x, y = zoo.learnt
    return module, harden(lesson, module, x, y, DOMAIN, schedule=Schedule(epochs))


@pytest.mark.parametrize(
    "lesson", [PgdTraining(0.2, steps=4), Trades(0.2, steps=4), FastTraining(0.2)]
)
def test_adversarial_training_raises_what_the_white_box_attack_leaves(
    zoo: Any, lesson: Any
) -> None:
    module, made = taught(zoo, lesson)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    question = Question(LINF, (0.1,), 120)
    bare = zoo.target("MLP")
    found = evaluate(made, zoo.x[:120], zoo.y[:120], WHITE, question, undefended=bare)
    assert found.verdict is Verdict.PASS
    (at,) = found.robust
    assert at.defended.low > at.undefended.value
    # The caller's own module is as it was, and can be trained.
    assert all((before[name] == value).all() for name, value in module.state_dict().items())
    assert all(one.requires_grad for one in module.parameters())


def test_adversarial_training_is_the_same_for_a_seed(zoo: Any) -> None:
    import torch

    first = taught(zoo, PgdTraining(0.2, steps=1), 1)[1].predict(zoo.x[:20]).scores
    torch.rand(3)
    again = taught(zoo, PgdTraining(0.2, steps=1), 1)[1].predict(zoo.x[:20]).scores
    assert (first == again).all()


def test_a_training_that_diverges_says_so(zoo: Any) -> None:
    from bench.zoo import DOMAIN, perceptron

    x, y = zoo.learnt
    with pytest.raises(OperationalError, match=r"defence\.diverged"):
        harden(PgdTraining(0.2, 1), perceptron(), x, y, DOMAIN, schedule=Schedule(3, 16, 1e30))
    with pytest.raises(InputError, match=r"attack\.bad_eps"):
        harden(FastTraining(0.0), perceptron(), x, y, DOMAIN)
