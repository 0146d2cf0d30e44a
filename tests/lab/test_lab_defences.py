"""Defences, attacked in turn: what only masks is called so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.defences.evaluate import Evaluation, evaluate, more
from keepstone.lab.defences.input_transforms import (
    BitDepth,
    GaussianNoise,
    MedianSmoothing,
    Transformed,
)
from keepstone.lab.defences.output_hardening import (
    Hardened,
    LabelsOnly,
    RoundedScores,
    TopScores,
)
from keepstone.lab.domain import Domain
from keepstone.lab.norms import LINF
from keepstone.lab.problem import Verdict
from keepstone.lab.suites.catalogue import suite_called
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.targets.adaptive import Eot, majority
from keepstone.lab.targets.port import Capability, Linearization
from tests.lab.fakes import Linear

LINES = Domain.of((12,), 0.0, 1.0, "float64")
WEIGHTS = np.random.default_rng(5).normal(size=(12, 3))
PICTURES = Domain.of((1, 5, 5), 0.0, 1.0, "float64")
SOLE = Step(WhiteBox(sweep=5, near=()), 100, 100)
SEARCHED = Step(RandomSearch(), 60, 60)
BY_SCORES = Step(Square(), 60, 60)
LABELS = Step(HopSkipJump(), 150, 150)


def suite(*steps: Step) -> Suite:
    return Suite("small", 200, lambda able: steps)


def linear(domain: Domain = LINES, weights: Array = WEIGHTS) -> Linear:
    return Linear(weights, -weights.sum(axis=0) / 2, domain=domain)


def samples(target: Linear, count: int = 120) -> tuple[Array, Array]:
    x = np.random.default_rng(1).uniform(0.1, 0.9, (count, target.domain.width))
    return x, target.predict(x).labels


def judged(defended: Any, *steps: Step, eps: float = 0.1, count: int = 120) -> Evaluation:
    x, y = samples(defended.undefended, count)
    question = Question(LINF, (eps,), count)
    return evaluate(defended, x, y, suite(*steps), question)


def test_an_input_transform_that_masks_is_called_so() -> None:
    # Against its own gradient, which is none, all of it stands.
    found = judged(Transformed(linear(), BitDepth(5)), SOLE)
    (at,) = found.robust
    assert at.plain.value > 0.9
    assert at.defended.value <= at.undefended.value + 0.05
    assert found.codes == ("defence.masks",)
    assert found.verdict is Verdict.INVALID
    told = found.to_dict()
    assert told["verdict"] == "invalid"
    assert told["robust_accuracy"][0]["value"] == pytest.approx(at.defended.value, abs=1e-6)


def test_noise_that_masks_is_called_so_by_its_expectation() -> None:
    noisy = Transformed(linear(), GaussianNoise(0.3))
    found = judged(noisy, SOLE)
    (at,) = found.robust
    assert at.plain.value > at.undefended.value
    assert found.codes == ("defence.masks",)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Transformed(linear(), BitDepth(4)),
        lambda: Transformed(linear(), GaussianNoise(0.1)),
        lambda: Hardened(linear(), RoundedScores(1)),
        lambda: Hardened(linear(), TopScores(1)),
        lambda: Hardened(linear(), LabelsOnly()),
    ],
)
def test_the_adaptive_attack_is_the_stronger_one(made: Callable[[], Any]) -> None:
    found = judged(made(), SOLE, eps=0.15)
    (at,) = found.robust
    assert found.adaptive.robust[0].robust.value <= found.plain.robust[0].robust.value
    assert at.defended.value <= at.plain.value
    assert at.undone > 0


def test_labels_only_is_no_defence_against_who_asks_for_labels() -> None:
    bare = linear()
    bare.capabilities = frozenset({Capability.LABEL, Capability.SCORES})
    found = judged(Hardened(bare, LabelsOnly()), LABELS, SEARCHED)
    (at,) = found.robust
    assert at.undefended.value < 0.9
    assert abs(at.defended.hits - at.undefended.hits) <= 3
    assert "defence.no_gain" in found.codes
    assert found.verdict is Verdict.FAIL


def test_a_defence_that_gains_passes_and_is_compared_on_the_same_samples() -> None:
    # One feature that is strong, eleven that are weak: the undefended model goes by all of them.
    weights = np.zeros((12, 2))
    weights[0] = -4, 4
    bare = Linear(weights.copy(), np.array([2.0, -2.0]), domain=LINES)
    bare.weights[1:] = np.random.default_rng(2).normal(size=(11, 2))
    bare.bias = -bare.weights.sum(axis=0) / 2
    stiff = Linear(weights, np.array([2.0, -2.0]), domain=LINES)
    x, y = samples(stiff, 150)
    question = Question(LINF, (0.1,), 150)
    found = evaluate(stiff, x, y, suite(SOLE), question, undefended=bare, name="stiff")
    assert found.verdict is Verdict.PASS
    (at,) = found.robust
    assert at.gained - at.lost == at.defended.hits - at.undefended.hits
    assert at.gains
    # The other way round it is no defence.
    turned = evaluate(bare, x, y, suite(SOLE), question, undefended=stiff)
    assert turned.codes == ("defence.no_gain",)


def test_a_gain_that_was_only_seen_from_outside_is_no_pass() -> None:
    far, near = (
        Linear(np.array([[-2.0, 2.0]] * 12), np.array([1.0, -1.0]) * middle, domain=LINES)
        for middle in (12.0, 14.0)
    )
    x = np.random.default_rng(0).uniform(0, 1, (150, 12))
    y = far.predict(x).labels
    x += np.where(y == 1, 0.15, -0.15)[:, None]
    x = x.clip(0, 1)
    for one in (far, near):
        one.capabilities = frozenset({Capability.LABEL})
    question = Question(LINF, (0.1,), 150)
    found = evaluate(far, x, y, suite(SEARCHED, LABELS), question, undefended=near)
    assert found.robust[0].gains
    assert "defence.from_outside" in found.codes
    assert found.verdict is Verdict.INSUFFICIENT


class Masks(Linear):
    """Its gradient leads nowhere; its scores tell all."""

    def linearize(self, rows: Array) -> Linearization:
        found = super().linearize(rows)
        return Linearization(found.labels, found.scores, lambda given: np.zeros_like(rows))


def test_who_has_the_gradient_of_a_model_has_its_scores() -> None:
    bare = Masks(WEIGHTS, -WEIGHTS.sum(axis=0) / 2, domain=LINES)
    found = judged(Hardened(bare, LabelsOnly()), SOLE, BY_SCORES)
    (at,) = found.robust
    # Labels alone keep from the search what the gradient never gave.
    assert at.plain.value > at.undefended.value
    assert at.defended == at.undefended
    assert found.codes == ("defence.masks",)


def test_a_gain_over_a_model_that_masks_is_no_pass() -> None:
    # Nothing but the gradient is tried, and the baseline has an honest one.
    bare = Masks(WEIGHTS, -WEIGHTS.sum(axis=0) / 2, domain=LINES)
    x, y = samples(bare)
    question = Question(LINF, (0.1,), 120)
    hidden = Hardened(bare, LabelsOnly())
    found = evaluate(hidden, x, y, suite(SOLE), question, undefended=linear())
    assert found.robust[0].gains
    assert found.codes == ("defence.masks_partly",)
    assert found.verdict is Verdict.INSUFFICIENT
    assert "black_box" in [one["name"] for one in found.to_dict()["masking"] if one["seen"]]


def test_without_a_model_to_compare_with_nothing_is_said() -> None:
    x, y = samples(linear())
    with pytest.raises(InputError, match=r"defence\.no_baseline"):
        evaluate(linear(), x, y, suite(SOLE), Question(LINF, (0.1,), 120))


class Liar(Linear):
    """Right about the samples, and says that every other row is misclassified."""

    def linearize(self, rows: Array) -> Linearization:
        found = super().linearize(rows)
        return Linearization((found.labels + 1) % 3, found.scores, found.vjp)


def test_what_a_view_says_was_broken_is_asked_of_the_defended_model() -> None:
    defended = Hardened(linear(), RoundedScores(1))
    x, y = samples(linear())
    lie = Liar(WEIGHTS, -WEIGHTS.sum(axis=0) / 2, domain=LINES)
    question = Question(LINF, (1e-6,), 120)
    found = evaluate(defended, x, y, suite(SOLE), question, adaptive=lie)
    assert found.adaptive.robust[0].robust.value < 0.1
    assert found.robust[0].defended.value == found.robust[0].plain.value


def test_a_view_of_another_model_is_invalid() -> None:
    x, y = samples(linear())
    other = Linear(np.roll(WEIGHTS, 1, axis=1), np.zeros(3), domain=LINES)
    found = evaluate(
        Hardened(linear(), RoundedScores(1)),
        x,
        y,
        suite(SOLE),
        Question(LINF, (0.1,), 120),
        adaptive=other,
    )
    assert "defence.other_view" in found.codes
    assert found.verdict is Verdict.INVALID


def test_a_few_samples_are_insufficient_for_a_defence() -> None:
    found = judged(Transformed(linear(), BitDepth(1)), SOLE, count=60, eps=0.05)
    assert "attack.too_few" in found.codes
    assert found.verdict in (Verdict.INSUFFICIENT, Verdict.INVALID)


def test_samples_without_an_answer_are_not_compared() -> None:
    bare = linear()
    x, y = samples(bare)
    bare.silent_from = bare.rows_asked + 50
    found = evaluate(
        Hardened(bare, RoundedScores()), x, y, suite(SOLE), Question(LINF, (0.1,), 120)
    )
    assert found.robust == ()
    assert "defence.unpaired" in found.codes


def test_evaluations_are_the_same_for_a_seed() -> None:
    def run() -> dict[str, Any]:
        told = judged(Transformed(linear(), GaussianNoise(0.2)), SOLE, SEARCHED).to_dict()
        for runs in told["attacks"].values():
            for one in runs:
                del one["cpu_s"]
        return told

    assert run() == run()


def test_a_defence_asked_before_is_judged_alike() -> None:
    defended = Transformed(linear(), GaussianNoise(0.2))
    first = judged(defended, SOLE).robust
    defended.predict(LINES.draw(7))
    assert judged(defended, SOLE).robust == first


def test_a_gain_at_one_of_several_epsilons_is_more_than_the_chance_of_all() -> None:
    # Six of 120 samples stand only with the defence: one time in 64 by chance.
    weights = np.ones((12, 2)) * np.array([-1.0, 1.0])
    bare, moved = (Linear(weights, np.array([1.0, -1.0]) * at, domain=LINES) for at in (6, 5.9))
    y = np.arange(120) % 2
    x = np.repeat(np.where(y == 1, 0.9, 0.1)[:, None], 12, axis=1)
    x[1:12:2] = 0.5 + 0.1 - 1e-3
    x += np.random.default_rng(0).normal(0, 1e-5, x.shape)
    alone, among = (
        evaluate(moved, x, y, suite(SOLE), Question(LINF, epsilons, 120), undefended=bare)
        for epsilons in ((0.1,), (0.01, 0.1))
    )
    assert [(one.gained, one.lost) for one in among.robust] == [(0, 0), (6, 0)]
    assert alone.robust[0].gains
    assert not among.robust[1].gains
    assert among.codes == ("defence.no_gain",)


@pytest.mark.parametrize(
    ("gained", "lost", "wanted"),
    [(0, 0, False), (5, 0, False), (6, 0, True), (10, 8, False), (30, 12, True), (0, 9, False)],
)
def test_a_gain_is_more_than_chance(gained: int, lost: int, wanted: bool) -> None:
    assert more(gained, lost) is wanted


# What each transform does


def test_transforms_declare_the_gradient_they_have() -> None:
    bare = linear(PICTURES, np.random.default_rng(0).normal(size=(25, 3)))
    bits, median = Transformed(bare, BitDepth(2)), Transformed(bare, MedianSmoothing())
    assert Capability.GRADIENT not in bits.capabilities
    assert Capability.GRADIENT in median.capabilities
    assert Capability.TREES not in median.capabilities
    rows = PICTURES.draw(4)
    with pytest.raises(InputError, match=r"attack\.unable"):
        bits.linearize(rows)
    # The median's gradient is that of differences.
    weights = np.eye(3)[[0, 1, 2, 0]]
    gradient = median.linearize(rows).vjp(weights)
    step = 1e-6
    for feature in range(0, 25, 4):
        moved = rows.copy()
        moved[:, feature] += step
        given = [median.linearize(at).scores for at in (rows, moved)]
        slope = ((given[1] - given[0]) * weights).sum(axis=1) / step
        assert slope == pytest.approx(gradient[:, feature], abs=1e-5)
    # Where the target has none, no transform has one.
    bare.capabilities = frozenset({Capability.LABEL})
    assert median.capabilities == {Capability.LABEL}
    assert bits.adaptive() is bits


def test_bits_and_medians() -> None:
    rng = np.random.default_rng(0)
    rows = np.array([[0.0, 0.24, 0.26, 0.74, 1.0] * 5])
    assert BitDepth(1).apply(rows, PICTURES, rng)[0, :5].tolist() == [0, 0, 0, 1, 1]
    assert np.unique(BitDepth(2).apply(rows, PICTURES, rng)).tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1]
    )
    dot = np.zeros((1, 25))
    dot[0, 12] = 1
    assert not MedianSmoothing().apply(dot, PICTURES, rng).any()
    with pytest.raises(InputError, match=r"defence\.unfit"):
        Transformed(linear(), MedianSmoothing())


@pytest.mark.parametrize("made", [RoundedScores(1), TopScores(2), LabelsOnly()])
def test_hardening_changes_no_label(made: Any) -> None:
    bare = linear()
    rows = LINES.draw(200)
    found, served = Hardened(bare, made).predict(rows), bare.predict(rows)
    assert (found.labels == served.labels).all()
    if found.scores is None:
        assert isinstance(made, LabelsOnly)
        return
    told = np.exp(found.scores)
    exact = np.exp(served.scores) / np.exp(served.scores).sum(axis=1, keepdims=True)
    if isinstance(made, RoundedScores):
        assert told == pytest.approx(np.round(exact, 1), abs=1e-9)
    else:
        assert ((told > 1e-30).sum(axis=1) == 2).all()


def test_the_mean_of_draws_takes_the_mean_of_gradients() -> None:
    noisy = Transformed(linear(), GaussianNoise(0.05), seed=4)
    rows = LINES.draw(5)
    seen = Eot(noisy, 8)
    found = seen.linearize(rows)
    assert found.vjp(np.eye(3)[[0, 1, 2, 0, 1]]) == pytest.approx(WEIGHTS.T[[0, 1, 2, 0, 1]])
    bare = Transformed(linear(), GaussianNoise(0.05), seed=4)
    one = np.stack([bare.linearize(rows).scores for _ in range(8)])
    assert found.scores == pytest.approx(one.mean(axis=0))
    assert majority(np.array([[0, -1], [1, -1], [1, -1]]), 2).tolist() == [1, -1]


@pytest.mark.slow
def test_what_stands_behind_one_bit_is_what_stands_in_truth(zoo: Any) -> None:
    """Of each digit few pixels can be moved over the one threshold: every way is tried."""
    target, x, y = zoo.target("CNN"), zoo.x[:200].astype(np.float64), zoo.y[:200]
    question = Question(LINF, (0.1,), 200)
    found = evaluate(Transformed(target, BitDepth(1)), x, y, suite_called("quick"), question)
    served = np.rint(x)
    movable = np.rint(x + 0.1) != np.rint(x - 0.1)
    stands = 0
    for row, places, label in zip(served, movable, y, strict=True):
        at = np.flatnonzero(places)
        ways = np.arange(2 ** len(at))[:, None] >> np.arange(len(at)) & 1
        rows = np.repeat(row[None], len(ways), axis=0)
        rows[:, at] = ways
        stands += bool((target.predict(rows.astype(np.float32)).labels == label).all())
    (at_eps,) = found.robust
    assert at_eps.defended.hits - 2 <= stands <= at_eps.defended.hits
