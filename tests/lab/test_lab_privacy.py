"""Privacy attacks: what they find of models that remember, and not of models that cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.attacks.privacy.attribute_inference import AttributeLeak, audit_attribute
from keepstone.lab.attacks.privacy.conditional_lira import ConditionalLira, _drawn_together
from keepstone.lab.attacks.privacy.lira import Lira, law
from keepstone.lab.attacks.privacy.loss_threshold import LossThreshold
from keepstone.lab.attacks.privacy.membership import (
    Membership,
    MembershipAttack,
    audit_membership,
    judge,
)
from keepstone.lab.attacks.privacy.model_inversion import (
    Inverted,
    ModelInversion,
    compare_inversion,
)
from keepstone.lab.attacks.privacy.observation import certainty, log_odds, observe, probability
from keepstone.lab.attacks.privacy.rmia import Rmia
from keepstone.lab.attacks.privacy.shadows import (
    Shadows,
    halves,
    kept_shadows,
    make_shadows,
    read_shadows,
)
from keepstone.lab.attacks.privacy.surroundings import Surroundings
from keepstone.lab.domain import Domain
from keepstone.lab.metrics.roc import TprAt
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, Linearization, Target
from keepstone.lab.targets.python import PythonTarget

ROWS, WIDTH, CLASSES = 1000, 8, 4
DOMAIN = Domain.of((WIDTH,), -50.0, 50.0, "float64")
ALL: tuple[MembershipAttack, ...] = (
    *(LossThreshold(), Lira(), Lira(online=False), Rmia()),
    ConditionalLira(),
)
IDS = [repr(one) for one in ALL]


class Served:
    """A target whose scores are those of a function, and which counts its queries."""

    capabilities = frozenset({Capability.LABEL, Capability.SCORES})

    def __init__(
        self,
        scores: Callable[[Array], Array],
        classes: int = CLASSES,
        *,
        labels_only: bool = False,
        domain: Domain = DOMAIN,
    ) -> None:
        self.domain, self.classes, self.queries = domain, classes, 0
        self._scores, self._labels_only = scores, labels_only
        if labels_only:
            self.capabilities = frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        self.queries += len(rows)
        scores = self._scores(rows)
        labels = np.nan_to_num(scores).argmax(axis=1)
        return Answers(labels) if self._labels_only else Answers(labels, scores)


def nearest(x: Array, y: Array, seed: int = 0, *, width: float = 2.0, **given: Any) -> Served:
    """Votes of the rows that were trained on, weighed by how near they are: it remembers all."""

    def scores(rows: Array) -> Array:
        square = ((rows[:, None, :] - x) ** 2).sum(axis=2)
        votes = np.exp(-square / (2 * width**2)) @ np.eye(CLASSES)[y]
        return np.asarray(np.log(votes / votes.sum(axis=1, keepdims=True) + 1e-4))

    return Served(scores, **given)


@cache
def data(seed: int = 0) -> tuple[Array, Array, Array]:
    """Rows, labels of which a fifth is wrong, and which half the model is trained on."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, CLASSES, ROWS)
    x = draw.normal(size=(ROWS, WIDTH)) * 2 + np.eye(CLASSES, WIDTH)[y] * 4
    wrong = draw.random(ROWS) < 0.2
    y[wrong] = draw.integers(0, CLASSES, int(wrong.sum()))
    return x, y, halves(ROWS, 2, 1000 + seed)[0]


@cache
def shadows(*, labels_only: bool = False) -> Shadows:
    x, y, _ = data()
    return make_shadows(nearest, x, y, 8, 5, labels_only=labels_only)


def audit(
    attack: MembershipAttack, target: Target, *, labels_only: bool = False, **given: Any
) -> Membership:
    x, y, inside = data()
    return audit_membership(
        attack, target, x, y, inside, shadows(labels_only=labels_only), fprs=(0.01,), **given
    )


def trained(**given: Any) -> Served:
    x, y, inside = data()
    return nearest(x[inside], y[inside], **given)


# Membership


