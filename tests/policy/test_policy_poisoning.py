"""The requirement `poisoning`: the lower end, how many poisons, of which training, and by whom."""

from __future__ import annotations

from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.predicates import Target, parse_predicate, type_of
from keepstone.evidence.statement import open_payload

DAY = 86_400_000
World = Any
RULE = "require.poisoning"
REQUIRE = """
[[require]]
evidence = "poisoning"
role = "red-team"
poisons = 5
at_least = 0.7
attacked = 10
max_age = "60d"
"""
OTHER = Digest("ef" * 32)
TOO_LITTLE = {"low": 0.3, "high": 0.5, "verdict": "fail"}
BROKEN = {"verdict": "invalid", "broken": 3}


@pytest.fixture
def world(local: World) -> World:
    local.policy += REQUIRE.encode()
    local.scan()
    return local


def why(world: World, now: int | None = None) -> str:
    return world.refused(
        RULE,
        "keepstone harden partition --train MODULE:FUNCTION",
        "--at-least 0.7@5 --attacked 10 -o MODEL --as KEY",
        now=now,
    )


def test_without_it_nothing_is_admitted_and_with_it_all_is(world: World) -> None:
    assert "an accuracy of 0.7 or more certified against 5 poisons" in why(world)
    assert "it has none" in why(world)
    stated = world.certified()
    verdict = world.judge()
    assert verdict.allowed
    assert stated.digest in verdict.evidence


def test_a_policy_that_does_not_ask_does_not_care(local: World) -> None:
    local.scan()
    local.certified(**TOO_LITTLE)
    assert local.judge().allowed


def test_the_lower_end_decides_not_the_number_that_was_counted(world: World) -> None:
    world.certified(0.699, 0.9)
    assert "vouches for a certified accuracy of 0.699" in why(world)
    world.certified(0.7, 0.9)
    assert world.judge().allowed


def test_more_poisons_vouch_for_fewer_and_not_the_other_way(world: World) -> None:
    world.certified(sizes=(0, 4))
    assert "certifies up to 4 poisons only, not 5" in why(world)
    world.certified(sizes=(0, 4, 9))
    assert world.judge().allowed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"verdict": "insufficient"}, "says insufficient"),
        ({"verdict": "invalid"}, "says invalid"),
        (BROKEN, "says invalid"),
        # Whoever raises their own bar turns `insufficient` into `fail`, and no more.
        ({"verdict": "fail", "sufficient": False}, "says insufficient"),
    ],
)
def test_numbers_that_do_not_count_do_not_count(
    world: World, changed: dict[str, Any], said: str
) -> None:
    world.certified(0.9, 0.99, **changed)
    assert said in why(world)


def test_a_failure_by_a_stricter_bar_of_the_testers_own_may_be_enough(world: World) -> None:
    world.certified(verdict="fail")
    assert world.judge().allowed


def test_a_certificate_that_hardly_anybody_attacked_is_not_enough(world: World) -> None:
    world.certified(attacked=9)
    assert "was attacked through 9 rows, and 10 are asked" in why(world)
    world.certified(attacked=10)
    assert world.judge().allowed


def test_a_certificate_of_another_training_set_is_not_the_one_that_is_asked(world: World) -> None:
    world.edit("attacked = 10\n", f'attacked = 10\ndata = "{OTHER}"\n')
    world.certified()
    assert "is about training on other data than the policy names" in why(world)
    world.certified(data=OTHER)
    assert world.judge().allowed


def test_another_models_certificate_says_nothing_of_this_one(world: World) -> None:
    world.certified(subject=Subject("digits", OTHER))
    assert "it has none" in why(world)


def test_the_last_word_of_a_key_counts(world: World) -> None:
    world.certified()
    world.certified(0.5, 0.8, verdict="fail")
    assert "superseded" in why(world)
    world.certified(age=1)
    assert world.judge().allowed


@pytest.mark.parametrize("failure", [TOO_LITTLE, BROKEN, {"verdict": "invalid"}])
def test_what_one_proved_no_other_undoes(world: World, failure: dict[str, Any]) -> None:
    world.certified(by="rob", **failure)
    world.certified(by="rita")
    why(world)
    world.certified(by="rob", age=1)
    assert world.judge().allowed


@pytest.mark.parametrize("failure", [TOO_LITTLE, BROKEN])
@pytest.mark.parametrize(
    "word",
    [
        # Not sure, of fewer rows, attacked less, or of another training than what failed.
        {"low": 0.0, "high": 1.0, "verdict": "fail", "sufficient": False},
        {"rows": 499},
        {"attacked": 19},
        {"partitions": 50},
        {"data": OTHER},
    ],
)
def test_a_word_that_decides_less_takes_no_failure_back(
    world: World, failure: dict[str, Any], word: dict[str, Any]
) -> None:
    world.certified(by="rob", **failure)
    world.certified(by="rita")
    world.certified(by="rob", **word)
    why(world)
    world.certified(by="rob", age=1)
    assert world.judge().allowed


def test_a_failure_at_more_poisons_is_not_taken_back_at_fewer(world: World) -> None:
    world.certified(by="rob", **TOO_LITTLE, sizes=(3, 5))
    world.certified(by="rita")
    world.certified(by="rob", sizes=(3, 4))
    why(world)


