"""Copies of models: exact where they should be, within the budget, no number without answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.extraction import fidelity
from keepstone.lab.attacks.extraction.copycat import Copycat
from keepstone.lab.attacks.extraction.equation_solving import EquationSolving, simplex
from keepstone.lab.attacks.extraction.fidelity import HeldOut, measure
from keepstone.lab.attacks.extraction.jacobian import JacobianAugmentation
from keepstone.lab.attacks.extraction.knockoff import Knockoff, Policy
from keepstone.lab.attacks.extraction.lbfgs import minimize
from keepstone.lab.attacks.extraction.noise_pool import Noise, NoisePool, draw
from keepstone.lab.attacks.extraction.port import ExtractionAttack
from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.run import extract
from keepstone.lab.attacks.extraction.surrogate import Network, StolenModel, Training, fresh
from keepstone.lab.defences.output_hardening import Hardened, LabelsOnly, RoundedScores
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.meter import BudgetSpent
from keepstone.lab.problem import Verdict, worst_of
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, Target, as_scores

QUICK = Training(hidden=(16,), epochs=3, steps=40)
WIDTH, CLASSES = 6, 3
DOMAIN = Domain.of((WIDTH,), -1.0, 1.0, "float64")


class Original:
    """A softmax model that serves probabilities' logarithms, and counts and checks its rows."""

    def __init__(
        self, seed: int = 0, domain: Domain = DOMAIN, classes: int = CLASSES, scale: float = 2.0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.weights = rng.normal(size=(domain.width, classes)) * scale
        self.bias = rng.normal(size=classes) * 0.3
        self.domain = domain
        self.classes = classes
        self.asked = 0
        self.rows: list[Array] = []

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL, Capability.SCORES})

    def predict(self, rows: Array) -> Answers:
        assert self.domain.holds(rows).all()
        self.asked += len(rows)
        self.rows.append(rows)
        scores = rows @ self.weights + self.bias
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        return Answers(scores.argmax(axis=1), as_scores(chances, probable=True))


class Faulty(Original):
    """The same, its answers spoiled by `fault` of the labels, the scores and the count so far."""

    def __init__(self, fault: Callable[[Array, Array, int], tuple[Array, Array]]) -> None:
        super().__init__()
        self.fault = fault

    def predict(self, rows: Array) -> Answers:
        found = super().predict(rows)
        assert found.scores is not None
        return Answers(*self.fault(found.labels.copy(), found.scores.copy(), self.asked))


def held_out(target: Target, count: int = 400) -> HeldOut:
    return HeldOut.drawn(target, count, np.random.default_rng(99))


def pool(count: int = 90, seed: int = 5) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (count, WIDTH))


def every_attack() -> list[ExtractionAttack]:
    kinds = np.arange(90) % 4
    return [
        EquationSolving(steps=30),
        EquationSolving(hidden=(4,), steps=20),
        Knockoff(pool(), training=QUICK),
        Knockoff(pool(), Policy.ADAPTIVE, kinds, batch=8, training=QUICK),
        Copycat(pool(), training=QUICK),
        JacobianAugmentation(pool(10), training=QUICK),
        NoisePool(training=QUICK),
        NoisePool(Noise.NORMAL, batch=7, training=QUICK),
        NoisePool(Noise.NATURAL, batch=7, training=QUICK),
    ]


# Exactness


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 8), st.floats(0.01, 3.0))
@settings(max_examples=60)
def test_softmax_models_are_copied_exactly_by_d_plus_1_rows(
    seed: int, width: int, classes: int, scale: float
) -> None:
    domain = Domain.of((width,), -3.0, 5.0, "float64")
    target = Original(seed, domain, classes, scale)
    found = extract(target, EquationSolving(), held_out(target), [width + 1], seed)
    assert found.asked == width + 1
    assert found.stolen is not None
    rows = np.random.default_rng(seed).uniform(-3, 5, (300, width))
    truth = rows @ target.weights + target.bias
    scores = found.stolen.network.scores(rows)
    # Up to what a softmax ignores: the same number added to every class.
    apart = (scores - scores.mean(1, keepdims=True)) - (truth - truth.mean(1, keepdims=True))
    assert np.abs(apart).max() < 1e-6 * max(1, np.abs(truth).max())


