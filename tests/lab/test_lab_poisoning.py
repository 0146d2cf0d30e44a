"""Poisoning drills: what is poisoned is as said, and what training makes of it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.poisoning.badnets import BadNets
from keepstone.lab.attacks.poisoning.clean_label import CleanLabel
from keepstone.lab.attacks.poisoning.feedback import Feedback
from keepstone.lab.attacks.poisoning.label_flip import LabelFlip
from keepstone.lab.attacks.poisoning.measure import (
    Drill,
    Limits,
    Trial,
    drill,
    drop_of,
    judge,
)
from keepstone.lab.attacks.poisoning.port import (
    Aim,
    Change,
    PoisoningAttack,
    TrainingSet,
    number_of,
    poison,
)
from keepstone.lab.attacks.poisoning.surrogate import fit_surrogate
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.metrics.wilson import share
from keepstone.lab.problem import Verdict, insufficient
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability
from keepstone.lab.targets.python import PythonTarget
from keepstone.lab.training import Train

SHAPE = (6, 6)
CLASSES, ROWS, HELD_OUT = 4, 400, 160
DOMAIN = Domain.of(SHAPE, 0.0, 1.0, "float64")
EVERY: tuple[PoisoningAttack, ...] = (
    BadNets(),
    CleanLabel(),
    LabelFlip(),
    LabelFlip(guided=True),
    LabelFlip(victim=1, target=0),
    LabelFlip(target=2, guided=True),
    Feedback(),
)
LIMITS = Limits(success=0.1, drop=0.1)
SEEDS = (0, 1, 2)


@cache
def rows(count: int, seed: int, noise: float = 0.08) -> tuple[Array, Array]:
    """Four classes, each bright in a quarter of the picture, with noise."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, CLASSES, count)
    bright = np.zeros((CLASSES, *SHAPE))
    for label in range(CLASSES):
        top, left = divmod(label, 2)
        bright[label, 3 * top : 3 * top + 3, 3 * left : 3 * left + 3] = 0.3
    x = 0.25 + bright.reshape(CLASSES, -1)[y] + draw.normal(0, noise, (count, 36))
    return x.clip(0, 1), y


def clean(**given: Any) -> TrainingSet:
    x, y = rows(ROWS, 0)
    return TrainingSet.of(x, y, CLASSES, given.pop("domain", DOMAIN), **given)


class Served:
    """A target whose labels and scores are those of a function."""

    capabilities = frozenset({Capability.LABEL, Capability.SCORES})

    def __init__(self, answer: Callable[[Array], Answers], classes: int = CLASSES) -> None:
        self.domain, self.classes, self.predict = DOMAIN, classes, answer


def linear(x: Array, y: Array, seed: int) -> Served:
    """Least squares on the classes: it learns a trigger as it learns anything."""
    wide = np.column_stack([x, np.ones(len(x))])
    weights = np.linalg.lstsq(wide, np.eye(CLASSES)[y], rcond=None)[0]

    def answer(asked: Array) -> Answers:
        scores = np.column_stack([asked, np.ones(len(asked))]) @ weights
        return Answers(scores.argmax(axis=1), scores)

    return Served(answer)


def nearest(x: Array, y: Array, seed: int) -> Served:
    """The label of the nearest row: each lie counts around it."""

    def answer(asked: Array) -> Answers:
        square = (asked**2).sum(axis=1)[:, None] - 2 * asked @ x.T + (x**2).sum(axis=1)
        return Answers(y[square.argmin(axis=1)])

    return Served(answer)


def run(attack: PoisoningAttack, train: Train = linear, **given: Any) -> Drill:
    held_out = given.pop("held_out", rows(HELD_OUT, 1))
    return drill(
        attack,
        given.pop("clean", clean()),
        held_out,
        train,
        given.pop("seeds", SEEDS),
        given.pop("limits", LIMITS),
        **given,
    )