@pytest.mark.parametrize("attack", ALL[1:], ids=IDS[1:])
def test_a_model_that_remembers_is_found_out(attack: MembershipAttack) -> None:
    target = trained()
    found = audit(attack, target, limits={0.01: 0.1})
    (at,) = found.tpr_at
    assert at.low > 0.1
    assert found.verdict is Verdict.FAIL
    assert (found.problems, found.signal, found.shadows, found.seed) == ((), "scores", 8, 5)
    assert found.queries == target.queries == ROWS + 32
    # What looks at the loss alone sees that rows differ, and hardly which are members.
    assert at.value > 2 * audit(LossThreshold(), trained()).tpr_at[0].value


def test_a_spread_over_few_shadow_models_leans_on_that_of_all_rows() -> None:
    """Four models with a row, and four without, do not tell how they vary on it."""
    few, forced = (audit(one, trained()) for one in (Lira(), Lira(prior=0)))
    assert few.tpr_at[0].value > forced.tpr_at[0].value

    models = np.array([[0.0, 0.0], [2.0, 20.0], [4.0, 40.0]])
    every = np.ones((3, 2), bool)
    for prior, wanted in ((0, (4, 400)), (2, (103, 301)), (np.inf, (202, 202))):
        mean, spread = law(models, every, prior)
        np.testing.assert_allclose(mean, (2, 20))
        np.testing.assert_allclose(spread**2, wanted)
    with pytest.raises(InputError, match="prior"):
        Lira(prior=-1)


def test_what_is_said_of_the_rows_around_tells_more_than_shadow_models_alone() -> None:
    alone, given = (audit(one, trained()).tpr_at[0].value for one in (Rmia(), ConditionalLira()))
    assert given > alone + 0.25
    with pytest.raises(InputError, match="prior"):
        ConditionalLira(prior=-1)


def test_means_are_drawn_to_those_of_all_rows_as_far_as_they_err() -> None:
    draw = np.random.default_rng(0)
    # What is true lies on a line, which what is seen does not.
    true = np.array([[1.0], [2.0]]) * draw.normal(size=400) + 5
    error = 0.5 * draw.normal(size=(2, 400))
    found = _drawn_together(true + error, np.diag([0.25, 0.25]))
    assert (found - true).var() < 0.6 * error.var()
    np.testing.assert_allclose(_drawn_together(true, np.zeros((2, 2))), true)
    # Where errors explain all, nothing is known of a row but what all rows' is.
    middle = true.mean(axis=1, keepdims=True)
    drawn = _drawn_together(true, np.diag([99.0, 99.0]))
    np.testing.assert_allclose(drawn, np.broadcast_to(middle, true.shape))


def test_rings_are_sums_of_what_is_said_of_rows_by_distance_and_class() -> None:
    # Told apart by the first feature, until features are of the same spread.
    x = np.array([[0, 0], [1, 90], [3, 0], [7, 0], [15, 0]]) * np.array([1e3, 1e-9])
    y = np.array([0, 1, 0, 0, 1])
    around = Surroundings.of(x, y)
    said = np.array([1.0, 10, 100, 1000, 10000])
    plain, scaled = np.split(around.rings(said), 2, axis=1)
    # The nearest row, the next, the next two: of the same class, and of others.
    assert plain[0].tolist() == [0, 100, 1000, 10, 0, 10000]
    assert plain[4].tolist() == [0, 0, 10, 1000, 100, 1]
    assert scaled[0].tolist() == [100, 1000, 0, 0, 0, 10010]
    units = Surroundings.of(x * np.array([1e-3, 1e9]), y)
    assert (units.nearest[1] == around.nearest[1]).all()
    for odd in (np.zeros((5, 2)), np.full((5, 1), 1e308), x * 1e300):
        near = Surroundings.of(odd, y).nearest
        assert all((one != np.arange(5)[:, None]).all() for one in near)


def test_what_a_ring_weighs_is_found_by_few_models() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(300, 3)), draw.integers(0, 2, 300)
    around = Surroundings.of(x, y)
    inside = halves(300, 4, 0)
    # Models lean each its own way, towards one class and away from the other.
    lean = (x @ draw.normal(size=(3, 4))).T * np.where(y, 1, -1)
    # Each row has its own level, and a gap of its own between those with it and those without.
    models = lean + draw.normal(size=300) * 9 + inside * draw.random(300) * 9
    weights = around.weights(models, inside)
    left = np.stack([one - around.rings(one) @ weights for one in models])
    spreads = [law(of, inside, np.inf)[1].max() for of in (models, left)]
    assert spreads[1] < 0.5 * spreads[0]
    assert (around.weights(np.zeros((4, 300)), inside) == 0).all()


