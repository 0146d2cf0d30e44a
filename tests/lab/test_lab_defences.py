"""Defences: certificates are kept, and what only masks is called so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.defences.adversarial_training import (
    FastTraining,
    PgdTraining,
    Schedule,
    Trades,
    harden,
)
from keepstone.lab.defences.certificate import ABSTAINED
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
from keepstone.lab.defences.partition import Aggregate, Partition, leaders
from keepstone.lab.defences.smoothing import Smoothing
from keepstone.lab.defences.trimmed import TrimmedLoss, drill
from keepstone.lab.domain import Domain
from keepstone.lab.metrics.clopper_pearson import at_least
from keepstone.lab.metrics.wilson import share
from keepstone.lab.norms import LINF
from keepstone.lab.problem import Verdict
from keepstone.lab.suites.catalogue import suite_called
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.targets.adaptive import Eot, majority
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, Linearization
from tests.lab.fakes import Linear

WIDE = Domain.of((2,), -100.0, 100.0, "float64")


# The exact bound


def test_the_bound_is_that_of_the_beta_distribution(
    need_module: Callable[[str], ModuleType],
) -> None:
    beta = need_module("scipy.stats").beta
    for n, hits in ((1, 1), (10, 3), (100, 99), (100, 100), (1000, 503), (10_000, 9_999)):
        for alpha in (0.05, 0.001):
            exact = beta.ppf(alpha, hits, n - hits + 1)
            found = at_least(hits, n, alpha)
            assert found <= exact
            assert found == pytest.approx(exact, rel=1e-6)
    assert at_least(0, 100, 0.001) == 0.0


@pytest.mark.parametrize(("hits", "n", "alpha"), [(5, 4, 0.1), (-1, 4, 0.1), (1, 4, 0.0)])
def test_what_is_no_share_has_no_bound(hits: int, n: int, alpha: float) -> None:
    with pytest.raises(InputError, match=r"attack\.bad_share"):
        at_least(hits, n, alpha)


# Randomised smoothing


def halves(tilt: float = 0.0) -> Linear:
    return Linear(np.array([[-1.0, 1.0], [tilt, -tilt]]), np.zeros(2), domain=WIDE)


def cloud(count: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).uniform(-2, 2, (count, 2))


@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_no_radius_is_longer_than_the_way_to_the_other_class(sigma: float) -> None:
    # Smoothing does not move a plane, so the exact distance is known.
    target, x = halves(0.5), cloud(150)
    y = target.predict(x).labels
    exact = np.abs(x @ np.array([1.0, -0.5])) / np.hypot(1.0, 0.5)
    found = Smoothing(sigma, draws=500).certify(target, x, y)
    told = found.labels != ABSTAINED
    assert (found.radii[told] <= exact[told]).all()
    assert (found.labels[told] == y[told]).all()
    assert (found.radii[~told] == 0).all()
    # Far from the plane the certificate is as long as so many draws can prove.
    longest = sigma * NormalDist().inv_cdf(at_least(500, 500, 0.001))
    assert 0.85 * longest < found.radii.max() <= longest


def test_it_abstains_where_no_class_is_certain() -> None:
    target = halves()
    found = Smoothing(0.5, draws=200).certify(target, np.zeros((120, 2)), np.zeros(120, int))
    assert (found.labels == ABSTAINED).mean() > 0.9
    assert found.accuracy_at(0.0).value < 0.1


@dataclass
class Silent:
    """Class 0, where it answers, which is as often as `told` says."""

    told: float
    domain: Domain = WIDE
    classes: int = 2
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        drawn = np.random.default_rng(len(rows)).random(len(rows))
        return Answers(np.where(drawn < self.told, 0, UNANSWERED))


def test_no_answer_is_no_vote() -> None:
    some = np.zeros((3, 2)), np.zeros(3, int)
    for told in (0.0, 0.4):
        assert (Smoothing(1.0).certify(Silent(told), *some).labels == ABSTAINED).all()
    assert (Smoothing(1.0).certify(Silent(0.9), *some).labels == 0).all()


def test_certificates_are_the_same_for_a_seed() -> None:
    x = cloud(40)
    y = halves().predict(x).labels
    first, again, other = (Smoothing(0.5).certify(halves(), x, y, seed) for seed in (1, 1, 2))
    assert (first.radii == again.radii).all()
    assert (first.radii != other.radii).any()


def test_what_is_certified_is_told_with_its_uncertainty() -> None:
    x = cloud(150)
    y = halves().predict(x).labels
    found = Smoothing(0.5, alpha=0.01).certify(halves(), x, y)
    told = found.to_dict([0.0, 0.5])
    at = told["certified_accuracy"][1]
    assert at["size"] == 0.5
    assert at["low"] < at["value"] < at["high"]
    assert found.verdict is Verdict.PASS
    # Some of the certificates may be wrong: the lower end makes room for them. Of 150 at .01, four
    # are with a chance of .065, and five with one of .018.
    held = int(found.holds(0.5).sum())
    assert found.accuracy_at(0.5).low == pytest.approx(share(held - 4, 150).low)


def test_few_samples_are_insufficient() -> None:
    x = cloud(99)
    found = Smoothing(0.5, draws=50).certify(halves(), x, halves().predict(x).labels)
    assert found.verdict is Verdict.INSUFFICIENT
    assert [one.code for one in found.problems] == ["defence.too_few"]


@pytest.mark.parametrize(
    "given",
    [{"sigma": 0.0}, {"sigma": np.inf}, {"sigma": 1.0, "alpha": 0.5}, {"sigma": 1, "draws": 0}],
)
def test_no_noise_no_certificate(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"defence\.bad_parameters"):
        Smoothing(**given)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((2, 3)), np.zeros(2, int)),
        (np.zeros((2, 2)), np.zeros(3, int)),
        (np.zeros((2, 2)), np.array([0, 2])),
        (np.full((2, 2), np.nan), np.zeros(2, int)),
        (np.zeros((2, 2)), np.zeros(2)),
    ],
)
def test_samples_that_do_not_fit_are_refused(x: Array, y: Array) -> None:
    with pytest.raises(InputError, match=r"defence\.bad_data"):
        Smoothing(1.0).certify(halves(), x, y)


# Partition aggregation

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


def test_brute_force_breaks_no_certificate() -> None:
    """Every way to take out or put in as many rows as the certificate allows."""
    x = np.arange(8.0)[:, None]
    y = np.array([0, 0, 0, 0, 0, 1, 2, 1])
    asked = np.linspace(0, 9, 7)[:, None]
    made = Partition(5)
    found = made.fit(train, x, y, LINE, 3).certify(asked, np.zeros(7, int))
    assert found.radii.max() >= 1
    rows = [(float(row), int(label)) for row, label in zip(x[:, 0], y, strict=True)]
    poisons = [(value, label) for value in (0.5, 2.25, 3.5, 4.75, 6.5) for label in (0, 1, 2)]
    steps = [("out", at) for at in range(len(rows))] + [("in", at) for at in range(len(poisons))]
    tried = 0
    for count in range(1, int(found.radii.max()) + 1):
        for chosen in combinations(steps, count):
            out = {at for way, at in chosen if way == "out"}
            kept = [row for at, row in enumerate(rows) if at not in out]
            kept += [poisons[at] for way, at in chosen if way == "in"]
            given = np.array([[value] for value, _ in kept]), np.array([label for _, label in kept])
            labels = made.fit(train, *given, LINE, 3).predict(asked).labels
            held = found.radii >= count
            assert (labels[held] == found.labels[held]).all()
            tried += 1
    assert tried > 20


def test_a_flipped_label_is_one_poison() -> None:
    x = np.arange(9.0)[:, None]
    y = np.arange(9) % 3
    made = Partition(4)
    before = made.fit(train, x, y, LINE, 3).votes(x)
    for at in range(9):
        flipped = y.copy()
        flipped[at] = (y[at] + 1) % 3
        after = made.fit(train, x, flipped, LINE, 3).votes(x)
        assert (np.abs(after - before).sum(axis=1) <= 2).all()


def test_the_order_of_the_rows_changes_nothing() -> None:
    x = np.repeat(np.arange(6.0), 2)[:, None]
    y = np.tile([0, 1], 6)
    order = np.random.default_rng(0).permutation(12)
    one, other = (Partition(3).fit(train, x[at], y[at], LINE, 3) for at in (np.arange(12), order))
    asked = LINE.draw(50)
    assert (one.votes(asked) == other.votes(asked)).all()


def test_a_lead_is_exactly_what_it_takes_to_change_the_leader() -> None:
    """Every vote of three classes: turned to any rival, `lead` voters change nothing, and one more
    is enough for some rival."""
    for votes in product(range(6), repeat=3):
        before = np.array([votes])
        best, lead = int(leaders(before)[0][0]), int(leaders(before)[1][0])
        changed = []
        for rival in {0, 1, 2} - {best}:
            for turned in (lead, lead + 1):
                if turned > votes[best]:
                    continue
                after = before.copy()
                after[0, best] -= turned
                after[0, rival] += turned
                now = int(leaders(after)[0][0])
                assert turned > lead or now == best
                changed.append(now != best)
        assert any(changed) or lead == votes[best]


@given(st.lists(st.integers(0, 12), min_size=2, max_size=5), st.data())
def test_turned_votes_change_no_leader_within_its_lead(
    votes: list[int], data: st.DataObject
) -> None:
    before = np.array([votes])
    best, lead = leaders(before)
    after = before.copy()
    for _ in range(int(lead[0])):
        after[0, data.draw(st.sampled_from(np.flatnonzero(after[0]).tolist()))] -= 1
        after[0, data.draw(st.integers(0, len(votes) - 1))] += 1
    assert leaders(after)[0][0] == best[0]


def test_a_partition_of_one_class_votes_for_it_and_an_empty_one_does_not() -> None:
    found = Partition(64).fit(train, np.arange(4.0)[:, None], np.array([1, 1, 1, 1]), LINE, 3)
    assert found.votes(np.zeros((1, 1))).tolist() == [[0, len({*np.flatnonzero(found.sizes)}), 0]]


def test_training_that_does_not_repeat_is_invalid() -> None:
    calls: list[int] = []

    def moody(x: Array, y: Array, seed: int) -> Nearest:
        calls.append(1)
        return Nearest(x, (y + len(calls) % 2) % 3)

    x = np.arange(120.0)[:, None] * 9 / 120
    found = Partition(3).fit(moody, x, np.arange(120) % 3, LINE, 3)
    judged = found.certify(x, np.arange(120) % 3)
    assert judged.verdict is Verdict.INVALID
    assert "defence.not_deterministic" in [one.code for one in judged.problems]
    assert Partition(3).fit(train, x, np.arange(120) % 3, LINE, 3).problems == ()


def test_a_certificate_against_poison_says_what_it_rests_on() -> None:
    x = np.arange(120.0)[:, None] * 9 / 120
    y = (x[:, 0] > 4).astype(int)
    aggregate: Aggregate = Partition(5).fit(train, x, y, LINE, 3)
    told = aggregate.certify(x, y).to_dict([0, 1, 2])
    assert told["unit"] == "poisons"
    assert told["failure"] == 0
    assert told["parameters"]["hash"] == "sha256"
    assert sum(told["parameters"]["rows"]) == 120
    values = [one["value"] for one in told["certified_accuracy"]]
    assert values == sorted(values, reverse=True)
    assert values[2] > 0.5
    assert told["verdict"] == "pass"


# Empirical defences, attacked in turn

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


# Adversarial training


@pytest.fixture(scope="module")
def zoo() -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from bench.zoo import Zoo

    found = Zoo(0)
    found.learnt = found._x.numpy().reshape(-1, 64), found._y.numpy()
    return found


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
    found = evaluate(made, zoo.x[:120], zoo.y[:120], suite(SOLE), question, undefended=bare)
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


# Trimmed loss


@dataclass
class Blobs:
    """Nearest means (`memory` False) or nearest rows, with scores."""

    x: Array
    y: Array
    memory: bool
    classes: int = 3
    domain: Domain = WIDE
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL, Capability.SCORES})

    def predict(self, rows: Array) -> Answers:
        far = ((rows[:, None] - self.x[None]) ** 2).sum(axis=2)
        if self.memory:
            per = [np.where(self.y == one, far, np.inf).min(axis=1) for one in range(3)]
        else:
            means = [self.x[self.y == one].mean(axis=0) for one in range(3)]
            per = [((rows - mean) ** 2).sum(axis=1) for mean in means]
        scores = -np.stack(per, axis=1)
        labels = scores.argmax(axis=1)
        return Answers(labels, 9 * np.eye(3)[labels] if self.memory else scores)


def memory(x: Array, y: Array, seed: int) -> Blobs:
    return Blobs(x, y, True)


def means(x: Array, y: Array, seed: int) -> Blobs:
    return Blobs(x, y, False)


def blobs(count: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    return np.array([[0, 2], [2, -1], [-2, -1]])[y] + rng.normal(0, 0.5, (count, 2)), y


def test_what_fits_worst_is_left_out() -> None:
    x, y = blobs(300, 0)
    flipped = np.random.default_rng(1).permutation(300)[:30]
    bad = y.copy()
    bad[flipped] = (y[flipped] + 1) % 3
    caught = {}
    for train_one, folds in ((means, 1), (means, 5), (memory, 1), (memory, 5)):
        found = TrimmedLoss(0.1, folds=folds).fit(train_one, x, bad)
        assert found.kept.sum() == 270
        caught[train_one.__name__, folds] = (~found.kept[flipped]).mean()
    assert min(caught["means", 1], caught["means", 5]) > 0.8
    # One that knows its rows by heart thinks well of each of them.
    assert caught["memory", 1] < 0.2
    assert caught["memory", 5] > 0.5


def test_trimming_that_gains_against_who_knows_it_passes() -> None:
    found = drill(TrimmedLoss(0.25), memory, *blobs(300, 0), blobs(400, 1), 0.15)
    assert found.verdict is Verdict.PASS
    assert {one.poison for one in found.poisoned if one.adaptive} == {
        "likely-flips",
        "one-class-flips",
    }
    assert found.worst.defended.value == min(one.defended.value for one in found.poisoned)
    told = found.to_dict()
    assert told["poisoned_accuracy"]["value"] == pytest.approx(found.worst.defended.value, abs=1e-6)


@pytest.mark.parametrize("train_one", [means])
def test_trimming_that_does_nothing_is_no_gain(train_one: Any) -> None:
    # Means hardly move by so few flips.
    found = drill(TrimmedLoss(0.1), train_one, *blobs(300, 0), blobs(400, 1), 0.05)
    assert found.codes in (("defence.no_gain",), ("defence.masks",))
    assert found.verdict in (Verdict.FAIL, Verdict.INVALID)


def test_trimming_that_only_random_flips_show_is_called_masking(
    need_module: Callable[[str], ModuleType],
) -> None:
    need_module("sklearn")
    from sklearn.datasets import load_digits

    from bench.defences import FLAT, linear

    data = load_digits()
    x = (data.data / 16).astype(np.float32)
    learnt, tested = (x[:900], data.target[:900]), (x[1100:], data.target[1100:])
    found = drill(TrimmedLoss(0.15, rounds=2, folds=2), linear, *learnt, tested, 0.15)
    assert FLAT.width == 64
    assert found.poisoned[0].gains
    assert found.codes == ("defence.masks",)


def test_drills_are_the_same_for_a_seed_and_few_samples_are_insufficient() -> None:
    told = [
        drill(TrimmedLoss(0.2, rounds=2), memory, *blobs(200, 0), blobs(90, 1), 0.1, seed).to_dict()
        for seed in (3, 3)
    ]
    assert told[0] == told[1]
    assert "defence.too_few" in [one["code"] for one in told[0]["problems"]]
    with pytest.raises(InputError, match=r"defence\.bad_data"):
        TrimmedLoss().fit(means, np.zeros((5, 2)), np.zeros(5, int))
    with pytest.raises(InputError, match=r"defence\.unfit"):
        TrimmedLoss().fit(train, *blobs(50, 0))
    with pytest.raises(InputError, match=r"defence\.bad_parameters"):
        TrimmedLoss(0.0)


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