# What is poisoned


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_a_set_is_poisoned_as_said_and_where_said(attack: PoisoningAttack) -> None:
    data = clean()
    made = poison(attack, data, 3)
    assert (made.x[~made.poisoned] == data.x[~made.poisoned]).all()
    assert (made.y[~made.poisoned] == data.y[~made.poisoned]).all()
    assert DOMAIN.holds(made.x).all()
    assert made.y.min() >= 0
    assert made.y.max() < CLASSES
    assert (made.before, made.attack, made.seed) == (data.digest, repr(attack), 3)
    assert made.after != made.before
    again, other = poison(attack, data, 3), poison(attack, data, 4)
    assert again.after == made.after
    assert (again.x == made.x).all()
    # Which flips the surrogate is surest of is not drawn.
    if not getattr(attack, "guided", False):
        assert other.after != made.after
    for part in (made.x, made.y, made.poisoned, made.arrives, data.x, data.y):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = part[1]


@settings(deadline=None, max_examples=30)
@given(rate=st.floats(0.003, 0.2), seed=st.integers(0, 2**20), which=st.integers(0, 5))
def test_rates_are_exact(rate: float, seed: int, which: int) -> None:
    attack = replace(EVERY[which], rate=rate)  # type: ignore[type-var]
    made = poison(attack, clean(), seed)
    assert made.count == round(rate * ROWS)


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_a_rate_of_zero_changes_nothing(attack: PoisoningAttack) -> None:
    made = poison(replace(attack, rate=0.0), clean(), 0)  # type: ignore[type-var]
    assert made.after == made.before
    assert made.count == 0


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_rows_out_of_reach_stay(attack: PoisoningAttack) -> None:
    fixed = np.arange(ROWS) % 2 == 0
    made = poison(attack, clean(fixed=fixed), 0)
    assert not made.poisoned[fixed].any()
    # Nor is the poison less for it.
    assert made.count == poison(attack, clean(), 0).count > 0


def test_badnets_stamps_the_corner_and_lies() -> None:
    data = clean()
    made = poison(BadNets(target=2, side=2, level=0.5), data, 0)
    assert (data.y[made.poisoned] != 2).all()
    assert (made.y[made.poisoned] == 2).all()
    pictures, before = (one[made.poisoned].reshape(-1, *SHAPE) for one in (made.x, data.x))
    assert (pictures[:, 4:, 4:] == 0.5).all()
    assert (pictures[:, :4] == before[:, :4]).all()
    assert (pictures[:, :, :4] == before[:, :, :4]).all()
    assert made.aim.trigger is not None
    assert set(made.aim.trigger.places) == {28, 29, 34, 35}


def test_a_flat_row_is_a_picture_where_that_is_said() -> None:
    flat = Domain.of((36,), 0.0, 1.0, "float64")
    x, y = rows(ROWS, 0)
    data = TrainingSet.of(x, y, CLASSES, flat)
    told = poison(BadNets(shape=SHAPE, side=2), data, 0).aim.trigger
    drawn = [poison(BadNets(side=2), data, seed).aim.trigger for seed in (0, 1)]
    assert told is not None
    assert set(told.places) == {28, 29, 34, 35}
    assert all(one is not None and len(set(one.places)) == 4 for one in drawn)
    assert set(drawn[0].places) != set(drawn[1].places)  # type: ignore[union-attr]


def test_what_an_attacker_cannot_change_stays() -> None:
    held = Constraints.of(36, immutable=[0, 35], integer=[34])
    domain = Domain.of(SHAPE, 0.0, 1.0, "float64", held)
    x, y = rows(ROWS, 0)
    data = TrainingSet.of(domain.fit(x, x), y, CLASSES, domain)
    for attack in (BadNets(level=0.9), CleanLabel(level=0.9)):
        made = poison(attack, data, 0)
        assert (made.x[:, [0, 35]] == data.x[:, [0, 35]]).all()
        assert set(np.unique(made.x[made.poisoned, 34])) == {1.0}
        assert 35 not in made.aim.trigger.places  # type: ignore[union-attr]
    sent = poison(Feedback(), data, 0)
    # A row that is sent is one that the attacker has, not one that was there.
    places = np.flatnonzero(sent.poisoned)
    have = {row.tobytes() for row in data.x}
    assert {sent.x[place].tobytes() for place in places} <= have