@pytest.mark.parametrize("attack", ALL, ids=IDS)
@pytest.mark.parametrize("labels_only", [False, True])
def test_a_model_that_never_saw_the_data_tells_nothing(
    attack: MembershipAttack, labels_only: bool
) -> None:
    x, y, _ = data(7)
    stranger = nearest(x, y, labels_only=labels_only)
    found = audit(attack, stranger, labels_only=labels_only, limits={0.01: 0.06})
    (at,) = found.tpr_at
    assert at.low <= 0.01 <= at.high
    assert at.high < 0.06
    if attack.needs:
        assert (found.verdict, found.problems) == (Verdict.PASS, ())
    else:
        # The crudest attack alone vouches for nothing.
        assert found.verdict is Verdict.INSUFFICIENT
        assert [one.code for one in found.problems] == ["attack.crudest_alone"]


def test_the_crudest_attack_may_prove_a_failure() -> None:
    found = audit(LossThreshold(), trained(), limits={0.01: -1.0})
    assert (found.verdict, found.problems) == (Verdict.FAIL, ())


def test_a_model_of_the_same_rows_with_other_labels_tells_nothing_of_these_labels() -> None:
    x, y, inside = data()
    shuffled = np.random.default_rng(0).permutation(y[inside])
    (at,) = audit(Rmia(), nearest(x[inside], shuffled)).tpr_at
    assert at.value < 0.06


@pytest.mark.parametrize("attack", [Lira(), Lira(online=False), Rmia(), Rmia(online=False)])
def test_labels_alone_give_members_away(attack: MembershipAttack) -> None:
    target = trained(labels_only=True, width=0.5)
    x, y, inside = data()
    seen = make_shadows(lambda x, y, seed: nearest(x, y, width=0.5), x, y, 8, 5, labels_only=True)
    found = audit_membership(attack, target, x, y, inside, seen, fprs=(0.01, 0.1))
    assert found.signal == "labels"
    assert target.queries == found.queries
    # One bit a row: hardly anything at 1 %, but rows that no other model gets right are told.
    assert found.auc is not None
    assert found.auc > 0.6
    gap = audit_membership(LossThreshold(), target, x, y, inside, fprs=(0.1,))
    assert gap.auc is not None
    assert found.auc > gap.auc


def test_a_forest_that_is_asked_as_an_object(need_module: Callable[[str], ModuleType]) -> None:
    need_module("sklearn")
    from sklearn.ensemble import RandomForestClassifier

    x, y, inside = data()

    def train(x: Array, y: Array, seed: int) -> PythonTarget:
        forest = RandomForestClassifier(20, random_state=seed).fit(x, y)
        return PythonTarget(forest, DOMAIN)

    seen = make_shadows(train, x, y, 4, 0)
    target = train(x[inside], y[inside], 99)
    found = {
        repr(attack): audit_membership(attack, target, x, y, inside, seen, fprs=(0.01,))
        for attack in (LossThreshold(), Lira(), Rmia())
    }
    at = {name: one.tpr_at[0].value for name, one in found.items()}
    assert at[repr(Rmia())] > 0.15
    assert at[repr(Rmia())] > 2 * at[repr(LossThreshold())]
    assert all(one.auc is not None and one.auc > 0.5 for one in found.values())


def test_audits_repeat() -> None:
    x, y, inside = data()
    again = make_shadows(nearest, x, y, 8, 5)
    assert (again.log_odds == shadows().log_odds).all()
    for attack in ALL:
        one, other = (
            audit_membership(attack, trained(), x, y, inside, seen) for seen in (again, shadows())
        )
        assert one.tpr_at == other.tpr_at
        assert (one.rows, one.members) == (other.rows, other.members)


# Wrong labels, wrong sides and wrong code: what looks private and is not


def knows_nothing(x: Array, y: Array, seed: int) -> Served:
    shares = np.log(np.bincount(y, minlength=CLASSES) / len(y))
    return Served(lambda rows: np.tile(shares, (len(rows), 1)))