def test_d_rows_are_not_enough_and_units_say_so() -> None:
    target = Original(domain=Domain.of((20,), -1.0, 1.0, "float64"), classes=5)
    curve = extract(target, EquationSolving(), held_out(target), [10, 21], 0).curve
    few, enough = (point.agreement for point in curve)
    assert few is not None
    assert enough is not None
    assert few.high < enough.low
    assert (curve[1].units, enough.value) == (1.0, 1.0)


def test_probabilities_that_vanish_are_not_taken_for_equations() -> None:
    for scale, kind in ((40.0, np.float32), (400.0, np.float64)):

        class Narrow(Original):
            def predict(self, rows: Array, kind: type = kind) -> Answers:
                found = super().predict(rows)
                assert found.scores is not None
                chances: Array = np.exp(found.scores).astype(kind)
                return Answers(found.labels, as_scores(chances, probable=True))

        target = Narrow(scale=scale)
        for seed in range(3):
            found = extract(target, EquationSolving(), held_out(target), [140], seed)
            assert found.final.agreement is not None
            assert found.final.agreement.value == 1


def test_a_simplex_is_regular_and_inside() -> None:
    corners = simplex(DOMAIN, np.random.default_rng(0))
    apart = np.linalg.norm(corners[:, None] - corners[None], axis=2)[~np.eye(WIDTH + 1, dtype=bool)]
    assert np.allclose(apart, apart[0])
    assert np.abs(corners).max() == pytest.approx(1)


def test_whole_inputs_and_constraints_are_kept_while_solving() -> None:
    whole = Domain.of((8,), 0.0, 16.0, "int64")
    target = Original(domain=whole, scale=0.1)
    found = extract(target, EquationSolving(), held_out(target), [18], 1)
    assert found.final.agreement is not None
    assert found.final.agreement.value == 1
    assert all((rows == np.rint(rows)).all() for rows in target.rows)
    groups = Constraints.of(8, one_hot=[range(4), range(4, 8)])
    tabular = Domain.of((8,), 0.0, 1.0, "float64", groups)
    target = Original(domain=tabular)
    rows = tabular.fit(np.random.default_rng(1).uniform(size=(200, 8)), np.zeros((200, 8)))
    found = extract(target, EquationSolving(), HeldOut.ask(target, rows), [27], 1)
    assert found.final.agreement is not None
    assert found.final.agreement.value == 1


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_rounding_is_no_defence(digits: int) -> None:
    target = Original(scale=6)
    served = Hardened(target, RoundedScores(digits))
    found = extract(served, EquationSolving(), held_out(target), [30 * (WIDTH + 1)], 0)
    assert found.final.agreement is not None
    assert found.final.agreement.low > 0.95


def test_rows_are_asked_where_every_class_is_likely() -> None:
    target = Original(scale=6)
    meter = QueryMeter(Hardened(target, RoundedScores(2)), 20 * (WIDTH + 1))
    with pytest.raises(BudgetSpent):
        EquationSolving().ask(meter, np.random.default_rng(0))
    served = meter.transcript().served_probabilities()
    assert served is not None
    corners = np.where(np.random.default_rng(1).random((200, WIDTH)) < 0.5, -1.0, 1.0)
    meter = QueryMeter(Hardened(target, RoundedScores(2)), 200)
    meter.ask(corners)
    plain = meter.transcript().served_probabilities()
    assert plain is not None
    # Half of the rows are such corners, where nearly every answer is one class for certain.
    assert (plain.max(axis=1) > 0.95).mean() > 0.75
    assert (served[-60:].max(axis=1) > 0.95).mean() < 0.65


def test_labels_alone_are_enough_for_some_tens_of_units() -> None:
    target = Original(scale=6)
    unit = WIDTH + 1
    curve = extract(
        Hardened(target, LabelsOnly()), EquationSolving(), held_out(target), [unit, 60 * unit], 0
    ).curve
    first, last = (point.agreement for point in curve)
    assert first is not None
    assert last is not None
    assert last.low > 0.9 > first.high


@pytest.mark.parametrize("digits", [0, 1, 2, 3, 4])
def test_rounding_is_told_from_the_answers(digits: int) -> None:
    target = Original()
    for served, wanted in ((Hardened(target, RoundedScores(digits)), digits), (target, None)):
        meter = QueryMeter(served, 50)
        meter.ask(pool(50))
        assert meter.transcript().digits() == wanted