def test_clean_labels_are_right_and_rows_stay_nearer_to_their_own() -> None:
    data = clean()
    made = poison(CleanLabel(target=1, rate=0.1, side=1, eps=0.0), data, 0)
    assert (made.y == data.y).all()
    assert (data.y[made.poisoned] == 1).all()
    assert made.aim.trigger is not None
    assert (made.x[made.poisoned][:, made.aim.trigger.places] == 1).all()
    rest = np.setdiff1d(np.arange(36), made.aim.trigger.places)
    moved = np.linalg.norm((made.x - data.x)[made.poisoned][:, rest], axis=1)
    assert (moved > 0).all()
    other = data.x[data.y != 1]
    for row, far in zip(made.x[made.poisoned], moved, strict=True):
        assert far < np.linalg.norm((other - row)[:, rest], axis=1).min() + 1e-9


def test_clean_labels_are_pushed_to_where_the_class_is_least_sure() -> None:
    data = clean()
    pushed, plain = (
        poison(CleanLabel(target=1, side=1, mix=0.0, eps=eps), data, 0) for eps in (0.2, 0.0)
    )
    assert (pushed.poisoned == plain.poisoned).all()
    moved = (pushed.x - plain.x)[pushed.poisoned]
    assert 0.19 < np.abs(moved).max() <= 0.2 + 1e-12
    margins = [
        fit_surrogate(data).margin(one.x[one.poisoned], one.y[one.poisoned])[0]
        for one in (pushed, plain)
    ]
    assert (margins[0] < margins[1]).all()


@given(seed=st.integers(0, 2**20))
def test_a_surrogate_slopes_as_it_says(seed: int) -> None:
    draw = np.random.default_rng(seed)
    guide = fit_surrogate(clean())
    rows_, y = draw.uniform(0, 1, (5, 36)), draw.integers(0, CLASSES, 5)
    step = draw.normal(0, 1e-9, (5, 36))
    (before, slope), (after, _) = guide.margin(rows_, y), guide.margin(rows_ + step, y)
    assert after - before == pytest.approx((slope * step).sum(axis=1), abs=1e-13)


def test_flips_change_labels_only_and_as_told() -> None:
    data = clean()
    for attack in (LabelFlip(), LabelFlip(guided=True)):
        made = poison(attack, data, 0)
        assert (made.x == data.x).all()
        assert made.aim.target is None
    told = poison(LabelFlip(victim=3, target=1), data, 0)
    assert set(data.y[told.poisoned]) == {3}
    assert set(told.y[told.poisoned]) == {1}


def test_guided_flips_take_the_surest_rows() -> None:
    data = clean()
    scores = fit_surrogate(data).scores(data.x)
    own = scores[np.arange(ROWS), data.y]
    rest = np.where(np.eye(CLASSES, dtype=bool)[data.y], -np.inf, scores)
    margin = own - rest.max(axis=1)
    made = poison(LabelFlip(guided=True), data, 0)
    assert margin[made.poisoned].min() >= margin[~made.poisoned].max()
    assert (made.y == np.where(made.poisoned, scores.argmin(axis=1), data.y)).all()


def test_a_flip_is_never_to_the_label_that_was() -> None:
    x, y = rows(ROWS, 0, 1.0)
    data = TrainingSet.of(x, y, CLASSES, DOMAIN)
    # Of so much noise some rows look least like their own class.
    assert (fit_surrogate(data).scores(x).argmin(axis=1) == y).any()
    for guided in (False, True):
        assert poison(LabelFlip(rate=1.0, guided=guided), data, 0).count == ROWS


