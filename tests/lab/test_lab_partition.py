"""Partition aggregation: no poison within a certificate changes a prediction."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.lab.defences.partition import Aggregate, Partition, leaders
from keepstone.lab.problem import Verdict
from tests.lab.fakes import LINE, Nearest, train


def test_brute_force_breaks_no_certificate() -> None:
    """Every way to take out or put in as many rows as the certificate allows."""
    x = np.arange(8.0)[:, None]
    y = np.array([0, 0, 0, 0, 0, 1, 2, 1])
    asked = np.linspace(0, 9, 7)[:, None]
    made = Partition(5)
    found = made.fit(train, x, y, LINE, 3).certify(asked, np.zeros(7, int))
    assert found.radii.max() >= 1
    rows = [(float(row), int(label)) for row, label in zip(x[:, 0], y, strict=True)]
    poisons = [(value, label) for value in (0.5, 2.25, 3.5, 4.75, 6.5) for label in (0, 1, 2)]
    steps = [("out", at) for at in range(len(rows))] + [("in", at) for at in range(len(poisons))]
    tried = 0
    for count in range(1, int(found.radii.max()) + 1):
        for chosen in combinations(steps, count):
            out = {at for way, at in chosen if way == "out"}
            kept = [row for at, row in enumerate(rows) if at not in out]
            kept += [poisons[at] for way, at in chosen if way == "in"]
            given = np.array([[value] for value, _ in kept]), np.array([label for _, label in kept])
            labels = made.fit(train, *given, LINE, 3).predict(asked).labels
            held = found.radii >= count
            assert (labels[held] == found.labels[held]).all()
            tried += 1
    assert tried > 20


def test_a_flipped_label_is_one_poison() -> None:
    x = np.arange(9.0)[:, None]
    y = np.arange(9) % 3
    made = Partition(4)
    before = made.fit(train, x, y, LINE, 3).votes(x)
    for at in range(9):
        flipped = y.copy()
        flipped[at] = (y[at] + 1) % 3
        after = made.fit(train, x, flipped, LINE, 3).votes(x)
        assert (np.abs(after - before).sum(axis=1) <= 2).all()


def test_the_order_of_the_rows_changes_nothing() -> None:
    x = np.repeat(np.arange(6.0), 2)[:, None]
    y = np.tile([0, 1], 6)
    order = np.random.default_rng(0).permutation(12)
    one, other = (Partition(3).fit(train, x[at], y[at], LINE, 3) for at in (np.arange(12), order))
    asked = LINE.draw(50)
    assert (one.votes(asked) == other.votes(asked)).all()


def test_a_lead_is_exactly_what_it_takes_to_change_the_leader() -> None:
    """Every vote of three classes: turned to any rival, `lead` voters change nothing, and one more
    is enough for some rival."""
    for votes in product(range(6), repeat=3):
        before = np.array([votes])
        best, lead = int(leaders(before)[0][0]), int(leaders(before)[1][0])
        changed = []
        for rival in {0, 1, 2} - {best}:
            for turned in (lead, lead + 1):
                if turned > votes[best]:
                    continue
                after = before.copy()
                after[0, best] -= turned
                after[0, rival] += turned
                now = int(leaders(after)[0][0])
                assert turned > lead or now == best
                changed.append(now != best)
        assert any(changed) or lead == votes[best]


@given(st.lists(st.integers(0, 12), min_size=2, max_size=5), st.data())
def test_turned_votes_change_no_leader_within_its_lead(
    votes: list[int], data: st.DataObject
) -> None:
    before = np.array([votes])
    best, lead = leaders(before)
    after = before.copy()
    for _ in range(int(lead[0])):
        after[0, data.draw(st.sampled_from(np.flatnonzero(after[0]).tolist()))] -= 1
        after[0, data.draw(st.integers(0, len(votes) - 1))] += 1
    assert leaders(after)[0][0] == best[0]


def test_a_partition_of_one_class_votes_for_it_and_an_empty_one_does_not() -> None:
    found = Partition(64).fit(train, np.arange(4.0)[:, None], np.array([1, 1, 1, 1]), LINE, 3)
    assert found.votes(np.zeros((1, 1))).tolist() == [[0, len({*np.flatnonzero(found.sizes)}), 0]]


def test_training_that_does_not_repeat_is_invalid() -> None:
    calls: list[int] = []

    def moody(x: Array, y: Array, seed: int) -> Nearest:
        calls.append(1)
        return Nearest(x, (y + len(calls) % 2) % 3)

    x = np.arange(120.0)[:, None] * 9 / 120
    found = Partition(3).fit(moody, x, np.arange(120) % 3, LINE, 3)
    judged = found.certify(x, np.arange(120) % 3)
    assert judged.verdict is Verdict.INVALID
    assert "defence.not_deterministic" in [one.code for one in judged.problems]
    assert Partition(3).fit(train, x, np.arange(120) % 3, LINE, 3).problems == ()


def test_a_certificate_against_poison_says_what_it_rests_on() -> None:
    x = np.arange(120.0)[:, None] * 9 / 120
    y = (x[:, 0] > 4).astype(int)
    aggregate: Aggregate = Partition(5).fit(train, x, y, LINE, 3)
    told = aggregate.certify(x, y).to_dict([0, 1, 2])
    assert told["unit"] == "poisons"
    assert told["failure"] == 0
    assert told["parameters"]["hash"] == "sha256"
    assert sum(told["parameters"]["rows"]) == 120
    values = [one["value"] for one in told["certified_accuracy"]]
    assert values == sorted(values, reverse=True)
    assert values[2] > 0.5
    assert told["verdict"] == "pass"
