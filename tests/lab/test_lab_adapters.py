"""Attacks of other libraries on our targets, and their classifiers as our targets.

What all adapters share is tried on libraries of a few lines; each adapter, slowly, on its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.adapters.art import ArtAttack, ArtTarget
from keepstone.lab.adapters.cleverhans import CleverHansAttack
from keepstone.lab.adapters.foolbox import FoolboxAttack, FoolboxTarget
from keepstone.lab.adapters.metered import Metered, Outside, run_outside
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter, Tally
from keepstone.lab.norms import LINF
from keepstone.lab.targets.port import Answers, Capability
from tests.lab.fakes import Linear, X, Y, halves, meter

LABEL, SCORES, GRADIENT = Capability.LABEL, Capability.SCORES, Capability.GRADIENT
OTHER = np.array([0.1, 0.9])


def run(
    outside: Outside,
    meter: Meter,
    *,
    needs: Capability = LABEL,
    together: bool = False,
    seed: int = 0,
) -> Tally:
    rng = np.random.default_rng(seed)
    run_outside(outside, "A library", meter, rng, needs, together=together)
    return meter.tally()


def ever(asked: Metered) -> object:
    while True:
        asked.outputs(asked.inputs)


# --- counting and stopping -----------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
def test_attack_that_never_ends_is_stopped_at_its_budget(together: bool) -> None:
    target = halves()
    tally = run(ever, meter(target), together=together)
    # One query is kept for what the attack gives back.
    assert tally.queries.tolist() == [9, 9]
    assert target.rows_asked == 18


def test_batch_that_would_pass_the_budget_is_not_asked_at_all() -> None:
    target = halves()

    def outside(asked: Metered) -> object:
        asked.outputs(np.repeat(asked.inputs, 6, axis=0))
        asked.outputs(np.repeat(asked.inputs, 6, axis=0))
        raise AssertionError("it was let on")

    assert run(outside, meter(target)).queries.tolist() == [6, 6]
    assert target.rows_asked == 12


def test_library_that_swallows_the_stop_gets_no_more_answers() -> None:
    answered: list[int] = []

    def outside(asked: Metered) -> object:
        # The second is too many; the last would fit.
        for count in (5, 8, 1):
            try:
                asked.outputs(np.repeat(asked.inputs, count, axis=0))
            except Exception:
                continue
            answered.append(count)
        return None

    assert run(outside, meter(halves())).queries.tolist() == [5, 5]
    assert answered == [5, 5]


def test_library_that_raises_another_error_for_the_stop_has_not_failed() -> None:
    def outside(asked: Metered) -> object:
        try:
            return ever(asked)
        except Exception as error:
            raise RuntimeError("model failed") from error

    assert run(outside, meter(halves())).queries.tolist() == [9, 9]


def test_attack_ends_once_its_sample_is_broken() -> None:
    def outside(asked: Metered) -> object:
        for share in np.linspace(0, 1, 9):
            asked.outputs(asked.inputs + share * (OTHER - asked.inputs))
        return None

    tally = run(outside, meter(halves(), budget=100))
    assert tally.within(0.3).tolist() == [False, True]
    # The fourth of nine lies past the boundary, .225 away.
    assert tally.queries.tolist() == [9, 4]


def test_sample_that_cannot_pay_for_what_is_given_back_is_not_attacked() -> None:
    target = halves()
    assert run(ever, meter(target, budget=1)).queries.tolist() == [0, 0]
    assert target.rows_asked == 0


# --- judging -------------------------------------------------------------------------------------


def test_row_that_is_given_back_is_asked_and_judged() -> None:
    def outside(asked: Metered) -> object:
        return asked.inputs + 0.25 * np.sign(OTHER - asked.inputs)

    tally = run(outside, meter(halves()))
    assert tally.within(0.3).tolist() == [False, True]
    assert tally.queries.tolist() == [1, 1]


def test_row_beyond_epsilon_is_cut_and_does_not_count_as_it_is() -> None:
    tally = run(lambda asked: np.broadcast_to(OTHER, asked.inputs.shape), meter(halves()))
    assert tally.within(0.3).tolist() == [False, True]
    assert tally.distance[1] <= 0.3 + 1e-6


def test_smallest_perturbation_is_judged_as_it_was_given() -> None:
    tally = run(lambda asked: np.broadcast_to(OTHER, asked.inputs.shape), meter(halves(), eps=None))
    assert tally.distance == pytest.approx([0.8, 0.6])


def test_what_a_library_says_of_success_counts_for_nothing() -> None:
    tally = run(lambda asked: asked.inputs, meter(halves()))
    assert not tally.within(0.3).any()


@pytest.mark.parametrize("given", [np.zeros(3), "rows", np.full((1, 2), None)])
def test_answer_that_is_not_one_row_for_each_sample_is_a_failure(given: object) -> None:
    with pytest.raises(OperationalError) as caught:
        run(lambda asked: given, meter(halves()))
    assert caught.value.code == "attack.outside_failed"


def test_row_of_no_numbers_is_not_asked() -> None:
    target = halves()
    run(lambda asked: np.full(asked.inputs.shape, np.nan), meter(target))
    assert target.rows_asked == 0


# --- which row is whose --------------------------------------------------------------------------


def test_rows_of_one_sample_may_be_any_number() -> None:
    tally = run(lambda asked: asked.outputs(np.repeat(asked.inputs, 3, 0))[:1], meter(halves()))
    assert tally.queries.tolist() == [4, 4]


def test_one_row_for_each_sample_is_theirs_in_order() -> None:
    def outside(asked: Metered) -> object:
        asked.outputs(asked.inputs + 0.25 * np.sign(OTHER - asked.inputs))
        return None

    tally = run(outside, meter(halves()), together=True)
    assert tally.distance == pytest.approx([np.inf, 0.25])
    assert tally.queries.tolist() == [1, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_rows_belongs_to_nobody_and_is_not_asked(count: int) -> None:
    target = halves()
    with pytest.raises(InputError) as caught:
        run(lambda asked: asked.outputs(np.zeros((count, 2))), meter(target), together=True)
    assert caught.value.code == "attack.unmapped"
    assert target.rows_asked == 0


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        run(lambda asked: asked.outputs(np.zeros((1, 3))), meter(halves()))
    assert caught.value.code == "attack.unmapped"


# --- answers -------------------------------------------------------------------------------------


def test_label_alone_is_served_where_the_attack_needs_no_more() -> None:
    seen: list[Array] = []
    run(lambda asked: seen.append(asked.outputs(asked.inputs)), meter(halves()))
    assert seen[0].tolist() == [[0.0, 1.0]]
    run(lambda asked: seen.append(asked.outputs(asked.inputs)), meter(halves()), needs=SCORES)
    assert seen[2] == pytest.approx(np.array([[-0.8, 0.8]]))


@pytest.mark.parametrize("needs", [LABEL, SCORES])
def test_row_without_an_answer_looks_like_no_success(needs: Capability) -> None:
    class Silent(Linear):
        def predict(self, rows: Array) -> Answers:
            return Answers(np.full(len(rows), -1), np.full((len(rows), 2), np.nan))

    seen: list[Array] = []
    m = Meter(Silent(np.eye(2), np.zeros(2)), X, Y, Goal(LINF, 0.3, 10))
    run(lambda asked: seen.append(asked.outputs(asked.inputs)), m, needs=needs)
    assert np.concatenate(seen).argmax(axis=1).tolist() == [1, 1]
    assert np.isfinite(np.concatenate(seen)).all()
    assert m.tally().unanswered.tolist() == [1, 1]


def test_gradient_is_the_targets_own_and_is_counted() -> None:
    def outside(asked: Metered) -> object:
        _, pull = asked.linearize(asked.inputs)
        assert pull(np.array([[0.0, 1.0]])).tolist() == [[1.0, -1.0]]
        return None

    tally = run(outside, meter(halves()), needs=GRADIENT)
    assert (tally.queries.tolist(), tally.gradients.tolist()) == ([1, 1], [1, 1])


# --- failures and chance -------------------------------------------------------------------------


def test_crash_inside_a_library_is_no_robustness() -> None:
    def outside(asked: Metered) -> object:
        raise ZeroDivisionError("inside")

    with pytest.raises(OperationalError, match="ZeroDivisionError: inside") as caught:
        run(outside, meter(halves()))
    assert caught.value.code == "attack.outside_failed"


def test_failure_of_the_target_keeps_its_code() -> None:
    def outside(asked: Metered) -> object:
        raise OperationalError("target.gone", "It went away.")

    with pytest.raises(OperationalError) as caught:
        run(outside, meter(halves()))
    assert caught.value.code == "target.gone"


def test_chance_comes_from_the_seed_and_the_process_keeps_its_own() -> None:
    drawn: list[float] = []

    def outside(asked: Metered) -> object:
        drawn.append(np.random.random())
        return None

    np.random.seed(7)
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    for seed in (0, 0, 1):
        run(outside, meter(halves()), seed=seed)
    assert drawn[:2] == drawn[2:4] != drawn[4:]
    assert drawn[0] != drawn[1]
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]


def _never(*_: object) -> object:
    raise AssertionError


@pytest.mark.parametrize(
    ("library", "begin"),
    [
        ("art", lambda: ArtAttack(name="a", make=_never, needs=LABEL)),
        ("foolbox", lambda: FoolboxAttack(object(), LABEL)),
        ("cleverhans", lambda: CleverHansAttack(name="c", attack=_never, needs=LABEL)),
        ("art", lambda: ArtTarget(object())),
        ("foolbox", lambda: FoolboxTarget(object(), Domain.of((2,), 0.0, 1.0))),
    ],
)
def test_library_that_is_missing_is_named(
    library: str, begin: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(OperationalError) as caught:
        begin().run(meter(halves()), np.random.default_rng(0))
    assert caught.value.code == "runtime.missing"
    assert "--no-deps" in caught.value.next_step


def test_report_of_an_attack_holds_no_address_of_this_process() -> None:
    for attack in (
        ArtAttack(name="a", make=_never, needs=LABEL),
        CleverHansAttack(name="c", attack=_never, needs=LABEL),
    ):
        assert " at 0x" not in repr(attack)