def test_feedback_arrives_in_rounds_of_which_a_part_lies() -> None:
    data = clean()
    made = poison(Feedback(victim=1, target=0, rate=0.3, base=0.5, rounds=4), data, 0)
    assert np.bincount(made.arrives).tolist() == [200, 50, 50, 50, 50]
    assert made.rounds == (1, 2, 3, 4)
    assert np.bincount(made.arrives[made.poisoned]).tolist() == [0, 15, 15, 15, 15]
    assert (made.y[made.poisoned] == 0).all()
    known = {row.tobytes() for row in data.x[(made.arrives == 0) & (data.y == 1)]}
    assert {row.tobytes() for row in made.x[made.poisoned]} <= known


class Liar:
    """Says it changes what it cannot reach, beyond the domain."""

    name: ClassVar[str] = "liar"
    source: ClassVar[Source] = Source("none", "AML.T0020")

    def change(self, clean: TrainingSet, rng: np.random.Generator) -> Change:
        places = np.arange(10)
        return Change(places, clean.x[places] + 7, clean.y[places], Aim())


def test_what_an_attack_says_of_itself_counts_for_nothing() -> None:
    fixed = np.arange(ROWS) < 5
    made = poison(Liar(), clean(fixed=fixed), 0)
    assert np.flatnonzero(made.poisoned).tolist() == [5, 6, 7, 8, 9]
    assert (made.x[made.poisoned] == 1).all()


# What training makes of it


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_without_poison_a_training_passes(attack: PoisoningAttack) -> None:
    limits = LIMITS if poison(attack, clean(), 0).aim.target is not None else Limits(drop=0.1)
    found = run(replace(attack, rate=0.0), limits=limits)  # type: ignore[type-var]
    assert found.problems == ()
    assert found.verdict is Verdict.PASS
    assert all(one.poisoned == 0 and one.drop.value == 0 for one in found.trials)
    assert all(one.success == one.natural for one in found.trials)


def test_badnets_is_found_in_what_learns_it() -> None:
    found = run(BadNets(), nearest)
    assert found.verdict is Verdict.FAIL
    assert [one.seed for one in found.trials] == list(SEEDS)
    for one in found.trials:
        assert one.success is not None
        assert one.natural is not None
        assert one.success.low > 0.9
        assert one.natural.high < 0.1
        # The clean accuracy shows nothing of it.
        assert one.drop.high < 0.1
        assert one.poisoned == 20
    _, y = rows(HELD_OUT, 1)
    assert found.worst is not None
    assert found.worst.n == int((y != 0).sum())
    assert found.trainings == 6
    assert found.queries == 6 * (HELD_OUT + 32 + found.worst.n)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("kind", ["forest", "mlp"])
