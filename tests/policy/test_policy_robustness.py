"""The requirement `robustness`: the lower end, the epsilon, and who may say what."""

from __future__ import annotations

from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.evidence.predicates import Target, parse_predicate, type_of
from keepstone.evidence.statement import open_payload

DAY = 86_400_000
World = Any
RULE = "require.robustness"
REQUIRE = """
[[require]]
evidence = "robustness"
role = "red-team"
norm = "linf"
eps = 0.1
at_least = 0.5
max_age = "7d"
"""


@pytest.fixture
def world(local: World) -> World:
    local.policy += REQUIRE.encode()
    local.scan()
    return local


def why(world: World, now: int | None = None) -> str:
    helps = "keepstone attack MODEL --data FILE --norm linf --eps 0.1 --at-least 0.5"
    return world.refused(RULE, helps, now=now)


def test_without_it_nothing_is_admitted_and_with_it_all_is(world: World) -> None:
    assert "it has none" in why(world)
    stated = world.attacked()
    verdict = world.judge()
    assert verdict.allowed
    assert stated.digest in verdict.evidence
    assert "robustness" not in verdict.not_proven


def test_a_policy_that_does_not_ask_does_not_care_and_says_so(local: World) -> None:
    local.scan()
    local.attacked(0.0, 0.1, verdict="fail")
    verdict = local.judge()
    assert verdict.allowed
    assert "robustness" in verdict.not_proven


def test_the_lower_end_decides_not_the_number_that_was_measured(world: World) -> None:
    world.attacked(0.499, 0.9)
    assert "vouches for a robust accuracy of 0.499" in why(world)
    world.attacked(0.5, 0.9)
    assert world.judge().allowed


def test_a_larger_perturbation_vouches_for_a_smaller_and_not_the_other_way(world: World) -> None:
    world.attacked(epsilons=(0.05,))
    assert "looked at perturbations up to 0.05 only" in why(world)
    world.attacked(epsilons=(0.05, 0.2))
    assert world.judge().allowed


def test_another_norm_says_nothing(world: World) -> None:
    world.attacked(norm="l2", epsilons=(5.0,))
    assert "is about the norm l2, not linf" in why(world)


def test_a_test_under_another_norm_replaces_none(world: World) -> None:
    world.attacked()
    world.attacked(0.0, 0.1, norm="l2", verdict="fail")
    assert world.judge().allowed


@pytest.mark.parametrize("verdict", ["insufficient", "invalid"])
def test_numbers_that_do_not_count_do_not_count(world: World, verdict: str) -> None:
    world.attacked(verdict=verdict)
    assert f"says {verdict}" in why(world)


def test_a_failure_by_a_stricter_limit_of_the_testers_own_may_be_enough(world: World) -> None:
    world.attacked(0.6, 0.8, verdict="fail", at_least=0.9)
    assert world.judge().allowed


def test_the_last_word_of_a_key_counts(world: World) -> None:
    world.attacked()
    world.attacked(0.2, 0.6, verdict="fail")
    assert "superseded" in why(world)
    world.attacked(age=1)
    assert world.judge().allowed


def test_no_weaker_attack_undoes_what_a_stronger_one_broke(world: World) -> None:
    world.attacked(0.1, 0.3, by="rob", verdict="fail")
    world.attacked(by="rita")
    why(world)
    # Nor does a smaller perturbation that leaves too little.
    world.attacked(0.1, 0.3, by="rob", verdict="fail", epsilons=(0.01,))
    why(world)
    # Rob is not sure any more: only what is proven to be too little stands against others.
    world.attacked(0.3, 0.7, by="rob", verdict="fail")
    assert world.judge().allowed


def test_time_mends_no_model_that_was_broken(world: World) -> None:
    """A failure that expires does not bring back what others said before it."""
    world.edit('max_age = "7d"', 'max_age = "60d"')
    world.attacked(by="rita", lasts=40)
    world.attacked(0.1, 0.3, by="rob", verdict="fail", lasts=5)
    why(world)
    assert "was denied by a later test, which has ended since" in why(world, world.now + 6 * DAY)
    world.attacked(by="rita", lasts=40, age=1)
    assert world.judge(world.now + 6 * DAY).allowed


def test_a_failure_that_was_taken_back_does_not_come_back_with_time(world: World) -> None:
    world.edit('max_age = "7d"', 'max_age = "60d"')
    world.attacked(by="rita", lasts=40)
    world.attacked(0.1, 0.3, by="rob", verdict="fail", lasts=5)
    world.attacked(by="rob", lasts=5)
    assert world.judge(world.now + 6 * DAY).allowed


def test_nor_does_one_of_somebody_without_the_role_or_that_is_revoked(world: World) -> None:
    world.edit('max_age = "7d"', 'max_age = "60d"')
    world.attacked(by="rita", lasts=40)
    world.attacked(0.1, 0.3, by="alice", verdict="fail", lasts=5)
    failed = world.attacked(0.1, 0.3, by="rob", verdict="fail", lasts=5)
    world.revoke(target=Target("statement", failed.digest))
    assert world.judge(world.now + 6 * DAY).allowed


