"""Attacks without gradients: their budgets, bounds, constraints and ties, on targets that watch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.boundary import Boundary
from keepstone.lab.attacks.evasion.bounds import into
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.outside import between, find_starts, is_wrong
from keepstone.lab.attacks.evasion.patch import Patch
from keepstone.lab.attacks.evasion.pooled import PooledRidge
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square, picture
from keepstone.lab.attacks.evasion.transfer import Transfer
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.meter import Goal, Meter, reach
from keepstone.lab.norms import L2, LINF, norm_called
from keepstone.lab.targets.port import Answers, Capability

from .blackbox import ATTACKS, Stump, Watched, attacked

QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
SCORELESS = [one for one in ATTACKS if one.needs is Capability.LABEL]


def target_for(attack: Attack, domain: Domain, **options: float) -> Watched:
    if attack.needs is Capability.TREES:
        return Stump(domain)
    return Watched(domain, **options)  # type: ignore[arg-type]


def samples(domain: Domain, count: int = 12, seed: int = 1) -> Array:
    drawn = np.random.default_rng(seed).uniform(0, 1, (count, domain.width))
    rows = domain.low + drawn * (domain.high - domain.low)
    return domain.fit(rows.astype(domain.work_dtype), rows)


def name_of(attack: Attack) -> str:
    return attack.name


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
@QUICK
@given(budget=st.integers(1, 60), seed=st.integers(0, 3), norm=st.integers(0, 3))
def test_no_sample_is_asked_beyond_its_budget(
    attack: Attack, budget: int, seed: int, norm: int
) -> None:
    target = target_for(attack, Domain.of((4, 4), 0, 1))
    x, names = samples(target.domain), sorted(attack.norms)
    meter, tally = attacked(
        attack, target, x, norm=names[norm % len(names)], budget=budget, seed=seed
    )
    assert tally.queries.max() <= budget
    # What was counted is what was asked.
    assert sum(map(len, target.asked)) == tally.queries.sum()
    assert (meter.left >= 0).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_what_is_asked_lies_in_the_domain_and_near_the_sample(attack: Attack, dtype: str) -> None:
    high = 255 if dtype == "uint8" else 1
    eps = 40.0 if dtype == "uint8" else 0.2
    target = target_for(attack, Domain.of((4, 4), 0, high, dtype))
    x = samples(target.domain)
    meter, tally = attacked(attack, target, x, eps=eps)
    for rows in target.asked:
        assert rows.dtype == target.domain.work_dtype
        assert target.domain.holds(rows).all()
        assert (rows == rows.astype(dtype)).all()
        if not attack.minimizes:
            # Each row is one sample's, and near to it.
            far = np.abs(rows[:, None, :] - meter.x[None]).max(axis=2).min(axis=1)
            assert (far <= reach(eps)).all()
    assert (tally.queries > 0).any()
    broken = tally.within(eps)
    assert (target.predict(tally.rows[broken]).labels != meter.y[broken]).all()


@st.composite
def tables(draw: st.DrawFn) -> tuple[Domain, float]:
    """A domain of 12 columns of every kind of constraint, and an epsilon."""
    places = draw(st.permutations(range(12)))
    width = 12
    group = tuple(places[:3])
    cost = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=width, max_size=width))
    constraints = Constraints.of(
        width,
        immutable=places[3:5],
        integer=places[5:8],
        grows=places[7:9],
        shrinks=places[9:10],
        one_hot=[group],
        cost=cost,
    )
    low, high = np.zeros(width), np.full(width, 9.0)
    high[list(group)] = 1
    return Domain.of((width,), low, high, "float32", constraints), draw(
        st.sampled_from([0.4, 1.0, 2.5])
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
@QUICK
@given(table=tables(), seed=st.integers(0, 5))
def test_constraints_are_honoured(attack: Attack, table: tuple[Domain, float], seed: int) -> None:
    domain, eps = table
    target = target_for(attack, domain)
    x = samples(domain, seed=seed)
    meter, tally = attacked(attack, target, x, eps=eps, budget=15)
    constraints = domain.constraints
    assert constraints is not None
    for rows, origin in ((tally.rows, meter.x),):
        assert (rows[:, constraints.immutable] == origin[:, constraints.immutable]).all()
        whole = rows[:, constraints.integer]
        assert (whole == np.rint(whole)).all()
        assert ((rows - origin) * constraints.direction >= 0).all()
        for group in constraints.one_hot:
            assert (np.sort(rows[:, list(group)], axis=1) == [0, 0, 1]).all()
    if attack.minimizes:
        return
    # A bounded attack wastes no query beyond epsilon, in the costs' measure.
    assert constraints.cost is not None
    for rows in target.asked:
        delta = (rows[:, None, :] - meter.x[None]) * constraints.cost
        length = norm_called("linf" if "linf" in attack.norms else min(attack.norms)).distance(
            delta.reshape(-1, domain.width)
        )
        near = length.reshape(len(rows), -1).min(axis=1)
        assert (near <= reach(eps)).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_beside_large_values_rounding_does_not_leave_epsilon(norm: str, dtype: str) -> None:
    domain = Domain.of((5,), 0, 2000, dtype)
    x = samples(domain, 50)
    eps = 3e-4 if dtype == "float32" else 1.3
    meter = Meter(Watched(domain), x, np.zeros(50, int), Goal(norm_called(norm), eps, 1))
    places = np.arange(50)
    moved = into(meter, places, x + np.float32(eps))
    assert (meter.measure(places, moved) <= reach(eps)).all()
    if norm == "linf":
        assert (moved != x).any()


def test_a_whole_number_is_rounded_towards_its_sample() -> None:
    domain = Domain.of((2,), 0, 9, "float32", Constraints.of(2, integer=[0], cost=[3.0, 1.0]))
    x = np.array([[5.0, 5.0]], np.float32)
    meter = Meter(Watched(domain), x, np.array([0]), Goal(LINF, 2.0, 1))
    moved = into(meter, np.array([0]), x + 9)
    assert moved.tolist() == [[5.0, 7.0]]
    meter = Meter(Watched(domain), x, np.array([0]), Goal(LINF, 3.0, 1))
    assert into(meter, np.array([0]), x + 9).tolist() == [[6.0, 8.0]]


class Tied:
    """Two scores that are equal everywhere; its label is the first class's, as trees' ties are."""

    classes = 2
    capabilities = frozenset({Capability.LABEL, Capability.SCORES})

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.asked: list[Array] = []

    def predict(self, rows: Array) -> Answers:
        self.asked.append(rows)
        return Answers(np.zeros(len(rows), np.int64), np.zeros((len(rows), 2)))


@pytest.mark.parametrize(
    "attack", [one for one in ATTACKS if one.needs is not Capability.TREES], ids=name_of
)
def test_a_margin_of_zero_is_no_success(attack: Attack) -> None:
    domain = Domain.of((4, 4), 0, 1)
    norm = norm_called("linf" if "linf" in attack.norms else "l2")
    meter = Meter(Tied(domain), samples(domain), np.zeros(12, int), Goal(norm, 0.3, 20))
    run_attack(attack, meter, np.random.default_rng(0))
    assert not meter.broken.any()
    assert np.isinf(meter.tally().distance).all()


@pytest.mark.parametrize("attack", [RandomSearch(), Square()], ids=name_of)
def test_a_plateau_is_walked_over(attack: Attack) -> None:
    """Where all ties, one who keeps only what is better never leaves the place it began at."""
    domain = Domain.of((100,), 0, 1)
    target, x = Tied(domain), np.full((1, 100), 0.5, np.float32)
    meter = Meter(target, x, np.zeros(1, int), Goal(LINF, 0.1, 200))
    run_attack(attack, meter, np.random.default_rng(0))
    assert (target.asked[0] != target.asked[-1]).mean() > 0.3


@pytest.mark.parametrize("attack", SCORELESS, ids=name_of)
def test_labels_alone_do(attack: Attack) -> None:
    domain = Domain.of((4, 4), 0, 1)
    target = Watched(domain, scores=False)
    eps = 1.0 if isinstance(attack, Patch) else 0.4
    _, tally = attacked(attack, target, samples(domain, 40), eps=eps, budget=120)
    assert tally.within(eps).mean() > 0.5


@pytest.mark.parametrize(
    "attack", [one for one in ATTACKS if one.needs is not Capability.TREES], ids=name_of
)
def test_rows_that_are_not_answered_are_no_success(attack: Attack) -> None:
    domain = Domain.of((4, 4), 0, 1)
    target = Watched(domain, silent=0.3)
    meter, tally = attacked(attack, target, samples(domain), budget=30)
    assert tally.unanswered.sum() > 0
    target._silent = 0.0
    found = np.isfinite(tally.distance)
    assert (target.predict(tally.rows[found]).labels != meter.y[found]).all()
    deaf = Watched(domain, silent=1.0)
    _, tally = attacked(attack, deaf, samples(domain), budget=30)
    assert np.isinf(tally.distance).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_the_same_seed_asks_the_same(attack: Attack) -> None:
    asked = []
    for seed in (0, 0, 1):
        target = target_for(attack, Domain.of((4, 4), 0, 1))
        attacked(attack, target, samples(target.domain), seed=seed, budget=60)
        asked.append(np.concatenate(target.asked))
    assert np.array_equal(asked[0], asked[1])
    if attack.needs is not Capability.TREES:
        assert not np.array_equal(asked[0], asked[2])


@pytest.mark.parametrize("attack", [RandomSearch(), Square(), Transfer(), Patch(2)], ids=name_of)
def test_a_bounded_attack_needs_an_epsilon(attack: Attack) -> None:
    domain = Domain.of((4, 4), 0, 1)
    meter = Meter(Watched(domain), samples(domain), np.zeros(12, int), Goal(LINF, None, 5))
    with pytest.raises(InputError) as caught:
        run_attack(attack, meter, np.random.default_rng(0))
    assert caught.value.code == "attack.no_eps"


@pytest.mark.parametrize("attack", [HopSkipJump(), Boundary()], ids=name_of)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_label_attacks_come_near_the_smallest_perturbation(attack: Attack, norm: str) -> None:
    if norm not in attack.norms:
        return
    domain = Domain.of((20,), -5, 5)
    target = Watched(domain, classes=2, scores=False)
    x = samples(domain, 20) * np.float32(0.3)
    y = target.predict(x).labels
    meter = Meter(target, x, y, Goal(norm_called(norm), None, 1500))
    run_attack(attack, meter, np.random.default_rng(0))
    slope = target.weights[:, 1] - target.weights[:, 0]
    dual = np.linalg.norm(slope) if norm == "l2" else np.abs(slope).sum()
    truth = np.abs(x @ slope) / dual
    ratio = np.median(meter.tally().distance / truth)
    assert 0.999 <= ratio < 1.15


def test_no_answer_is_not_wrong() -> None:
    domain = Domain.of((6,), 0, 1)
    x = samples(domain, 8)
    meter = Meter(Watched(domain, silent=1.0), x, np.zeros(8, int), Goal(L2, None, 3))
    assert not is_wrong(meter, np.arange(8), x).any()
    _, started = find_starts(meter, np.random.default_rng(0), 2)
    assert not started.size


def test_a_start_is_a_sample_of_another_class_that_is_near() -> None:
    domain = Domain.of((6,), 0, 1)
    target = Watched(domain)
    x = samples(domain, 30)
    meter = Meter(target, x, target.predict(x).labels, Goal(L2, None, 10))
    rows, started = find_starts(meter, np.random.default_rng(0), 10)
    assert len(started) == 30
    assert (meter.tally().queries == 1).all()
    half = between(meter, started, rows, np.full(30, 0.5))
    assert np.allclose(meter.measure(started, half) * 2, meter.measure(started, rows), atol=1e-5)


def test_one_sample_alone_starts_from_noise() -> None:
    domain = Domain.of((6,), 0, 1)
    target = Watched(domain)
    x = samples(domain, 1)
    meter = Meter(target, x, target.predict(x).labels, Goal(L2, None, 60))
    run_attack(HopSkipJump(probes=8), meter, np.random.default_rng(0))
    assert np.isfinite(meter.tally().distance).all()


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((3, 4, 5), (3, 4, 5)),
        ((4, 5, 3), (3, 4, 5)),
        ((1, 4, 4), (1, 4, 4)),
        ((4, 5), (1, 4, 5)),
        ((7,), (1, 1, 7)),
        ((5, 6, 7), (1, 1, 210)),
    ],
)
def test_pictures_are_told_by_their_shape(shape: tuple[int, ...], layout: tuple[int, ...]) -> None:
    found = picture(shape)
    assert found.shape == layout
    assert np.sort(found.ravel()).tolist() == list(range(found.size))


@pytest.mark.parametrize("shape", [(3, 6, 6), (6, 6, 3), (6, 6), (36,)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_fits_every_shape(shape: tuple[int, ...], norm: str) -> None:
    target = Watched(Domain.of(shape, 0, 1))
    eps = 0.3 if norm == "linf" else 1.0
    meter, tally = attacked(Square(), target, samples(target.domain), norm=norm, eps=eps, budget=30)
    assert tally.within(eps).mean() > 0.5
    assert (tally.distance[tally.within(eps)] <= reach(eps)).all()
    assert meter.domain.shape == shape


@pytest.mark.parametrize("shape", [(3, 6, 6), (6, 6, 3), (6, 6)])
def test_a_patch_is_one_square(shape: tuple[int, ...]) -> None:
    target = Watched(Domain.of(shape, 0, 1))
    meter, tally = attacked(Patch(2), target, samples(target.domain), eps=1.0, budget=50)
    layout = picture(shape)
    changed = (tally.rows != meter.x)[:, layout].any(axis=1)
    assert changed.any()
    for one in changed[changed.any(axis=(1, 2))]:
        down, across = np.nonzero(one)
        assert np.ptp(down) < 2
        assert np.ptp(across) < 2


@pytest.mark.parametrize("side", [0, 7])
def test_a_patch_that_does_not_fit_is_refused(side: int) -> None:
    target = Watched(Domain.of((6, 6), 0, 1))
    with pytest.raises(InputError) as caught:
        attacked(Patch(side), target, samples(target.domain), eps=1.0)
    assert caught.value.code == "attack.bad_patch"


def test_the_pooled_guess_finds_a_linear_target() -> None:
    domain = Domain.of((8,), -3, 5)
    target = Watched(domain)
    x = samples(domain, 50)
    y = target.predict(x).labels
    meter = Meter(target, x, y, Goal(LINF, 1.0, 10))
    guess = PooledRidge(meter)
    for _ in range(5):
        rows = samples(domain, 200, seed=7)
        guess.add(rows, target.predict(rows))
    wanted = target.weights - target.weights.mean(axis=1, keepdims=True)
    found = guess.weights.T - guess.weights.T.mean(axis=1, keepdims=True)
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.98
    # What was not answered teaches nothing.
    before = guess.weights.copy()
    guess.add(rows, Answers(np.full(200, -1), np.full((200, 3), np.nan)))
    guess.add(rows, Answers(np.full(200, -1)))
    assert (guess.weights == before).all()


def test_the_pooled_guess_of_a_wide_input_is_made_feature_by_feature() -> None:
    domain = Domain.of((2000,), 0, 1)
    target = Watched(domain)
    x = samples(domain, 40)
    guess = PooledRidge(Meter(target, x, target.predict(x).labels, Goal(LINF, 1.0, 10)))
    assert guess._gram.ndim == 1
    rows = samples(domain, 3000, seed=7)
    guess.add(rows, target.predict(rows))
    wanted = target.weights - target.weights.mean(axis=1, keepdims=True)
    assert np.corrcoef(wanted.ravel(), guess.weights.T.ravel())[0, 1] > 0.5


def test_random_search_tries_the_guess_first() -> None:
    domain = Domain.of((30,), 0, 1)
    target = Watched(domain, classes=2)
    x = samples(domain, 200)
    _, tally = attacked(RandomSearch(), target, x, eps=0.05, budget=1)
    slope = target.weights[:, 1] - target.weights[:, 0]
    possible = np.abs((x - 0.5) @ slope) <= 0.05 * np.abs(slope).sum()
    assert tally.within(0.05).sum() > 0.7 * possible.sum()


def test_random_search_asks_a_few_samples_first_to_guess_at_the_others() -> None:
    domain = Domain.of((30,), 0, 1)
    x = samples(domain, 400)
    target = Watched(domain, classes=5)
    _, tally = attacked(RandomSearch(), target, x, eps=0.05, budget=1)
    assert [len(rows) for rows in target.asked] == [50, 50, 100, 200]
    first, last = tally.within(0.05)[:50].mean(), tally.within(0.05)[200:].mean()
    assert last > 1.2 * first

    # Few labels say less than the labels that are right.
    target = Watched(domain, classes=5, scores=False)
    attacked(RandomSearch(), target, x, eps=0.05, budget=1)
    assert len(target.asked) == 1


class Surrogate(Watched):
    def linearize(self, rows: Array) -> object:
        from keepstone.lab.targets.port import Linearization

        span = self.domain.high - self.domain.low
        scores = ((rows - self.middle) / span) @ self.weights
        return Linearization(
            scores.argmax(axis=1), scores, lambda weights: weights @ self.weights.T / span
        )


def test_a_surrogate_that_is_given_is_used_and_never_judges() -> None:
    domain = Domain.of((16,), 0, 1)
    like, unlike = Surrogate(domain), Surrogate(domain, seed=5)
    shares = []
    for one in (like, unlike):
        target = Watched(domain, scores=False)
        attack = Transfer(surrogate=one, restarts=1)  # type: ignore[arg-type]
        meter, tally = attacked(attack, target, samples(domain, 40), eps=0.1)
        shares.append(tally.within(0.1).mean())
        assert tally.queries.max() <= attack.steps
        broken = tally.within(0.1)
        assert (target.predict(tally.rows[broken]).labels != meter.y[broken]).all()
    assert shares[0] > shares[1] + 0.2
    wide = Transfer(surrogate=Surrogate(Domain.of((17,), 0, 1)))  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        attacked(wide, target, samples(domain))
    assert caught.value.code == "attack.bad_surrogate"