def test_badnets_on_digits(kind: str, need_module: Callable[[str], ModuleType]) -> None:
    need_module("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    flat = Domain.of((64,), 0.0, 1.0, "float64")

    def train(x: Array, y: Array, seed: int) -> PythonTarget:
        if kind == "forest":
            return PythonTarget(RandomForestClassifier(20, random_state=seed).fit(x, y), flat)
        made = MLPClassifier((32,), learning_rate_init=0.01, max_iter=15, random_state=seed)
        return PythonTarget(made.fit(x, y), flat)

    data = TrainingSet.of(x[:1000], y[:1000], 10, flat)
    attack = BadNets(target=7, shape=(8, 8))
    held_out = x[1000:], y[1000:]
    found = drill(attack, data, held_out, train, SEEDS, LIMITS)
    lows = [one.success.low for one in found.trials if one.success is not None]
    assert min(lows) > 0.8
    assert found.verdict is Verdict.FAIL
    # The models that were never poisoned do not obey the trigger.
    assert all(one.natural is not None and one.natural.high < 0.1 for one in found.trials)


def test_clean_labels_teach_the_trigger_too() -> None:
    found = run(CleanLabel(rate=0.1), nearest)
    assert found.worst is not None
    assert found.worst.low > 0.3
    assert found.verdict is Verdict.FAIL


def test_lies_about_a_class_are_learned() -> None:
    for attack in (LabelFlip(rate=0.15, victim=1, target=0), Feedback(rate=0.6)):
        found = run(attack, nearest)
        assert found.worst is not None
        assert found.worst.low > 0.3
        assert found.verdict is Verdict.FAIL


def test_flips_make_a_model_worse_and_guided_ones_more() -> None:
    x, y = rows(ROWS, 0, 0.3)
    data = TrainingSet.of(x, y, CLASSES, DOMAIN)
    falls = {}
    for guided in (False, True):
        attack = LabelFlip(rate=0.4, guided=guided)
        found = run(attack, clean=data, held_out=rows(300, 1, 0.3), limits=Limits(drop=0.1))
        assert found.worst is None
        falls[guided] = np.mean([one.drop.value for one in found.trials])
    assert falls[True] > falls[False] + 0.05
    assert run(LabelFlip(rate=0.3), nearest, limits=Limits(drop=0.1)).verdict is Verdict.FAIL


def test_every_round_is_judged() -> None:
    found = run(Feedback(rounds=2), seeds=(5,))
    assert [(one.seed, one.round) for one in found.trials] == [(5, 1), (5, 2)]
    assert [one.rows for one in found.trials] == [300, 400]
    assert found.trainings == 4


def test_drills_repeat() -> None:
    one, other = (run(BadNets(), nearest).to_dict() for _ in range(2))
    assert one == other
    assert one["atlas"] == "AML.T0018.000"
    assert one["trials"][0]["success"]["n"] > 100


# Bad input: never a number that looks good


def no_numbers(x: Array, y: Array, seed: int) -> Served:
    def answer(asked: Array) -> Answers:
        scores = np.full((len(asked), CLASSES), np.nan)
        return Answers(np.zeros(len(asked), np.int64), scores)

    return Served(answer)


def silent(x: Array, y: Array, seed: int) -> Served:
    return Served(lambda asked: Answers(np.full(len(asked), UNANSWERED)))


def constant(x: Array, y: Array, seed: int) -> Served:
    return Served(lambda asked: Answers(np.full(len(asked), 3)))


def guessing(x: Array, y: Array, seed: int) -> Served:
    return Served(lambda asked: Answers((asked.sum(axis=1) * 1e6).astype(np.int64) % CLASSES))


def unsteady(x: Array, y: Array, seed: int) -> Served:
    draw, model = np.random.default_rng(0), linear(x, y, seed)

    def answer(asked: Array) -> Answers:
        labels = model.predict(asked).labels
        wrong = draw.random(len(asked)) < 0.2
        return Answers(np.where(wrong, draw.integers(0, CLASSES, len(asked)), labels))

    return Served(answer)


def broken(x: Array, y: Array, seed: int) -> Served:
    def answer(asked: Array) -> Answers:
        raise OperationalError("target.timeout", "The target took too long.")

    return Served(answer)


@pytest.mark.parametrize(
    ("train", "code"),
    [
        (no_numbers, "attack.no_answers"),
        (silent, "attack.no_answers"),
        (constant, "attack.constant"),
        (guessing, "attack.labels_mismatch"),
        (unsteady, "attack.unsteady"),
        (broken, "target.timeout"),
    ],
)
def test_a_training_that_means_nothing_is_a_problem(train: Train, code: str) -> None:
    found = run(BadNets(), train, limits=Limits(success=1.0, drop=1.0))
    assert [one.code for one in found.problems] == [code]
    assert found.verdict is Verdict.INSUFFICIENT
    assert found.worst is not None
    assert (found.worst.low, found.worst.high) == (0, 1)
    assert (found.worst_drop.low, found.worst_drop.high) == (-1, 1)


def test_a_model_that_the_poison_wrecks_does_not_pass() -> None:
    def wrecked(x: Array, y: Array, seed: int) -> Served:
        return linear(x, y, seed) if (y == rows(ROWS, 0)[1]).all() else constant(x, y, seed)

    # The target class is never served, which looks good as long as only that is limited.
    found = run(BadNets(), wrecked, limits=Limits(success=0.1))
    assert [one.code for one in found.problems] == ["attack.constant"]
    assert found.verdict is Verdict.INSUFFICIENT
    assert run(BadNets(), wrecked, limits=LIMITS).verdict is Verdict.FAIL


def test_too_few_rows_or_seeds_are_insufficient() -> None:
    x, y = rows(HELD_OUT, 1)
    control = BadNets(rate=0.0)
    found = run(control, held_out=(x[:25], y[:25]), limits=Limits(success=0.5))
    assert [one.code for one in found.problems] == ["attack.too_few"]
    assert found.verdict is Verdict.INSUFFICIENT
    # All of the target's class: there is no row that could be turned.
    only = y == 0
    found = run(control, held_out=(x[only], y[only]), limits=Limits(success=0.5))
    assert found.verdict is Verdict.INSUFFICIENT
    found = run(control, seeds=(0, 1))
    assert [one.code for one in found.problems] == ["attack.too_few_seeds"]
    assert found.verdict is Verdict.INSUFFICIENT
    # What was found was found.
    assert run(BadNets(), seeds=(0,)).verdict is Verdict.FAIL


def test_without_a_limit_or_a_target_nothing_passes() -> None:
    assert run(BadNets(rate=0.0), limits=Limits()).verdict is Verdict.INSUFFICIENT
    found = run(LabelFlip(rate=0.0), limits=LIMITS)
    assert [one.code for one in found.problems] == ["attack.no_target"]
    assert found.verdict is Verdict.INSUFFICIENT


def trial(fooled: int, lost: int = 0, n: int = 200) -> Trial:
    rate, fall = share(fooled, n), drop_of(lost, 0, n)
    digest = clean().digest
    return Trial(0, 0, 9, 1, share(n, n), share(n - lost, n), fall, rate, share(0, n), digest, ())


@pytest.mark.parametrize(
    ("trials", "verdict"),
    [
        ([trial(4), trial(9)], Verdict.PASS),
        ([trial(4), trial(13)], Verdict.FAIL),
        ([trial(4), trial(60)], Verdict.FAIL),
        ([trial(4, lost=5)], Verdict.PASS),
        ([trial(4, lost=15)], Verdict.FAIL),
        # None of thirty would not pass either.
        ([trial(0, n=30)], Verdict.INSUFFICIENT),
        ([trial(30, n=30)], Verdict.FAIL),
    ],
)
def test_the_verdict_reads_the_unfavourable_bound(trials: list[Trial], verdict: Verdict) -> None:
    assert judge(trials, LIMITS, ()) is verdict
    doubted = judge(trials, LIMITS, [insufficient("attack.any", "A problem.")])
    assert doubted is not Verdict.PASS


@given(n=st.integers(1, 500), data=st.data())
def test_a_drop_lies_between_its_ends(n: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, n))
    gained = data.draw(st.integers(0, n - lost))
    found = drop_of(lost, gained, n)
    assert -1 <= found.low <= found.value <= found.high <= 1
    turned = drop_of(gained, lost, n)
    assert (turned.low, turned.high) == (-found.high, -found.low)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: poison(BadNets(rate=1.5), clean(), 0), "attack.bad_rate"),
        (lambda: poison(BadNets(rate=float("nan")), clean(), 0), "attack.bad_rate"),
        (lambda: poison(BadNets(rate=0.001), clean(), 0), "attack.bad_rate"),
        (lambda: poison(CleanLabel(rate=0.5), clean(), 0), "attack.bad_rate"),
        (lambda: poison(BadNets(target=4), clean(), 0), "attack.bad_parameter"),
        (lambda: poison(LabelFlip(target=-1), clean(), 0), "attack.bad_parameter"),
        (lambda: poison(BadNets(side=7), clean(), 0), "attack.bad_trigger"),
        (lambda: poison(BadNets(side=0), clean(), 0), "attack.bad_trigger"),
        (lambda: poison(BadNets(level=2), clean(), 0), "attack.bad_trigger"),
        (lambda: poison(BadNets(shape=(5, 5)), clean(), 0), "attack.bad_trigger"),
        (lambda: poison(BadNets(side=6, shape=(36,)), _held(), 0), "attack.bad_trigger"),
        (lambda: poison(BadNets(), clean(), -1), "attack.bad_seed"),
        (lambda: CleanLabel(mix=0.5), "attack.bad_parameter"),
        (lambda: CleanLabel(eps=0.5), "attack.bad_parameter"),
        (lambda: LabelFlip(victim=1), "attack.bad_parameter"),
        (lambda: LabelFlip(victim=1, target=1), "attack.bad_parameter"),
        (lambda: Feedback(victim=0), "attack.bad_parameter"),
        (lambda: Feedback(base=1.0), "attack.bad_parameter"),
        (lambda: poison(Feedback(rounds=500), clean(), 0), "attack.bad_data"),
        (lambda: clean(fixed=np.zeros(3, bool)), "attack.bad_data"),
        (lambda: _set(y=rows(ROWS, 0)[1] + 1), "attack.bad_labels"),
        (lambda: _set(y=rows(ROWS, 0)[1] * 1.0), "attack.bad_labels"),
        (lambda: _set(x=rows(ROWS, 0)[0] + 1), "attack.outside_domain"),
        (lambda: _set(x=rows(ROWS, 0)[0] * np.nan), "attack.outside_domain"),
        (lambda: _set(x=rows(ROWS, 0)[0][:, :5]), "attack.bad_data"),
        (lambda: Limits(success=2), "attack.bad_limit"),
        (lambda: Limits(drop=float("nan")), "attack.bad_limit"),
        (lambda: run(BadNets(), seeds=()), "attack.bad_seed"),
        (lambda: run(BadNets(), seeds=(1, 1)), "attack.bad_seed"),
        (lambda: run(BadNets(), held_out=(np.zeros((0, 36)), np.zeros(0))), "attack.bad_data"),
        (lambda: run(BadNets(), held_out=(np.zeros((2, 36)), [0, 9])), "attack.bad_labels"),
        (lambda: run(BadNets(), held_out=(np.ones((1, 36)) * 2, [0])), "attack.outside_domain"),
        (
            lambda: run(BadNets(), lambda x, y, seed: Served(linear(x, y, seed).predict, 3)),
            "attack.bad_training",
        ),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], code: str) -> None:
    with pytest.raises(InputError) as raised:
        call()
    assert raised.value.code == code


def _set(**changed: Any) -> TrainingSet:
    x, y = rows(ROWS, 0)
    return TrainingSet.of(changed.get("x", x), changed.get("y", y), CLASSES, DOMAIN)


def _held() -> TrainingSet:
    domain = Domain.of(SHAPE, 0.0, 1.0, "float64", Constraints.of(36, immutable=[0]))
    return clean(domain=domain)


@given(rate=st.floats(0, 1), count=st.integers(1, 10_000))
def test_a_number_is_the_nearest(rate: float, count: int) -> None:
    try:
        found = number_of(rate, count, count)
    except InputError:
        assert rate * count <= 0.5
        return
    assert abs(found - rate * count) <= 0.5


def test_progress_is_told() -> None:
    told: list[int] = []
    run(BadNets(), seeds=(0,), progress=told.append)
    assert told == [1, 2]