def test_nor_does_one_that_only_a_revoked_key_signed_in_the_role(world: World) -> None:
    world.edit('max_age = "7d"', 'max_age = "60d"')
    world.edit(
        "[roles.red-team]", '[roles.intern]\ngrants = ["state.robustness"]\n\n[roles.red-team]'
    )
    world.edit('name = "alice"\nroles = ["publisher"]', 'name = "alice"\nroles = ["intern"]')
    world.attacked(by="rita", lasts=40)
    world.revoke(target=Target("key", Digest(world.keys["rob"].key_id)))
    world.attacked(0.1, 0.3, by="alice", also=("rob",), verdict="fail", lasts=5)
    assert world.judge().allowed
    assert world.judge(world.now + 6 * DAY).allowed


@pytest.mark.parametrize(
    "word",
    [
        {"low": 0.6, "high": 0.8, "epsilons": (0.0001,)},
        {"low": 0.0, "high": 1.0, "verdict": "fail", "sufficient": False},
        {"low": 0.0, "high": 1.0, "verdict": "invalid"},
        {"low": 0.6, "high": 0.8, "suite": "quick"},
        {"low": 0.6, "high": 0.8, "suite": "standard", "constraints": Digest("c0" * 32)},
    ],
)
def test_a_word_that_decides_nothing_takes_no_failure_back(
    world: World, word: dict[str, Any]
) -> None:
    world.attacked(0.1, 0.3, by="rob", verdict="fail", suite="standard")
    world.attacked(by="rita")
    world.attacked(by="rob", **word)
    why(world)
    world.attacked(by="rob", suite="standard", age=1)
    assert world.judge().allowed


def test_a_failure_of_too_little_is_no_evidence_under_a_lower_bar(world: World) -> None:
    """Whoever raises their own threshold turns `insufficient` into `fail`, and no more."""
    world.attacked(0.9, 0.99, verdict="fail", at_least=1.0, sufficient=False)
    assert "says insufficient" in why(world)


def test_attackers_that_were_held_back_vouch_for_those_alone(world: World) -> None:
    held = Digest("c0" * 32)
    world.attacked(0.9, 0.99, constraints=held)
    assert "held attackers to constraints that the policy does not name" in why(world)
    world.edit('at_least = 0.5\nmax_age = "7d"', f'at_least = 0.5\nconstraints = "{held}"')
    assert world.judge().allowed
    # Who could change everything vouches for those who cannot.
    world.attacked(age=1)
    assert world.judge().allowed


def test_what_broke_at_larger_perturbations_stands_against_nothing(world: World) -> None:
    world.attacked(0.1, 0.3, by="rob", verdict="fail", epsilons=(0.2,))
    world.attacked(by="rita")
    assert world.judge().allowed


@pytest.mark.parametrize("by", ["alice", "observer", "stranger"])
def test_who_has_no_right_says_nothing(world: World, by: str) -> None:
    world.attacked(by=by)
    why(world)


def test_the_age_of_the_test(world: World) -> None:
    world.attacked()
    assert world.judge(world.now + 7 * DAY - 1).allowed
    assert "older than the policy allows" in why(world, world.now + 7 * DAY)


def test_a_revoked_set_of_samples_ends_it(world: World) -> None:
    world.attacked()
    world.revoke(target=Target("artifact", Digest("da" * 32)))
    why(world)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("eps = 0.1\n", ""),
        ("eps = 0.1", "eps = 0"),
        ("eps = 0.1", "eps = nan"),
        ("eps = 0.1", "eps = true"),
        ("at_least = 0.5\n", ""),
        ("at_least = 0.5", "at_least = 0"),
        ("at_least = 0.5", "at_least = 1.5"),
        ('norm = "linf"', 'norm = "l7"'),
        ("at_least = 0.5", 'at_least = 0.5\nconstraints = "all"'),
        ('norm = "linf"\n', ""),
        ('role = "red-team"', 'role = "approver"'),
        ('max_age = "7d"', 'max_age = "7d"\nresult = "clean"'),
    ],
)
def test_a_requirement_that_means_nothing_is_refused(world: World, old: str, new: str) -> None:
    world.require_invalid(REQUIRE, old, new)


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": "great"},
        {"within": []},
        {"norm": "l7"},
        {"attacks": []},
        {"sufficient": False},
        {"sufficient": 1},
        {"constraints": "none"},
        {"expires": None},
        {"at_least": "0.99"},
        {"clean": {"value": "0.1", "low": "0.05", "high": "0.2", "n": 300}},
        {"within": [{"eps": "0.1", "value": "0.9", "low": "0.5", "high": "0.8", "n": 300}]},
        {"within": [{"eps": "0.1", "value": "NaN", "low": "0.5", "high": "0.8", "n": 300}]},
        {"within": [{"eps": "0.1", "value": 0.7, "low": "0.6", "high": "0.8", "n": 300}]},
        {
            "within": [
                {"eps": "0.2", "value": "0.7", "low": "0.6", "high": "0.8", "n": 300},
                {"eps": "0.1", "value": "0.7", "low": "0.6", "high": "0.8", "n": 300},
            ]
        },
        {
            "within": [
                {"eps": "0.1", "value": "0.7", "low": "0.6", "high": "0.8", "n": 300},
                {"eps": "0.2", "value": "0.75", "low": "0.6", "high": "0.8", "n": 300},
            ]
        },
        {"more": 1},
    ],
)
def test_a_statement_that_cannot_be_is_not_read(world: World, changed: dict[str, Any]) -> None:
    said = open_payload(world.attacked()).predicate.to_dict()
    assert parse_predicate(type_of("robustness"), said).to_dict() == said
    with pytest.raises(InputError) as caught:
        parse_predicate(type_of("robustness"), said | changed)
    assert caught.value.code == "statement.malformed"
