"""Attacks by splits, beside brute force over the leaves; and trees read off three libraries."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.trees import TreeAttack
from keepstone.lab.attacks.port import run_attack
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.meter import Goal, Meter, reach
from keepstone.lab.norms import LINF, norm_called
from keepstone.lab.targets.boosters import BoosterTarget
from keepstone.lab.targets.forests import read_trees
from keepstone.lab.targets.port import Answers, Capability
from keepstone.lab.targets.python import PythonTarget
from keepstone.lab.targets.trees import Trees, TreeTarget

from .blackbox import Stump, Watched


class Grown:
    """A target that is one random tree, or a sum of several."""

    def __init__(self, domain: Domain, trees: Trees) -> None:
        self.domain, self.trees, self.classes = domain, trees, len(trees.base)
        self.capabilities = frozenset(Capability) - {Capability.GRADIENT}

    def predict(self, rows: Array) -> Answers:
        scores = self.trees.scores(rows)
        return Answers(scores.argmax(axis=1), scores)


def grown(domain: Domain, depth: int, seed: int, count: int = 1, classes: int = 3) -> Trees:
    """`count` random full trees."""
    rng = np.random.default_rng(seed)
    inner, size = 2**depth - 1, 2 ** (depth + 1) - 1
    feature, cut, left, right, value = [], [], [], [], []
    for root in range(0, count * size, size):
        own = np.arange(size)
        is_leaf = own >= inner
        chosen = np.where(is_leaf, 0, rng.integers(0, domain.width, size))
        drawn = rng.uniform(domain.low[chosen], domain.high[chosen])
        feature.append(chosen)
        cut.append(np.where(is_leaf, np.inf, drawn))
        left.append(root + np.where(is_leaf, own, 2 * own + 1))
        right.append(root + np.where(is_leaf, own, 2 * own + 2))
        value.append(rng.uniform(0, 1, (size, classes)) * is_leaf[:, None])
    join = np.concatenate
    roots = np.arange(count) * size
    return Trees(
        join(feature), join(cut), join(left), join(right), join(value), roots, depth,
        np.zeros(classes),
    )  # fmt: skip


def by_force(meter: Meter, trees: Trees, at: int) -> float:
    """How far the nearest leaf of another label is: every leaf's box, one by one."""
    domain, x = meter.domain, meter.x[at].astype(np.float64)
    whole = np.full(domain.width, domain.dtype.kind in "iu")
    held = np.zeros(domain.width, bool)
    direction = np.zeros(domain.width)
    if domain.constraints is not None:
        whole |= domain.constraints.integer
        held, direction = domain.constraints.immutable, domain.constraints.direction
    best = np.inf

    def visit(node: int, low: Array, high: Array) -> None:
        nonlocal best
        if trees.left[node] != node:
            where, cut = trees.feature[node], trees.threshold[node]
            less, more = high.copy(), low.copy()
            less[where] = min(less[where], cut)
            more[where] = max(more[where], cut)
            visit(int(trees.left[node]), low, less)
            visit(int(trees.right[node]), more, high)
            return
        if trees.value[node].argmax() == meter.y[at]:
            return
        # (low, high] and the domain, in numbers that the inputs can have.
        first = np.where(whole, np.floor(low) + 1, low + 1e-7)
        first, last = np.maximum(first, domain.low), np.minimum(high, domain.high)
        last = np.where(whole, np.floor(last), last)
        point = np.clip(x, first, last)
        moved = point - x
        if (first > last).any() or (held & (moved != 0)).any() or (direction * moved < 0).any():
            return
        best = min(best, float(meter.measure(np.array([at]), point[None])[0]))

    visit(0, np.full(domain.width, -np.inf), np.full(domain.width, np.inf))
    return best


def samples(domain: Domain, count: int, seed: int) -> Array:
    drawn = np.random.default_rng(seed).uniform(0, 1, (count, domain.width))
    rows = (domain.low + drawn * (domain.high - domain.low)).astype(domain.work_dtype)
    return domain.fit(rows, rows)


