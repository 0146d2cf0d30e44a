"""ART's attacks on our targets, and its classifiers as our targets: the real library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keepstone.errors import InputError, KeepstoneError
from keepstone.lab.adapters.art import ArtAttack, ArtTarget
from keepstone.lab.adapters.foolbox import FoolboxAttack
from keepstone.lab.attacks.evasion.pgd import Pgd
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.port import Attack
from keepstone.lab.norms import L2, LINF, Norm
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets.port import Capability
from keepstone.lab.targets.torch import TorchTarget
from tests.lab.libraries import (
    GRADIENT,
    LABEL,
    PICTURE,
    SCORES,
    Models,
    assert_gradient_is_true,
    real,
)


def art(name: str, needs: Capability, *, at_goal: bool = False, **options: Any) -> ArtAttack:
    """An attack of ART's by its name; `at_goal` gives it the goal's epsilon."""
    adapter = {
        key: options.pop(key)
        for key in ("together", "probabilities", "minimizes")
        if key in options
    }

    def make(asked: Any) -> Any:
        import art.attacks.evasion as attacks

        bound = {"eps": asked.goal.eps} if at_goal else {}
        return getattr(attacks, name)(asked, **options, **bound)

    return ArtAttack(name=name, make=make, needs=needs, **adapter)


class TestArt:
    pytestmark = real

    # HopSkipJump and Boundary fail on ART's own classifiers of torch modules, with NumPy 2.
    @pytest.mark.parametrize("target", ["network", "forest"])
    @pytest.mark.parametrize(
        ("attack", "least"),
        [
            (
                art("HopSkipJump", LABEL, norm=np.inf, max_iter=10, max_eval=500, init_eval=20),
                2,
            ),
            (art("BoundaryAttack", LABEL, targeted=False, max_iter=20), 0),
            (art("SignOPTAttack", LABEL, targeted=False, query_limit=500, max_iter=5), 0),
            (art("ZooAttack", SCORES, max_iter=10, use_resize=False, nb_parallel=16), 0),
        ],
        ids=lambda value: getattr(value, "name", None),
    )
    def test_black_box_attacks_run_on_every_target(
        self, models: Models, target: str, attack: ArtAttack, least: int
    ) -> None:
        tally = models.attacked(models.target(target), attack)
        assert tally.within(0.2).sum() >= least
        assert tally.queries.min() >= 1

    @pytest.mark.parametrize(
        "attack",
        [
            art("HopSkipJump", LABEL, norm=np.inf, max_iter=2, max_eval=100, init_eval=20),
            art("BoundaryAttack", LABEL, targeted=False, max_iter=5),
        ],
        ids=lambda attack: attack.name,
    )
    def test_chance_comes_from_the_seed_even_where_they_seed_nothing(
        self, models: Models, attack: ArtAttack
    ) -> None:
        """Both start from a `RandomState()` of their own, which the process's seed is not in."""
        kind = np.random.RandomState
        found = [models.attacked(models.target("network"), attack) for _ in range(2)]
        assert (found[0].rows == found[1].rows).all()
        assert (found[0].queries == found[1].queries).all()
        assert np.random.RandomState is kind

    def test_square_set_to_a_thousand_never_asks_more_than_the_budget(self, models: Models) -> None:
        square = art(
            "SquareAttack", SCORES, at_goal=True, norm=np.inf, max_iter=1000, nb_restarts=1
        )
        # So small an epsilon that it does not end before.
        free = models.attacked(models.target("network"), square, eps=0.01, budget=9000, count=2)
        assert free.queries.max() > 1000
        kept = models.attacked(models.target("network"), square, eps=0.01, budget=1000, count=2)
        assert 900 < kept.queries.max() <= 1000

    def test_square_and_simba_break_a_network(self, models: Models) -> None:
        square = art("SquareAttack", SCORES, at_goal=True, norm=np.inf, max_iter=300)
        simba = art("SimBA", SCORES, probabilities=True, attack="px", max_iter=300, epsilon=0.2)
        for attack in (square, simba):
            assert models.attacked(models.target("network"), attack).within(0.2).sum() >= 6

    @pytest.mark.parametrize("together", [False, True])
    def test_projected_gradients_break_a_network(self, models: Models, together: bool) -> None:
        pgd = art(
            "ProjectedGradientDescent",
            GRADIENT,
            at_goal=True,
            together=together,
            eps_step=0.02,
            max_iter=40,
        )
        tally = models.attacked(models.target("network"), pgd)
        assert tally.within(0.2).all()
        assert tally.gradients.max() <= 40

    @pytest.mark.parametrize(
        ("name", "options", "norm", "eps"),
        [
            ("FastGradientMethod", {"at_goal": True, "eps_step": 0.02}, LINF, 0.2),
            ("AutoProjectedGradientDescent", {"at_goal": True, "eps_step": 0.05}, LINF, 0.2),
            ("DeepFool", {"max_iter": 20}, L2, 1.0),
            ("CarliniL2Method", {"max_iter": 20, "learning_rate": 0.1}, L2, 1.5),
        ],
    )
    def test_attacks_by_gradient_break_a_network(
        self, models: Models, name: str, options: dict[str, Any], norm: Norm, eps: float
    ) -> None:
        attack = art(name, GRADIENT, **options)
        found = models.attacked(models.target("network"), attack, norm=norm, eps=eps, budget=600)
        assert found.within(eps).sum() >= 6

    def test_batches_that_are_not_the_samples_in_order_are_refused(self, models: Models) -> None:
        pgd = art(
            "ProjectedGradientDescent",
            GRADIENT,
            together=True,
            eps=0.2,
            eps_step=0.02,
            batch_size=3,
        )
        with pytest.raises(InputError) as caught:
            models.attacked(models.target("network"), pgd)
        assert caught.value.code == "attack.unmapped"

    def test_attack_that_needs_more_than_it_said_is_refused(self, models: Models) -> None:
        with pytest.raises(InputError) as caught:
            models.attacked(
                models.target("network"), art("ProjectedGradientDescent", SCORES, eps=0.2)
            )
        assert caught.value.code == "attack.unable"

    def test_tree_attack_is_not_given_right_labels_for_targets(self, models: Models) -> None:
        from art.attacks.evasion import DecisionTreeAttack
        from art.estimators.classification.scikitlearn import ScikitlearnDecisionTreeClassifier

        def make(asked: object) -> Any:
            return DecisionTreeAttack(ScikitlearnDecisionTreeClassifier(models.tree), offset=0.01)

        attack = ArtAttack(name="tree", make=make, needs=LABEL)
        tally = models.attacked(models.target("tree"), attack, eps=1.0, budget=2)
        assert tally.within(1.0).all()
        # As ART's own examples would call it, it changes nothing.
        x = models.x[:20]
        served = models.tree.predict(x)
        assert (models.tree.predict(make(None).generate(x, np.eye(10)[served])) == served).all()

    def test_targeted_attack_gets_a_class_that_is_not_the_right_one(self, models: Models) -> None:
        attack = art(
            "ProjectedGradientDescent",
            GRADIENT,
            at_goal=True,
            eps_step=0.02,
            max_iter=40,
            targeted=True,
        )
        assert models.attacked(models.target("network"), attack, eps=0.4).within(0.4).sum() >= 6

    def test_suite_runs_them_beside_our_own(self, models: Models, libraries: None) -> None:
        from foolbox.attacks import LinfPGD

        jump = art("HopSkipJump", LABEL, norm=np.inf, max_iter=5, max_eval=200, init_eval=20)
        attacks: list[Attack] = [FoolboxAttack(LinfPGD(steps=20), GRADIENT), jump, Pgd()]
        steps = tuple(Step(attack, 200, 1) for attack in attacks)
        target = TorchTarget(models.network, PICTURE)
        question = Question(LINF, (0.05, 0.1), samples=20, seed=0)
        runs = [
            run_suite(
                target, models.x[:20], models.y[:20], Suite("own", 20, lambda _: steps), question
            )
            for _ in range(2)
        ]
        # Those that seek within epsilon run at each.
        assert [one.name for one in runs[0].attacks] == [
            *["foolbox-linfprojectedgradientdescent"] * 2,
            *["HopSkipJump"] * 2,
            *["pgd"] * 2,
        ]
        assert runs[0].robust == runs[1].robust
        assert runs[0].robust[1].robust.value < runs[0].clean.value
        assert max(one.queries_max for one in runs[0].attacks) <= 200


