"""Poison that knows the partitions: it has teeth, and no certificate that holds breaks on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from types import ModuleType
from typing import Any, Protocol
from zipfile import ZipFile

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import Certificates
from keepstone.lab.defences.partition import Aggregate, Partition, leaders
from keepstone.lab.defences.partition_attack import Reattack, reattack
from keepstone.lab.domain import Domain
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability
from keepstone.lab.training import Train

PLANE = Domain.of((2,), -5.0, 5.0, "float64")
K = 7
MADE = Partition(K)


@dataclass
class Nearest:
    """The label of the nearest row that it was trained on."""

    x: Array
    y: Array
    classes: int = 3
    domain: Domain = PLANE
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        far = ((rows[:, None] - self.x[None]) ** 2).sum(axis=2)
        return Answers(self.y[far.argmin(axis=1)])


def nearest(x: Array, y: Array, seed: int) -> Nearest:
    return Nearest(x, y)


def clouds(count: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = np.array([[0, 2], [2, -1], [-2, -1]])[y] + rng.normal(0, 0.8, (count, 2))
    return x.clip(-5, 5), y


LEARNT, TESTED = clouds(210, 0), clouds(120, 1)


def fitted(train: Train = nearest) -> tuple[Aggregate, Certificates]:
    aggregate = MADE.fit(train, *LEARNT, PLANE, 3)
    return aggregate, aggregate.certify(*TESTED)


def attacked(
    train: Train = nearest, sizes: tuple[int, ...] = (1, 2, 3, 4), **given: Any
) -> Reattack:
    aggregate, certificates = fitted(train)
    certificates = given.pop("certificates", certificates)
    return reattack(MADE, aggregate, train, LEARNT, TESTED, certificates, sizes, **given)


def test_what_is_certified_stands_and_what_is_not_falls() -> None:
    found = attacked(rows=30)
    assert found.problems == ()
    _, certificates = fitted()
    assert {one.way for one in found.found} == {"insertions", "label-flips"}
    for one in found.found:
        assert one.broken == 0
        # What an attack leaves is no less than what is certified, for any row that it may draw.
        assert one.left.high >= certificates.accuracy_at(one.poisons).value
        assert one.accuracy.value >= certificates.accuracy_at(one.poisons).value
        assert (one.certified > 0) == (certificates.radii.max() >= one.poisons)
    left = {one.poisons: one.left.value for one in found.found if one.way == "insertions"}
    assert left[1] >= left[2] >= left[3]
    # Four of seven votes turn every leader, where each takes a row beside the one asked for.
    assert left[4] == 0


def test_it_spends_no_more_poisons_than_it_may() -> None:
    parts = MADE.divide(*LEARNT)
    known = [set(map(tuple, np.column_stack(part).tolist())) for part in parts]
    changed = []

    def watching(x: Array, y: Array, seed: int) -> Nearest:
        rows = set(map(tuple, np.column_stack([x, y]).tolist()))
        place = max(range(K), key=lambda at: len(rows & known[at]))
        new = rows - known[place]
        # Each is in the partition that its hash says, and not in the others.
        assert (MADE.places(np.array([row[:2] for row in rows])) == place).all()
        changed.append((len(new), len(known[place] - rows)))
        return Nearest(x, y)

    for size in (1, 3, 9):
        changed.clear()
        found = attacked(watching, (size,), rows=8)
        assert len(changed) == found.trainings + K + 1
        assert max(new for new, _ in changed) <= size
        # A row that is inserted takes none out; one whose label is flipped is out and in.
        assert {out for _, out in changed} <= {0, *range(size + 1)}
        assert any(new and not out for new, out in changed)
        assert any(new == out > 0 for new, out in changed)


def test_a_certificate_that_says_too_much_is_invalid() -> None:
    _, certificates = fitted()
    boasting = replace(certificates, radii=certificates.radii + 1)
    found = attacked(certificates=boasting, sizes=(int(boasting.radii.max()),), rows=30)
    assert {one.code for one in found.problems} == {"defence.certificate_broken"}
    assert {one.effect for one in found.problems} == {Verdict.INVALID}
    said = [one.message for one in found.problems]
    broken = [one for one in found.found if one.broken]
    assert broken
    for one in broken:
        assert any(text.startswith(f"{one.broken} of {one.certified} ") for text in said)


def test_a_training_that_drifts_is_found_where_nothing_was_poisoned() -> None:
    """The first trainings repeat themselves, so that the check beforehand sees nothing."""
    calls: list[int] = []

    def drifting(x: Array, y: Array, seed: int) -> Nearest:
        calls.append(1)
        return Nearest(x, y if len(calls) <= K + 1 else (y + 1) % 3)

    found = attacked(drifting, (1,), rows=3)
    assert "defence.not_deterministic" in {one.code for one in found.problems}


def test_an_attack_is_the_same_for_a_seed() -> None:
    one, other, third = (attacked(sizes=(1, 2), rows=12, seed=seed) for seed in (1, 1, 2))
    assert one == other
    assert one != third


def test_a_row_that_is_wrong_already_costs_nothing() -> None:
    aggregate, _ = fitted()
    wrong = (aggregate.predict(TESTED[0]).labels + 1) % 3
    tested = TESTED[0], wrong
    certificates = aggregate.certify(*tested)
    found = reattack(MADE, aggregate, nearest, LEARNT, tested, certificates, (1,), rows=5)
    assert [one.left.value for one in found.found] == [0, 0]
    # No certificate says anything of these rows, so none had to be attacked.
    assert found.problems == ()


def test_certificates_that_nobody_attacked_do_not_count() -> None:
    aggregate, certificates = fitted()
    labels = (certificates.labels + 1) % 3
    # One alone is right, which is neither drawn nor among those that are nearest to breaking.
    far = int(certificates.radii.argmax())
    labels[far] = certificates.labels[far]
    tested = TESTED[0], labels
    certificates = aggregate.certify(*tested)
    found = reattack(MADE, aggregate, nearest, LEARNT, tested, certificates, (1,), rows=1)
    assert [one.certified for one in found.found] == [0, 0]
    assert [one.code for one in found.problems] == ["defence.not_attacked"]
    assert found.problems[0].effect is Verdict.INSUFFICIENT


def test_ballots_are_what_votes_count() -> None:
    aggregate, _ = fitted()
    ballots = aggregate.ballots(TESTED[0])
    assert ballots.shape == (K, 120)
    assert (
        aggregate.votes(TESTED[0]) == np.stack([(ballots == c).sum(0) for c in range(3)], 1)
    ).all()
    silent = Aggregate(MADE, PLANE, 3, [None, 2, None], (0, 3, 0))
    assert (silent.ballots(TESTED[0])[[0, 2]] == UNANSWERED).all()
    assert (silent.votes(TESTED[0]) == [0, 0, 1]).all()


# A vote as one estimator


class Need(Protocol):
    def __call__(self, name: str) -> ModuleType: ...


@pytest.mark.parametrize("labels", [np.array([4, 7, 9]), np.array(["ant", "bee", "cat"])])
def test_one_estimator_leads_as_the_aggregate_ties_included(
    need_module: Need, labels: Array
) -> None:
    need_module("sklearn")
    from keepstone.lab.defences.estimators import vote

    rows = np.zeros((1, 2))
    for votes in product((0, 1, 2, None), repeat=4):
        if set(votes) == {None}:
            with pytest.raises(InputError, match=r"defence\.unwritable"):
                vote(votes, labels)
            continue
        aggregate = Aggregate(Partition(4), PLANE, 3, votes, (1, 1, 1, 1))
        expected = leaders(aggregate.votes(rows))[0]
        assert vote(votes, labels).predict(rows).tolist() == labels[expected].tolist()


def test_what_is_no_estimator_is_refused(need_module: Need) -> None:
    need_module("sklearn")
    from keepstone.lab.defences.estimators import vote

    with pytest.raises(InputError, match=r"defence\.unwritable"):
        vote([Nearest(*LEARNT), 1], np.arange(3))


def test_what_the_vault_would_not_open_is_not_written(need_module: Need) -> None:
    need_module("skops")
    from sklearn.base import BaseEstimator, ClassifierMixin

    from keepstone.lab.defences.estimators import dump

    class Own(ClassifierMixin, BaseEstimator):
        pass

    with pytest.raises(InputError, match=r"defence\.unwritable"):
        dump(Own())


def test_the_same_estimator_is_the_same_bytes_whenever_and_wherever(need_module: Need) -> None:
    need_module("skops")
    import skops.io
    from sklearn.tree import DecisionTreeClassifier

    from keepstone.lab.defences.estimators import dump

    made = [DecisionTreeClassifier(random_state=0).fit(*LEARNT) for _ in range(2)]
    # Called as the format calls what is its own.
    note = {"file": "1.npy", "__id__": 5, "schema.json": [1, 2]}
    for one in made:
        one.note = dict(note)
    data = dump(made[0])
    assert data == dump(made[1])
    assert data != dump(DecisionTreeClassifier(random_state=0).fit(TESTED[0], TESTED[1]))
    trusted = skops.io.get_untrusted_types(data=data)
    read = skops.io.loads(data, trusted=trusted)
    assert read.note == note
    assert (read.predict(TESTED[0]) == made[0].predict(TESTED[0])).all()
    # No member and no object is called by where it lay.
    with ZipFile(BytesIO(data)) as archive:
        assert {one.date_time[0] for one in archive.infolist()} == {1980}
        assert not [name for name in archive.namelist() if len(name) > len("schema.json")]
