"""Foolbox's attacks on our targets, and its models as our targets: the real library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keepstone.errors import InputError
from keepstone.lab.adapters.foolbox import FoolboxAttack, FoolboxTarget
from keepstone.lab.attacks.evasion.pgd import Pgd
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.port import run_attack
from keepstone.lab.norms import L2, LINF, Norm
from tests.lab.fakes import Linear, halves, meter
from tests.lab.libraries import (
    GRADIENT,
    LABEL,
    PICTURE,
    ROW,
    SCORES,
    Models,
    assert_gradient_is_true,
    real,
)


class TestFoolbox:
    pytestmark = real

    @pytest.mark.parametrize("together", [False, True])
    @pytest.mark.parametrize(
        ("name", "options", "norm", "eps"),
        [
            ("LinfPGD", {"steps": 20, "rel_stepsize": 0.1}, LINF, 0.2),
            ("LinfFastGradientAttack", {"random_start": False}, LINF, 0.2),
            ("LinfDeepFoolAttack", {}, LINF, 0.2),
            (
                "L2CarliniWagnerAttack",
                {"steps": 60, "stepsize": 0.05, "binary_search_steps": 4},
                L2,
                1.5,
            ),
        ],
    )
    def test_attacks_by_gradient_break_a_network(
        self,
        models: Models,
        name: str,
        options: dict[str, Any],
        norm: Norm,
        eps: float,
        together: bool,
    ) -> None:
        import foolbox

        attack = FoolboxAttack(getattr(foolbox.attacks, name)(**options), GRADIENT, together)
        assert attack.norms == {norm.name}
        assert attack.minimizes == (name in ("LinfDeepFoolAttack", "L2CarliniWagnerAttack"))
        tally = models.attacked(models.target("network"), attack, norm=norm, eps=eps)
        assert tally.within(eps).sum() >= 6
        assert tally.gradients.max() >= 1

    @pytest.mark.parametrize("target", ["network", "forest"])
    @pytest.mark.parametrize(
        ("name", "options", "together"),
        [
            ("HopSkipJumpAttack", {"steps": 5, "constraint": "linf"}, False),
            ("BoundaryAttack", {"steps": 50}, False),
            ("LinfRepeatedAdditiveUniformNoiseAttack", {"repeats": 50}, True),
            ("SaltAndPepperNoiseAttack", {"steps": 50}, True),
        ],
    )
    def test_black_box_attacks_run_on_every_target(
        self, models: Models, target: str, name: str, options: dict[str, Any], together: bool
    ) -> None:
        import foolbox

        attack = FoolboxAttack(getattr(foolbox.attacks, name)(**options), LABEL, together)
        assert attack.name.startswith("foolbox-")
        tally = models.attacked(models.target(target), attack, eps=0.4)
        assert tally.queries.min() > 1
        assert tally.queries.mean() > 10
        assert not tally.gradients.any()

    def test_attack_without_a_start_found_nothing_and_did_not_fail(self, libraries: None) -> None:
        from foolbox.attacks import BoundaryAttack

        always = Linear(np.zeros((2, 2)), np.array([0.0, 1.0]))
        m = meter(always, budget=5000)
        run_attack(FoolboxAttack(BoundaryAttack(steps=5), LABEL), m, np.random.default_rng(0))
        assert not np.isfinite(m.tally().distance).any()
        assert (m.tally().queries > 10).all()

    def test_attack_at_an_epsilon_is_not_run_without_one(self, libraries: None) -> None:
        from foolbox.attacks import LinfPGD

        with pytest.raises(InputError) as caught:
            FoolboxAttack(LinfPGD(), GRADIENT).run(
                meter(halves(), eps=None), np.random.default_rng(0)
            )
        assert caught.value.code == "attack.no_eps"

    def test_chance_comes_from_the_seed(self, models: Models) -> None:
        from foolbox.attacks import LinfPGD

        attack = FoolboxAttack(LinfPGD(steps=3), GRADIENT)
        rows = [models.attacked(models.target("network"), attack).rows for _ in range(2)]
        assert (rows[0] == rows[1]).all()

    @pytest.mark.parametrize("probable", [False, True])
    def test_torch_model_of_theirs_is_a_target_with_a_gradient(
        self, models: Models, probable: bool
    ) -> None:
        import foolbox
        import torch

        module = models.network
        if probable:
            module = torch.nn.Sequential(module, torch.nn.Softmax(1)).eval()
        model = foolbox.PyTorchModel(module, (0, 1), "cpu", {"mean": 0.5, "std": 0.5, "axis": None})
        target = FoolboxTarget(model, PICTURE)
        assert target.capabilities == {LABEL, SCORES, GRADIENT}
        assert_gradient_is_true(target, models.x[:8])
        plain = FoolboxTarget(foolbox.PyTorchModel(module, (0, 1), "cpu"), PICTURE)
        assert models.attacked(plain, Pgd()).within(0.2).all()

    def test_numpy_model_of_theirs_is_a_target_without(self, models: Models) -> None:
        import foolbox

        target = FoolboxTarget(foolbox.NumPyModel(models.forest.predict_proba, (0, 1)), ROW)
        assert target.capabilities == {LABEL, SCORES}
        assert models.attacked(target, RandomSearch()).within(0.2).sum() >= 6
        with pytest.raises(InputError) as caught:
            FoolboxTarget(models.forest, ROW)
        assert caught.value.code == "target.bad_object"