def test_probabilities_that_are_nearly_certain_are_not_rounded() -> None:
    sure = np.array([[1e-9, 1 - 1e-9], [1 - 1e-12, 1e-12]])
    seen = Transcript(np.zeros((2, 1)), np.array([1, 0]), as_scores(sure, probable=True), 2)
    assert seen.digits() is None
    assert seen.served_probabilities() is not None


def test_rounded_probabilities_served_as_they_are_read_the_same() -> None:
    rows, labels = np.zeros((3, 1)), np.array([0, 1, 1])
    plain = np.array([[0.6, 0.3], [0.3, 0.7], [0.1, 0.9]])
    for scores in (plain, as_scores(plain, probable=True)):
        seen = Transcript(rows, labels, scores, 2)
        assert seen.digits() == 1
        assert seen.probabilities() == pytest.approx(plain / plain.sum(axis=1, keepdims=True))
    logits = Transcript(rows, labels, plain * 10 - 5, 2)
    assert logits.digits() is None


def test_scores_that_contradict_the_label_are_not_believed() -> None:
    seen = Transcript(np.zeros((2, 1)), np.array([0, 0]), np.log([[0.2, 0.8], [0.7, 0.3]]), 2)
    assert seen.probabilities() == pytest.approx(np.array([[1, 0], [0.7, 0.3]]))


@pytest.mark.parametrize("seed", range(3))
def test_a_network_is_solved_from_whole_scores(seed: int) -> None:
    network = fresh(pool(), DOMAIN, (3,), CLASSES, np.random.default_rng(3), "f8", gain=2.0)
    target = StolenModel(network, DOMAIN, CLASSES)
    # Wider than the model: a network of its very width may stay in a bad place.
    attack = EquationSolving(hidden=(12,), steps=800)
    found = extract(target, attack, held_out(target), [1000], seed)
    assert found.final.agreement is not None
    assert found.final.agreement.low > (found.final.constant or 1) + 0.02


# Budgets


@pytest.mark.parametrize("attack", every_attack(), ids=lambda one: repr(one)[:40])
@pytest.mark.parametrize("budget", [1, 7, 64])
def test_no_attack_asks_beyond_its_budget_or_outside_the_domain(
    attack: ExtractionAttack, budget: int
) -> None:
    target = Original()
    found = extract(target, attack, held_out(target), [budget], 3)
    # Beside the held-out rows, which were asked for twice at most.
    assert target.asked - 400 - fidelity.FEWEST == found.asked == budget
    assert found.final.queries == budget


@pytest.mark.parametrize("attack", every_attack(), ids=lambda one: repr(one)[:40])
def test_a_smaller_budget_buys_the_first_answers_of_a_larger_one(attack: ExtractionAttack) -> None:
    target = Original()
    there = held_out(target)
    both = extract(target, attack, there, [30, 61], 3)
    alone = extract(target, attack, there, [30], 3)
    assert both.curve[0] == alone.final
    again = extract(target, attack, there, [30, 61], 3)
    assert again.to_dict() == both.to_dict()
    other = extract(target, attack, there, [30, 61], 4)
    assert other.stolen is not None
    assert both.stolen is not None
    rows = pool(50, 8)
    assert (other.stolen.network.scores(rows) != both.stolen.network.scores(rows)).any()


def test_a_pool_that_ends_is_asked_once() -> None:
    target = Original()
    for attack in (
        Knockoff(pool(), training=QUICK),
        Knockoff(pool(), Policy.ADAPTIVE, np.arange(90) % 4, training=QUICK),
        Copycat(pool(), training=QUICK),
    ):
        target.rows.clear()
        found = extract(target, attack, held_out(target), [500, 1000], 0)
        assert (found.asked, [point.queries for point in found.curve]) == (90, [90])
        asked = np.concatenate(target.rows[2:])
        assert {row.tobytes() for row in asked} == {row.tobytes() for row in pool()}


def test_a_meter_refuses_what_it_cannot_count() -> None:
    with pytest.raises(InputError) as caught:
        QueryMeter(Original(), 0)
    assert caught.value.code == "attack.bad_budget"
    target = Original()
    meter = QueryMeter(target, 3)
    assert len(meter.ask(pool()).labels) == 3
    with pytest.raises(BudgetSpent):
        meter.ask(pool())
    assert (target.asked, meter.asked, meter.left) == (3, 3, 0)