def of_shuffled(x: Array, y: Array, seed: int) -> Served:
    return nearest(x, np.random.default_rng(seed).permutation(y))


def of_means(x: Array, y: Array, seed: int) -> Served:
    """It knows the classes, and remembers no row."""
    means = np.stack([x[y == label].mean(axis=0) for label in range(CLASSES)])
    return Served(lambda rows: -((rows[:, None, :] - means) ** 2).sum(axis=2) / 8)


@pytest.mark.parametrize("labels_only", [False, True])
@pytest.mark.parametrize("train", [knows_nothing, of_shuffled, of_means])
def test_shadow_models_of_other_code_vouch_for_nothing(train: Any, labels_only: bool) -> None:
    x, y, inside = data()
    seen = make_shadows(train, x, y, 4, 0, labels_only=labels_only)
    target = trained(width=0.5, labels_only=labels_only)
    found = audit_membership(Rmia(), target, x, y, inside, seen, limits={0.01: 1.0})
    assert [one.code for one in found.problems] == ["attack.unlike_shadows"]
    assert found.verdict is Verdict.INSUFFICIENT
    assert {(one.high, one.sufficient) for one in found.tpr_at} == {(1.0, False)}
    # What was told was told.
    again = audit_membership(Rmia(), target, x, y, inside, seen, limits={0.01: -1.0})
    assert again.verdict is Verdict.FAIL


def weak(x: Array, y: Array, seed: int) -> Served:
    """It saw a tenth of the rows, as blurred as one that hides them."""
    return nearest(x[::10], y[::10], width=6.0)


def by_heart(x: Array, y: Array, seed: int) -> Served:
    return nearest(x, y, width=0.3)


