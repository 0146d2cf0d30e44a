"""A policy that asks for a certificate against poison, and `keepstone harden` that brings it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.evidence.dsse import Envelope
from keepstone.evidence.predicates import Poisoning
from keepstone.evidence.statement import open_payload
from keepstone.vault.staging import stage
from tests import trainers

REQUIRE = """
[[require]]
evidence = "poisoning"
role = "red-team"
poisons = 1
at_least = 0.8
"""
TREE = """
def tree(x, y, seed):
    from sklearn.tree import DecisionTreeClassifier
    return DecisionTreeClassifier(random_state=seed).fit(x, y)
"""


@pytest.fixture
def asked(place: Any) -> tuple[str, ...]:
    """A workspace whose policy asks, and the command that trains a vote; its options."""
    (place.root / "trainer.py").write_text(TREE)
    place.environment["PYTHONPATH"] = f"{place.root}:{place.environment.get('PYTHONPATH', '')}"
    for name, (x, y) in {
        "train.npz": trainers.blobs(300, 0),
        "test.npz": trainers.blobs(150, 1),
    }.items():
        np.savez(place.root / name, x=x, y=y)
    rows = ("--data", "train.npz", "--held-out", "test.npz", "--attacked", "2")
    return ("harden", "partition", "--train", "trainer:tree", "--k", "5", *rows)


def told(place: Any, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = place.run(*arguments, "--format", "json")
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def ask(place: Any) -> Path:
    """The workspace; the key of who may say it."""
    place.must("init")
    key: Path = place.signer("rita", "red-team")
    policy = place.workspace / "policy.toml"
    policy.write_text(policy.read_text() + REQUIRE)
    return key


@pytest.mark.slow
@pytest.mark.loopback
def test_a_policy_asks_for_a_certificate_and_the_vote_brings_it(
    place: Any, asked: tuple[str, ...], error_code: Any
) -> None:
    key = ask(place)
    given = ("--at-least", "0.8@1", "-o", "vote.skops")
    status, found = told(place, *asked, *given, "--as", key, "--statement", "said.jsonl")
    assert (status, found["verdict"], found["statement"]) == (0, "pass", {"file": "said.jsonl"})
    served = ("vote.skops", "--contract", "vote.skops.contract.json", "--port", "0")
    done = place.run("up", *served)
    assert (done.returncode, error_code(done)) == (1, "gate.denied")
    assert "It needs an accuracy of 0.8 or more certified against 1 poisons" in done.stderr
    assert "keepstone harden partition --train MODULE:FUNCTION" in done.stderr
    place.start("up", *served[:-2], "--statements", "said.jsonl")


@pytest.mark.slow
@pytest.mark.loopback
def test_a_failure_is_stated_of_a_file_that_is_kept(place: Any, asked: tuple[str, ...]) -> None:
    key = ask(place)
    strict = (*asked, "--at-least", "0.99@2", "--as", key)
    done = place.run(*strict, "-o", "none.skops", "--statement", "none.jsonl")
    assert done.returncode == 1
    assert "nothing is stated" in done.stderr
    assert not (place.root / "none.skops").exists()
    assert not (place.root / "none.jsonl").exists()

    kept = (*strict, "--keep", "-o")
    done = place.run(*kept, "kept.skops", "--statement", "said.jsonl", "--lifetime", "1h")
    assert done.returncode == 1, done.stderr
    statement = open_payload(Envelope.parse((place.root / "said.jsonl").read_bytes().strip()))
    model, contract = (place.root / f"kept.skops{end}" for end in ("", ".contract.json"))
    staged = stage(model, place.root / "staging", contract=contract)
    assert (statement.subject.name, statement.subject.digest) == ("kept", staged.digest)
    predicate = statement.predicate
    assert isinstance(predicate, Poisoning)
    assert (predicate.verdict, predicate.partitions, predicate.attacked) == ("fail", 5, 2)
    assert predicate.made.expires == predicate.made.created + 3_600_000

    # A bar of the tester's own is not the policy's: what was counted may do.
    status, found = told(place, *kept, "vote.skops")
    assert (status, found["verdict"]) == (1, "fail")
    assert found["statement"]["entry"].startswith("ks-")
    assert found["written"]["digest"] == str(staged.digest)
    place.up("--contract", "vote.skops.contract.json", model=Path("vote.skops"))


def test_a_statement_needs_a_file(place: Any, asked: tuple[str, ...], error_code: Any) -> None:
    place.must("init")
    key = place.signer("rita", "red-team")
    done = place.run(*asked, "--as", key)
    assert (done.returncode, error_code(done)) == (2, "defence.no_file")
    for odd in (("--keep",), ("--statement", "said.jsonl")):
        done = place.run(*asked, *odd)
        assert (done.returncode, error_code(done)) == (2, ""), odd
    bars = [part for poisons in range(17) for part in ("--at-least", f"0.1@{poisons}")]
    done = place.run(*asked, *bars, "--as", key, "-o", "vote.skops")
    assert (done.returncode, error_code(done)) == (2, "defence.too_many_bars")
    assert not (place.root / "vote.skops").exists()
