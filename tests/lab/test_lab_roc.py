"""True-positive rates at low false-positive rates, against their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.lab.metrics.roc import enough_nonmembers, roc_of, tpr_at, unknown_at

# Few different values, so that most samples tie.
SCORES = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf]), min_size=1, max_size=40)
RATES = st.floats(0.001, 0.6)


def by_definition(members: list[float], others: list[float], fpr: float) -> float:
    """The most members that any rule `score >= t` finds with at most `fpr` false positives."""
    best = 0.0
    for threshold in {*members, *others}:
        wrong = sum(one >= threshold for one in others)
        if wrong <= fpr * len(others) + 1e-9:
            best = max(best, sum(one >= threshold for one in members) / len(members))
    return best


@given(SCORES, SCORES, RATES)
def test_the_rate_is_that_of_the_best_rule(
    members: list[float], others: list[float], fpr: float
) -> None:
    found = tpr_at(roc_of(np.array(members), np.array(others)), fpr)
    assert found.value == pytest.approx(by_definition(members, others, fpr))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.n_members, found.n_nonmembers) == (len(members), len(others))


@given(SCORES, SCORES)
def test_the_area_is_the_chance_to_be_above_ties_by_half(
    members: list[float], others: list[float]
) -> None:
    above = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    assert roc_of(np.array(members), np.array(others)).auc == pytest.approx(np.mean(above))


@given(SCORES, SCORES, RATES)
def test_only_the_order_of_scores_counts(
    members: list[float], others: list[float], fpr: float
) -> None:
    first, second = np.array(members), np.array(others)
    plain = tpr_at(roc_of(first, second), fpr)
    assert tpr_at(roc_of(np.arctan(first) * 3, np.arctan(second) * 3), fpr) == plain


@given(SCORES, SCORES)
def test_the_curve_climbs_from_nothing_to_all(members: list[float], others: list[float]) -> None:
    found = roc_of(np.array(members), np.array(others))
    assert (found.true[0], found.false[0], found.threshold[0]) == (0, 0, np.inf)
    assert (found.tpr[-1], found.fpr[-1]) == (1, 1)
    assert (np.diff(found.true) >= 0).all()
    assert (np.diff(found.false) >= 0).all()
    assert (np.diff(found.true) + np.diff(found.false) > 0).all()


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_holds_what_is_true_of_the_population(shift: float) -> None:
    """Of two normal laws the rate is known; so many samples miss it no oftener than promised."""
    from statistics import NormalDist

    law, draw = NormalDist(), np.random.default_rng(3)
    truth = 1 - law.cdf(law.inv_cdf(0.99) - shift)
    missed = 0
    for _ in range(400):
        found = tpr_at(roc_of(draw.normal(shift, 1, 500), draw.normal(0, 1, 600)), 0.01)
        missed += not found.low <= truth <= found.high
    assert missed <= 20


def test_a_threshold_without_uncertainty_would_promise_too_much() -> None:
    """The interval is wider than Wilson's alone, for the threshold is drawn too."""
    from keepstone.lab.metrics.wilson import share

    draw = np.random.default_rng(0)
    found = tpr_at(roc_of(draw.normal(2, 1, 5000), draw.normal(0, 1, 500)), 0.01)
    alone = share(round(found.value * 5000), 5000)
    assert found.high - found.low > 2 * (alone.high - alone.low)


def test_constant_scores_find_nobody_and_bound_the_guess() -> None:
    found = tpr_at(roc_of(np.zeros(1000), np.zeros(1000)), 0.01)
    assert (found.value, found.low) == (0, 0)
    # A coin finds one in a hundred.
    assert 0.01 < found.high < 0.05


@pytest.mark.parametrize(("n", "sufficient"), [(436, False), (437, True)])
def test_few_nonmembers_say_nothing(n: int, sufficient: bool) -> None:
    assert enough_nonmembers(0.01) == 437
    found = tpr_at(roc_of(np.ones(50), np.zeros(n)), 0.01)
    assert found.sufficient is sufficient
    assert found.value == 1
    # That none of few was above says nothing of the threshold.
    assert (found.low > 0.5) is sufficient
    assert enough_nonmembers(0.001) > 4000


@pytest.mark.parametrize(
    ("members", "others"), [([np.nan], [0.0]), ([0.0], [np.nan, 1.0]), ([], [0.0]), ([0.0], [])]
)
def test_what_is_no_score_is_refused(members: list[float], others: list[float]) -> None:
    with pytest.raises(InputError) as caught:
        roc_of(np.array(members), np.array(others))
    assert caught.value.code == "attack.bad_scores"


@pytest.mark.parametrize("wrong", [{"fpr": 0.0}, {"fpr": 1.0}, {"fpr": 0.1, "confidence": 1.0}])
def test_rates_that_measure_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        tpr_at(roc_of(np.ones(2), np.zeros(2)), **wrong)
    assert caught.value.code == "attack.bad_fpr"


def test_the_unknown_is_no_good_number() -> None:
    found = unknown_at(0.01, 3, 4)
    assert (found.low, found.high, found.sufficient) == (0, 1, False)
