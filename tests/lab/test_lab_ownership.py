"""Fingerprints: what they find, what they do not accuse, and what a commitment binds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.contract.validate import Array
from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.lab.ownership.asking import answers_to, ask_all
from keepstone.lab.ownership.calibration import matches_of
from keepstone.lab.ownership.commitment import (
    Opening,
    commitments,
    read_openings,
    require_committed,
)
from keepstone.lab.ownership.crossings import Answer, Crossing, Kind, find_crossings
from keepstone.lab.ownership.judge import (
    ALPHA,
    POWER,
    Null,
    Outcome,
    at_least,
    calibrate,
    judge,
    power_of,
    require_enough,
    threshold,
    wilson,
)
from keepstone.lab.ownership.secret import Secret
from keepstone.lab.ownership.space import Space

WIDTH = 12
SECRET = Secret(bytes(range(32)))
MARGIN = 0.1


def contract(datatype: DType = DType.FP32, **given: Any) -> ModelContract:
    bounds = {"low": -4.0, "high": 4.0} | given
    return ModelContract(
        (TensorSpec("x", datatype, (-1, WIDTH), **bounds),),
        (TensorSpec("label", DType.INT64, (-1,)),),
    )


SPACE = Space.of(contract())


class Net:
    """A random two-layer network: a model of its own for each seed."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.first = draw.normal(size=(WIDTH, 24))
        self.second = draw.normal(size=(24, 5))

    def scores(self, rows: Array) -> Array:
        return np.asarray(np.tanh(rows @ self.first) @ self.second)

    def labels(self, rows: Array) -> list[Answer]:
        return [str(label) for label in self.scores(rows).argmax(axis=1)]

    def numbers(self, rows: Array) -> list[Answer]:
        return self.scores(rows)[:, 0].tolist()

    def changed(self, part: float, seed: int = 0) -> Net:
        draw, other = np.random.default_rng(seed), Net(0)
        other.first = self.first + part * draw.normal(size=self.first.shape)
        other.second = self.second + part * draw.normal(size=self.second.shape)
        return other


def rate(matches: Sequence[bool | None]) -> float:
    return sum(one is True for one in matches) / len(matches)


OWNER = Net(1)
LABELS = find_crossings(OWNER.labels, SPACE, SECRET, 100, MARGIN)
NUMBERS = find_crossings(OWNER.numbers, SPACE, SECRET, 100, MARGIN)


# Questions


def test_draws_are_secret_ranged_and_typed() -> None:
    rows = SPACE.draw(SECRET, 300)
    assert rows.shape == (300, WIDTH)
    assert rows.min() >= -4
    assert rows.max() <= 4
    assert (rows == rows.astype(np.float32)).all()
    assert (SPACE.draw(SECRET, 300) == rows).all()
    # Every third is noise, which nobody draws twice; extremes of few numbers may coincide.
    assert not (SPACE.draw(Secret(bytes(32)), 300) == rows)[0::3].any()
    whole = Space.of(contract(DType.INT8)).draw(SECRET, 90)
    assert (whole == np.rint(whole)).all()
    assert set(np.unique(whole)) <= set(range(-4, 5))