KINDS = {
    "plain": Domain.of((5,), 0, 1),
    "double": Domain.of((5,), 0, 1, "float64"),
    "bytes": Domain.of((5,), 0, 30, "uint8"),
    "table": Domain.of(
        (5,),
        0,
        9,
        "float32",
        Constraints.of(
            5, immutable=[0], integer=[1, 2], grows=[2], shrinks=[3], cost=[1, 2, 0.5, 1, 3]
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(depth=st.integers(1, 5), seed=st.integers(0, 99))
def test_on_one_tree_nothing_is_nearer(kind: str, norm: str, depth: int, seed: int) -> None:
    domain = KINDS[kind]
    target = Grown(domain, grown(domain, depth, seed))
    x = samples(domain, 6, seed)
    y = target.predict(x).labels
    meter = Meter(target, x, y, Goal(norm_called(norm), None, 50))
    run_attack(TreeAttack(leaves=50), meter, np.random.default_rng(0))
    tally = meter.tally()
    truth = np.array([by_force(meter, target.trees, at) for at in range(len(x))])
    assert (np.isfinite(truth) == np.isfinite(tally.distance)).all()
    found = np.isfinite(truth)
    assert np.allclose(tally.distance[found], truth[found], rtol=1e-5, atol=1e-5)
    # Nothing was asked that was not served a wrong label, and each sample once.
    assert tally.queries.max(initial=0) <= 1


def test_within_an_epsilon_nothing_further_is_asked() -> None:
    domain = KINDS["plain"]
    target = Grown(domain, grown(domain, 4, 3))
    x = samples(domain, 30, 3)
    y = target.predict(x).labels
    meter = Meter(target, x, y, Goal(LINF, 0.1, 5))
    run_attack(TreeAttack(), meter, np.random.default_rng(0))
    tally = meter.tally()
    truth = np.array([by_force(meter, target.trees, at) for at in range(len(x))])
    assert 0 < tally.within(0.1).sum() < 30
    assert (tally.within(0.1) == (truth <= reach(0.1))).all()
    assert (tally.queries == tally.within(0.1)).all()


@pytest.mark.parametrize("eps", [0.15, None])
def test_a_sum_of_trees_falls_to_a_query_and_more_often_than_to_a_search(
    eps: float | None,
) -> None:
    domain = Domain.of((10,), 0, 1)
    target = Grown(domain, grown(domain, 4, 0, count=15))
    x = samples(domain, 60, 0)
    y = target.predict(x).labels
    meter = Meter(target, x, y, Goal(LINF, eps, 20))
    run_attack(TreeAttack(), meter, np.random.default_rng(0))
    searched = Meter(target, x, y, Goal(LINF, 0.15, 20))
    run_attack(RandomSearch(), searched, np.random.default_rng(0))
    tally = meter.tally()
    assert tally.queries.max() <= TreeAttack().restarts
    assert tally.within(0.15).sum() >= searched.tally().within(0.15).sum()


def test_the_margin_that_is_climbed_is_that_of_the_trees() -> None:
    domain = Domain.of((6,), 0, 1)
    trees = grown(domain, 3, 1, count=7)
    rows = samples(domain, 40, 1)
    # By walking each tree on its own.
    for row, leaves, scores in zip(rows, trees.leaves(rows), trees.scores(rows), strict=True):
        total = np.zeros(3)
        for root, leaf in zip(trees.roots, leaves, strict=True):
            node = int(root)
            while trees.left[node] != node:
                low = row[trees.feature[node]] <= trees.threshold[node]
                node = int(trees.left[node] if low else trees.right[node])
            assert node == leaf
            total += trees.value[node]
        assert np.allclose(total, scores)


def test_thresholds_are_given_by_feature() -> None:
    domain = Domain.of((6,), 0, 1)
    target = Stump(domain, trees=20)
    found = target.trees.thresholds(6)
    inner = ~target.trees.is_leaf
    assert sum(map(len, found)) == inner.sum()
    for at, cuts in enumerate(found):
        assert (np.diff(cuts) > 0).all()
        assert set(cuts) == set(target.trees.threshold[inner & (target.trees.feature == at)])


def test_a_target_without_trees_shows_none() -> None:
    domain = Domain.of((6,), 0, 1)
    meter = Meter(Watched(domain), samples(domain, 3, 0), np.zeros(3, int), Goal(LINF, 0.1, 3))
    with pytest.raises(InputError) as caught:
        run_attack(TreeAttack(), meter, np.random.default_rng(0))
    assert caught.value.code == "attack.unable"


def data(classes: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (400, 6)).astype(np.float32)
    y = np.digitize(x[:, 0] + x[:, 1] * x[:, 2], [0.75] if classes == 2 else [0.5, 1.0])
    return x, y


DOMAIN = Domain.of((6,), 0, 1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["tree", "forest", "extra", "boosting"])
def test_scikit_learns_trees_are_read(
    need_module: Callable[[str], ModuleType], kind: str, classes: int
) -> None:
    need_module("sklearn")
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.tree import DecisionTreeClassifier

    x, y = data(classes)
    model = {
        "tree": DecisionTreeClassifier(random_state=0),
        "forest": RandomForestClassifier(15, random_state=0),
        "extra": ExtraTreesClassifier(10, random_state=0, max_depth=5),
        "boosting": HistGradientBoostingClassifier(max_iter=15, random_state=0),
    }[kind].fit(x, y)
    trees = read_trees(model)
    target = TreeTarget(PythonTarget(model, DOMAIN), trees)
    scores = trees.scores(x)
    if kind == "boosting":
        raw = model.decision_function(x)
        raw = np.stack([np.zeros(len(x)), raw], axis=1) if classes == 2 else raw
        assert np.allclose(scores, raw)
    else:
        assert np.allclose(scores, model.predict_proba(x))
    check_broken(target, x, model.predict(x))


def check_broken(target: TreeTarget, x: Array, y: Array) -> None:
    meter = Meter(target, x[:40], y[:40], Goal(LINF, 0.2, 10))
    run_attack(TreeAttack(), meter, np.random.default_rng(0))
    assert meter.tally().within(0.2).mean() > 0.5


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_xgboosts_trees_are_read(
    need_module: Callable[[str], ModuleType], classes: int, whole: bool
) -> None:
    library = need_module("xgboost")
    x, y = data(classes)
    many = {"num_class": 3} if classes == 3 else {}
    name = "multi:softprob" if classes == 3 else "binary:logistic"
    options = {"objective": name, "nthread": 1, "base_score": 0.3 if classes == 2 else 0.5, **many}
    booster = library.train(options, library.DMatrix(x, y), 12)
    served: Any = BoosterTarget(booster, DOMAIN)
    model: Any = booster
    if whole:
        model = library.XGBClassifier(n_estimators=10, n_jobs=1).fit(x, y)
        served = PythonTarget(model, DOMAIN)
    trees = read_trees(model)
    scores, said = trees.scores(x), served.predict(x).scores
    assert np.allclose(scores - scores[:, :1], said - said[:, :1], atol=1e-4)
    # At a split itself the two comparisons must agree.
    cuts = np.concatenate(trees.thresholds(6)).astype(np.float32)
    rows = np.repeat(cuts[:, None], 6, axis=1)
    rows = np.concatenate([rows, np.nextafter(rows, np.float32(2))])
    scores, said = trees.scores(rows), served.predict(rows).scores
    assert np.allclose(scores - scores[:, :1], said - said[:, :1], atol=1e-4)
    check_broken(TreeTarget(served, trees), x, served.predict(x).labels)


@pytest.mark.parametrize("classes", [2, 3])
def test_lightgbms_trees_are_read(need_module: Callable[[str], ModuleType], classes: int) -> None:
    library = need_module("lightgbm")
    x, y = data(classes)
    options = (
        {"objective": "multiclass", "num_class": 3} if classes == 3 else {"objective": "binary"}
    )
    quiet = {"num_threads": 1, "verbose": -1}
    booster = library.train(options | quiet, library.Dataset(x, y), 12)
    trees, served = read_trees(booster), BoosterTarget(booster, DOMAIN)
    assert served.classes == classes
    scores, said = trees.scores(x), served.predict(x).scores
    assert said is not None
    assert np.allclose(scores - scores[:, :1], said - said[:, :1], atol=1e-6)
    check_broken(TreeTarget(served, trees), x, served.predict(x).labels)


def test_a_booster_that_serves_labels_is_asked_for_margins(
    need_module: Callable[[str], ModuleType],
) -> None:
    library = need_module("xgboost")
    x, y = data(3)
    options = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    booster = library.train(options, library.DMatrix(x, y), 8)
    served = BoosterTarget(booster, DOMAIN)
    assert (served.predict(x).labels == booster.predict(library.DMatrix(x))).all()
    assert served.capabilities == {Capability.LABEL, Capability.SCORES}


def test_what_has_no_trees_and_other_trees_are_refused(
    need_module: Callable[[str], ModuleType],
) -> None:
    need_module("sklearn")
    from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    x, y = data(2)
    for model in (
        object(),
        LogisticRegression().fit(x, y),
        AdaBoostClassifier(n_estimators=3).fit(x, y),
        GradientBoostingClassifier(n_estimators=3).fit(x, y),
    ):
        with pytest.raises(InputError) as caught:
            read_trees(model)
        assert caught.value.code == "target.no_trees"
    tree, other = DecisionTreeClassifier(random_state=0), DecisionTreeClassifier(random_state=0)
    served = PythonTarget(tree.fit(x, y), DOMAIN)
    with pytest.raises(InputError) as caught:
        TreeTarget(served, read_trees(other.fit(x, 1 - y)))
    assert caught.value.code == "target.bad_trees"
    with pytest.raises(InputError) as caught:
        BoosterTarget(object(), DOMAIN)
    assert caught.value.code == "target.bad_object"
