"""The gate, attacked: each guard has the case just inside and the case just outside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, OperationalError
from keepstone.evidence.made import Tool
from keepstone.evidence.predicates import LedgerHead, Target
from keepstone.policy.compile import cedar_text, validated
from keepstone.policy.engine import Engine
from keepstone.policy.gate import Verdict, admit, gate

DAY = 86_400_000
World = Any


def refused(world: World, rule: str, now: int | None = None) -> Verdict:
    verdict: Verdict = world.judge(now)
    assert not verdict.allowed
    assert verdict.rule == rule
    assert not verdict.evidence or verdict.rule
    with pytest.raises(DeniedError) as caught:
        verdict.require()
    assert caught.value.code == ("gate.revoked" if rule == "guard.revoked" else "gate.denied")
    assert any(reason.rule == rule and reason.remedy for reason in verdict.missing)
    return verdict


def test_local_admits_on_a_clean_scan_and_says_what_is_not_proven(local: World) -> None:
    scan = local.scan()
    verdict = local.judge()
    assert verdict.allowed
    assert verdict.rule == "gate.admit"
    assert verdict.require() is verdict
    assert verdict.profile == "local"
    assert verdict.evidence == (scan.digest,)
    assert verdict.not_proven == ("origin", "robustness")
    assert verdict.expires == local.now + 3_600_000
    assert not verdict.missing


def test_a_trusted_publisher_proves_the_origin(local: World) -> None:
    local.scan()
    local.train()
    assert local.judge().not_proven == ("robustness",)


def test_a_publisher_the_policy_does_not_know_proves_nothing(local: World) -> None:
    local.scan()
    local.train(by="stranger")
    local.sign(publisher="stranger")
    assert "origin" in local.judge().not_proven


def test_production_admits_on_everything_it_asks_for(production: World) -> None:
    verdict = production.complete().judge()
    assert verdict.allowed
    assert len(verdict.evidence) == 4
    assert {person for reason in verdict.reasons for person in reason.persons} == {
        "observer",
        "alice",
        "bob",
    }
    assert all(reason.entries for reason in verdict.reasons if reason.persons)


@pytest.mark.parametrize("left_out", ["scan", "sign", "train", "approve"])
def test_production_misses_each_piece(production: World, left_out: str) -> None:
    for piece in ("scan", "sign", "train", "approve"):
        if piece != left_out:
            getattr(production, piece)()
    kind = {"sign": "signature", "train": "training", "approve": "approval"}.get(left_out, left_out)
    verdict = refused(production, f"require.{kind}")
    # The others are satisfied, and the verdict says so.
    assert [reason.rule for reason in verdict.missing] == [f"require.{kind}"]


def test_without_any_evidence_nothing_is_admitted(local: World, production: World) -> None:
    refused(local, "require.scan")
    verdict = refused(production, "require.scan")
    assert "guard.origin" in {reason.rule for reason in verdict.missing}


# Results.


@pytest.mark.parametrize("outcome", [Outcome.FLAGGED, Outcome.NOT_EVALUATED])
def test_only_clean_is_clean(local: World, outcome: Outcome) -> None:
    local.scan(outcome)
    rule = "guard.flagged" if outcome is Outcome.FLAGGED else "require.scan"
    verdict = refused(local, rule)
    assert outcome.value.replace("_", " ") in verdict.reasons[-1].detail


@pytest.mark.parametrize("outcome", [Outcome.FLAGGED, Outcome.NOT_EVALUATED])
def test_a_later_bad_scan_overrules_an_earlier_clean_one(local: World, outcome: Outcome) -> None:
    local.scan()
    local.scan(outcome)
    assert not local.judge().allowed


def test_a_back_dated_clean_scan_is_still_the_later_word_only_by_the_ledger(local: World) -> None:
    local.scan(age=0)
    local.scan(Outcome.FLAGGED, age=DAY)
    refused(local, "guard.flagged")


def test_a_later_clean_scan_clears_a_false_alarm(local: World) -> None:
    local.scan(Outcome.FLAGGED, age=1000)
    local.scan()
    assert local.judge().allowed


def test_a_scan_flagged_by_anyone_who_may_scan_denies(local: World) -> None:
    local.edit("[roles.approver]", '[roles.scanner]\ngrants = ["state.scan"]\n\n[roles.approver]')
    local.edit('name = "bob"\nroles = ["approver"]', 'name = "bob"\nroles = ["scanner"]')
    local.scan()
    local.scan(Outcome.FLAGGED, by="bob")
    assert local.judge().rule == "guard.flagged"
    # Nor does a second scanner's clean scan fulfil what is asked of the observer.
    local.entries.clear()
    local.scan(by="bob")
    refused(local, "require.scan")


def test_nobody_else_may_scan_sign_or_approve(production: World) -> None:
    production.scan(by="bob")
    production.sign(by="alice")
    production.train(by="bob")
    production.approve(by="alice")
    production.approve(by="stranger")
    verdict = production.judge()
    assert not verdict.allowed
    assert len(verdict.missing) == 5
    assert "lacks the right" in next(
        reason.detail for reason in verdict.missing if reason.rule == "require.approval"
    )


# Revocation.


def test_a_revoked_artifact_is_denied_whatever_comes_after(production: World) -> None:
    production.complete()
    production.revoke()
    production.complete()
    verdict = refused(production, "guard.revoked")
    assert verdict.reasons[0].entries == (5,)
    assert "poisoned" in verdict.reasons[0].detail


def test_a_reinstatement_admits_again_until_it_runs_out(production: World) -> None:
    production.complete()
    revocation = production.revoke()
    production.reinstate(revocation, expires=production.now + 60_000)
    verdict = production.judge()
    assert verdict.allowed
    assert verdict.expires == production.now + 60_000
    refused(production, "guard.revoked", production.now + 60_000)


def test_a_reinstatement_without_an_end_does_not_shorten_the_admission(production: World) -> None:
    production.complete()
    production.reinstate(production.revoke())
    assert production.judge().expires == production.now + 3_600_000


def test_whoever_revoked_cannot_reinstate(production: World) -> None:
    production.edit('roles = ["responder"]', 'roles = ["responder", "reinstater"]')
    production.complete()
    production.reinstate(production.revoke(by="carol"), by="carol")
    refused(production, "guard.revoked")


def test_a_revoked_key_takes_its_approval_with_it(production: World) -> None:
    production.complete()
    production.revoke(target=Target("key", Digest(production.keys["bob"].key_id)))
    verdict = refused(production, "require.approval")
    assert "revoked" in verdict.missing[0].detail


def test_a_revoked_publisher_ends_the_origin(production: World) -> None:
    production.complete()
    production.revoke(target=Target("key", Digest(production.keys["alice"].key_id)))
    verdict = production.judge()
    assert {reason.rule for reason in verdict.missing} == {
        "require.signature",
        "require.training",
        "guard.origin",
    }


def test_a_revoked_statement_no_longer_counts(production: World) -> None:
    production.scan()
    production.sign()
    production.train()
    approval = production.approve()
    assert production.judge().allowed
    production.revoke(target=Target("statement", approval.digest))
    refused(production, "require.approval")


def test_an_unreadable_entry_stops_the_gate(local: World) -> None:
    local.scan()
    local.entries.append((2, b'{"envelope":{},"kind":"statement","t":1}'))
    with pytest.raises(OperationalError) as caught:
        local.judge()
    assert caught.value.code == "evidence.unreadable"


# Time.


def test_a_scan_counts_until_it_is_exactly_as_old_as_allowed(production: World) -> None:
    production.complete()
    limit = production.now + 30 * DAY
    verdict = production.judge(limit - 1)
    assert verdict.allowed
    assert verdict.expires == limit
    stale = refused(production, "require.scan", limit)
    assert "older than the policy allows" in stale.missing[0].detail


def test_an_expired_approval_does_not_count(production: World) -> None:
    production.scan()
    production.sign()
    production.train()
    production.approve(expires=production.now + 1000)
    assert production.judge(production.now + 999).expires == production.now + 1000
    refused(production, "require.approval", production.now + 1000)


def test_a_late_clock_of_the_signer_cannot_freshen_an_old_entry(production: World) -> None:
    production.sign()
    production.train()
    production.approve()
    # Logged 40 days ago and dated now: the entry's time counts.
    production.scan(age=0, logged=production.now - 40 * DAY)
    refused(production, "require.scan")


def test_an_old_statement_logged_today_is_old(production: World) -> None:
    production.sign()
    production.train()
    production.approve()
    production.scan(age=40 * DAY, logged=production.now)
    refused(production, "require.scan")


def test_of_two_approvals_the_more_lasting_counts(production: World) -> None:
    production.scan()
    production.sign()
    production.train()
    for expires in (production.now + 5000, production.now + 9000, production.now + 7000):
        production.approve(expires=expires)
    assert production.judge().expires == production.now + 9000


# Who must not be whom.


def test_the_publisher_cannot_approve_their_own_model(production: World) -> None:
    production.scan()
    production.sign(publisher="erin")
    production.train(by="erin")
    production.approve(by="erin")
    verdict = refused(production, "require.approval")
    assert "who acted as publisher" in verdict.missing[0].detail
    production.approve(by="bob")
    assert production.judge().allowed


def test_publishing_by_signature_alone_bars_from_approving(production: World) -> None:
    production.scan()
    production.sign(publisher="erin")
    production.train(by="alice")
    production.approve(by="erin")
    refused(production, "require.approval")


def test_a_publisher_may_approve_what_others_published(production: World) -> None:
    production.scan()
    production.sign()
    production.train()
    production.approve(by="erin")
    assert production.judge().allowed


def test_a_second_key_does_not_make_a_second_person(production: World) -> None:
    from keepstone.policy.parse import add_signer

    production.policy = add_signer(
        production.policy, "bob", ("approver",), production.keys["bob2"].verifying
    )
    production.edit("count = 1", "count = 2")
    production.complete()
    production.approve(by="bob2")
    production.approve(by="bob")
    verdict = refused(production, "require.approval")
    assert "has 1 of 2" in verdict.missing[0].detail
    production.approve(by="frank")
    assert production.judge().allowed


def test_a_publishers_other_key_cannot_approve(production: World) -> None:
    from keepstone.policy.parse import add_signer

    production.policy = add_signer(
        production.policy, "alice", ("approver",), production.keys["bob2"].verifying
    )
    production.scan()
    production.sign()
    production.train()
    production.approve(by="bob2")
    refused(production, "require.approval")


def test_two_signatures_under_one_approval_are_two_persons(production: World) -> None:
    production.edit("count = 1", "count = 2")
    production.scan()
    production.sign()
    production.train()
    production.approve("bob", "frank")
    assert production.judge().allowed


def test_one_short_of_the_count_is_not_enough(production: World) -> None:
    production.edit("count = 1", "count = 3")
    production.complete()
    production.approve(by="frank")
    refused(production, "require.approval")
    production.approve(by="erin")
    assert production.judge().allowed


# Names, endpoints, and the gate's own inputs.


def test_an_approval_for_another_endpoint_or_name_does_not_count(production: World) -> None:
    production.scan()
    production.sign()
    production.train()
    production.approve(endpoint="endpoint-2")
    assert "endpoint-2" in refused(production, "require.approval").missing[0].detail
    production.approve(subject=Subject("letters", production.subject.digest))
    assert "letters" in refused(production, "require.approval").missing[0].detail
    production.approve(endpoint="endpoint-1")
    assert production.judge().allowed


def test_evidence_about_another_digest_is_worth_nothing(production: World) -> None:
    production.complete()
    production.subject = Subject("digits", Digest("ac" * 32))
    refused(production, "require.scan")


def test_the_gate_needs_a_name_and_one_policy(local: World, production: World) -> None:
    trust = local.trust()
    engine = Engine(trust.policy)
    with pytest.raises(InputError) as caught:
        gate(engine, trust, local.evidence(name=None), "e")
    assert caught.value.code == "gate.no_name"
    with pytest.raises(InputError) as caught:
        gate(engine, production.trust(), local.evidence(), "e")
    assert caught.value.code == "gate.mixed_policy"


def test_a_policy_that_errors_admits_nothing(local: World) -> None:
    local.scan()
    trust = local.trust()
    text = cedar_text(trust.policy)
    # Every permit matches, and one forbid is skipped by Cedar because it errors.
    broken = text + (
        '\n@id("x") forbid (principal is Gate, action == Action::"model.admit", resource is Model)'
        "\nwhen { context has satisfied && 9223372036854775807 + 1 > 0 };"
    )
    engine = Engine(trust.policy, validated(broken))
    verdict = gate(engine, trust, local.evidence(), "e")
    assert not verdict.allowed
    assert verdict.errors
    assert verdict.rule == "policy.error"
    with pytest.raises(OperationalError) as caught:
        verdict.require()
    assert caught.value.code == "policy.error"


def test_a_policy_without_its_permit_admits_nothing(local: World) -> None:
    local.scan()
    trust = local.trust()
    text = cedar_text(trust.policy).replace(
        "permit (principal is Gate", "forbid (principal is Gate"
    )
    verdict = gate(Engine(trust.policy, validated(text)), trust, local.evidence(), "e")
    assert not verdict.allowed
    assert verdict.rule == "no.permit"


def test_a_verdict_cannot_be_made_by_hand(local: World) -> None:
    verdict = local.judge()
    fields = {name: getattr(verdict, name) for name in verdict.__slots__}
    with pytest.raises(InputError) as caught:
        Verdict(**{**fields, "allowed": True, "_seal": object()})
    assert caught.value.code == "gate.by_hand"


def test_a_no_is_never_signed(local: World) -> None:
    with pytest.raises(DeniedError):
        admit(
            local.judge(),
            local.keys["gate"],
            contract=Digest("01" * 32),
            ledger=LedgerHead(1, Digest("02" * 32)),
            tool=Tool("keepstone", "0"),
        )


PIECES = ("scan", "flag", "unknown", "sign", "train", "bob", "erin", "erin-signs", "revoke")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_production_admits_exactly_when_a_plain_reading_of_it_does(
    production: World, pieces: list[str]
) -> None:
    production.entries.clear()
    act = {
        "scan": production.scan,
        "flag": lambda: production.scan(Outcome.FLAGGED),
        "unknown": lambda: production.scan(Outcome.NOT_EVALUATED),
        "sign": production.sign,
        "train": production.train,
        "bob": production.approve,
        "erin": lambda: production.approve(by="erin"),
        "erin-signs": lambda: production.sign(publisher="erin"),
        "revoke": production.revoke,
    }
    for number, piece in enumerate(pieces):
        # A copy of a statement counts at its first place, so each is its own.
        production.now += number + 1
        act[piece]()
    scans = [piece for piece in pieces if piece in ("scan", "flag", "unknown")]
    approvals = {"bob" in pieces, "erin" in pieces and "erin-signs" not in pieces}
    expected = (
        "revoke" not in pieces
        and scans[-1:] == ["scan"]
        and ("sign" in pieces or "erin-signs" in pieces)
        and "train" in pieces
        and True in approvals
    )
    assert production.judge().allowed is expected
