"""The requirement `privacy`: the upper end, the rate, the shadow models, and who may say what."""

from __future__ import annotations

from typing import Any

import pytest

from keepstone.errors import InputError
from keepstone.evidence.predicates import parse_predicate, type_of
from keepstone.evidence.statement import open_payload

World = Any
RULE = "require.privacy"
REQUIRE = """
[[require]]
evidence = "privacy"
role = "red-team"
fpr = 0.01
at_most = 0.1
shadows = 4
"""


@pytest.fixture
def world(local: World) -> World:
    local.policy += REQUIRE.encode()
    local.scan()
    return local


def why(world: World) -> str:
    return world.refused(RULE, "attack membership MODEL", "--at-most 0.1@0.01", "--shadows 4")


def test_without_it_nothing_is_admitted_and_with_it_all_is(world: World) -> None:
    assert "it has none" in why(world)
    stated = world.audited()
    verdict = world.judge()
    assert verdict.allowed
    assert stated.digest in verdict.evidence


def test_the_upper_end_decides_not_the_number_that_was_measured(world: World) -> None:
    world.audited(0.0, 0.101)
    assert "cannot exclude that 0.101 of the members are told" in why(world)
    world.audited(0.0, 0.1)
    assert world.judge().allowed


def test_another_rate_says_nothing(world: World) -> None:
    world.audited(fpr=0.001)
    assert "did not look at a false-positive rate of 0.01" in why(world)


def test_too_few_rows_say_nothing(world: World) -> None:
    world.audited(sufficient=False, outcome="insufficient")
    assert "too few rows" in why(world)


def test_too_few_shadow_models_say_nothing(world: World) -> None:
    world.audited(shadows=3)
    assert "rests on 3 shadow models, and 4 are asked" in why(world)
    world.audited(shadows=4)
    assert world.judge().allowed


def test_no_weaker_audit_undoes_what_a_stronger_one_told(world: World) -> None:
    world.audited(0.2, 0.4, by="rob", outcome="fail", shadows=2)
    world.audited(by="rita")
    why(world)
    world.audited(0.0, 0.05, by="rob", age=1)
    assert world.judge().allowed


def test_a_threshold_on_the_loss_uses_no_shadow_models(world: World) -> None:
    world.audited(attack="loss-threshold", shadows=64)
    assert "rests on 0 shadow models" in why(world)
    world.audited(0.2, 0.4, by="rob", outcome="fail")
    world.audited(by="rita")
    world.audited(by="rob", attack="loss-threshold", shadows=64)
    why(world)


def test_the_last_word_of_a_key_counts(world: World) -> None:
    world.audited()
    world.audited(0.02, 0.2, outcome="fail")
    assert "superseded" in why(world)


@pytest.mark.parametrize("by", ["alice", "observer", "stranger"])
def test_who_has_no_right_says_nothing(world: World, by: str) -> None:
    world.audited(by=by)
    why(world)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fpr = 0.01\n", ""),
        ("fpr = 0.01", "fpr = 0"),
        ("fpr = 0.01", "fpr = 0.9"),
        ("at_most = 0.1\n", ""),
        ("at_most = 0.1", "at_most = 2"),
        ("shadows = 4", "shadows = -1"),
        ("shadows = 4", "eps = 4"),
    ],
)
def test_a_requirement_that_means_nothing_is_refused(world: World, old: str, new: str) -> None:
    world.require_invalid(REQUIRE, old, new)


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": "great"},
        {"rates": []},
        {"expires": None},
        {"signal": "smoke"},
        {"shadows": -1},
        {"rates": [{}]},
        {"more": 1},
    ],
)
def test_a_statement_that_cannot_be_is_not_read(world: World, changed: dict[str, Any]) -> None:
    said = open_payload(world.audited()).predicate.to_dict()
    assert parse_predicate(type_of("privacy"), said).to_dict() == said
    with pytest.raises(InputError) as caught:
        parse_predicate(type_of("privacy"), said | changed)
    assert caught.value.code == "statement.malformed"


def test_a_pass_of_too_few_rows_is_not_read(world: World) -> None:
    said = open_payload(world.audited()).predicate.to_dict()
    for rate in said["rates"]:
        rate["sufficient"] = False
    with pytest.raises(InputError):
        parse_predicate(type_of("privacy"), said)