def test_an_attacks_nan_is_not_asked() -> None:
    target = Original()
    QueryMeter(target, 3).ask(np.full((3, WIDTH), np.nan))
    assert np.isfinite(target.rows[0]).all()


# Fidelity


def test_a_copy_of_itself_agrees_in_everything() -> None:
    network = fresh(pool(), DOMAIN, (8,), CLASSES, np.random.default_rng(0))
    itself = StolenModel(network, DOMAIN, CLASSES)
    found = measure(itself, held_out(itself), _seen(itself))
    assert found.agreement is not None
    assert found.measured
    assert found.agreement.value == 1
    assert found.agreement.low > 0.99


@given(st.integers(0, 2**16))
@settings(max_examples=40)
def test_a_copy_that_guesses_agrees_by_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = 5
    served = np.repeat(np.arange(classes), 100)
    rows = rng.uniform(-1, 1, (500, WIDTH))
    there = HeldOut(rows, served, served, 0.0, classes)
    guess = _Fixed(rng.integers(0, classes, 500), classes)
    found = measure(guess, there, _seen(Original()))
    assert found.agreement is not None
    assert found.constant == 1 / classes
    # 95 % of them hold chance; none of them is far from it.
    assert found.agreement.low - 0.06 < 1 / classes < found.agreement.high + 0.06


def test_most_intervals_of_guesses_hold_chance() -> None:
    rng = np.random.default_rng(0)
    served = np.repeat(np.arange(4), 100)
    there = HeldOut(rng.uniform(-1, 1, (400, WIDTH)), served, None, 0.0, 4)
    held = 0
    for _ in range(200):
        found = measure(_Fixed(rng.integers(0, 4, 400), 4), there, _seen(Original()))
        assert found.agreement is not None
        assert found.accuracy is None
        held += found.agreement.low <= 0.25 <= found.agreement.high
    assert held >= 180


def _nothing(labels: Array, scores: Array, asked: int) -> tuple[Array, Array]:
    return np.full_like(labels, UNANSWERED), scores


def _constant(labels: Array, scores: Array, asked: int) -> tuple[Array, Array]:
    return np.zeros_like(labels), np.zeros_like(scores)


def _nan(labels: Array, scores: Array, asked: int) -> tuple[Array, Array]:
    scores[::3] = np.nan
    return labels, scores


def _unknown(labels: Array, scores: Array, asked: int) -> tuple[Array, Array]:
    labels[0] = CLASSES
    return labels, scores


def _throttled(labels: Array, scores: Array, asked: int) -> tuple[Array, Array]:
    if asked > 520:
        labels[:] = UNANSWERED
    return labels, scores


def _changing(labels: Array, scores: Array, asked: int) -> tuple[Array, Array]:
    return (labels + (asked > 400)) % CLASSES, scores


@pytest.mark.parametrize(
    ("fault", "code", "effect"),
    [
        (_nothing, "attack.throttled", Verdict.INSUFFICIENT),
        (_throttled, "attack.throttled", Verdict.INSUFFICIENT),
        (_constant, "attack.constant_output", Verdict.INVALID),
        (_nan, "attack.broken_outputs", Verdict.INVALID),
        (_unknown, "attack.broken_outputs", Verdict.INVALID),
        (_changing, "attack.changing_answers", Verdict.INSUFFICIENT),
    ],
)
@pytest.mark.parametrize("attack", every_attack(), ids=lambda one: repr(one)[:40])
def test_a_target_that_misbehaves_gets_a_finding_and_no_number(
    attack: ExtractionAttack, fault: Any, code: str, effect: Verdict
) -> None:
    target = Faulty(fault)
    found = extract(target, attack, held_out(target), [64], 0)
    final = found.final
    assert code in {one.code for one in final.problems}
    assert (worst_of(final.problems), final.agreement, final.accuracy) == (effect, None, None)
    assert target.asked <= 564
    assert found.to_dict()["curve"][-1]["agreement"] is None


