"""Telling less is worth what the best copy and the members say, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.lab.attacks.extraction.catalogue import NAMES, attacks_with
from keepstone.lab.attacks.extraction.fidelity import HeldOut
from keepstone.lab.defences.output_evaluation import Copied, Copy, Members, audited, copied, judged
from keepstone.lab.defences.output_hardening import Hardened, LabelsOnly, RoundedScores, TopScores
from keepstone.lab.domain import Domain
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.port import Answers, Capability
from tests.lab.fakes import Linear

DOMAIN = Domain.of((6,), -1.0, 1.0, "float64")
SERVED = frozenset({Capability.LABEL, Capability.SCORES})


def softmax(scale: float = 2.0) -> Linear:
    weights = np.random.default_rng(0).normal(size=(6, 3)) * scale
    return Linear(weights, np.zeros(3), domain=DOMAIN, capabilities=SERVED)


def rows(count: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 6))


def tried(hardening: Any, queries: int, *names: str, held: int = 300) -> Copied:
    target = softmax()
    held_out = HeldOut.ask(target, rows(held))
    return copied(Hardened(target, hardening), attacks_with(rows(300, 2), names), held_out, queries)


def copy(agrees: Array | None) -> Copy:
    return Copy("some", 10, agrees)


def test_labels_alone_hinder_a_thief_of_few_queries_and_that_counts() -> None:
    found = tried(LabelsOnly(), 7, "equation-solving", "knockoff")
    assert found.gains
    before, after = found.best
    assert before is not None
    assert after is not None
    assert before.agreement is not None
    assert before.agreement.value == 1.0
    assert after.agreement is not None
    assert after.agreement.value < 0.95
    assert judged(found, None) == (Verdict.PASS, ())


def test_a_few_more_queries_are_no_price_for_a_copy() -> None:
    # With two decimals the equations need some more rows than with all of them.
    found = tried(RoundedScores(2), 7, "equation-solving", held=1000)
    assert judged(found, None)[0] is Verdict.FAIL


@pytest.mark.parametrize("hardening", [RoundedScores(15), TopScores(3)])
def test_a_defence_that_changes_nothing_is_said_to_change_nothing(hardening: Any) -> None:
    found = tried(hardening, 14, "equation-solving")
    assert not found.gains
    verdict, problems = judged(found, None)
    assert verdict is Verdict.FAIL
    assert [one.code for one in problems] == ["defence.no_gain"]
    assert "changes nothing" in problems[0].message


def test_the_best_copy_counts_whichever_attack_made_it() -> None:
    # Few digits spoil the equations, and nothing that asks for labels.
    none, all_of_it = np.zeros(200, bool), np.ones(200, bool)
    stopped = Copied(10, (copy(all_of_it), copy(~none)), (copy(none), copy(all_of_it)), ())
    assert stopped.changes == (0, 0)
    assert judged(stopped, None)[0] is Verdict.FAIL
    half = np.arange(200) % 2 == 0
    worse = Copied(10, (copy(all_of_it),), (copy(half), copy(None)), ())
    assert worse.changes == (100, 0)
    assert judged(worse, None)[0] is Verdict.PASS
    # A copy that got better is no gain.
    assert not Copied(10, (copy(half),), (copy(all_of_it),), ()).gains


def test_what_could_not_be_copied_is_no_gain() -> None:
    found = tried(LabelsOnly(), 20, "knockoff", held=50)
    verdict, problems = judged(found, None)
    assert verdict is Verdict.INSUFFICIENT
    assert [one.code for one in problems] == ["defence.not_copied"]
    assert "50 held-out rows" in problems[0].message
    assert found.to_dict()["best"] == {"undefended": None, "defended": None}


def test_every_attack_is_run_on_both_and_the_hardened_one_asked_more() -> None:
    found = tried(RoundedScores(2), 60, *NAMES)
    assert [one.attack for one in found.undefended] == list(NAMES)
    assert [one.attack for one in found.defended] == list(NAMES)
    assert all(one.queries <= 60 for one in found.undefended)
    assert all(one.queries <= 240 for one in found.defended)
    told = found.to_dict()
    assert told["budget"] == 60
    assert told["best"]["defended"]["agreement"]["n"] == 300


# Members


@dataclass
class Remembers:
    """Surer of the rows that it knows, and right about all others but every third."""

    known: Array
    domain: Domain = DOMAIN
    classes: int = 3
    capabilities: frozenset[Capability] = SERVED

    def predict(self, rows: Array) -> Answers:
        inside = np.isin(rows[:, 0], self.known)
        wrong = ~inside & (np.floor(np.abs(rows[:, 1]) * 1e6) % 3 == 0)
        label = np.where(wrong, 1, 0)
        scores = np.zeros((len(rows), 3))
        scores[np.arange(len(rows)), label] = np.where(inside, 9.0, 3.0) + rows[:, 2] / 10
        return Answers(label, scores)


def members(hardening: Any) -> Members:
    x = rows(1000)
    known = np.arange(1000) < 500
    target = Remembers(x[known, 0])
    return audited(Hardened(target, hardening), x, np.zeros(1000, np.int64), known)


def test_fewer_members_by_the_loss_are_no_pass_while_labels_were_asked_so_bluntly() -> None:
    found = members(LabelsOnly())
    assert found.gains
    # Whichever of its two tells more is what is left of it.
    assert not replace(found, labels=found.undefended).gains
    assert not replace(found, defended=found.undefended).gains
    nothing = Copied(10, (copy(np.ones(200, bool)),), (copy(np.ones(200, bool)),), ())
    verdict, problems = judged(nothing, found)
    assert verdict is Verdict.INSUFFICIENT
    assert [one.code for one in problems] == ["defence.labels_untold"]


def test_what_scores_still_tell_is_no_gain_and_the_worse_of_both_is_told() -> None:
    found = members(RoundedScores(8))
    assert not found.gains
    assert found.left is found.defended
    nothing = Copied(10, (copy(np.ones(200, bool)),), (copy(np.ones(200, bool)),), ())
    verdict, problems = judged(nothing, found)
    assert verdict is Verdict.FAIL
    assert "of the members 1.000 are told, and 1.000" in problems[0].message
    assert set(found.to_dict()) == {"gains", "undefended", "defended", "labels"}
