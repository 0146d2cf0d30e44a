"""CleverHans's attacks on our targets: the real library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keepstone.errors import OperationalError
from keepstone.lab.adapters.cleverhans import CleverHansAttack
from keepstone.lab.meter import Goal
from keepstone.lab.norms import L2
from tests.lab.libraries import GRADIENT, LABEL, SCORES, Models, real


class TestCleverHans:
    pytestmark = real

    @pytest.mark.parametrize("together", [False, True])
    def test_projected_gradients_break_a_network(self, models: Models, together: bool) -> None:
        from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

        def pgd(model: Any, x: Any, y: Any, goal: Goal) -> Any:
            assert goal.eps is not None
            step = goal.eps / 10
            return projected_gradient_descent(model, x, goal.eps, step, 20, np.inf, 0, 1, y)

        attack = CleverHansAttack(name="pgd", attack=pgd, needs=GRADIENT, together=together)
        tally = models.attacked(models.target("network"), attack)
        assert tally.within(0.2).all()

    def test_carlini_wagner_breaks_a_network(self, models: Models) -> None:
        from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2

        attack = CleverHansAttack(
            name="cw",
            attack=lambda model, x, y, goal: carlini_wagner_l2(
                model, x, 10, y=y, lr=0.05, max_iterations=60, binary_search_steps=4
            ),
            needs=GRADIENT,
            together=True,
        )
        found = models.attacked(models.target("network"), attack, norm=L2, eps=1.5)
        assert found.within(1.5).sum() >= 6

    @pytest.mark.parametrize("target", ["network", "forest"])
    def test_attacks_by_label_and_by_score_run_on_every_target(
        self, models: Models, target: str
    ) -> None:
        from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack
        from cleverhans.torch.attacks.spsa import spsa

        jump = CleverHansAttack(
            name="hsj",
            attack=lambda model, x, y, goal: hop_skip_jump_attack(
                model, x, 2, initial_num_evals=20, num_iterations=5, verbose=False
            ),
            needs=LABEL,
        )
        sampled = CleverHansAttack(
            name="spsa",
            attack=lambda model, x, y, goal: spsa(
                model, x, goal.eps, 10, np.inf, 0, 1, y, spsa_samples=8, spsa_iters=1
            ),
            needs=SCORES,
        )
        for attack in (jump, sampled):
            tally = models.attacked(models.target(target), attack, count=4)
            assert tally.queries.min() > 1
            assert tally.queries.mean() > 10

    def test_its_hopskipjump_for_linf_fails_and_is_told(self, models: Models) -> None:
        """Its 4.0.0 hands torch a float where that takes tensors only: `torch.min(a, 0.1)`."""
        from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack

        attack = CleverHansAttack(
            name="hsj",
            attack=lambda model, x, y, goal: hop_skip_jump_attack(
                model, x, np.inf, constraint=np.inf, verbose=False
            ),
            needs=LABEL,
        )
        with pytest.raises(OperationalError) as caught:
            models.attacked(models.target("network"), attack)
        assert caught.value.code == "attack.outside_failed"

    def test_gradient_that_was_not_declared_is_not_given(self, models: Models) -> None:
        from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method

        attack = CleverHansAttack(
            name="fgsm",
            attack=lambda model, x, y, goal: fast_gradient_method(model, x, 0.2, np.inf, y=y),
            needs=SCORES,
        )
        with pytest.raises(OperationalError, match="did not declare") as caught:
            models.attacked(models.target("network"), attack)
        assert caught.value.code == "attack.outside_failed"