@pytest.mark.parametrize("train", [nearest, weak, by_heart, of_means])
@pytest.mark.parametrize("learnt", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_honest_shadow_models_are_never_doubted(train: Any, learnt: bool, seed: int) -> None:
    """Of what cannot be learnt all but what is learnt by heart know nothing."""
    x, y, inside = data(seed)
    if not learnt:
        y = np.random.default_rng(seed).integers(0, CLASSES, ROWS)
    seen = make_shadows(train, x, y, 4, seed)
    found = audit_membership(Rmia(), train(x[inside], y[inside], 9), x, y, inside, seen)
    codes = {one.code for one in found.problems}
    assert codes <= (set() if learnt else {"attack.labels_mismatch"})


@pytest.mark.parametrize("attack", [LossThreshold(), Rmia()], ids=repr)
@pytest.mark.parametrize("side", ["members", "others", "both"])
def test_labels_of_another_coding_tell_nothing(attack: MembershipAttack, side: str) -> None:
    x, y, inside = data()
    wrong = {"members": inside, "others": ~inside, "both": inside | True}[side]
    other = np.where(wrong, (y + 1) % CLASSES, y)
    seen = make_shadows(nearest, x, other, 4, 0)
    found = audit_membership(attack, trained(), x, other, inside, seen, limits={0.01: 0.05})
    assert [one.code for one in found.problems] == ["attack.labels_mismatch"]
    assert found.verdict is Verdict.INSUFFICIENT
    # Others of another coding are told from members, whatever the model remembers.
    assert {(one.value, one.low, one.high) for one in found.tpr_at} == {(0, 0, 1)}
    assert (found.auc, found.roc) == (None, None)


def test_labels_that_have_nothing_to_do_with_members_vouch_for_nothing() -> None:
    x, y, inside = data()
    shuffled = np.random.default_rng(0).permutation(y)
    seen = make_shadows(nearest, x, shuffled, 4, 0)
    found = audit_membership(Rmia(), trained(), x, shuffled, inside, seen, limits={0.01: 1.0})
    assert "attack.labels_mismatch" in [one.code for one in found.problems]
    assert found.verdict is Verdict.INSUFFICIENT


@pytest.mark.parametrize("attack", [LossThreshold(), Lira(), Rmia()], ids=repr)
def test_members_and_others_that_were_swapped_vouch_for_nothing(attack: MembershipAttack) -> None:
    x, y, inside = data()
    found = audit_membership(attack, trained(), x, y, ~inside, shadows(), limits={0.01: 1.0})
    assert [one.code for one in found.problems] == ["attack.members_fit_worse"]
    assert found.verdict is Verdict.INSUFFICIENT


# Bad input: never a number that looks good


def broken(where: Array, how: str) -> Served:
    target = trained()
    plain = target.predict

    def predict(rows: Array) -> Answers:
        found = plain(rows)
        assert found.scores is not None
        labels, scores = found.labels.copy(), found.scores.copy()
        if how == "nan":
            scores[where] = np.nan
        elif how == "inf":
            scores[where] = np.inf
        else:
            labels[where] = UNANSWERED
        return Answers(labels, scores)

    target.predict = predict  # type: ignore[method-assign]
    return target


@pytest.mark.parametrize("attack", ALL, ids=IDS)
@pytest.mark.parametrize("how", ["nan", "inf", "unanswered"])
def test_answers_that_are_none_are_a_problem(attack: MembershipAttack, how: str) -> None:
    found = audit(attack, broken(np.arange(3), how), limits={0.01: 1.0})
    assert [one.code for one in found.problems] == ["attack.no_answers"]
    (at,) = found.tpr_at
    assert (at.low, at.high) == (0, 1)
    assert (found.auc, found.roc) == (None, None)
    assert found.verdict is Verdict.INSUFFICIENT


def test_scores_that_never_change_are_a_problem() -> None:
    constant = Served(lambda rows: np.zeros((len(rows), CLASSES)))
    found = audit(LossThreshold(), constant, limits={0.01: 0.5})
    assert [one.code for one in found.problems] == ["attack.constant_scores"]
    assert found.tpr_at[0].high == 1
    assert found.verdict is Verdict.INSUFFICIENT


def test_answers_that_change_are_a_problem() -> None:
    """Noise on the answers makes one look private, and the next one averages it away."""
    target, draw = trained(), np.random.default_rng(0)
    plain = target._scores
    target._scores = lambda rows: plain(rows) + draw.normal(size=(len(rows), CLASSES))
    found = audit(Rmia(), target, limits={0.01: 1.0})
    assert [one.code for one in found.problems] == ["attack.unsteady"]
    assert found.tpr_at[0].high == 1
    assert found.verdict is Verdict.INSUFFICIENT


def test_too_few_rows_are_insufficient() -> None:
    x, y, inside = data()
    part = np.r_[np.flatnonzero(inside)[:300], np.flatnonzero(~inside)[:100]]
    target = nearest(*data(7)[:2])
    found = audit_membership(
        LossThreshold(), target, x[part], y[part], inside[part], limits={0.01: 0.9}
    )
    assert not any(one.sufficient for one in found.tpr_at)
    assert found.verdict is Verdict.INSUFFICIENT
    # And 500 are too few for one in a thousand.
    found = audit(Rmia(), target, limits={0.001: 0.9})
    assert found.verdict is Verdict.INSUFFICIENT


def rate(low: float, high: float, *, sufficient: bool = True, n: int = 1000) -> TprAt:
    return TprAt(0.01, (low + high) / 2, low, high, n, n, sufficient)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (rate(0.0, 0.05), Verdict.PASS),
        (rate(0.0, 0.0501), Verdict.FAIL),
        (rate(0.04, 0.3), Verdict.FAIL),
        (rate(0.0, 0.04, sufficient=False), Verdict.INSUFFICIENT),
        (rate(0.06, 1.0, sufficient=False), Verdict.FAIL),
        # A guess among fifty would not pass either.
        (rate(0.0, 0.2, n=50), Verdict.INSUFFICIENT),
    ],
)
def test_the_verdict_reads_the_unfavourable_bound(found: TprAt, verdict: Verdict) -> None:
    assert judge([found], {0.01: 0.05}) is verdict


