"""The requirement `vulnerabilities`: the newest word of each key, its age, and its database's."""

from __future__ import annotations

from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.predicates import Target
from keepstone.evidence.vulnerabilities import Database, WaiverUsed
from keepstone.policy.explain import warnings
from keepstone.policy.parse import parse_policy

DAY = 86_400_000
World = Any
RULE = "require.vulnerabilities"
REQUIRE = """
[[require]]
evidence = "vulnerabilities"
role = "observer"
result = "clean"
max_age = "7d"
max_database_age = "10d"
"""


@pytest.fixture
def world(local: World) -> World:
    local.policy += REQUIRE.encode()
    local.edit('name = "bob"\nroles = ["approver"]', 'name = "bob"\nroles = ["approver", "waiver"]')
    local.scan()
    return local


def database(world: World, age: int, digest: str = "db") -> Database:
    return Database("osv", Digest(digest * 32), world.now - age)


def why(world: World, now: int | None = None) -> str:
    return world.refused(RULE, "keepstone attest vulnerabilities", now=now)


def test_without_it_nothing_is_admitted_and_with_it_all_is(world: World) -> None:
    assert "it has none" in why(world)
    stated = world.packages()
    verdict = world.judge()
    assert verdict.allowed
    assert stated.digest in verdict.evidence


def test_a_policy_that_does_not_ask_does_not_care(local: World) -> None:
    local.scan()
    local.packages(Outcome.FLAGGED)
    assert local.judge().allowed


@pytest.mark.parametrize("outcome", [Outcome.FLAGGED, Outcome.NOT_EVALUATED])
def test_what_is_not_clean_does_not_count(world: World, outcome: Outcome) -> None:
    world.packages(outcome)
    assert outcome.value.replace("_", " ") in why(world)


def test_the_newest_scan_of_a_key_is_its_word(world: World) -> None:
    world.packages()
    world.packages(Outcome.FLAGGED)
    assert "superseded" in why(world)
    # Not the same again: a copy of what was said before says nothing new.
    world.packages(age=1)
    assert world.judge().allowed
    world.packages(Outcome.NOT_EVALUATED)
    why(world)


def test_an_old_clean_scan_that_is_logged_again_is_no_newer(world: World) -> None:
    world.packages()
    clean = world.entries[-1]
    world.packages(Outcome.FLAGGED)
    world.entries.append((len(world.entries) + 1, clean[1]))
    why(world)


def test_the_age_of_the_scan_to_the_millisecond(world: World) -> None:
    world.packages()
    verdict = world.judge(world.now + 7 * DAY - 1)
    assert verdict.allowed
    assert verdict.expires == world.now + 7 * DAY
    assert "older than the policy allows" in why(world, world.now + 7 * DAY)


def test_the_age_of_the_database_grows(world: World) -> None:
    world.packages(database=database(world, 5 * DAY))
    last = world.now + 5 * DAY
    assert world.judge(last - 1).allowed
    assert world.judge(last - 1).expires == last
    assert "older than the policy allows" in why(world, last)
    # A scan of today by a database of last year is a scan of last year.
    world.packages(database=database(world, 365 * DAY))
    why(world)


def test_a_database_of_tomorrow_is_no_younger_than_what_it_judged(world: World) -> None:
    world.policy = world.policy.replace(b'max_age = "7d"\n', b"")
    world.packages(database=database(world, -100 * DAY))
    assert world.judge(world.now + 10 * DAY - 1).allowed
    why(world, world.now + 10 * DAY)


def test_a_database_without_a_date_does_not_count_where_its_age_does(world: World) -> None:
    world.packages(database=Database("trivy", None, None))
    assert "does not say how old its database was" in why(world)
    world.policy = world.policy.replace(b'max_database_age = "10d"\n', b"")
    assert world.judge().allowed


def test_it_ends_when_it_expires_and_with_it_the_admission(world: World) -> None:
    used = WaiverUsed(Digest("fa" * 32), world.keys["bob"].key_id, world.now + 1000)
    world.packages(waivers=(used,), expires=world.now + 1000)
    assert world.judge().expires == world.now + 1000
    assert "has expired" in why(world, world.now + 1000)


@pytest.mark.parametrize("who", ["stranger", "frank", "alice", "observer"])
def test_the_observer_does_not_overlook_what_nobody_may_waive(world: World, who: str) -> None:
    may = WaiverUsed(Digest("fa" * 32), world.keys["bob"].key_id, world.now + 1000)
    may_not = WaiverUsed(Digest("fb" * 32), world.keys[who].key_id, world.now + 1000)
    world.packages(waivers=(may, may_not), expires=world.now + 1000)
    assert "no right to waive" in why(world)
    world.packages(waivers=(may,), expires=world.now + 1000)
    assert world.judge().allowed
    # The right that is taken back takes with it what was waived by it.
    world.edit('grants = ["state.waiver"]', "grants = []")
    assert "no right to waive" in why(world)


def test_whose_waivers_count_in_a_report_is_its_signers_word(world: World) -> None:
    by_security(world)
    used = WaiverUsed(Digest("fa" * 32), world.keys["stranger"].key_id, world.now + 1000)
    world.packages(by="bob", waivers=(used,), expires=world.now + 1000)
    assert world.judge().allowed


