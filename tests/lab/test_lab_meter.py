"""The meter: budgets, domains, and who judges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.meter import BudgetSpent, Goal, Meter
from keepstone.lab.norms import L2, LINF
from keepstone.lab.targets.port import Capability
from tests.lab.fakes import UNIT, halves

X = np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
Y = np.array([1, 1, 0])
HERE = np.arange(3)


def meter(eps: float | None = 0.1, budget: int = 5, **changed: object) -> tuple[Meter, object]:
    target = halves(**changed)
    return Meter(target, X, Y, Goal(LINF, eps, budget)), target


def test_a_row_within_epsilon_with_another_label_breaks_its_sample() -> None:
    found, _ = meter(0.11)
    found.ask(HERE, X + np.array([[-0.11, 0.11], [-0.11, 0.11], [0.1, -0.1]]))
    assert found.broken.tolist() == [False, True, False]
    assert found.standing().tolist() == [0, 2]
    assert found.tally().first.tolist() == [0, 1, 0]


def test_a_row_further_than_epsilon_breaks_nothing() -> None:
    found, _ = meter(0.1)
    found.ask(HERE, 1 - X)
    assert not found.broken.any()
    tally = found.tally()
    assert (tally.distance > 0.1).all()
    assert not tally.within(0.1).any()
    assert tally.within(0.7).all()
    assert (tally.first == 0).all()


def test_the_nearest_success_is_kept_in_whatever_order_they_come() -> None:
    found, _ = meter(None)
    rows = np.array([[0.3, 0.9], [0.45, 0.5], [0.1, 0.9]])
    found.ask(np.array([0, 0, 0]), rows)
    assert found.distance[0] == pytest.approx(0.25)
    assert found.best[0] == pytest.approx([0.45, 0.5])
    assert not found.broken.any()


def test_nothing_is_asked_beyond_the_budget() -> None:
    found, target = meter(budget=2)
    found.ask(HERE, X)
    with pytest.raises(BudgetSpent):
        found.ask(np.array([0, 1, 2, 2]), X[[0, 1, 2, 2]])
    assert target.rows_asked == 3  # type: ignore[attr-defined]
    found.ask(HERE, X)
    with pytest.raises(BudgetSpent):
        found.linearize(np.array([0]), X[:1])
    assert found.standing().tolist() == []
    assert found.tally().queries.tolist() == [2, 2, 2]


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=12), st.integers(1, 7))
def test_a_budget_holds_whatever_an_attack_does(calls: list[list[int]], budget: int) -> None:
    found, target = meter(None, budget)
    counted = np.zeros(3, int)
    for places in calls:
        try:
            found.ask(np.array(places, int), X[places])
        except BudgetSpent:
            continue
        counted += np.bincount(places, minlength=3)
    assert (counted <= budget).all()
    assert target.rows_asked == counted.sum()  # type: ignore[attr-defined]
    assert found.tally().queries.tolist() == counted.tolist()


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, width=32)
        ),
        min_size=3,
        max_size=3,
    )
)
def test_a_target_sees_its_domain_and_nothing_else(rows: list[tuple[float, float]]) -> None:
    found, target = meter(None)
    found.ask(HERE, np.array(rows))
    assert UNIT.holds(target.asked[-1]).all()  # type: ignore[attr-defined]


def test_whole_numbers_stay_whole() -> None:
    domain = Domain.of((2,), 0, 16, "uint8")
    target = halves(domain=domain)
    found = Meter(target, np.array([[7.0, 3.0]]), np.array([1]), Goal(LINF, 3, 5))
    found.ask(np.array([0]), np.array([[4.4, 5.6]]))
    assert target.asked[-1].tolist() == [[4.0, 6.0]]
    assert found.broken.all()


def test_a_gradient_is_counted_when_it_is_taken() -> None:
    found, _ = meter()
    ways = found.linearize(HERE, X)
    assert found.tally().gradients.tolist() == [0, 0, 0]
    assert ways.vjp(np.eye(2)[[0, 0, 0]]).tolist() == [[-1.0, 1.0]] * 3
    assert found.tally().gradients.tolist() == [1, 1, 1]
    assert found.tally().queries.tolist() == [1, 1, 1]


def test_rows_without_an_answer_are_no_success() -> None:
    found, _ = meter(None, silent_from=1)
    found.ask(HERE, 1 - X)
    assert np.isfinite(found.distance).tolist() == [True, False, False]
    assert found.tally().unanswered.tolist() == [0, 1, 1]


def test_a_target_without_gradients_gives_none() -> None:
    class Plain:
        domain, classes, capabilities = UNIT, 2, frozenset({Capability.LABEL})

        def predict(self, rows: np.ndarray) -> object:
            return halves().predict(rows)

    with pytest.raises(InputError) as caught:
        Meter(Plain(), X, Y, Goal(LINF, 0.1, 5)).linearize(HERE, X)  # type: ignore[arg-type]
    assert caught.value.code == "attack.unable"


@pytest.mark.parametrize("eps", [float("nan"), float("inf"), -1.0])
def test_an_epsilon_that_measures_nothing_is_refused(eps: float) -> None:
    with pytest.raises(InputError) as caught:
        Goal(L2, eps, 5)
    assert caught.value.code == "attack.bad_eps"


def test_costs_weigh_the_distance() -> None:
    constraints = Constraints.of(2, cost=[10, 1])
    target = halves(domain=Domain.of((2,), 0.0, 1.0, "float64", constraints))
    found = Meter(target, X, Y, Goal(LINF, 0.5, 5))
    found.ask(np.array([0, 0]), np.array([[0.25, 0.3], [0.7, 0.75]]))
    assert found.distance[0] == pytest.approx(0.45)
    assert found.best[0].tolist() == [0.7, 0.75]