class TestArtTargets:
    pytestmark = real

    def test_network_of_theirs_breaks_as_ours_does(self, models: Models) -> None:
        import torch
        from art.estimators.classification import PyTorchClassifier

        theirs = ArtTarget(
            PyTorchClassifier(
                models.network, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1)
            )
        )
        assert_gradient_is_true(theirs, models.x[:8])
        ours = TorchTarget(models.network, PICTURE)
        found = [models.attacked(target, Pgd()) for target in (theirs, ours)]
        assert (found[0].first == found[1].first).all()
        assert found[0].within(0.2).all()

    @pytest.mark.parametrize("classes", [10, 2])
    def test_regression_of_theirs_has_a_gradient_of_one_kind_or_the_other(
        self, models: Models, classes: int
    ) -> None:
        from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression
        from sklearn.linear_model import LogisticRegression

        model = models.regression
        if classes == 2:
            model = LogisticRegression().fit(models.x, models.y > 4)
        target = ArtTarget(ScikitlearnLogisticRegression(model, clip_values=(0, 1)))
        assert GRADIENT in target.capabilities
        assert_gradient_is_true(target, models.x[:8])

    def test_gradient_that_is_none_of_the_scores_is_not_declared(self, models: Models) -> None:
        from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression

        class Masked(ScikitlearnLogisticRegression):  # type: ignore[misc]
            def class_gradient(self, x: Any, label: Any = None, **_: Any) -> Any:
                return np.zeros((len(x), 10, 64))

        target = ArtTarget(Masked(models.regression, clip_values=(0, 1)))
        assert target.capabilities == {LABEL, SCORES}

    def test_forest_of_theirs_is_searched(self, models: Models) -> None:
        from art.estimators.classification.scikitlearn import ScikitlearnRandomForestClassifier

        target = ArtTarget(ScikitlearnRandomForestClassifier(models.forest, clip_values=(0, 1)))
        assert target.capabilities == {LABEL, SCORES}
        assert models.attacked(target, RandomSearch()).within(0.2).sum() >= 6

    def test_what_is_none_of_theirs_or_has_no_range_is_refused(self, models: Models) -> None:
        from art.estimators.classification.scikitlearn import ScikitlearnRandomForestClassifier

        for given, code in (
            (models.forest, "target.bad_object"),
            (ScikitlearnRandomForestClassifier(models.forest), "attack.bad_domain"),
        ):
            with pytest.raises(KeepstoneError) as caught:
                ArtTarget(given)
            assert caught.value.code == code