def test_what_is_too_little_at_more_poisons_stands_against_nothing(world: World) -> None:
    world.certified(by="rob", **TOO_LITTLE, sizes=(6,))
    world.certified(by="rita")
    assert world.judge().allowed
    # Nor does what is not sure.
    world.certified(0.6, 0.75, by="rob", verdict="fail")
    assert world.judge().allowed


@pytest.mark.parametrize("failure", [TOO_LITTLE, BROKEN])
def test_time_mends_no_model_whose_certificate_failed(
    world: World, failure: dict[str, Any]
) -> None:
    world.certified(by="rita", lasts=40)
    world.certified(by="rob", lasts=5, **failure)
    why(world)
    assert "was denied by a later test, which has ended since" in why(world, world.now + 6 * DAY)
    world.certified(by="rita", lasts=40, age=1)
    assert world.judge(world.now + 6 * DAY).allowed


def test_it_runs_out(world: World) -> None:
    world.certified(lasts=5)
    assert world.judge(world.now + 5 * DAY - 1).allowed
    assert "does not count" in why(world, world.now + 5 * DAY)


@pytest.mark.parametrize("by", ["alice", "observer", "stranger"])
def test_who_has_no_right_says_nothing(world: World, by: str) -> None:
    world.certified(by=by)
    why(world)


@pytest.mark.parametrize("named", ["da", "d0"])
def test_training_data_or_samples_that_are_revoked_end_it(world: World, named: str) -> None:
    world.certified()
    world.revoke(target=Target("artifact", Digest(named * 32)))
    why(world)


def test_one_kind_of_evidence_is_not_another(world: World) -> None:
    world.attacked()
    world.audited()
    assert "it has none" in why(world)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("poisons = 5\n", ""),
        ("poisons = 5", "poisons = 0"),
        ("poisons = 5", "poisons = 2.5"),
        ("poisons = 5", "poisons = true"),
        ("at_least = 0.7\n", ""),
        ("at_least = 0.7", "at_least = 0"),
        ("at_least = 0.7", "at_least = 1.5"),
        ("at_least = 0.7", "at_least = nan"),
        ("attacked = 10", "attacked = 0"),
        ("attacked = 10", 'data = "all"'),
        ("attacked = 10", "eps = 0.1"),
        ('role = "red-team"', 'role = "approver"'),
        ('max_age = "60d"', 'result = "clean"'),
    ],
)
def test_a_requirement_that_means_nothing_is_refused(world: World, old: str, new: str) -> None:
    world.require_invalid(REQUIRE, old, new)


def size(poisons: int, value: str = "0.8", **changed: Any) -> dict[str, Any]:
    return {"poisons": poisons, "value": value, "low": "0.75", "high": "0.85", "n": 500} | changed


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": "great"},
        {"defence": "luck"},
        {"within": []},
        {"within": [size(5), size(5)]},
        {"within": [size(5), size(4)]},
        # More poison leaves more: of what was counted, or of an end of it.
        {"within": [size(5), size(6, "0.81")]},
        {"within": [size(5), size(6, low="0.76")]},
        {"within": [size(5), size(6, high="0.86")]},
        # Of other samples, or of none.
        {"within": [size(5, n=400)]},
        {"within": [size(5, n=0)]},
        {"within": [size(5, "NaN")]},
        {"within": [size(5, "0.9")]},
        {"within": [{**size(5), "more": 1}]},
        # 25 votes: thirteen of them are the majority.
        {"within": [size(13)]},
        {"partitions": 9},
        {"partitions": 0},
        {"enough": [{"poisons": 5, "at_least": "0.78001"}]},
        {"enough": [{"poisons": 6, "at_least": "0.1"}]},
        {"enough": [{"poisons": 5, "at_least": "0.1", "more": 1}]},
        {"sufficient": False},
        {"sufficient": 1},
        {"broken": 1},
        {"broken": 1, "verdict": "fail"},
        {"broken": 1, "verdict": "insufficient"},
        {"broken": 20_000, "verdict": "invalid"},
        {"certificates": 0},
        {"attacked": 0, "verdict": "fail"},
        {"undefended": {"value": "0.97", "low": "0.95", "high": "0.98", "n": 400}},
        {"expires": None},
        {"data": "da"},
        {"held_out": None},
        {"more": 1},
    ],
)
def test_a_statement_that_cannot_be_is_not_read(world: World, changed: dict[str, Any]) -> None:
    said = open_payload(world.certified()).predicate.to_dict()
    assert parse_predicate(type_of("poisoning"), said).to_dict() == said
    with pytest.raises(InputError) as caught:
        parse_predicate(type_of("poisoning"), said | changed)
    assert caught.value.code == "statement.malformed"


@pytest.mark.parametrize(
    "changed",
    [
        {"within": [size(12)]},
        {"within": [size(5), size(13, "0.0", low="0.0", high="0.01")]},
        {"enough": [{"poisons": 4, "at_least": "0.75"}, {"poisons": 5, "at_least": "0.1"}]},
        {"broken": 1, "verdict": "invalid"},
        # Nothing was certified, so there was nothing to attack.
        {"within": [size(0), size(1, "0.0", low="0.0", high="0.01")], "certificates": 0},
        {"enough": [{"poisons": 5, "at_least": "0.99"}], "verdict": "fail"},
    ],
)
def test_a_statement_that_can_be_is_read(world: World, changed: dict[str, Any]) -> None:
    said = open_payload(world.certified()).predicate.to_dict() | changed
    assert parse_predicate(type_of("poisoning"), said).to_dict() == said