def test_without_a_limit_nothing_passes_and_the_worst_counts() -> None:
    good, bad = rate(0, 0.02), replace(rate(0.5, 0.9), fpr=0.001)
    assert judge([good, bad], {}) is Verdict.INSUFFICIENT
    assert judge([good, bad], {0.01: 0.05}) is Verdict.PASS
    assert judge([good, bad], {0.01: 0.05, 0.001: 0.05}) is Verdict.FAIL


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"members": np.ones(ROWS, bool)}, "attack.bad_members"),
        ({"members": np.ones(ROWS)}, "attack.bad_members"),
        ({"members": np.zeros(3, bool)}, "attack.bad_members"),
        ({"y": data()[1] + CLASSES}, "attack.bad_labels"),
        ({"y": data()[1].astype(float)}, "attack.bad_labels"),
        ({"y": data()[1][:5]}, "attack.bad_labels"),
        ({"x": data()[0] + 100}, "attack.outside_domain"),
        ({"x": data()[0] + 0.001}, "attack.bad_shadows"),
        ({"shadows": None}, "attack.bad_shadows"),
        ({"target": trained(labels_only=True)}, "attack.bad_shadows"),
    ],
)
def test_what_cannot_be_audited_is_said(changed: Mapping[str, Any], code: str) -> None:
    x, y, inside = data()
    asked: dict[str, Any] = {"x": x, "y": y, "members": inside, "shadows": shadows()}
    with pytest.raises(InputError) as caught:
        audit_membership(Rmia(), **({"target": trained()} | asked | dict(changed)))
    assert caught.value.code == code


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"gamma": np.nan}, {"offline": 1.5}])
def test_parameters_out_of_range_are_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Rmia(**wrong)
    assert caught.value.code == "attack.bad_parameter"


# What is seen


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=5), st.floats(-300, 300))
def test_log_odds_are_those_of_the_softmax(scores: list[float], shift: float) -> None:
    found = np.array([scores])
    weights = np.exp(found[0] - found.max())
    share = weights[0] / weights.sum()
    odds = log_odds(found + shift, np.array([0]))[0]
    assert odds == pytest.approx(np.log(weights[0] / weights[1:].sum()), abs=1e-9)
    assert probability(odds) == pytest.approx(share)


def test_certainty_is_a_little_beyond_what_was_seen() -> None:
    assert certainty(np.array([-3.0, 2.0, np.nan, np.inf, 700.0])) == pytest.approx(3 + np.log(2))
    assert certainty(np.array([700.0, -np.inf])) == certainty(np.zeros(3)) == 5.0


def test_scores_that_are_infinite_are_no_certainty() -> None:
    odds = log_odds(np.array([[np.inf, np.inf], [0.0, -np.inf], [np.nan, 0]]), np.zeros(3, int))
    assert np.isnan(odds).tolist() == [True, False, True]


def test_every_row_is_asked_once() -> None:
    target = Served(lambda rows: np.zeros((len(rows), 2)), 2)
    found = observe(target, np.zeros((9000, WIDTH)), np.zeros(9000, int))
    assert (target.queries, found.queries, len(found.log_odds)) == (9000, 9000, 9000)


# Shadow models


def test_halves_come_in_pairs_and_do_not_hang_on_how_many() -> None:
    found = halves(101, 64, 3)
    assert (found[:4] == halves(101, 4, 3)).all()
    assert (found[0::2] == ~found[1::2]).all()
    assert (found.sum(axis=0) == 32).all()
    assert not (found[0] == halves(101, 2, 4)[0]).all()