def test_points_before_the_throttling_are_measured() -> None:
    target = Faulty(_throttled)
    curve = extract(target, NoisePool(batch=5, training=QUICK), held_out(target), [20, 64], 0).curve
    assert [worst_of(point.problems) for point in curve] == [Verdict.PASS, Verdict.INSUFFICIENT]


def test_a_target_that_fails_ends_the_attack_with_its_own_code() -> None:
    class Ending(Original):
        def predict(self, rows: Array) -> Answers:
            if self.asked >= 510:
                self.asked += len(rows)
                raise OperationalError("target.too_slow", "It did not answer in time.")
            return super().predict(rows)

    target = Ending()
    found = extract(target, NoisePool(batch=5, training=QUICK), held_out(target), [10, 40], 0)
    assert found.final.problems[0].code == "target.too_slow"
    assert worst_of(found.final.problems) is Verdict.INSUFFICIENT
    assert found.asked == target.asked - 500 == 15
    assert (found.final.queries, found.final.unanswered) == (15, 5)


@pytest.mark.parametrize(("count", "enough"), [(99, False), (100, True)])
def test_too_few_held_out_rows_are_insufficient(count: int, enough: bool) -> None:
    target = Original()
    found = extract(target, EquationSolving(), held_out(target, count), [20], 0).final
    assert (found.agreement is not None) is enough
    assert ("attack.too_few" in {one.code for one in found.problems}) is not enough


@pytest.mark.parametrize(
    ("served", "code"), [(UNANSWERED, "attack.throttled"), (CLASSES, "attack.broken_outputs")]
)
def test_held_out_rows_that_go_wrong_make_no_number(served: int, code: str) -> None:
    target = Original()
    there = held_out(target)
    there.served[:20] = served
    found = extract(target, EquationSolving(), there, [20], 0).final
    assert ([one.code for one in found.problems], found.agreement) == ([code], None)


def test_bad_held_out_rows_are_refused() -> None:
    for rows, right in (
        (np.zeros((4, WIDTH + 1)), None),
        (np.zeros((0, WIDTH)), None),
        (np.zeros((4, WIDTH)), np.zeros(3)),
    ):
        with pytest.raises(InputError) as caught:
            HeldOut.ask(Original(), rows, right)
        assert caught.value.code == "attack.bad_held_out"


# The attacks' own


def test_pools_teach_more_with_more_queries() -> None:
    target = Original(scale=3)
    there = held_out(target)
    training = Training(hidden=(32,), epochs=10, steps=300)
    rows = pool(600)
    for attack in (
        Knockoff(rows, training=training),
        Knockoff(rows, Policy.ADAPTIVE, np.arange(600) % 3, training=training),
        Copycat(rows, training=training),
        NoisePool(training=training),
    ):
        few, many = (
            point.agreement for point in extract(target, attack, there, [12, 600], 0).curve
        )
        assert few is not None
        assert many is not None
        assert many.low > max(few.value, 0.85)


def test_the_adaptive_policy_prefers_kinds_that_tell() -> None:
    target = Original(scale=3)
    rng = np.random.default_rng(0)
    # Half of the pool is one row again and again: it tells nothing after the first.
    dull, bright = np.tile(rng.uniform(-1, 1, WIDTH), (400, 1)), pool(400)
    attack = Knockoff(
        np.concatenate([dull, bright]),
        Policy.ADAPTIVE,
        np.repeat([0, 1], 400),
        rate=20.0,
        training=QUICK,
    )
    extract(target, attack, held_out(target), [300], 0)
    asked = np.concatenate(target.rows[2:])
    assert (asked == dull[0]).all(axis=1).mean() < 0.4


def test_copycat_and_augmentation_look_at_no_scores() -> None:
    target = Original()
    for attack in (
        Copycat(pool(), training=QUICK),
        Copycat(pool(), balance=False, training=QUICK),
        JacobianAugmentation(pool(10), training=QUICK),
    ):
        with_scores = extract(target, attack, held_out(target), [60], 0)
        without = extract(Hardened(target, LabelsOnly()), attack, held_out(target), [60], 0)
        assert (with_scores.seen.rows == without.seen.rows).all()
        assert with_scores.stolen is not None
        assert without.stolen is not None
        rows = pool(20, 9)
        scores = (one.network.scores(rows) for one in (with_scores.stolen, without.stolen))
        assert (next(scores) == next(scores)).all()