@pytest.mark.parametrize("what", ["waiver", "signer", "database"])
def test_revoking_what_it_rests_on_ends_it(world: World, what: str) -> None:
    used = WaiverUsed(Digest("fa" * 32), world.keys["bob"].key_id, world.now + 1000)
    world.packages(waivers=(used,), expires=world.now + 1000)
    assert world.judge().allowed
    target = {
        "waiver": Target("statement", Digest("fa" * 32)),
        "signer": Target("key", Digest(world.keys["bob"].key_id)),
        "database": Target("statement", Digest("db" * 32)),
    }[what]
    world.revoke(target=target)
    assert "rests on" in why(world)


def test_a_word_that_ended_does_not_bring_back_the_one_before_it(world: World) -> None:
    world.packages(age=DAY)
    used = WaiverUsed(Digest("fa" * 32), world.keys["bob"].key_id, world.now + 1000)
    world.packages(waivers=(used,), expires=world.now + 1000)
    assert world.judge().allowed
    # The waiver is over: what was clean before anybody knew of the vulnerability is not, again.
    assert "superseded by a later scan, which has ended" in why(world, world.now + 1000)
    world.packages(age=1)
    assert world.judge(world.now + 1000).allowed


def test_revoking_a_bad_word_is_no_way_back_to_a_good_one(world: World) -> None:
    world.packages(age=DAY)
    flagged = world.packages(Outcome.FLAGGED)
    world.revoke(target=Target("statement", flagged.digest))
    assert "which has ended" in why(world)
    world.packages(age=1)
    assert world.judge().allowed


def test_what_ended_under_another_name_or_by_another_key_replaces_nothing(world: World) -> None:
    by_security(world)
    world.packages(by="bob")
    world.packages(by="frank", expires=world.now + 1000)
    named = Subject("other", world.subject.digest)
    subject, world.subject = world.subject, named
    world.packages(by="bob", expires=world.now + 1000)
    world.subject = subject
    assert world.judge(world.now + 2000).allowed


def test_only_who_has_the_right_may_say_it(world: World) -> None:
    for nobody in ("alice", "bob", "stranger", "gate"):
        world.packages(by=nobody)
    why(world)


def by_security(world: World) -> World:
    world.policy = world.policy.replace(
        b"[roles.publisher]",
        b'[roles.security]\ngrants = ["state.vulnerabilities"]\n\n[roles.publisher]',
    ).replace(
        b'evidence = "vulnerabilities"\nrole = "observer"',
        b'evidence = "vulnerabilities"\nrole = "security"',
    )
    for old in (
        'name = "bob"\nroles = ["approver", "waiver"]',
        'name = "frank"\nroles = ["approver"]',
    ):
        world.edit(old, old.split("[")[0] + '["security"]')
    return world


def test_another_role_than_the_observers(world: World) -> None:
    by_security(world)
    world.packages()
    why(world)
    world.packages(by="bob")
    assert world.judge().allowed


def test_what_one_still_flags_another_does_not_clear(world: World) -> None:
    by_security(world)
    world.packages(Outcome.FLAGGED, by="frank")
    world.packages(by="bob")
    assert "says flagged" in why(world)
    world.packages(by="frank")
    assert world.judge().allowed


def test_time_removes_no_vulnerability(world: World) -> None:
    by_security(world)
    world.packages(by="bob", age=DAY)
    world.packages(Outcome.FLAGGED, by="frank", expires=world.now + 1000)
    why(world)
    assert "denied by a later scan, which has ended" in why(world, world.now + 1000)
    world.packages(by="bob", age=1)
    assert world.judge(world.now + 1000).allowed


def test_a_flag_by_somebody_outside_of_the_role_is_not_asked_for(world: World) -> None:
    by_security(world)
    world.packages(Outcome.FLAGGED)
    world.packages(by="bob")
    assert world.judge().allowed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('result = "clean"\nmax_age = "7d"\nmax_d', 'max_age = "7d"\nmax_d'),
        ('result = "clean"\nmax_age = "7d"\nmax_d', 'result = "flagged"\nmax_age = "7d"\nmax_d'),
        ('max_database_age = "10d"', 'max_database_age = "0d"'),
        ('max_database_age = "10d"', "max_database_age = 10"),
        ('"vulnerabilities"\nrole = "observer"', '"vulnerabilities"\nrole = "approver"'),
        ('evidence = "scan"', 'max_database_age = "7d"\nevidence = "scan"'),
    ],
)  # fmt: skip
def test_what_the_file_cannot_ask_for(world: World, old: str, new: str) -> None:
    assert old in world.policy.decode()
    with pytest.raises(InputError) as caught:
        parse_policy(world.policy.decode().replace(old, new, 1).encode())
    assert caught.value.code == "policy.invalid"


def test_the_file_that_asks_for_it_is_a_sound_one(world: World) -> None:
    policy = parse_policy(world.policy)
    assert policy.requirements[-1].max_database_age_ms == 10 * DAY
    assert not any(RULE in warning for warning in warnings(policy))
