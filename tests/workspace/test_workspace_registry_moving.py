"""Aliases, stages and four eyes: what moves, what does not, and every way around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keepstone.core.subject import Subject
from keepstone.identity.principal import Grant
from keepstone.workspace.registry.registry import CollectRules
from tests.workspace.registry_shop import (
    LOCAL,
    Shop,
    four_eyes,
    opened,
    person,
    refused,
    with_attributes,
)

ALICE, BOB, CAROL = person("alice"), person("bob"), person("carol")
DAY = 86_400_000


def _pointers(shop: Shop, model: str = "fraud") -> dict[str, int]:
    return {one["name"]: one["number"] for one in shop.registry.show(LOCAL, model)["pointers"]}


def _revoke(shop: Shop, number: int) -> None:
    version = shop.workspace.book.catalogue().shelf("fraud").version(number)
    assert version is not None
    shop.workspace.record(shop.home.revocation(version.subject))


# Aliases


def test_an_alias_moves_and_is_taken_away(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        shop.push(2.0)
        first = shop.registry.alias(ALICE, "fraud@1", "best", "the better one")
        assert (first.state, first.number, first.was) == ("moved", 1, None)
        second = shop.registry.alias(BOB, "fraud@2", "best")
        assert (second.number, second.was) == (2, 1)
        assert shop.registry.alias(BOB, "fraud@best", "best").state == "unchanged"
        assert shop.registry.pull(LOCAL, "fraud@best", trust_ms=None).version.number == 2
        shop.registry.remove_alias(BOB, "fraud", "best")
        assert refused(shop.registry.pull, LOCAL, "fraud@best").code == "registry.not_found"
        assert [one["op"] for one in shop.records()] == ["pushed", "pushed", *["moved"] * 3]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("production", "registry.is_stage"),
        ("3", "name.invalid"),
        ("007", "name.invalid"),
        ("../x", "name.invalid"),
        ("sha256:00", "name.invalid"),
        ("Best", "name.invalid"),
        ("b" * 65, "name.invalid"),
        ("be\nst", "name.invalid"),
    ],
)
def test_what_an_alias_cannot_be_called(home: Any, name: str, expected: str) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        assert refused(shop.registry.alias, LOCAL, "fraud@1", name).code == expected


def test_an_alias_is_taken_from_no_version_that_one_may_not_alias(home: Any) -> None:
    """This fails if the right is asked for on the version that gains the alias alone."""
    with_attributes(home)
    with opened(home) as shop:
        shop.push(1.0, attributes={"team": "risk", "data_class": "public"})
        shop.push(2.0, attributes={"team": "sales", "data_class": "public"})
        shop.registry.alias(LOCAL, "fraud@1", "best")
        sales = person("sam", Grant("releaser", ("fraud",), where=(("team", ("sales",)),)))
        assert refused(shop.registry.alias, sales, "fraud@2", "best").code == "policy.denied"
        assert shop.registry.alias(sales, "fraud@2", "other").state == "moved"
        # Whose version it is on is not seen, so the alias is not there either.
        error = refused(shop.registry.remove_alias, sales, "fraud", "best")
        assert error.code == "registry.not_found"


# The gate, at the move and at each use


def test_nothing_points_to_what_the_gate_does_not_admit(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        _revoke(shop, 1)
        assert refused(shop.registry.alias, LOCAL, "fraud@1", "best").code == "gate.revoked"
        assert refused(shop.registry.promote, LOCAL, "fraud@1", "staging").code == "gate.revoked"
        assert _pointers(shop) == {}


def test_a_pointer_resolves_only_while_the_gate_says_yes(home: Any) -> None:
    """This fails if the yes at the move is believed afterwards."""
    with opened(home) as shop:
        shop.push(1.0)
        shop.registry.alias(LOCAL, "fraud@1", "best")
        shop.registry.promote(LOCAL, "fraud@1", "production")
        _revoke(shop, 1)
        for text in ("fraud@best", "fraud@production", "fraud@1"):
            error = refused(shop.registry.pull, LOCAL, text)
            assert error.code == "gate.revoked"
            assert "poisoned" in error.cause
        assert shop.accesses()[-1]["rule"] == "guard.revoked"


_APPROVAL = """
[[require]]
evidence = "approval"
role = "approver"
max_age = "1d"
"""


def test_an_approval_for_a_stage_counts_at_that_stage_and_runs_out(home: Any) -> None:
    from keepstone.evidence.predicates import Approval
    from keepstone.evidence.statement import make_statement

    home.layout.policy.write_text(home.layout.policy.read_text() + _APPROVAL)
    with opened(home) as shop:
        version = shop.push(1.0).version
        assert refused(shop.registry.promote, LOCAL, "fraud@1", "staging").code == "gate.denied"
        said = Approval(home.made(), "good for staging", "staging")
        shop.workspace.record(make_statement(version.subject, said, home.keys["bob"]))
        assert refused(shop.registry.promote, LOCAL, "fraud@1", "production").code == "gate.denied"
        assert refused(shop.registry.pull, LOCAL, "fraud@1").code == "gate.denied"
        assert shop.registry.promote(LOCAL, "fraud@1", "staging").state == "moved"
        assert shop.registry.pull(LOCAL, "fraud@staging", trust_ms=None).warnings == ()
        home.clock.now += 2 * DAY
        assert refused(shop.registry.pull, LOCAL, "fraud@staging").code == "gate.denied"


# Stages with four eyes


def test_a_promotion_takes_two_principals(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0, who=ALICE)
        proposed = shop.registry.promote(ALICE, "fraud@1", "production", "it is ready")
        assert (proposed.state, proposed.was) == ("proposed", None)
        assert refused(shop.registry.pull, LOCAL, "fraud@production").code == "registry.not_found"
        (shown,) = shop.registry.show(LOCAL, "fraud@1")["proposals"]
        assert (shown["by"], shown["note"]) == ("user:alice", "it is ready")
        moved = shop.registry.promote(BOB, "fraud@1", "production")
        assert moved.state == "moved"
        assert shop.records()[-1]["proposal"] == int(str(proposed.entry).split("-")[1])
        assert shop.registry.show(LOCAL, "fraud@1")["proposals"] == []
        assert shop.registry.promote(CAROL, "fraud@1", "production").state == "unchanged"


def test_who_proposed_does_not_confirm_whatever_key_they_hold(home: Any) -> None:
    """Two keys of one principal are one pair of eyes."""
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0, who=CAROL)
        shop.registry.promote(ALICE, "fraud@1", "production")
        for again in (ALICE, person("alice", key="another"), person("alice", Grant("releaser"))):
            error = refused(shop.registry.promote, again, "fraud@1", "production")
            assert (error.code, int(error.exit_code)) == ("registry.own_proposal", 1)
        assert _pointers(shop) == {}


def test_who_pushed_does_not_confirm(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0, who=ALICE)
        shop.registry.promote(BOB, "fraud@1", "production")
        error = refused(shop.registry.promote, ALICE, "fraud@1", "production")
        assert error.code == "registry.own_push"
        # Nor after pushing it once more, nor somebody else by pushing the same bytes.
        shop.push(1.0, who=BOB)
        assert refused(shop.registry.promote, ALICE, "fraud@1", "production").code == (
            "registry.own_push"
        )
        assert shop.registry.promote(CAROL, "fraud@1", "production").state == "moved"


def test_a_proposal_runs_out(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0)
        shop.registry.promote(ALICE, "fraud@1", "production")
        home.clock.now += 7 * DAY
        # What was a confirmation a moment ago is a proposal again.
        assert shop.registry.promote(BOB, "fraud@1", "production").state == "proposed"
        assert _pointers(shop) == {}
        home.clock.now += 7 * DAY - 1
        assert shop.registry.promote(ALICE, "fraud@1", "production").state == "moved"


def test_a_proposal_is_for_one_version_and_one_stage(home: Any) -> None:
    four_eyes(home)
    home.edit_policy("staging = { four_eyes = false }", "staging = { four_eyes = true }")
    with opened(home) as shop:
        shop.push(1.0)
        shop.push(2.0)
        shop.registry.promote(ALICE, "fraud@1", "production")
        assert shop.registry.promote(BOB, "fraud@2", "production").state == "proposed"
        assert shop.registry.promote(BOB, "fraud@1", "staging").state == "proposed"
        assert _pointers(shop) == {}


def test_a_proposal_ends_when_the_stage_moves_meanwhile(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        for value in (1.0, 2.0):
            shop.push(value)
        for number in (1, 2):
            shop.registry.promote(ALICE, f"fraud@{number}", "production")
        assert shop.registry.promote(BOB, "fraud@2", "production").state == "moved"
        # The other proposal was to come from nothing.
        assert shop.registry.promote(BOB, "fraud@1", "production").state == "proposed"


def test_a_digest_that_came_in_again_is_another_version(home: Any) -> None:
    """A proposal does not pass from a version to the one that has its digest."""
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0, who=ALICE)
        shop.push(2.0)
        shop.push(3.0)
        shop.registry.collect(LOCAL, CollectRules(keep=1))
        again = shop.push(1.0, who=BOB).version
        assert (again.number, again.pushed_by) == (4, "user:bob")
        shop.registry.promote(ALICE, "fraud@4", "production")
        assert refused(shop.registry.promote, BOB, "fraud@4", "production").code == (
            "registry.own_push"
        )
        assert refused(shop.registry.promote, BOB, "fraud@1", "production").code == (
            "registry.collected"
        )


def test_the_gate_is_asked_when_it_is_confirmed(home: Any) -> None:
    """This fails if the gate is asked for the proposal and believed for the move."""
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0)
        shop.registry.promote(ALICE, "fraud@1", "production")
        _revoke(shop, 1)
        assert refused(shop.registry.promote, BOB, "fraud@1", "production").code == "gate.revoked"
        assert _pointers(shop) == {}


def test_a_second_principal_needs_the_right_on_that_version(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0)
        shop.registry.promote(ALICE, "fraud@1", "production")
        for other, expected in (
            (person("eve", Grant("puller")), "policy.denied"),
            (person("eve", Grant("releaser", ("other",))), "registry.not_found"),
            (person("eve", Grant("releaser", ("fraud",), versions=(2,))), "registry.not_found"),
        ):
            assert refused(shop.registry.promote, other, "fraud@1", "production").code == expected


def test_a_proposal_is_withdrawn(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0)
        assert refused(shop.registry.withdraw, ALICE, "fraud@1", "production").code == (
            "registry.no_proposal"
        )
        shop.registry.promote(ALICE, "fraud@1", "production")
        assert shop.registry.withdraw(BOB, "fraud@1", "production").state == "withdrawn"
        assert shop.registry.promote(BOB, "fraud@1", "production").state == "proposed"


def test_back_to_an_older_version_is_a_promotion_like_any_other(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        for number, value in ((1, 1.0), (2, 2.0)):
            shop.push(value)
            shop.registry.promote(ALICE, f"fraud@{number}", "production")
            shop.registry.promote(BOB, f"fraud@{number}", "production")
        assert shop.registry.promote(ALICE, "fraud@1", "production").state == "proposed"
        moved = shop.registry.promote(BOB, "fraud@1", "production")
        assert (moved.state, moved.number, moved.was) == ("moved", 1, 2)


def test_an_alias_from_before_does_not_stand_in_for_a_stage(home: Any) -> None:
    """This fails if a pointer is believed by its name: four eyes could be gone around by setting
    an alias before the policy names the stage."""
    with opened(home) as shop:
        shop.push(1.0)
        shop.registry.alias(LOCAL, "fraud@1", "live")
    home.edit_policy("production = {", "live = { four_eyes = true }\nproduction = {")
    with opened(home) as shop:
        assert refused(shop.registry.pull, LOCAL, "fraud@live").code == "registry.not_found"
        assert _pointers(shop) == {}
        shop.registry.promote(ALICE, "fraud@1", "live")
        assert shop.registry.promote(BOB, "fraud@1", "live").was is None
        assert shop.registry.pull(LOCAL, "fraud@live", trust_ms=None).version.number == 1


def test_a_stage_that_the_policy_does_not_name_is_none(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        assert refused(shop.registry.promote, LOCAL, "fraud@1", "live").code == (
            "registry.unknown_stage"
        )


def test_a_grant_by_stage_follows_the_stage(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        shop.push(2.0)
        eve = person("eve", Grant("puller", ("fraud",), where=(("stage", ("production",)),)))
        shop.registry.promote(LOCAL, "fraud@1", "production")
        assert [one["number"] for one in shop.registry.list(eve).versions] == [1]
        shop.registry.promote(LOCAL, "fraud@2", "production")
        assert [one["number"] for one in shop.registry.list(eve).versions] == [2]
        assert refused(shop.registry.pull, eve, "fraud@1").code == "registry.not_found"


# Deprecation


def test_a_deprecated_version_is_pulled_with_a_warning_and_nothing_newly_points_to_it(
    home: Any, code: Callable[..., str]
) -> None:
    four_eyes(home)
    with opened(home) as shop:
        shop.push(1.0)
        shop.registry.alias(LOCAL, "fraud@1", "best")
        shop.registry.promote(ALICE, "fraud@1", "production")
        shop.registry.deprecate(LOCAL, "fraud@1", "superseded")
        pulled = shop.registry.pull(LOCAL, "fraud@1", trust_ms=None)
        assert pulled.warnings == ("fraud@1 is deprecated: superseded",)
        assert shop.registry.pull(LOCAL, "fraud@best", trust_ms=None).warnings == pulled.warnings
        for action, name in (("alias", "other"), ("promote", "staging"), ("promote", "production")):
            for who in (ALICE, BOB):
                found = code(getattr(shop.registry, action), who, "fraud@1", name)
                assert found == "registry.deprecated/1"
        assert code(shop.registry.deprecate, LOCAL, "fraud@1", "a\nb") == "registry.no_reason/2"


def test_a_revocation_names_a_version_or_what_points_to_it(home: Any) -> None:
    from keepstone.workspace.statements import approve, revoke

    with opened(home) as shop:
        first, second = shop.push(1.0).version, shop.push(2.0).version
        shop.registry.alias(LOCAL, "fraud@2", "best")
    assert approve(home.site, "fraud@1", home.keys["bob"], "looked").subject == first.subject
    done = revoke(home.site, "artifact", "fraud@best", home.keys["carol"], "poisoned")
    assert done.subject == Subject("fraud", second.digest)
    with opened(home) as shop:
        assert refused(shop.registry.pull, LOCAL, "fraud@2").code == "gate.revoked"
        assert shop.registry.pull(LOCAL, "fraud@1", trust_ms=None)
    revoke(home.site, "artifact", "fraud@1", home.keys["carol"], "poisoned too")
    with opened(home) as shop:
        assert refused(shop.registry.pull, LOCAL, "fraud@1").code == "gate.revoked"
