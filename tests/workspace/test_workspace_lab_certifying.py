"""What is signed of a vote of partitions: the numbers that were counted, and what they rest on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.poisoning import MAX_BARS, MAX_SIZES, Poisoning
from keepstone.evidence.statement import open_payload
from keepstone.identity.signing import SigningKey
from keepstone.lab.defences.partition import Partition
from keepstone.lab.problem import invalid
from keepstone.lab.samples import Samples
from keepstone.workspace.lab.attacking import Wanted, report_digest
from keepstone.workspace.lab.certifying import require_statable, state, stated_sizes, strictest
from keepstone.workspace.lab.hardening_data import Bar, partition
from keepstone.workspace.lab.hardening_files import write_vote
from keepstone.workspace.lab.training import Given, Training, open_training
from tests import trainers

KEY = SigningKey.generate()
SUBJECT = Subject("vote", Digest("ab" * 32))
DATA, HELD_OUT = Digest("da" * 32), Digest("d0" * 32)


def training(train: str = "means", held_out: int = 150) -> Training:
    data = Samples(*trainers.blobs(300, 0), DATA)
    rows = Samples(*trainers.blobs(held_out, 1), HELD_OUT)
    return open_training(Given(f"tests.trainers:{train}", data, rows, Wanted()), 3)


def said(made: Training, *bars: Bar, **given: Any) -> tuple[Poisoning, dict[str, Any]]:
    """What is stated, read back as whoever gets it reads it; and the JSON that was told."""
    found = partition(made, Partition(5, 3), bars, attacked=4, **given)
    report = found.to_dict()
    told = {"report": report, "now": 1_000, "lifetime_ms": 500}
    statement = open_payload(state(SUBJECT, found, made, bars, KEY, **told))
    assert statement.subject == SUBJECT
    assert isinstance(statement.predicate, Poisoning)
    return statement.predicate, report


def test_what_was_counted_is_what_is_stated() -> None:
    bars = Bar(1, 0.5), Bar(2, 0.1), Bar(1, 0.6)
    predicate, report = said(training(), *bars)
    assert (predicate.verdict, predicate.defence) == ("pass", "partition-aggregation")
    assert (predicate.partitions, predicate.seed, predicate.attacked) == (5, 3, 4)
    assert predicate.sufficient
    assert (predicate.data, predicate.held_out) == (DATA, HELD_OUT)
    assert predicate.rests_on == (DATA, HELD_OUT)
    assert (predicate.made.created, predicate.made.expires) == (1_000, 1_500)
    assert [(one.poisons, one.at_least) for one in predicate.enough] == [(1, 0.6), (2, 0.1)]
    assert predicate.report == report_digest(report)
    assert predicate.trainings == report["trainings"]
    attacked = report["reattacked"]
    assert (predicate.certificates, predicate.broken) == (attacked["certificates"], 0)
    for one, told in zip(predicate.within, report["certified_accuracy"], strict=True):
        assert one.poisons == told["size"]
        ends = (one.certified.value, one.certified.low, one.certified.high)
        assert ends == pytest.approx([told[end] for end in ("value", "low", "high")], abs=1e-6)
    assert predicate.undefended.value == pytest.approx(report["undefended"]["value"], abs=1e-6)


def test_a_bar_beyond_what_is_told_is_stated_too() -> None:
    predicate, _ = said(training(), Bar(2, 0.1), most=1)
    assert [one.poisons for one in predicate.within] == [0, 1, 2]
    predicate, _ = said(training(), Bar(4, 0.1))
    assert (predicate.verdict, predicate.within[-1].certified.value) == ("fail", 0.0)


def test_what_does_not_count_is_stated_as_that() -> None:
    predicate, _ = said(training(held_out=60))
    assert (predicate.verdict, predicate.sufficient) == ("insufficient", False)
    predicate, _ = said(training("moody"))
    assert (predicate.verdict, predicate.sufficient) == ("invalid", True)


def test_a_statement_has_room_for_what_matters() -> None:
    assert stated_sizes((0, 1, 2), set()) == (0, 1, 2)
    assert stated_sizes((0, 1), {5, 1}) == (0, 1, 5)
    sizes, bars = tuple(range(3_000)), {7, 1_234, 9_999}
    kept = stated_sizes(sizes, bars)
    assert len(kept) == MAX_SIZES
    assert list(kept) == sorted(set(kept))
    assert {0, 2_999} | bars <= set(kept)
    assert max(more - one for one, more in pairwise(kept[:-1])) < 60
    many = stated_sizes(sizes, set(range(1, MAX_BARS + 1)))
    assert len(many) == MAX_SIZES


def test_the_strictest_bar_counts() -> None:
    assert strictest((Bar(2, 0.5), Bar(1, 0.2), Bar(2, 0.7), Bar(2, 0.6))) == (
        Bar(1, 0.2),
        Bar(2, 0.7),
    )


def test_what_could_not_be_stated_is_refused_before_anything_is_trained() -> None:
    bars = tuple(Bar(poisons, 0.5) for poisons in range(MAX_BARS + 1))
    require_statable(Path("vote.skops"), (*bars[1:], *bars[1:]))
    for path, given, code in (
        (None, (), "defence.no_file"),
        (Path("vote.skops"), bars, "defence.too_many_bars"),
    ):
        with pytest.raises(InputError) as caught:
            require_statable(path, given)
        assert caught.value.code == code


@pytest.mark.slow
def test_who_repeats_the_training_speaks_of_the_same_file(
    need_module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    need_module("skops")
    made, again = training("tree"), training("tree")
    # Both are kept: nothing of the second lies in memory where the first was.
    votes = [
        Partition(5, 3).fit(each.train, each.x, each.y, each.domain, len(each.classes))
        for each in (made, again)
    ]
    one = write_vote(tmp_path / "one.skops", votes[0], made)
    other = write_vote(tmp_path / "other.skops", votes[1], again)
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.digest == other.digest


def test_a_certificate_that_broke_is_stated_as_broken() -> None:
    made = training()
    found = partition(made, Partition(5, 3), attacked=4)
    one = found.attack.found[0]
    attack = replace(found.attack, found=(replace(one, broken=2), *found.attack.found[1:]))
    certificates = replace(
        found.certificates, problems=(invalid("defence.certificate_broken", ""),)
    )
    broken = replace(found, attack=attack, certificates=certificates)
    told: dict[str, Any] = {"report": broken.to_dict(), "now": 1_000, "lifetime_ms": 500}
    predicate = open_payload(state(SUBJECT, broken, made, (), KEY, **told)).predicate
    assert isinstance(predicate, Poisoning)
    assert (predicate.verdict, predicate.broken) == ("invalid", 2)