def test_augmentation_moves_along_the_gradients_sign() -> None:
    target = Original()
    attack = JacobianAugmentation(pool(10) * 0.5, step=0.1, training=QUICK)
    extract(target, attack, held_out(target), [20], 0)
    asked = np.concatenate(target.rows[2:])
    seeds, moved = asked[:10], asked[10:]
    for row in moved:
        assert np.isclose(np.abs(row - seeds), 0.2).all(axis=1).any()


@pytest.mark.parametrize("noise", list(Noise))
def test_noise_lies_in_the_domain_and_natural_noise_is_smooth(noise: Noise) -> None:
    domain = Domain.of((3, 16, 16), 0.0, 255.0, "uint8")
    rows = draw(noise, domain, 40, np.random.default_rng(0))
    assert rows.shape == (40, 768)
    assert domain.holds(rows).all()
    pictures = rows.reshape(40, 3, 16, 16)
    step = np.abs(np.diff(pictures, axis=3)).mean() / pictures.std()
    assert bool(step < 0.5) is (noise is Noise.NATURAL)


def test_bad_pools_noise_and_training_are_refused() -> None:
    target = Original()
    meter, rng = QueryMeter(target, 5), np.random.default_rng(0)
    bad: list[tuple[Callable[[], object], str]] = [
        (lambda: Knockoff(np.zeros((0, 3))), "attack.bad_pool"),
        (lambda: Copycat(np.full((2, 3), np.nan)), "attack.bad_pool"),
        (lambda: JacobianAugmentation(np.zeros(3)), "attack.bad_pool"),
        (lambda: Knockoff(pool(), Policy.ADAPTIVE, np.zeros(3)), "attack.bad_pool"),
        (lambda: Knockoff(np.zeros((2, 3))).ask(meter, rng), "attack.bad_pool"),
        (lambda: draw(Noise.NATURAL, DOMAIN, 1, rng, (2, 2)), "attack.bad_noise"),
        (lambda: Training(hidden=(0,)), "attack.bad_training"),
        (lambda: Hardened(Hardened(target, LabelsOnly()), RoundedScores(1)), "defence.unfit"),
        (lambda: extract(target, EquationSolving(), held_out(target), [], 0), "attack.bad_budget"),
    ]
    for make, code in bad:
        with pytest.raises(InputError) as caught:
            make()
        assert caught.value.code == code
    assert meter.asked == 0


# The copies


def test_a_copys_gradient_is_that_of_its_scores() -> None:
    rng = np.random.default_rng(0)
    network = fresh(pool(), DOMAIN, (5, 4), CLASSES, rng, "f8")
    copy = StolenModel(network, DOMAIN, CLASSES)
    rows, weights = pool(4, 6), rng.normal(size=(4, CLASSES))
    slope = copy.linearize(rows).vjp(weights)
    for at in range(WIDTH):
        step = np.zeros(WIDTH)
        step[at] = 1e-6
        change = (network.scores(rows + step) - network.scores(rows - step)) / 2e-6
        assert (change * weights).sum(axis=1) == pytest.approx(slope[:, at], abs=1e-6)


def test_lbfgs_finds_the_least_of_a_valley() -> None:
    def rosenbrock(at: Array) -> tuple[float, Array]:
        x, y = at
        value = (1 - x) ** 2 + 100 * (y - x * x) ** 2
        return value, np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])

    assert minimize(rosenbrock, np.array([-1.2, 1.0]), steps=100) == pytest.approx([1, 1])


class _Fixed:
    """Serves the labels it was given, whatever it is asked."""

    domain = DOMAIN
    capabilities = frozenset({Capability.LABEL})

    def __init__(self, labels: Array, classes: int) -> None:
        self.labels, self.classes = labels, classes

    def predict(self, rows: Array) -> Answers:
        return Answers(self.labels[: len(rows)])


def _seen(target: Target) -> Transcript:
    meter = QueryMeter(target, 20)
    meter.ask(pool(20))
    return meter.transcript()


def test_a_network_scales_its_inputs() -> None:
    network = Network(np.array([1.0]), np.array([2.0]), ((np.array([[1.0, -1.0]]), np.zeros(2)),))
    assert network.scores(np.array([[5.0]])).tolist() == [[2.0, -2.0]]
