"""Attacks of other libraries on our targets, and their classifiers as our targets.

What all adapters share is tried on libraries of a few lines; each adapter, slowly, on its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bench.environment import layer_of
from keepstone.contract.validate import Array
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.adapters.art import ArtAttack, ArtTarget
from keepstone.lab.adapters.cleverhans import CleverHansAttack
from keepstone.lab.adapters.foolbox import FoolboxAttack, FoolboxTarget
from keepstone.lab.adapters.metered import Metered, Outside, run_outside
from keepstone.lab.attacks.evasion.pgd import Pgd
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter, Tally
from keepstone.lab.norms import L2, LINF, Norm
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets.port import Answers, Capability, GradientTarget, Target
from keepstone.lab.targets.python import PythonTarget
from keepstone.lab.targets.torch import TorchTarget
from tests.lab.fakes import Linear, halves

LABEL, SCORES, GRADIENT = Capability.LABEL, Capability.SCORES, Capability.GRADIENT
# Both are served class 1, `.4` and `.2` from the boundary in l-infinity.
X = np.array([[0.9, 0.1], [0.7, 0.3]])
Y = np.array([1, 1])
OTHER = np.array([0.1, 0.9])


def meter(target: Target, *, budget: int = 10, eps: float | None = 0.3) -> Meter:
    return Meter(target, X, Y, Goal(LINF, eps, budget))


def run(
    outside: Outside,
    meter: Meter,
    *,
    needs: Capability = LABEL,
    together: bool = False,
    seed: int = 0,
) -> Tally:
    rng = np.random.default_rng(seed)
    run_outside(outside, "A library", meter, rng, needs, together=together)
    return meter.tally()


def ever(asked: Metered) -> object:
    while True:
        asked.outputs(asked.inputs)


# --- counting and stopping -----------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
def test_attack_that_never_ends_is_stopped_at_its_budget(together: bool) -> None:
    target = halves()
    tally = run(ever, meter(target), together=together)
    # One query is kept for what the attack gives back.
    assert tally.queries.tolist() == [9, 9]
    assert target.rows_asked == 18


def test_batch_that_would_pass_the_budget_is_not_asked_at_all() -> None:
    target = halves()

    def outside(asked: Metered) -> object:
        asked.outputs(np.repeat(asked.inputs, 6, axis=0))
        asked.outputs(np.repeat(asked.inputs, 6, axis=0))
        raise AssertionError("it was let on")

    assert run(outside, meter(target)).queries.tolist() == [6, 6]
    assert target.rows_asked == 12


def test_library_that_swallows_the_stop_gets_no_more_answers() -> None:
    answered: list[int] = []

    def outside(asked: Metered) -> object:
        # The second is too many; the last would fit.
        for count in (5, 8, 1):
            try:
                asked.outputs(np.repeat(asked.inputs, count, axis=0))
            except Exception:
                continue
            answered.append(count)
        return None

    assert run(outside, meter(halves())).queries.tolist() == [5, 5]
    assert answered == [5, 5]


def test_library_that_raises_another_error_for_the_stop_has_not_failed() -> None:
    def outside(asked: Metered) -> object:
        try:
            return ever(asked)
        except Exception as error:
            raise RuntimeError("model failed") from error

    assert run(outside, meter(halves())).queries.tolist() == [9, 9]


def test_attack_ends_once_its_sample_is_broken() -> None:
    def outside(asked: Metered) -> object:
        for share in np.linspace(0, 1, 9):
            asked.outputs(asked.inputs + share * (OTHER - asked.inputs))
        return None

    tally = run(outside, meter(halves(), budget=100))
    assert tally.within(0.3).tolist() == [False, True]
    # The fourth of nine lies past the boundary, .225 away.
    assert tally.queries.tolist() == [9, 4]


def test_sample_that_cannot_pay_for_what_is_given_back_is_not_attacked() -> None:
    target = halves()
    assert run(ever, meter(target, budget=1)).queries.tolist() == [0, 0]
    assert target.rows_asked == 0


# --- judging -------------------------------------------------------------------------------------


def test_row_that_is_given_back_is_asked_and_judged() -> None:
    def outside(asked: Metered) -> object:
        return asked.inputs + 0.25 * np.sign(OTHER - asked.inputs)

    tally = run(outside, meter(halves()))
    assert tally.within(0.3).tolist() == [False, True]
    assert tally.queries.tolist() == [1, 1]


def test_row_beyond_epsilon_is_cut_and_does_not_count_as_it_is() -> None:
    tally = run(lambda asked: np.broadcast_to(OTHER, asked.inputs.shape), meter(halves()))
    assert tally.within(0.3).tolist() == [False, True]
    assert tally.distance[1] <= 0.3 + 1e-6


def test_smallest_perturbation_is_judged_as_it_was_given() -> None:
    tally = run(lambda asked: np.broadcast_to(OTHER, asked.inputs.shape), meter(halves(), eps=None))
    assert tally.distance == pytest.approx([0.8, 0.6])


def test_what_a_library_says_of_success_counts_for_nothing() -> None:
    tally = run(lambda asked: asked.inputs, meter(halves()))
    assert not tally.within(0.3).any()


@pytest.mark.parametrize("given", [np.zeros(3), "rows", np.full((1, 2), None)])
def test_answer_that_is_not_one_row_for_each_sample_is_a_failure(given: object) -> None:
    with pytest.raises(OperationalError) as caught:
        run(lambda asked: given, meter(halves()))
    assert caught.value.code == "attack.outside_failed"


def test_row_of_no_numbers_is_not_asked() -> None:
    target = halves()
    run(lambda asked: np.full(asked.inputs.shape, np.nan), meter(target))
    assert target.rows_asked == 0


# --- which row is whose --------------------------------------------------------------------------


def test_rows_of_one_sample_may_be_any_number() -> None:
    tally = run(lambda asked: asked.outputs(np.repeat(asked.inputs, 3, 0))[:1], meter(halves()))
    assert tally.queries.tolist() == [4, 4]


def test_one_row_for_each_sample_is_theirs_in_order() -> None:
    def outside(asked: Metered) -> object:
        asked.outputs(asked.inputs + 0.25 * np.sign(OTHER - asked.inputs))
        return None

    tally = run(outside, meter(halves()), together=True)
    assert tally.distance == pytest.approx([np.inf, 0.25])
    assert tally.queries.tolist() == [1, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_rows_belongs_to_nobody_and_is_not_asked(count: int) -> None:
    target = halves()
    with pytest.raises(InputError) as caught:
        run(lambda asked: asked.outputs(np.zeros((count, 2))), meter(target), together=True)
    assert caught.value.code == "attack.unmapped"
    assert target.rows_asked == 0


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        run(lambda asked: asked.outputs(np.zeros((1, 3))), meter(halves()))
    assert caught.value.code == "attack.unmapped"


# --- answers -------------------------------------------------------------------------------------


def test_label_alone_is_served_where_the_attack_needs_no_more() -> None:
    seen: list[Array] = []
    run(lambda asked: seen.append(asked.outputs(asked.inputs)), meter(halves()))
    assert seen[0].tolist() == [[0.0, 1.0]]
    run(lambda asked: seen.append(asked.outputs(asked.inputs)), meter(halves()), needs=SCORES)
    assert seen[2] == pytest.approx(np.array([[-0.8, 0.8]]))


@pytest.mark.parametrize("needs", [LABEL, SCORES])
def test_row_without_an_answer_looks_like_no_success(needs: Capability) -> None:
    class Silent(Linear):
        def predict(self, rows: Array) -> Answers:
            return Answers(np.full(len(rows), -1), np.full((len(rows), 2), np.nan))

    seen: list[Array] = []
    m = Meter(Silent(np.eye(2), np.zeros(2)), X, Y, Goal(LINF, 0.3, 10))
    run(lambda asked: seen.append(asked.outputs(asked.inputs)), m, needs=needs)
    assert np.concatenate(seen).argmax(axis=1).tolist() == [1, 1]
    assert np.isfinite(np.concatenate(seen)).all()
    assert m.tally().unanswered.tolist() == [1, 1]


def test_gradient_is_the_targets_own_and_is_counted() -> None:
    def outside(asked: Metered) -> object:
        _, pull = asked.linearize(asked.inputs)
        assert pull(np.array([[0.0, 1.0]])).tolist() == [[1.0, -1.0]]
        return None

    tally = run(outside, meter(halves()), needs=GRADIENT)
    assert (tally.queries.tolist(), tally.gradients.tolist()) == ([1, 1], [1, 1])


# --- failures and chance -------------------------------------------------------------------------


def test_crash_inside_a_library_is_no_robustness() -> None:
    def outside(asked: Metered) -> object:
        raise ZeroDivisionError("inside")

    with pytest.raises(OperationalError, match="ZeroDivisionError: inside") as caught:
        run(outside, meter(halves()))
    assert caught.value.code == "attack.outside_failed"


def test_failure_of_the_target_keeps_its_code() -> None:
    def outside(asked: Metered) -> object:
        raise OperationalError("target.gone", "It went away.")

    with pytest.raises(OperationalError) as caught:
        run(outside, meter(halves()))
    assert caught.value.code == "target.gone"


def test_chance_comes_from_the_seed_and_the_process_keeps_its_own() -> None:
    drawn: list[float] = []

    def outside(asked: Metered) -> object:
        drawn.append(np.random.random())
        return None

    np.random.seed(7)
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    for seed in (0, 0, 1):
        run(outside, meter(halves()), seed=seed)
    assert drawn[:2] == drawn[2:4] != drawn[4:]
    assert drawn[0] != drawn[1]
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]


def _never(*_: object) -> object:
    raise AssertionError


@pytest.mark.parametrize(
    ("library", "begin"),
    [
        ("art", lambda: ArtAttack(name="a", make=_never, needs=LABEL)),
        ("foolbox", lambda: FoolboxAttack(object(), LABEL)),
        ("cleverhans", lambda: CleverHansAttack(name="c", attack=_never, needs=LABEL)),
        ("art", lambda: ArtTarget(object())),
        ("foolbox", lambda: FoolboxTarget(object(), Domain.of((2,), 0.0, 1.0))),
    ],
)
def test_library_that_is_missing_is_named(
    library: str, begin: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(OperationalError) as caught:
        begin().run(meter(halves()), np.random.default_rng(0))
    assert caught.value.code == "runtime.missing"
    assert "--no-deps" in caught.value.next_step


def test_report_of_an_attack_holds_no_address_of_this_process() -> None:
    for attack in (
        ArtAttack(name="a", make=_never, needs=LABEL),
        CleverHansAttack(name="c", attack=_never, needs=LABEL),
    ):
        assert " at 0x" not in repr(attack)


# --- the libraries themselves --------------------------------------------------------------------

# They warn of NumPy's and of torch's deprecations, which are theirs.
real = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PICTURE = Domain.of((1, 8, 8), 0.0, 1.0)
ROW = Domain.of((64,), 0.0, 1.0)


@pytest.fixture(scope="module")
def libraries() -> Iterator[None]:
    """ART, Foolbox and CleverHans, behind our own packages; installed where they are not."""
    try:
        folder = str(layer_of("adapters"))
    except subprocess.CalledProcessError as error:
        reason = f"the libraries of bench/peers/adapters.txt cannot be installed: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    sys.path.append(folder)
    yield
    sys.path.remove(folder)


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


@pytest.fixture(scope="module")
def models(libraries: None) -> Models:
    if not os.environ.get("CI"):
        pytest.importorskip("torch")
    return Models()


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