def test_shadows_are_kept_and_only_the_missing_are_trained(tmp_path: Path) -> None:
    x, y, _ = (part[:40] for part in data())
    made = []

    def train(x: Array, y: Array, seed: int) -> Target:
        made.append(seed)
        return nearest(x, y)

    path = tmp_path / "shadows.npz"
    first = kept_shadows(path, train, x, y, 4, 0, training="v1")
    more = kept_shadows(path, train, x, y, 6, 0, training="v1")
    again = kept_shadows(path, train, x, y, 4, 0, training="v1")
    assert len(made) == len(set(made)) == 6
    assert more.count == 6
    assert (more.first(4).log_odds == first.log_odds).all()
    assert (again.log_odds == first.log_odds).all()
    for other in ({"seed": 1}, {"training": "v2"}, {"x": x + 1}, {"labels_only": True}):
        asked: dict[str, Any] = {"x": x, "y": y, "count": 4, "seed": 0, "training": "v1"}
        with pytest.raises(InputError) as caught:
            kept_shadows(path, train, **(asked | other))
        assert caught.value.code == "attack.bad_shadows"
    for place in (tmp_path / "no" / "file", tmp_path):
        with pytest.raises(OperationalError) as failed:
            kept_shadows(place, train, x, y, 2, 0, training="v1")
        assert failed.value.code == "attack.not_kept"
    assert [one.name for one in tmp_path.iterdir()] == ["shadows.npz"]


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", shadows().as_bytes()[:-30]])
def test_files_that_are_no_shadows_are_refused(content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_shadows(content)
    assert caught.value.code == "attack.bad_shadows"


def test_a_pickle_among_the_arrays_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    odd = np.array([object()], dtype=object)
    np.savez(path, inside=odd, log_odds=odd, labels_only=odd, seed=odd, data=odd, training=odd)
    with pytest.raises(InputError) as caught:
        read_shadows(path.read_bytes())
    assert caught.value.code == "attack.bad_shadows"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_odd_numbers_of_shadows_are_refused(count: int) -> None:
    x, y, _ = data()
    with pytest.raises(InputError) as caught:
        make_shadows(nearest, x, y, count, 0)
    assert caught.value.code == "attack.bad_shadows"
    with pytest.raises(InputError) as caught:
        make_shadows(nearest, x, y, 2, -1)
    assert caught.value.code == "attack.bad_shadows"
    with pytest.raises(InputError) as caught:
        shadows().first(count)
    assert caught.value.code == "attack.bad_shadows"


def test_shadow_models_that_answer_nothing_are_refused() -> None:
    x, y, _ = data()

    def train(x: Array, y: Array, seed: int) -> Target:
        return Served(lambda rows: np.full((len(rows), CLASSES), np.nan))

    with pytest.raises(InputError) as caught:
        make_shadows(train, x, y, 2, 0)
    assert caught.value.code == "attack.bad_shadows"


# Attributes


def planted(seed: int, *, related: bool, labels_only: bool = False) -> AttributeLeak:
    """Guess a secret bit of which the label is, or is not, a function."""
    draw = np.random.default_rng(seed)
    secret = (draw.random(600) < 0.6).astype(float)
    x = np.column_stack([secret, draw.normal(size=(600, WIDTH - 1))])
    y = ((secret > 0) if related else (draw.random(600) < 0.5)).astype(np.int64)
    y = np.where(draw.random(600) < 0.15, 1 - y, y)

    def scores(rows: Array) -> Array:
        lean = 3 * (rows[:, 0] - 0.5) if related else rows[:, 1]
        return np.column_stack([-lean, lean])

    return audit_attribute(Served(scores, 2, labels_only=labels_only), x, y, 0, limit=0.1)


@pytest.mark.parametrize("labels_only", [False, True])
def test_an_attribute_that_the_model_hangs_on_is_guessed(labels_only: bool) -> None:
    found = planted(1, related=True, labels_only=labels_only)
    assert found.low > 0.1
    assert found.guessed.low > found.majority.high
    assert found.verdict is Verdict.FAIL
    assert (found.queries, found.classes) == (1200, 2)
    assert found.signal == ("labels" if labels_only else "scores")


@pytest.mark.parametrize("labels_only", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_attribute_that_nothing_hangs_on_is_not(labels_only: bool, seed: int) -> None:
    found = planted(seed, related=False, labels_only=labels_only)
    assert found.low <= 0 <= found.high
    assert found.advantage <= 0.01
    assert found.verdict is Verdict.PASS


def test_attributes_without_answers_or_limit_pass_nothing() -> None:
    x, y, _ = data()
    bits = np.column_stack([(x[:, 0] > 0).astype(float), x[:, 1:]])
    silent = Served(lambda rows: np.full((len(rows), CLASSES), np.nan))
    found = audit_attribute(silent, bits, y, 0, limit=0.9)
    assert [one.code for one in found.problems] == ["attack.no_answers"]
    assert (found.verdict, found.low, found.high) == (Verdict.INSUFFICIENT, -1, 1)
    assert audit_attribute(nearest(x, y), bits, y, 0).verdict is Verdict.INSUFFICIENT
    few = audit_attribute(nearest(x, y), bits[:20], y[:20], 0, limit=0.05)
    assert few.verdict is not Verdict.PASS


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"feature": WIDTH}, "attack.bad_feature"),
        ({"values": np.array([0.0])}, "attack.bad_feature"),
        ({"values": np.array([0.0, 2.0])}, "attack.bad_feature"),
        ({"values": np.array([0.0, 1.0, 99.0])}, "attack.outside_domain"),
        ({"y": np.full(ROWS, 9)}, "attack.bad_labels"),
    ],
)
def test_attributes_that_cannot_be_guessed_are_said(changed: Mapping[str, Any], code: str) -> None:
    x, y, _ = data()
    bits = np.column_stack([(x[:, 0] > 0).astype(float), x[:, 1:]])
    asked: dict[str, Any] = {"x": bits, "y": y, "feature": 0}
    with pytest.raises(InputError) as caught:
        audit_attribute(nearest(x, y), **(asked | dict(changed)))
    assert caught.value.code == code


