"""Attacks by gradient: on models whose boundary is known, and within every bound."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import attacks_white as bench
from bench.run import check
from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab import losses
from keepstone.lab.attacks.evasion.apgd import ApgdCe, ApgdTargeted, _Climb, climb
from keepstone.lab.attacks.evasion.carlini_wagner import CarliniWagner
from keepstone.lab.attacks.evasion.deepfool import DeepFool
from keepstone.lab.attacks.evasion.fgsm import Fgsm
from keepstone.lab.attacks.evasion.pgd import Pgd
from keepstone.lab.attacks.evasion.region import Region
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.meter import Goal, Meter, Tally, reach
from keepstone.lab.norms import L1, L2, LINF, NORMS, Norm
from keepstone.lab.targets.port import Answers, Capability, Linearization

BOUNDED: tuple[Attack, ...] = (
    Fgsm(),
    Pgd(12, restarts=2),
    Pgd(12, momentum=0.9, random=False),
    ApgdCe(20, restarts=2),
    ApgdTargeted(20),
    WhiteBox(sweep=5, iterations=10, near=(0.3,) * 4),
)
MINIMIZING: tuple[Attack, ...] = (DeepFool(10), CarliniWagner(60, 4))


class Linear:
    """Scores are rows @ w + b; keeps every row that it is asked."""

    def __init__(self, domain: Domain, w: Array, b: Array) -> None:
        self.domain = domain
        self.w, self.b = w, b
        self.classes = w.shape[1]
        self.capabilities = frozenset(Capability)
        self.asked: list[Array] = []

    def scores(self, rows: Array) -> Array:
        self.asked.append(rows.copy())
        return np.asarray((rows @ self.w + self.b).astype(rows.dtype))

    def predict(self, rows: Array) -> Answers:
        scores = self.scores(rows)
        return Answers(scores.argmax(axis=1), scores)

    def linearize(self, rows: Array) -> Linearization:
        scores = self.scores(rows)

        def vjp(weights: Array) -> Array:
            return np.asarray((weights @ self.w.T).astype(rows.dtype))

        return Linearization(scores.argmax(axis=1), scores, vjp)


def linear(seed: int, classes: int, width: int = 8, scale: float = 1.0) -> tuple[Linear, Array]:
    """A model in a box so wide that it never binds, and samples."""
    draw = np.random.default_rng(seed)
    w = draw.standard_normal((width, classes)) * scale
    domain = Domain.of((width,), -50, 50, "float64")
    return Linear(domain, w, draw.standard_normal(classes) * scale), draw.normal(size=(60, width))


def exact(target: Linear, x: Array, y: Array, norm: Norm) -> Array:
    """How far each sample is from the nearest boundary of a linear model, in closed form."""
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[norm.name]
    scores = x @ target.w + target.b
    rows = np.arange(len(x))
    found = np.full((len(x), target.classes), np.inf)
    for other in range(target.classes):
        across = target.w[:, y] - target.w[:, [other]]
        length = np.linalg.norm(across, dual, axis=0)
        gap = scores[rows, y] - scores[:, other]
        found[:, other] = np.where(y == other, np.inf, gap / np.where(length > 0, length, 1))
    return np.maximum(found.min(axis=1), 0.0)


def attack(
    one: Attack, target: Linear, x: Array, y: Array, goal: Goal, seed: int = 0
) -> tuple[Meter, Tally]:
    meter = Meter(target, x, y, goal)
    run_attack(one, meter, np.random.default_rng(seed))
    return meter, meter.tally()


@pytest.mark.parametrize("norm", [LINF, L2, L1], ids=lambda norm: norm.name)
@pytest.mark.parametrize("one", BOUNDED, ids=repr)
def test_the_robust_accuracy_of_a_linear_model_is_found(one: Attack, norm: Norm) -> None:
    # With two classes, every loss climbs along the one gradient that there is.
    target, x = linear(1, 2 if isinstance(one, Fgsm | Pgd | ApgdCe) else 5)
    y = target.predict(x).labels
    far = exact(target, x, y, norm)
    eps = float(np.median(far))
    # Not those that are at the boundary, for steps are not endless.
    sure = np.abs(far / eps - 1) > 0.02
    _, tally = attack(one, target, x, y, Goal(norm, eps, 2000))
    assert (tally.within(eps) == (far <= eps))[sure].all()


@pytest.mark.parametrize("norm", [LINF, L2], ids=lambda norm: norm.name)
def test_deepfool_finds_the_distance_of_a_linear_model(norm: Norm) -> None:
    target, x = linear(2, 6)
    y = target.predict(x).labels
    _, tally = attack(DeepFool(), target, x, y, Goal(norm, None, 500))
    far = exact(target, x, y, norm)
    assert (tally.distance >= far * (1 - 1e-9)).all()
    np.testing.assert_allclose(tally.distance, far, rtol=2e-3)


@pytest.mark.parametrize("norm", [LINF, L2, L1], ids=lambda norm: norm.name)
@pytest.mark.parametrize("one", [*BOUNDED, DeepFool()], ids=repr)
def test_what_features_cost_decides_which_way_is_steepest(one: Attack, norm: Norm) -> None:
    if norm.name not in one.norms:
        return
    target, x = linear(11, 2)
    cost = np.geomspace(0.2, 5, 8)
    held = Constraints.of(8, cost=cost.tolist())
    y = target.predict(x).labels
    # Measured in what it costs, the model is another linear one.
    alike = Linear(target.domain, target.w / cost[:, None], target.b)
    far = exact(alike, x * cost, y, norm)
    target.domain = Domain.of((8,), -500, 500, "float64", held)
    eps = float(np.median(far))
    sure = np.abs(far / eps - 1) > 0.02
    _, tally = attack(one, target, x, y, Goal(norm, None if one.minimizes else eps, 2000))
    assert (tally.within(eps) == (far <= eps))[sure].all()


def test_deepfool_goes_around_the_bounds() -> None:
    # The first feature weighs most, and cannot grow: the way is along the second alone.
    domain = Domain.of((2,), [0.0, 0.0], [1.0, 1.0], "float64")
    target = Linear(domain, np.array([[0.0, 10.0], [0.0, 1.0]]), np.array([10.5, 0.0]))
    x, y = np.array([[1.0, 0.1]]), np.array([0])
    _, tally = attack(DeepFool(2), target, x, y, Goal(L2, None, 100))
    np.testing.assert_allclose(tally.distance, 0.4, rtol=5e-3)


def test_carlini_wagner_comes_near_the_distance_of_a_linear_model() -> None:
    target, x = linear(3, 4)
    # In a box that is not far wider than the distances: the attack's steps are in its units.
    target.domain = Domain.of((8,), -5, 5, "float64")
    y = target.predict(x).labels
    _, tally = attack(CarliniWagner(), target, x, y, Goal(L2, None, 2000))
    far = exact(target, x, y, L2)
    assert (tally.distance >= far * (1 - 1e-9)).all()
    assert np.median(tally.distance / far) < 1.03
    assert (tally.distance < far * 1.2 + 0.02).all()


class Hill(Linear):
    """The second class is served near the top of a hill, which is narrow in one direction."""

    def __init__(self, width: int, height: float) -> None:
        super().__init__(Domain.of((width,), -9, 9, "float64"), np.zeros((width, 2)), np.zeros(2))
        self.curve = np.geomspace(0.1, 10.0, width)
        self.top = np.linspace(0.9, -0.7, width)
        self.height = height

    def scores(self, rows: Array) -> Array:
        self.asked.append(rows.copy())
        won = self.height - ((rows - self.top) ** 2 * self.curve).sum(axis=1)
        return np.stack([np.zeros(len(rows)), won], axis=1)

    def linearize(self, rows: Array) -> Linearization:
        scores = self.scores(rows)
        slope = -2 * (rows - self.top) * self.curve
        return Linearization(scores.argmax(axis=1), scores, lambda w: slope * w[:, 1:])


@pytest.mark.parametrize("norm", [LINF, L2], ids=lambda norm: norm.name)
def test_steps_shorten_near_a_top(norm: Norm) -> None:
    target = Hill(6, 0.02)
    x, y = np.zeros((30, 6)), np.zeros(30, np.int64)
    eps = float(norm.distance(target.top[None])[0]) * 1.3
    _, tally = attack(ApgdCe(100), target, x, y, Goal(norm, eps, 100))
    assert tally.within(eps).mean() > 0.9


def test_at_a_checkpoint_only_rows_that_do_not_climb_go_back_and_slow_down() -> None:
    target, x = linear(12, 2)
    meter = Meter(target, x, np.zeros(60), Goal(LINF, 1.0, 100))
    places = np.arange(2)
    state = _Climb.of(meter, places, places, meter.x[places])
    for loss in ([0.0, 0.0], [1.0, -1.0], [2.0, -2.0], [3.0, -3.0]):
        state.note(np.array(loss), np.full((2, 8), loss[0]))
        state.now = state.now + 0.1
    state.adapt(4)
    np.testing.assert_allclose(state.step[:, 0], [2.0, 1.0])
    np.testing.assert_allclose(state.now[0], meter.x[0] + 0.4)
    np.testing.assert_allclose(state.now[1], meter.x[1])
    np.testing.assert_allclose(state.slope[:, 0], [3.0, 0.0])


def test_one_step_of_pgd_is_fgsm() -> None:
    target, x = linear(13, 3)
    y = target.predict(x).labels
    goal = Goal(LINF, 0.5, 2)
    _, one = attack(Pgd(1, step=1.0, random=False), target, x, y, goal)
    _, other = attack(Fgsm(), target, x, y, goal)
    assert other.within(0.5).any()
    np.testing.assert_array_equal(one.rows, other.rows)


@pytest.mark.parametrize("one", [*BOUNDED, *MINIMIZING], ids=repr)
@pytest.mark.parametrize("spent", [1, 3, 4])
def test_a_sample_that_has_spent_its_budget_does_not_stop_the_others(
    one: Attack, spent: int
) -> None:
    target, x = linear(14, 4)
    y = target.predict(x).labels
    meter = Meter(target, x, y, Goal(L2, None if one.minimizes else 9.0, 400))
    meter.ask(np.zeros(400 - spent, np.int64), np.repeat(x[:1], 400 - spent, axis=0))
    one.run(meter, np.random.default_rng(0))
    assert np.isfinite(meter.distance[1:]).mean() > 0.9


def test_a_climb_drops_a_sample_whose_rows_cost_more_than_it_has() -> None:
    target, x = linear(15, 3)
    y = target.predict(x).labels
    meter = Meter(target, x, y, Goal(LINF, 9.0, 10))
    meter.ask(np.zeros(9, np.int64), np.repeat(x[:1], 9, axis=0))
    places = np.array([0, 0, 1])
    wanted = (y[places] + [1, 2, 1]) % 3
    climb(meter, places, wanted, x[places], losses.targeted_margin, 10)
    assert np.isfinite(meter.distance[1])
    assert meter.left[0] == 1


def test_with_l1_a_climb_comes_from_larger_balls_and_only_the_last_one_counts() -> None:
    target, x = linear(3, 3)
    x = x[:1]
    target.domain = Domain.of((8,), -50, 50, "float64")
    y = target.predict(x).labels
    eps = 0.9 * float(exact(target, x, y, L1)[0])
    target.asked.clear()
    _, tally = attack(ApgdCe(50), target, x, y, Goal(L1, eps, 1000))

    far = np.array([L1.distance(rows - x)[0] for rows in target.asked])
    wrong = np.array([target.predict(rows).labels[0] != y[0] for rows in target.asked[:50]])
    assert len(far) == tally.queries[0] == 50
    for part, size in ((slice(0, 15), 3), (slice(15, 30), 2), (slice(30, 50), 1)):
        assert far[part].max() == pytest.approx(size * eps)
    assert wrong[:30].any()
    assert not tally.within(eps).any()


def test_with_l1_a_small_budget_is_kept_for_the_ball_that_counts() -> None:
    target, x = linear(3, 2)
    y = target.predict(x).labels
    far = exact(target, x, y, L1)
    eps = 2 * float(far.max())
    _, tally = attack(ApgdCe(100), target, x, y, Goal(L1, eps, 10))
    assert tally.within(eps).all()


@pytest.mark.parametrize("scale", [1e-4, 1e5])
def test_no_rescaling_of_the_scores_hides_a_class(scale: float) -> None:
    target, x = linear(4, 5, scale=scale)
    target.domain = Domain.of((8,), -50, 50, "float32")
    x = x.astype(np.float32)
    y = target.predict(x).labels
    far = exact(target, x.astype(np.float64), y, LINF)
    eps = float(np.median(far))
    sure = np.abs(far / eps - 1) > 0.02
    _, tally = attack(WhiteBox(), target, x, y, Goal(LINF, eps, 5000))
    assert (tally.within(eps) == (far <= eps))[sure].all()


@settings(max_examples=60, deadline=None)
@given(
    one=st.sampled_from(BOUNDED + MINIMIZING),
    name=st.sampled_from(["linf", "l2", "l1"]),
    dtype=st.sampled_from(["float32", "float64", "uint8"]),
    share=st.floats(0.001, 0.6),
    budget=st.integers(1, 150),
    seed=st.integers(0, 2**16),
)
def test_budget_epsilon_bounds_and_type_are_kept(
    one: Attack, name: str, dtype: str, share: float, budget: int, seed: int
) -> None:
    if name not in one.norms:
        return
    draw = np.random.default_rng(seed)
    low, high = (0, 255) if dtype == "uint8" else (-1.5, 2.0)
    domain = Domain.of((6,), low, high, dtype)
    target = Linear(domain, draw.standard_normal((6, 3)), draw.standard_normal(3))
    x = domain.fit(*[draw.uniform(low, high, (9, 6))] * 2)
    y = draw.integers(0, 3, 9)
    norm = NORMS[name]
    eps = share * (high - low)
    goal = Goal(norm, None if one.minimizes else eps, budget)
    meter, tally = attack(one, target, x, y, goal, seed)
    rows = np.concatenate(target.asked)
    assert len(rows) == tally.queries.sum()
    assert (tally.queries <= budget).all()
    assert domain.holds(rows).all()
    np.testing.assert_array_equal(domain.fit(rows, rows), rows)
    if not one.minimizes and dtype != "uint8":
        # Each row is within epsilon of one of the samples at least, or on its way there.
        far = np.stack([norm.distance(rows - sample) for sample in meter.x]).min(axis=0)
        inwards = name == "l1" and isinstance(one, ApgdCe | ApgdTargeted | WhiteBox)
        assert (far <= reach(3 * eps if inwards else eps) + 1e-6).all()
    found = np.isfinite(tally.distance)
    assert (target.predict(tally.rows[found]).labels != y[found]).all()
    # The same seed finds the same.
    _, again = attack(one, target, x, y, goal, seed)
    np.testing.assert_array_equal(again.rows, tally.rows)
    np.testing.assert_array_equal(again.queries, tally.queries)


@pytest.mark.parametrize("one", BOUNDED, ids=repr)
def test_what_has_fallen_is_not_asked_again(one: Attack) -> None:
    target, x = linear(5, 3)
    y = target.predict(x).labels
    y[:10] = (y[:10] + 1) % 3
    _, tally = attack(one, target, x, y, Goal(LINF, 0.3, 5000))
    assert tally.distance[:10].max() < np.inf
    # In one climb a sample may have several rows at once, in the first it has one.
    fell = tally.first > 0
    assert fell.sum() > 10
    assert (tally.queries[fell] == tally.first[fell]).all()


@pytest.mark.parametrize("one", [*BOUNDED, *MINIMIZING], ids=repr)
def test_success_is_the_label_that_is_served(one: Attack) -> None:
    class Stubborn(Linear):
        """Serves one label, whatever its scores say."""

        def predict(self, rows: Array) -> Answers:
            return Answers(np.zeros(len(rows), np.int64), self.scores(rows))

        def linearize(self, rows: Array) -> Linearization:
            found = super().linearize(rows)
            return Linearization(np.zeros(len(rows), np.int64), found.scores, found.vjp)

    honest, x = linear(6, 3)
    target = Stubborn(honest.domain, honest.w, honest.b)
    goal = Goal(L2, None if one.minimizes else 3.0, 400)
    _, tally = attack(one, target, x, np.zeros(len(x), np.int64), goal)
    assert not np.isfinite(tally.distance).any()


@pytest.mark.parametrize("one", BOUNDED, ids=repr)
def test_without_an_epsilon_nothing_is_bounded(one: Attack) -> None:
    target, x = linear(7, 3)
    with pytest.raises(InputError) as caught:
        attack(one, target, x, target.predict(x).labels, Goal(LINF, None, 50))
    assert caught.value.code == "attack.bad_eps"


def test_the_search_goes_on_where_the_gap_is_small() -> None:
    target, x = linear(8, 4)
    y = target.predict(x).labels
    far = exact(target, x, y, LINF)
    eps = float(np.median(far))
    _, tally = attack(WhiteBox(), target, x, y, Goal(LINF, eps, 5000))
    near, distant = (far > eps) & (far < 1.1 * eps), far > 2 * eps
    assert near.any()
    assert distant.any()
    assert tally.queries[near].min() > 3 * tally.queries[distant].max()


def test_a_gap_that_does_not_move_is_tried_again() -> None:
    """Flat where the samples are: nothing there says how far the boundary is."""

    class Flat(Linear):
        def linearize(self, rows: Array) -> Linearization:
            found = super().linearize(rows)
            flat = np.abs(rows).max(axis=1) < 0.5

            def vjp(weights: Array) -> Array:
                return np.where(flat[:, None], 0.0, found.vjp(weights))

            return Linearization(found.labels, found.scores, vjp)

    domain = Domain.of((8,), -50, 50, "float64")
    target = Flat(domain, np.eye(8)[:, :3], np.array([0.9, 0.0, 0.0]))
    x, y = np.zeros((20, 8)), np.zeros(20, np.int64)
    _, tally = attack(WhiteBox(), target, x, y, Goal(LINF, 1.0, 5000))
    assert tally.within(1.0).all()


# Region


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(["linf", "l2", "l1"]),
    cost=st.booleans(),
    eps=st.floats(0.01, 3.0),
    seed=st.integers(0, 2**16),
)
def test_a_projection_is_in_the_region_and_the_nearest(
    name: str, cost: bool, eps: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    weights = draw.uniform(0.5, 2.0, 5).tolist() if cost else None
    held = Constraints.of(5, immutable=(0,), grows=(1,), shrinks=(2,), cost=weights)
    domain = Domain.of((5,), -1, 1, "float64", held)
    target = Linear(domain, np.ones((5, 2)), np.zeros(2))
    meter = Meter(target, draw.uniform(-1, 1, (7, 5)), np.zeros(7), Goal(NORMS[name], eps, 9))
    places = np.arange(7)
    region = Region.within(meter, places)
    rows = meter.x + draw.normal(size=(7, 5)) * 2
    found = region.project(rows)
    for some in (found, region.draw(draw), region.edge(draw)):
        assert domain.holds(some).all()
        assert (meter.measure(places, some) <= reach(eps)).all()
        delta = some - meter.x
        assert (delta[:, 0] == 0).all()
        assert (delta[:, 1] >= 0).all()
        assert (delta[:, 2] <= 0).all()
    np.testing.assert_allclose(region.project(found), found, atol=1e-9)
    if name == "l2":
        return
    scale = np.ones(5) if weights is None else np.asarray(weights)
    nearest = np.linalg.norm((rows - found) * scale, axis=1)
    for _ in range(50):
        other = region.project(found + draw.normal(size=(7, 5)) * 0.3)
        assert (np.linalg.norm((rows - other) * scale, axis=1) >= nearest - 1e-7).all()


def test_rounding_does_not_take_a_step_beyond_epsilon() -> None:
    """A 32-bit pixel near 200 and 2.1 rounds by more than the meter lets pass."""
    domain = Domain.of((1,), 0, 255)
    target = Linear(domain, np.array([[0.0, 1.0]]), np.array([201.0, 0.0]))
    x = np.random.default_rng(0).uniform(199.0, 200, (200, 1)).astype(np.float32)
    _, tally = attack(Fgsm(), target, x, np.zeros(200, np.int64), Goal(LINF, 2.1, 5))
    assert tally.within(2.1).all()


# Losses and the torch target


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(2, 6), seed=st.integers(0, 2**16))
def test_gradients_of_losses_are_their_slopes(classes: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(4, classes)) * 3
    labels = draw.integers(0, classes, 4)
    wanted = (labels + draw.integers(1, classes, 4)) % classes
    found: list[Callable[[Array], tuple[Array, Array]]] = [
        lambda s: losses.cross_entropy(s, labels),
        lambda s: losses.margin(s, labels),
        lambda s: losses.dlr(s, labels),
        lambda s: losses.targeted_margin(s, labels, wanted),
        lambda s: losses.targeted_dlr(s, labels, wanted),
    ]
    step = draw.normal(size=scores.shape) * 1e-6
    for loss in found:
        ahead, behind = loss(scores + step)[0], loss(scores - step)[0]
        slope = (loss(scores)[1] * step).sum(axis=1) * 2
        np.testing.assert_allclose(ahead - behind, slope, rtol=2e-3, atol=1e-8)


@pytest.mark.parametrize("off", ["no_grad", "inference_mode"])
def test_torch_target_gives_its_gradient_where_the_caller_turned_gradients_off(
    need_module: Callable[[str], ModuleType], off: str
) -> None:
    torch = need_module("torch")
    from keepstone.lab.targets.torch import TorchTarget

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    target = TorchTarget(module, Domain.of((4,), 0, 1))
    with getattr(torch, off)():
        found = target.linearize(np.zeros((1, 4), np.float32))
        gradient = found.vjp(np.array([[1.0, 0.0]], np.float32))
    assert gradient == pytest.approx(module[1].weight.detach().numpy()[:1])


def test_gradients_of_a_torch_target_are_those_of_autograd(
    need_module: Callable[[str], ModuleType],
) -> None:
    torch = need_module("torch")
    from keepstone.lab.targets.torch import TorchTarget

    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 5))
    module = torch.nn.Sequential(*layers)
    target = TorchTarget(module, Domain.of((1, 4, 4), 0, 1), batch=4)
    x = np.random.default_rng(0).uniform(size=(10, 16)).astype(np.float32)
    y = np.arange(10) % 5
    answers = target.linearize(x)
    loss, weights = losses.cross_entropy(answers.scores, y)
    given = torch.from_numpy(x.reshape(-1, 1, 4, 4)).requires_grad_()
    told = torch.nn.functional.cross_entropy(module(given), torch.from_numpy(y), reduction="none")
    (gradient,) = torch.autograd.grad(told.sum(), given)
    np.testing.assert_allclose(loss, told.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(answers.vjp(weights), gradient.numpy().reshape(10, -1), atol=1e-6)


# The bench


def test_the_bench_says_that_its_peer_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(bench.SOURCE, raising=False)
    assert bench.source() is None
    alone = bench.Pair("digits", "pgd", 0, 500, 180, 1.5, 160.0)
    monkeypatch.setattr(bench, "pairs", lambda seeds: iter([alone]))
    monkeypatch.setattr(bench, "keep", lambda name, found: None)
    found = check(bench.rows())
    assert all(row["peer"] == "AutoAttack (skipped: AUTOATTACK_SOURCE is not set)" for row in found)
    assert not any(row["met"] for row in found)
    worse = bench.Pair("digits", "pgd", 0, 500, 180, 1.5, 160.0, 179, 15.0, 1)
    better = bench.Pair("digits", "pgd", 1, 500, 180, 1.5, 160.0, 185, 15.0, 0)
    monkeypatch.setattr(bench, "pairs", lambda seeds: iter([worse, better]))
    assert [row["met"] for row in check(bench.rows())] == [False, True]