def test_a_range_for_each_feature_is_kept() -> None:
    low, high = tuple(float(n) for n in range(WIDTH)), tuple(float(n + 1) for n in range(WIDTH))
    rows = Space.of(contract(low=low, high=high)).draw(SECRET, 60)
    assert (rows >= np.array(low)).all()
    assert (rows <= np.array(high)).all()


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"inputs": (TensorSpec("x", DType.FP32, (-1, 3)),)}, "fingerprint.no_range"),
        ({"inputs": (TensorSpec("x", DType.FP32, (-1, 3), 1.0, 1.0),)}, "fingerprint.no_range"),
        ({"inputs": (TensorSpec("x", DType.FP32, (3,), 0.0, 1.0),)}, "fingerprint.unsupported"),
        ({"inputs": (TensorSpec("x", DType.FP32, (-1, -1), 0.0, 1.0),)}, "fingerprint.unsupported"),
        ({"inputs": (TensorSpec("x", DType.BYTES, (-1, 3)),)}, "fingerprint.unsupported"),
        (
            {"inputs": (TensorSpec("x", DType.FP32, (-1, 1 << 21), 0.0, 1.0),)},
            "fingerprint.unsupported",
        ),
        (
            {"inputs": tuple(TensorSpec(n, DType.FP32, (-1, 3), 0.0, 1.0) for n in "ab")},
            "fingerprint.unsupported",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(changed: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        Space.of(replace(contract(), **changed))
    assert caught.value.code == code


def test_every_crossing_is_a_change_of_the_owners_answer() -> None:
    for one in LABELS:
        assert tuple(OWNER.labels(one.rows)) == one.answers
        assert one.answers[0] != one.answers[1]
        assert one.matches(OWNER.labels(one.rows)) is True
    for one in NUMBERS:
        below, middle, above = OWNER.numbers(one.rows)
        assert float(below or 0) < float(middle or 0) < float(above or 0)


def test_models_without_changes_or_answers_have_no_fingerprint() -> None:
    cases: tuple[tuple[Callable[[Array], list[Answer]], str], ...] = (
        (lambda rows: ["same"] * len(rows), "fingerprint.flat_model"),
        (lambda rows: [0.5] * len(rows), "fingerprint.flat_model"),
        (lambda rows: [None] * len(rows), "fingerprint.unanswered"),
        (lambda rows: [], "fingerprint.unanswered"),
    )
    for ask, code in cases:
        with pytest.raises(KeepstoneError) as caught:
            find_crossings(ask, SPACE, SECRET, 20, MARGIN)
        assert caught.value.code == code


# Suspects


def test_a_stolen_model_matches_and_an_independent_one_does_not() -> None:
    """The separation that everything else rests on; `bench/fingerprint.py` measures real models."""
    for kind, crossings, read in (
        (Kind.LABEL, LABELS, Net.labels),
        (Kind.NUMBER, NUMBERS, Net.numbers),
    ):
        others = [
            rate(ask_all(_ask(Net(seed), read), crossings, SECRET, 1, 64)) for seed in range(9, 39)
        ]
        copied = rate(ask_all(_ask(OWNER, read), crossings, SECRET, 1, 64))
        nudged = rate(ask_all(_ask(OWNER.changed(0.05), read), crossings, SECRET, 1, 64))
        assert copied == 1
        assert nudged > 0.8
        assert max(others) < 0.5
        null = calibrate([(round(one * 100), 100) for one in others[:5]], kind)
        for one in others[5:]:
            assert judge(_of(one), null).outcome is Outcome.NO_MATCH
        assert judge(_of(nudged), null).outcome is Outcome.MATCH
        # Without independent models the assumption still tells them apart.
        assert judge(_of(nudged), calibrate([], kind)).outcome is Outcome.MATCH


def _ask(net: Net, read: Callable[[Net, Array], list[Answer]]) -> Callable[[Array], list[Answer]]:
    return lambda rows: read(net, rows)


def _of(share: float, count: int = 100) -> list[bool | None]:
    return [number < round(share * count) for number in range(count)]


def test_a_rescaled_regressor_still_matches() -> None:
    def rescaled(rows: Array) -> list[Answer]:
        return [3 * float(one or 0) - 7 for one in OWNER.numbers(rows)]

    assert rate(ask_all(rescaled, NUMBERS, SECRET, 1, 64)) == 1


def test_a_suspect_that_guesses_is_not_accused() -> None:
    """Random labels change between the two rows almost always, but seldom to the right ones."""
    draw = np.random.default_rng(3)

    def guess(rows: Array) -> list[Answer]:
        return [str(label) for label in draw.integers(0, 5, len(rows))]

    found = judge(ask_all(guess, LABELS, SECRET, 1, 64), calibrate([], Kind.LABEL))
    assert found.outcome is Outcome.NO_MATCH
    assert found.matches < 20


def test_rows_that_belong_together_are_asked_apart_and_in_another_order_each_time() -> None:
    asked: list[list[bytes]] = [[], []]
    for turn in (0, 1):

        def ask(rows: Array, turn: int = turn) -> list[Answer]:
            asked[turn] += [row.tobytes() for row in rows]
            return OWNER.labels(rows)

        ask_all(ask, LABELS, SECRET, turn, 16)
    assert sorted(asked[0]) == sorted(asked[1])
    assert asked[0] != asked[1]
    places = [[asked[0].index(row.tobytes()) for row in one.rows] for one in LABELS]
    apart = [abs(first - second) for first, second in places]
    assert sum(apart) / len(apart) > len(LABELS) / 3


def test_a_throttled_suspect_is_insufficient_however_it_answered() -> None:
    calls: list[int] = []

    def tired(rows: Array) -> list[Answer]:
        calls.append(len(rows))
        return OWNER.labels(rows) if len(calls) < 3 else [None] * len(rows)

    found = judge(ask_all(tired, LABELS, SECRET, 1, 20), calibrate([], Kind.LABEL))
    assert found.outcome is Outcome.INSUFFICIENT
    # It is left alone as soon as it answers nothing.
    assert len(calls) == 3

    def picky(rows: Array) -> list[Answer]:
        return [a if n % 3 else None for n, a in enumerate(OWNER.labels(rows))]

    assert judge(ask_all(picky, LABELS, SECRET, 1, 20), calibrate([], Kind.LABEL)).outcome is (
        Outcome.INSUFFICIENT
    )


def test_answers_of_another_kind_are_no_answers() -> None:
    """Neither a proof that there was no theft, nor a way to make the check fail."""
    for crossings, answer in ((LABELS, 0.5), (NUMBERS, "cat"), (NUMBERS, "0.5")):
        found = ask_all(_always(answer), crossings, SECRET, 1, 64)
        assert found == [None] * len(crossings)
        assert judge(found, Null(0.25, 0)).outcome is Outcome.INSUFFICIENT


def _always(answer: Answer) -> Callable[[Array], list[Answer]]:
    return lambda rows: [answer] * len(rows)


@pytest.mark.parametrize(
    ("crossings", "ask"),
    [
        (LABELS, lambda rows: ["dog" if row[0] > 0 else "cat" for row in rows]),
        (LABELS, lambda rows: [float(row[0]) for row in rows]),
        (LABELS, lambda rows: ["1"] * len(rows)),
        # Two of the owner's five labels: what it cannot answer tells nothing.
        (LABELS, lambda rows: ["1" if row[0] > 0 else "0" for row in rows]),
        (NUMBERS, lambda rows: ["1" if row[0] > 0 else "0" for row in rows]),
        (NUMBERS, OWNER.labels),
        (NUMBERS, lambda rows: [0.5] * len(rows)),
        (NUMBERS, lambda rows: [0.5 if row[0] > 0 else 0.0 for row in rows]),
    ],
)
def test_a_null_is_not_measured_on_a_model_that_cannot_match(crossings: Any, ask: Any) -> None:
    """Else it would be next to nothing, and honest models would be accused."""
    given = answers_to(ask, crossings, SECRET, 0, 64)
    with pytest.raises(InputError) as caught:
        matches_of("theirs.onnx", crossings, given)
    assert caught.value.code == "fingerprint.other_answers"


def test_a_null_is_measured_over_what_the_model_could_show() -> None:
    for crossings, read in ((LABELS, Net.labels), (NUMBERS, Net.numbers)):
        given = answers_to(_ask(Net(7), read), crossings, SECRET, 0, 64)
        shown = sum(one.matches(each) is True for one, each in zip(crossings, given, strict=True))
        assert matches_of("theirs.onnx", crossings, given) == (shown, len(crossings))
    given = answers_to(lambda rows: ["3" if a == "4" else a for a in OWNER.labels(rows)],
                       LABELS, SECRET, 0, 64)  # fmt: skip
    without = sum("4" not in one.answers for one in LABELS)
    assert 50 <= without < 100
    assert matches_of("theirs.onnx", LABELS, given) == (without, without)


# Statistics


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_the_binomial_tail_is_exact(count: int, rate: float) -> None:
    for matches in (0, 1, count // 2, count):
        exact = sum(
            math.comb(count, k) * rate**k * (1 - rate) ** (count - k)
            for k in range(matches, count + 1)
        )
        assert at_least(matches, count, rate) == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_false_matches_are_as_rare_as_is_said() -> None:
    """The threshold is the least that keeps the null below alpha."""
    for count, rate in ((150, 0.5), (150, 0.1), (40, 0.3)):
        needed = threshold(count, rate)
        assert at_least(needed, count, rate) <= ALPHA < at_least(needed - 1, count, rate)
    assert threshold(5, 0.5) == 6


@pytest.mark.parametrize(
    ("found", "null", "outcome"),
    [
        ([True] * 150, Null(0.5, 0), Outcome.MATCH),
        ([False] * 150, Null(0.5, 0), Outcome.NO_MATCH),
        ([True] * 75 + [False] * 75, Null(0.5, 0), Outcome.NO_MATCH),
        ([True] * 75 + [False] * 75, Null(0.1, 4), Outcome.MATCH),
        ([True] * 5, Null(0.25, 0), Outcome.INSUFFICIENT),
        ([False] * 10, Null(0.5, 0), Outcome.INSUFFICIENT),
        ([None] * 150, Null(0.5, 0), Outcome.INSUFFICIENT),
        ([True] * 130 + [None] * 20, Null(0.1, 4), Outcome.INSUFFICIENT),
        ([], Null(0.5, 0), Outcome.INSUFFICIENT),
    ],
)
def test_a_verdict_says_no_more_than_its_numbers(
    found: list[bool | None], null: Null, outcome: Outcome
) -> None:
    judged = judge(found, null)
    assert judged.outcome is outcome
    assert 0 <= judged.p_value <= 1
    assert 0 <= judged.power <= 1


def test_the_null_is_the_worst_of_the_independent_models_or_assumed() -> None:
    assert calibrate([], Kind.LABEL) == Null(0.25, 0)
    assert calibrate([], Kind.NUMBER) == Null(0.5, 0)
    assert calibrate([], Kind.LABEL).how == "assumed"
    measured = calibrate([(5, 150), (15, 150)], Kind.LABEL)
    assert measured.models == 2
    assert measured.rate == pytest.approx(wilson(15, 150, 2.326)[1])
    assert measured.rate > 15 / 150
    with pytest.raises(InputError) as caught:
        calibrate([(5, 150), (149, 150)], Kind.NUMBER)
    assert caught.value.code == "fingerprint.weak"
    assert wilson(0, 0) == (0, 1)


@pytest.mark.parametrize(("rate", "least"), [(0.5, 14), (0.65, 22), (0.25, 7)])
def test_fewer_crossings_than_could_ever_match_are_refused(rate: float, least: int) -> None:
    null = Null(rate, 0)
    require_enough(least, null)
    assert judge([True] * least, null).outcome is Outcome.MATCH
    with pytest.raises(InputError) as caught:
        require_enough(least - 1, null)
    assert caught.value.code == "fingerprint.too_few"
    assert f"it takes {least}." in str(caught.value)


def test_the_power_that_is_said_is_the_one_that_a_verdict_needs() -> None:
    for count in (20, 40):
        found = judge([False] * count, Null(0.25, 0))
        assert found.power == power_of(count, Null(0.25, 0))
        assert (found.power >= POWER) == (found.outcome is Outcome.NO_MATCH)
    assert power_of(20, Null(0.25, 0)) < POWER


# Commitments

OPENINGS = tuple(Opening(at, one, SECRET.salt(at)) for at, one in enumerate(LABELS[:5]))


def test_what_was_committed_opens_and_nothing_else_does() -> None:
    committed = commitments(OPENINGS)
    require_committed(OPENINGS, committed)
    require_committed(OPENINGS[2:3], committed)
    one = OPENINGS[2]
    rows = one.crossing.rows.copy()
    rows[0, 0] = np.nextafter(rows[0, 0], 9)
    for forged in (
        replace(one, number=3),
        replace(one, number=99),
        replace(one, salt=bytes(32)),
        replace(one, crossing=Crossing(rows, one.crossing.answers)),
        replace(one, crossing=Crossing(one.crossing.rows, one.crossing.answers[::-1])),
        replace(one, crossing=Crossing(one.crossing.rows[::-1].copy(), one.crossing.answers)),
    ):
        with pytest.raises(VerificationError) as caught:
            require_committed((forged,), committed)
        assert caught.value.code == "fingerprint.changed"


def test_a_commitment_hides_a_guessed_crossing() -> None:
    """Whoever guesses the question and the answer cannot confirm it without the salt."""
    one = OPENINGS[0]
    guesses = {replace(one, salt=bytes([n]) * 32).commitment for n in range(256)}
    assert one.commitment not in guesses
    assert len({opening.salt for opening in OPENINGS}) == len(OPENINGS)


def test_openings_read_back() -> None:
    read = read_openings([one.to_dict() for one in OPENINGS], Kind.LABEL, WIDTH)
    assert commitments(read) == commitments(OPENINGS)
    with_numbers = tuple(Opening(at, one, SECRET.salt(at)) for at, one in enumerate(NUMBERS[:3]))
    read = read_openings([one.to_dict() for one in with_numbers], Kind.NUMBER, WIDTH)
    assert commitments(read) == commitments(with_numbers)


@pytest.mark.parametrize(
    "change",
    [
        {"number": -1},
        {"number": "0"},
        {"shape": [2, WIDTH + 1]},
        {"shape": [1 << 40, WIDTH]},
        {"rows": "AAAA"},
        {"rows": "*"},
        {"rows": "//////////8="},
        {"answers": ["1"]},
        {"answers": ["1", 2]},
        {"answers": ["1", "x" * 300]},
        {"salt": "00"},
        {"salt": "zz" * 32},
        {"more": 1},
    ],
)
def test_a_broken_opening_is_refused(change: dict[str, Any]) -> None:
    for value in (
        [OPENINGS[0].to_dict() | change],
        [],
        {},
        None,
        [None],
        [OPENINGS[0].to_dict()] * 2,
    ):
        with pytest.raises(InputError) as caught:
            read_openings(value, Kind.LABEL, WIDTH)
        assert caught.value.code == "fingerprint.malformed"