# Inversion


class Linear(Served):
    """A softmax of linear scores, by the rows' class means."""

    capabilities = frozenset(Capability)

    def __init__(self, weights: Array, bias: Array) -> None:
        super().__init__(lambda rows: rows @ weights.T + bias, len(weights))
        self.weights = weights

    def linearize(self, rows: Array) -> Linearization:
        found = self.predict(rows)
        assert found.scores is not None
        return Linearization(found.labels, found.scores, lambda weights: weights @ self.weights)


class Scores(Served):
    def __init__(self, inner: Linear) -> None:
        super().__init__(lambda rows: inner._scores(rows), inner.classes)


@cache
def softmax() -> tuple[Linear, Array, Array]:
    draw = np.random.default_rng(4)
    centres = draw.normal(size=(8, WIDTH)) * 3
    y = np.repeat(np.arange(8), 50)
    x = centres[y] + draw.normal(size=(400, WIDTH))
    means = np.stack([x[y == label].mean(axis=0) for label in range(8)])
    return Linear(means, -0.5 * (means**2).sum(axis=1)), x, y


@pytest.mark.parametrize("gradients", [True, False])
def test_inversion_finds_the_class_means_of_a_linear_model(gradients: bool) -> None:
    linear, x, y = softmax()
    target = linear if gradients else Scores(linear)
    target.queries = 0
    found = ModelInversion().run(target, np.random.default_rng(0))
    made = compare_inversion(found, x, y)
    assert made.recovered.low > made.chance
    assert np.median(made.similarity) > 0.5
    assert found.queries == target.queries
    assert target.domain.holds(found.rows).all()
    again = ModelInversion().run(target, np.random.default_rng(0))
    assert (again.rows == found.rows).all()


def test_a_model_of_nothing_gives_no_class_away() -> None:
    linear, x, y = softmax()
    draw = np.random.default_rng(1)
    strange = Linear(draw.normal(size=linear.weights.shape), np.zeros(8))
    made = compare_inversion(ModelInversion().run(strange, draw), x, y)
    assert made.recovered.low <= made.chance
    blind = Inverted(np.zeros((8, WIDTH)), 0, ())
    assert compare_inversion(blind, x, y).recovered.hits == 0


@pytest.mark.parametrize("budget", [1, 32, 100])
def test_inversion_keeps_its_budget(budget: int) -> None:
    linear, _, _ = softmax()
    for target, cost in ((linear, 1), (Scores(linear), 32)):
        target.queries = 0
        attack = ModelInversion(budget=budget)
        if budget < cost:
            with pytest.raises(InputError) as caught:
                attack.run(target, np.random.default_rng(0))
            assert caught.value.code == "attack.bad_budget"
        else:
            attack.run(target, np.random.default_rng(0))
        assert target.queries <= budget * target.classes


def test_inversion_that_cannot_be_is_said() -> None:
    _, x, y = softmax()
    draw = np.random.default_rng(0)
    silent = Served(lambda rows: np.full((len(rows), 8), np.nan), 8)
    found = ModelInversion().run(silent, draw)
    assert [one.code for one in found.problems] == ["attack.no_answers"]
    assert compare_inversion(found, x, y).recovered.hits == 0
    for ask, code in (
        (lambda: ModelInversion(steps=0), "attack.bad_parameter"),
        (lambda: ModelInversion().run(trained(labels_only=True), draw), "attack.unable"),
        (lambda: compare_inversion(found, x, y * 0), "attack.bad_labels"),
    ):
        with pytest.raises(KeepstoneError) as caught:
            ask()
        assert caught.value.code == code
