"""What holds of the evidence, who can end it, and everybody who tries to get around that."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, OperationalError, VerificationError
from keepstone.evidence.dsse import Envelope, Signed, add_signature, pae, sign_envelope
from keepstone.evidence.predicates import (
    Admission,
    Approval,
    Input,
    LedgerHead,
    Made,
    Predicate,
    Reinstatement,
    Revocation,
    Scan,
    Signature,
    Target,
    Tool,
    Training,
)
from keepstone.evidence.record import entry_body
from keepstone.evidence.statement import PAYLOAD_TYPE, Statement, make_statement
from keepstone.evidence.verify import (
    MAX_SKEW_MS,
    Evidence,
    EvidenceBase,
    Refused,
    Signer,
    Why,
    require_right,
    verify_statement,
)
from keepstone.identity.signing import SigningKey
from keepstone.ledger.entry import Kind, make_entry

MODEL, DATASET, REPORT = (Digest.of(text) for text in (b"model", b"dataset", b"report"))
NOW = 1_000_000
STEWARD = frozenset({"state.revocation", "state.reinstatement"})

# name -> (person, role, rights); ann2 is a second key of the same person.
PEOPLE: dict[str, tuple[str, str, frozenset[str]]] = {
    "observer": ("workspace", "observer", frozenset({"state.scan", "state.signature"})),
    "publisher": ("acme", "publisher", frozenset({"state.training"})),
    "approver": ("carol", "approver", frozenset({"state.approval"})),
    "gate": ("gate", "gate", frozenset({"state.admission"})),
    "ann": ("ann", "steward", STEWARD),
    "ann2": ("ann", "steward", STEWARD),
    "bob": ("bob", "steward", STEWARD),
    "nobody": ("nobody", "guest", frozenset()),
}
KEYS = {name: SigningKey.generate() for name in [*PEOPLE, "stranger"]}
SIGNERS = {
    KEYS[name].key_id: Signer(person, role, KEYS[name].verifying)
    for name, (person, role, _) in PEOPLE.items()
}
RIGHTS = {KEYS[name].key_id: rights for name, (_, _, rights) in PEOPLE.items()}


def made(at: int = NOW, expires: int | None = None, inputs: Iterable[Digest] = ()) -> Made:
    listed = tuple(Input("input", digest) for digest in inputs)
    return Made(Tool("test", "1"), at, expires, listed)


@dataclass
class Log:
    """A ledger's statement entries, and a clock that makes every statement a new one."""

    entries: list[tuple[int, bytes]] = field(default_factory=list)
    time: int = NOW

    def add(self, envelope: Envelope) -> Digest:
        self.entries.append((len(self.entries) * 3, entry_body(envelope, self.time)))
        return envelope.digest

    def state(self, by: str, subject: Subject, predicate: Predicate) -> Digest:
        return self.add(make_statement(subject, predicate, KEYS[by]))

    def tick(self) -> int:
        self.time += 1
        return self.time

    def scan(self, by: str = "observer", digest: Digest = MODEL, name: str = "digits",
             **when: Any) -> Digest:  # fmt: skip
        predicate = Scan(made(self.tick(), **when), Outcome.CLEAN, "onnx", (), 0, REPORT, "1")
        return self.state(by, Subject(name, digest), predicate)

    def train(self, by: str = "publisher") -> Digest:
        predicate = Training(made(self.tick()), "sk", {}, {}, Input("dataset", DATASET))
        return self.state(by, Subject("digits", MODEL), predicate)

    def approve(self, *inputs: Digest, by: str = "approver") -> Digest:
        predicate = Approval(made(self.tick(), inputs=inputs), "Fine.")
        return self.state(by, Subject("digits", MODEL), predicate)

    def revoke(self, by: str = "ann", digest: Digest = MODEL) -> Digest:
        predicate = Revocation(made(self.tick()), Target("artifact", digest), "Poisoned.")
        return self.state(by, Subject("digits", digest), predicate)

    def revoke_statement(self, digest: Digest, by: str = "ann") -> Digest:
        predicate = Revocation(made(self.tick()), Target("statement", digest), "Wrong.")
        return self.state(by, Subject("statement", digest), predicate)

    def revoke_key(self, whose: str, by: str = "ann") -> Digest:
        digest = Digest(KEYS[whose].key_id)
        predicate = Revocation(made(self.tick()), Target("key", digest), "Stolen.")
        return self.state(by, Subject("key", digest), predicate)

    def reinstate(self, revocation: Digest, by: str = "bob", digest: Digest = MODEL,
                  **when: Any) -> Digest:  # fmt: skip
        predicate = Reinstatement(made(self.tick(), **when), revocation, "A false alarm.")
        return self.state(by, Subject("digits", digest), predicate)

    def base(self) -> EvidenceBase:
        return EvidenceBase.build(self.entries, SIGNERS, RIGHTS)

    def about(self, digest: Digest = MODEL, name: str | None = "digits",
              now: int | None = None) -> Evidence:  # fmt: skip
        return self.base().about(digest, name, self.time if now is None else now)

    def why(self, statement: Digest, **about: Any) -> Why | None:
        return {item.digest: item.why for item in self.about(**about).refused}.get(statement)

    def live(self, **about: Any) -> list[Digest]:
        return [item.digest for item in self.about(**about).live]


@pytest.fixture
def log() -> Log:
    return Log()


# --- one statement ----------------------------------------------------------------------------


def scan_envelope(by: str = "observer") -> Envelope:
    predicate = Scan(made(), Outcome.CLEAN, "onnx", (), 0, REPORT, "1")
    return make_statement(Subject("digits", MODEL), predicate, KEYS[by])


def test_a_verified_statement_says_what_and_who() -> None:
    envelope = scan_envelope()
    for given_ in (envelope, envelope.to_json(), json.dumps(envelope.to_dict(), indent=2).encode()):
        found = verify_statement(given_, SIGNERS, entry_index=4, logged_at=9)
        assert found.signers == (KEYS["observer"].key_id,)
        assert found.digest == envelope.digest
        assert (found.kind, found.right) == ("scan", "state.scan")
        assert found.subject == Subject("digits", MODEL)
        assert (found.entry_index, found.logged_at) == (4, 9)
        assert require_right(found, RIGHTS) is found


@pytest.mark.parametrize("by", ["approver", "publisher", "ann", "nobody"])
def test_a_signer_states_only_what_its_role_may(by: str) -> None:
    found = verify_statement(scan_envelope(by), SIGNERS)
    with pytest.raises(DeniedError, match=r"statement\.no_right"):
        require_right(found, RIGHTS)
    with pytest.raises(DeniedError, match=r"statement\.no_right"):
        require_right(found, {})


def test_a_statement_that_does_not_verify_is_refused() -> None:
    with pytest.raises(VerificationError, match=r"signature\.unknown_key"):
        verify_statement(scan_envelope("stranger"), SIGNERS)
    envelope = scan_envelope()
    swapped = replace(envelope, payload=envelope.payload.replace(b"clean", b"cleaN"))
    with pytest.raises(VerificationError, match=r"signature\.invalid"):
        verify_statement(swapped, SIGNERS)
    with pytest.raises(InputError, match=r"statement\.payload_type"):
        verify_statement(sign_envelope("text/plain", envelope.payload, KEYS["ann"]), SIGNERS)
    with pytest.raises(InputError, match=r"statement\.malformed"):
        verify_statement(sign_envelope(PAYLOAD_TYPE, b"{}", KEYS["ann"]), SIGNERS)


def test_the_signature_is_checked_before_the_payload_is_read() -> None:
    garbage = sign_envelope(PAYLOAD_TYPE, b"not json", KEYS["stranger"])
    with pytest.raises(VerificationError):
        verify_statement(garbage, SIGNERS)


# --- what holds -------------------------------------------------------------------------------


def test_what_is_stated_rightly_holds(log: Log) -> None:
    scan, train, approval = log.scan(), log.train(), log.approve()
    found = log.about()
    assert [item.digest for item in found.live] == [scan, train, approval]
    assert [item.entry_index for item in found.live] == [0, 3, 6]
    assert [item.digest for item in found.of("approval")] == [approval]
    assert (found.refused, found.denied, found.revocations) == ((), None, ())
    assert log.live(digest=DATASET) == []


def test_evidence_goes_by_digest_and_name(log: Log) -> None:
    scan = log.scan(name="cats")
    assert log.live(name=None) == [scan]
    assert log.live() == []
    assert log.why(scan) is Why.OTHER_NAME
    other = log.scan(digest=DATASET)
    assert other not in log.live(name=None)


@pytest.mark.parametrize("by", ["approver", "publisher", "nobody", "ann"])
def test_a_statement_without_the_right_does_not_count(log: Log, by: str) -> None:
    scan = log.scan(by=by)
    assert log.live() == []
    assert log.why(scan) is Why.NO_RIGHT


def test_a_stranger_is_reported_with_what_it_claims(log: Log) -> None:
    scan = log.scan(by="stranger")
    (refused,) = log.about().refused
    assert (refused.digest, refused.why, refused.kind) == (scan, Why.UNKNOWN_SIGNER, "scan")
    assert refused.subject == Subject("digits", MODEL)
    assert log.live() == []
    # A stranger's garbage is nobody's statement, so it cannot stop anything.
    log.add(sign_envelope(PAYLOAD_TYPE, b"garbage", KEYS["stranger"]))
    good = log.scan()
    assert log.live() == [good]


def test_a_revocation_does_not_end_with_its_signer_s_place_in_the_policy(log: Log) -> None:
    log.scan()
    log.revoke()
    without = {key: signer for key, signer in SIGNERS.items() if signer.name != "ann"}
    base = EvidenceBase.build(log.entries, without, RIGHTS)
    with pytest.raises(OperationalError) as caught:
        base.about(MODEL, "digits", log.time)
    assert caught.value.code == "evidence.unreadable"
    assert "does not name its signer" in caught.value.cause


def test_a_broken_signature_is_reported(log: Log) -> None:
    envelope = scan_envelope()
    broken = replace(envelope, payload=envelope.payload.replace(b'"onnx"', b'"ONNX"'))
    log.add(broken)
    assert log.why(broken.digest) is Why.SIGNATURE_INVALID
    assert log.live() == []


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (NOW - MAX_SKEW_MS, Why.NOT_YET),
        (NOW + 1 - MAX_SKEW_MS, None),
        (NOW + 1, None),
        (NOW + 49, None),
        (NOW + 50, Why.EXPIRED),
        (NOW + 51, Why.EXPIRED),
    ],
)
def test_the_boundaries_of_time(log: Log, now: int, why: Why | None) -> None:
    scan = log.scan(expires=NOW + 50)  # made at NOW + 1
    assert log.why(scan, now=now) is why
    assert log.live(now=now) == ([] if why else [scan])


def test_logging_an_old_statement_again_does_not_renew_it(log: Log) -> None:
    envelope = scan_envelope()
    log.add(envelope)
    log.time += 500
    log.add(envelope)
    again = sign_envelope(PAYLOAD_TYPE, envelope.payload, KEYS["observer"])
    log.add(again)
    (item,) = log.about().live
    assert (item.digest, item.logged_at) == (envelope.digest, NOW)
    # Either envelope still names the one statement.
    assert log.base().statement(again.digest) == log.base().statement(envelope.digest) == item


def test_two_signers_of_one_statement_count_apart(log: Log) -> None:
    envelope = add_signature(scan_envelope(), KEYS["nobody"])
    log.add(envelope)
    (item,) = log.about().live
    assert item.signers == (KEYS["observer"].key_id,)
    assert len(log.base().statements[0].signers) == 2


# --- a revoked artifact -----------------------------------------------------------------------


def test_a_revoked_artifact_is_denied_whatever_comes_later(log: Log) -> None:
    log.scan()
    revocation = log.revoke()
    for _ in range(3):
        log.scan(), log.train(), log.approve()
    found = log.about()
    assert found.denied is not None
    assert found.denied.digest == revocation
    assert found.denied.revocation.reason == "Poisoned."
    assert len(found.live) == 10
    assert all(item.kind != "revocation" for item in found.live)
    # Under any name, and at any later time.
    assert log.about(name="kittens").denied is not None
    assert log.about(now=NOW * 10**6).denied is not None
    assert log.about(digest=DATASET).denied is None
    assert log.base().denied(MODEL, log.time) == found.denied


def scan_of_one_file(log: Log, file: Digest, by: str = "observer") -> None:
    predicate = Scan(made(log.tick()), Outcome.CLEAN, "onnx", (), 0, REPORT, "1")
    subject = Subject("digits", MODEL)
    log.add(make_statement(subject, predicate, KEYS[by], file_sha256=file))


@pytest.mark.parametrize("scanned_first", [True, False])
def test_a_revoked_file_is_denied_as_an_artifact(log: Log, scanned_first: bool) -> None:
    """What `sha256sum` prints is what people revoke; it is not the artifact's digest."""
    file = Digest.of(b"the bytes")
    if scanned_first:
        scan_of_one_file(log, file)
        log.revoke(digest=file)
    else:
        log.revoke(digest=file)
        assert log.base().denied(MODEL, log.time) is None
        scan_of_one_file(log, file)
    approval = log.approve(MODEL)
    denied = log.base().about(MODEL, "digits", log.time).denied
    assert denied is not None
    assert log.base().ended(approval, log.time) is not None
    log.reinstate(denied.digest, by="bob", digest=file)
    assert log.base().denied(MODEL, log.time) is None
    assert log.base().ended(approval, log.time) is None


def test_who_may_not_scan_ties_no_file_to_an_artifact(log: Log) -> None:
    file = Digest.of(b"the bytes")
    scan_of_one_file(log, file, by="publisher")
    log.revoke(digest=file)
    assert log.base().denied(MODEL, log.time) is None


def test_a_revocation_dated_in_the_future_counts_at_once(log: Log) -> None:
    log.time += 10 * MAX_SKEW_MS
    log.revoke()
    assert log.about(now=NOW).denied is not None


@pytest.mark.parametrize("by", ["nobody", "observer", "approver"])
def test_a_revocation_without_the_right_is_ignored_and_reported(log: Log, by: str) -> None:
    scan, revocation = log.scan(), log.revoke(by=by)
    assert log.about().denied is None
    assert log.live() == [scan]
    assert log.why(revocation) is Why.NO_RIGHT
    (ignored,) = log.base().ignored_revocations
    assert (ignored.digest, ignored.why) == (revocation, Why.NO_RIGHT)


def test_only_another_person_reinstates(log: Log) -> None:
    revocation = log.revoke(by="ann")
    for by, why in (("ann", Why.SAME_SIGNER), ("ann2", Why.SAME_SIGNER),
                    ("approver", Why.NO_RIGHT), ("stranger", Why.UNKNOWN_SIGNER)):  # fmt: skip
        attempt = log.reinstate(revocation, by=by)
        assert log.about().denied is not None
        assert log.why(attempt) is why
    lifted = log.reinstate(revocation, by="bob")
    found = log.about()
    assert found.denied is None
    assert [(one.digest, one.lifted_by) for one in found.revocations] == [(revocation, lifted)]
    assert lifted in log.live()


def test_a_co_signer_of_the_revocation_is_no_second_person(log: Log) -> None:
    """Ann revokes with Bob's signature beside hers: neither of them can lift it alone."""
    predicate = Revocation(made(log.tick()), Target("artifact", MODEL), "x")
    both = add_signature(
        make_statement(Subject("digits", MODEL), predicate, KEYS["ann"]), KEYS["bob"]
    )
    log.add(both)
    log.reinstate(both.digest, by="bob")
    assert log.about().denied is not None


def test_a_reinstatement_signed_by_both_counts_through_the_other(log: Log) -> None:
    revocation = log.revoke(by="ann")
    predicate = Reinstatement(made(log.tick()), revocation, "x")
    signed = make_statement(Subject("digits", MODEL), predicate, KEYS["ann"])
    log.add(add_signature(signed, KEYS["bob"]))
    assert log.about().denied is None


def test_a_reinstatement_lifts_only_the_revocation_it_names(log: Log) -> None:
    first, second = log.revoke(), log.revoke()
    log.reinstate(first)
    found = log.about()
    assert found.denied is not None
    assert found.denied.digest == second
    log.reinstate(second)
    assert log.about().denied is None


def test_a_later_revocation_denies_again(log: Log) -> None:
    log.reinstate(log.revoke())
    again = log.revoke()
    found = log.about()
    assert found.denied is not None
    assert found.denied.digest == again


def test_a_replayed_revocation_is_not_a_new_one_but_another_signer_s_is(log: Log) -> None:
    predicate = Revocation(made(log.tick()), Target("artifact", MODEL), "x")
    envelope = make_statement(Subject("digits", MODEL), predicate, KEYS["ann"])
    log.add(envelope)
    log.reinstate(envelope.digest)
    log.add(envelope)
    log.add(sign_envelope(PAYLOAD_TYPE, envelope.payload, KEYS["ann"]))
    assert log.about().denied is None
    log.add(sign_envelope(PAYLOAD_TYPE, envelope.payload, KEYS["ann2"]))
    assert log.about().denied is not None


def test_a_reinstatement_cannot_be_made_in_advance(log: Log) -> None:
    predicate = Revocation(made(log.tick()), Target("artifact", MODEL), "x")
    envelope = make_statement(Subject("digits", MODEL), predicate, KEYS["ann"])
    early = log.reinstate(envelope.digest)
    log.add(envelope)
    assert log.about().denied is not None
    assert log.why(early) is Why.NOTHING_TO_LIFT


def test_a_reinstatement_of_something_else_lifts_nothing(log: Log) -> None:
    revocation, other = log.revoke(), log.revoke(digest=DATASET)
    wrong = [
        log.reinstate(Digest.of(b"none")),
        log.reinstate(other),  # the dataset's revocation, filed under the model
        log.reinstate(revocation, digest=DATASET),  # and the other way round
    ]
    assert log.about().denied is not None
    assert log.about(digest=DATASET).denied is not None
    assert log.why(wrong[0]) is log.why(wrong[1]) is Why.NOTHING_TO_LIFT
    assert log.why(wrong[2], digest=DATASET) is Why.NOTHING_TO_LIFT


def test_a_denial_comes_back_when_its_reinstatement_ends(log: Log) -> None:
    revocation = log.revoke()
    log.reinstate(revocation, expires=NOW + 100)
    assert log.about(now=NOW + 99).denied is None
    assert log.about(now=NOW + 100).denied is not None


def test_a_denial_comes_back_when_its_reinstatement_is_revoked(log: Log) -> None:
    reinstatement = log.reinstate(log.revoke())
    log.revoke_statement(reinstatement)
    assert log.about().denied is not None
    assert log.why(reinstatement) is Why.STATEMENT_REVOKED


def test_a_denial_comes_back_when_the_reinstater_s_key_is_revoked(log: Log) -> None:
    reinstatement = log.reinstate(log.revoke(), by="bob")
    log.revoke_key("bob")
    assert log.about().denied is not None
    assert log.why(reinstatement) is Why.KEY_REVOKED


def test_a_reinstatement_may_list_what_it_lifts(log: Log) -> None:
    revocation = log.revoke()
    lifted = log.reinstate(revocation, inputs=[revocation, MODEL])
    assert log.about().denied is None
    assert log.live() == [lifted]


# --- a revoked statement ----------------------------------------------------------------------


def test_a_revoked_statement_ends(log: Log) -> None:
    scan, other = log.scan(), log.scan()
    log.revoke_statement(scan)
    assert log.live() == [other]
    assert log.why(scan) is Why.STATEMENT_REVOKED
    assert log.about().denied is None


def test_signing_a_revoked_statement_again_is_no_way_back(log: Log) -> None:
    envelope = scan_envelope()
    log.add(envelope)
    log.revoke_statement(envelope.digest)
    observer = KEYS["observer"]
    for again in (
        envelope,
        sign_envelope(PAYLOAD_TYPE, envelope.payload, observer),
        add_signature(envelope, KEYS["nobody"]),
        replace(envelope, signatures=(*envelope.signatures, Signed("", b"x"))),
    ):
        log.add(again)
        assert log.live() == []
        ended = log.base().ended(again.digest, log.time)
        assert ended is not None
        assert ended.why is Why.STATEMENT_REVOKED
    # A new statement is a new statement: the scanner ran again.
    fresh = log.scan()
    assert log.live() == [fresh]


def test_a_statement_can_be_revoked_before_it_is_logged_and_by_its_payload(log: Log) -> None:
    envelope = scan_envelope()
    log.revoke_statement(envelope.digest)
    log.add(envelope)
    assert log.why(envelope.digest) is Why.STATEMENT_REVOKED
    other = log.scan()
    found = log.base().statement(other)
    assert found is not None
    log.revoke_statement(found.payload_digest)
    assert log.live() == []


def test_what_rests_on_a_revoked_statement_ends_with_it(log: Log) -> None:
    scan = log.scan()
    approval = log.approve(scan)
    on_top = log.approve(approval)
    apart = log.approve()
    assert log.live() == [scan, approval, on_top, apart]
    log.revoke_statement(scan)
    assert log.live() == [apart]
    assert log.why(approval) is log.why(on_top) is Why.INPUT_ENDED


def test_an_approval_made_after_the_revocation_does_not_count_either(log: Log) -> None:
    scan = log.scan()
    log.revoke_statement(scan)
    approval = log.approve(scan)
    assert log.why(approval) is Why.INPUT_ENDED


def test_a_revocation_cannot_be_revoked(log: Log) -> None:
    """Else whoever may revoke could undo a denial alone: only a reinstatement lifts one."""
    revocation = log.revoke(by="ann")
    attempt = log.revoke_statement(revocation, by="bob")
    assert log.about().denied is not None
    (ignored,) = log.base().ignored_revocations
    assert (ignored.digest, ignored.why) == (attempt, Why.REVOCATION_STANDS)
    # And naming it so does not end the reinstatement that rests on it.
    log.reinstate(revocation, by="bob", inputs=[revocation])
    assert log.about().denied is None


def test_an_ignored_revocation_of_a_statement_or_key_changes_nothing(log: Log) -> None:
    scan = log.scan()
    log.revoke_statement(scan, by="approver")
    log.revoke_key("observer", by="nobody")
    assert log.live() == [scan]
    assert [item.why for item in log.base().ignored_revocations] == [Why.NO_RIGHT] * 2
    assert log.why(log.base().ignored_revocations[0].digest, digest=scan) is Why.NO_RIGHT


def test_a_revoked_statement_s_kind_cannot_be_reinstated(log: Log) -> None:
    scan = log.scan()
    revocation = log.revoke_statement(scan)
    attempt = log.reinstate(revocation, digest=scan)
    assert log.why(scan) is Why.STATEMENT_REVOKED
    assert log.why(attempt, digest=scan) is Why.NOTHING_TO_LIFT


# --- a revoked key ----------------------------------------------------------------------------


def test_a_revoked_key_ends_all_it_signed_whenever_made(log: Log) -> None:
    before = log.scan()
    approval = log.approve(before)
    log.revoke_key("observer")
    after = log.scan(inputs=[])
    assert log.live() == []
    assert log.why(before) is log.why(after) is Why.KEY_REVOKED
    assert log.why(approval) is Why.INPUT_ENDED
    assert log.base().revoked_keys == {KEYS["observer"].key_id}


def test_a_backdated_statement_of_a_stolen_key_does_not_count(log: Log) -> None:
    log.revoke_key("observer")
    predicate = Scan(made(1), Outcome.CLEAN, "onnx", (), 0, REPORT, "1")
    late = log.state("observer", Subject("digits", MODEL), predicate)
    assert log.why(late) is Why.KEY_REVOKED


def test_a_co_signed_statement_keeps_its_other_signer(log: Log) -> None:
    rights = RIGHTS | {KEYS["nobody"].key_id: frozenset({"state.scan"})}
    envelope = add_signature(scan_envelope(), KEYS["nobody"])
    log.add(envelope)
    approval = log.approve(envelope.digest)
    log.revoke_key("observer")
    base = EvidenceBase.build(log.entries, SIGNERS, rights)
    found = base.about(MODEL, None, log.time)
    assert [item.digest for item in found.live] == [envelope.digest, approval]
    assert found.live[0].signers == (KEYS["nobody"].key_id,)


def test_revocations_of_a_key_that_is_revoked_later_still_stand(log: Log) -> None:
    """Else revoking the revoker's key would lift a denial without any reinstatement."""
    log.revoke(by="ann")
    scan = log.scan()
    log.revoke_statement(scan, by="ann")
    log.revoke_key("observer", by="ann")
    log.revoke_key("ann", by="bob")
    assert log.about().denied is not None
    assert log.live() == []
    assert log.base().revoked_keys == {KEYS["ann"].key_id, KEYS["observer"].key_id}


def test_a_key_that_is_revoked_revokes_nothing_more(log: Log) -> None:
    scan = log.scan()
    log.revoke_key("ann", by="bob")
    late = log.revoke(by="ann")
    log.revoke_key("bob", by="ann")
    assert log.about().denied is None
    assert log.live() == [scan]
    assert log.why(late) is Why.KEY_REVOKED
    assert log.base().revoked_keys == {KEYS["ann"].key_id}


def test_the_order_of_the_ledger_decides_who_revoked_whom(log: Log) -> None:
    log.revoke_key("bob", by="ann")
    log.revoke_key("ann", by="bob")
    shuffled = EvidenceBase.build(reversed(log.entries), SIGNERS, RIGHTS)
    assert shuffled.revoked_keys == log.base().revoked_keys == {KEYS["bob"].key_id}


def test_a_key_can_revoke_itself(log: Log) -> None:
    log.revoke_key("ann", by="ann")
    log.revoke_key("ann", by="bob")
    late = log.revoke(by="ann")
    assert log.why(late) is Why.KEY_REVOKED


def test_a_denial_outlives_every_key_but_can_still_be_lifted(log: Log) -> None:
    revocation = log.revoke(by="ann")
    log.revoke_key("ann", by="bob")
    log.reinstate(revocation, by="bob")
    assert log.about().denied is None


def test_an_observed_signature_ends_with_the_publisher_s_key(log: Log) -> None:
    predicate = Signature(made(log.tick()), REPORT, KEYS["publisher"].key_id)
    seen = log.state("observer", Subject("digits", MODEL), predicate)
    assert log.live() == [seen]
    log.revoke_key("publisher")
    assert log.why(seen) is Why.INPUT_ENDED


# --- inputs and admissions --------------------------------------------------------------------


def test_a_revoked_dataset_ends_what_was_trained_on_it(log: Log) -> None:
    train = log.train()
    approval = log.approve(train)
    scan = log.scan()
    revocation = log.revoke(digest=DATASET)
    assert log.live() == [scan]
    assert log.why(train) is log.why(approval) is Why.INPUT_ENDED
    assert log.about().denied is None
    log.reinstate(revocation, digest=DATASET)
    assert log.live() == [train, approval, scan]


def admission(log: Log, *evidence: Digest) -> Digest:
    predicate = Admission(
        made(log.tick(), expires=log.time + 1000), "digits", "local", MODEL, REPORT, REPORT,
        LedgerHead(1, REPORT), evidence,
    )  # fmt: skip
    return log.state("gate", Subject("digits", MODEL), predicate)


def test_an_admission_ends_with_its_evidence_its_artifact_or_its_time(log: Log) -> None:
    scan = log.scan()
    first = admission(log, scan)
    assert log.base().ended(first, log.time) is None
    late = log.base().ended(first, log.time + 1000)
    assert late is not None
    assert late.why is Why.EXPIRED
    log.revoke_statement(scan)
    gone = log.base().ended(first, log.time)
    assert gone is not None
    assert (gone.why, gone.digest) == (Why.INPUT_ENDED, first)
    second = admission(log, log.scan())
    assert log.base().ended(second, log.time) is None
    log.revoke()
    gone = log.base().ended(second, log.time)
    assert gone is not None
    assert gone.why is Why.INPUT_ENDED


def test_an_unknown_statement_never_reads_as_holding(log: Log) -> None:
    log.scan()
    with pytest.raises(OperationalError, match=r"evidence\.unknown_statement"):
        log.base().ended(Digest.of(b"none"), NOW)
    assert log.base().statement(Digest.of(b"none")) is None


# --- what cannot be read ----------------------------------------------------------------------


def newer() -> Envelope:
    data = Statement(Subject("digits", MODEL), Approval(made(), "x")).to_bytes()
    data = data.replace(b"urn:keepstone:approval:v1", b"urn:keepstone:approval:v2")
    return sign_envelope(PAYLOAD_TYPE, data, KEYS["approver"])


def broken_revocation() -> Envelope:
    predicate = Revocation(made(), Target("artifact", MODEL), "Poisoned.")
    envelope = make_statement(Subject("digits", MODEL), predicate, KEYS["ann"])
    return replace(envelope, payload=envelope.payload.replace(b"Poisoned", b"poisoned"))


def broken_garbage() -> Envelope:
    key = KEYS["ann"]
    return Envelope(PAYLOAD_TYPE, b"{", (Signed(key.key_id, key.sign(pae(PAYLOAD_TYPE, b"}"))),))


UNREADABLE = [
    b"",
    b"{}",
    make_entry(Kind.STATEMENT, 1, {}),
    make_entry(Kind.EVENT, 1, {"event": "served"}),
    make_entry(Kind.STATEMENT, 1, {"envelope": {"payload": ""}}),
    entry_body(newer(), 1),
    entry_body(sign_envelope("text/plain", b"x", KEYS["ann"]), 1),
    entry_body(sign_envelope(PAYLOAD_TYPE, b"{}", KEYS["nobody"]), 1),
    entry_body(broken_revocation(), 1),
    entry_body(broken_garbage(), 1),
    entry_body(scan_envelope(), 1).replace(b'"kind"', b'"kind":"statement","kind"'),
]


@pytest.mark.parametrize("body", UNREADABLE)
def test_an_unreadable_entry_denies_everything(log: Log, body: bytes) -> None:
    scan = log.scan()
    base = log.base().extended([(99, body)])
    (unreadable,) = base.unreadable
    assert unreadable.entry_index == 99
    for ask in (
        lambda: base.about(MODEL, "digits", NOW),
        lambda: base.denied(MODEL, NOW),
        lambda: base.ended(scan, NOW),
    ):
        with pytest.raises(OperationalError, match=r"evidence\.unreadable.*entry 99"):
            ask()


# --- properties -------------------------------------------------------------------------------

ACTIONS = ["scan", "train", "approve", "revoke_other", "revoke_last", "revoke_key", "self_lift"]


def act(log: Log, action: str, denial: Digest | None) -> None:
    last = Envelope.from_dict(json.loads(log.entries[-1][1])["envelope"]).digest
    if action == "scan":
        log.scan()
    elif action == "train":
        log.train()
    elif action == "approve":
        log.approve(last)
    elif action == "revoke_other":
        log.revoke(by="bob", digest=DATASET)
    elif action == "revoke_last":
        log.revoke_statement(last, by="bob")
    elif action == "revoke_key":
        log.revoke_key("ann", by="bob")
    elif denial is not None:
        log.reinstate(denial, by="ann2")


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(ACTIONS), max_size=6), st.lists(st.sampled_from(ACTIONS), max_size=6)
)
def test_nothing_but_a_reinstatement_by_another_lifts_a_denial(
    before: list[str], after: list[str]
) -> None:
    log = Log()
    log.scan()
    for action in before:
        if action != "revoke_key":
            act(log, action, None)
    denial = log.revoke(by="ann")
    for action in after:
        act(log, action, denial)
        assert log.about().denied is not None


@settings(max_examples=25)
@given(st.lists(st.sampled_from(ACTIONS), max_size=8), st.integers(0, 8))
def test_growing_a_base_and_building_it_are_the_same(actions: list[str], cut: int) -> None:
    log = Log()
    log.scan()
    denial = log.revoke(by="ann")
    for action in actions:
        act(log, action, denial)
    whole = log.base()
    head, tail = log.entries[:cut], log.entries[cut:]
    grown = EvidenceBase.build(tail, SIGNERS, RIGHTS).extended(head)
    for digest in (MODEL, DATASET):
        assert grown.about(digest, "digits", log.time) == whole.about(digest, "digits", log.time)


def test_a_base_does_not_change(log: Log) -> None:
    log.scan()
    base = log.base()
    log.revoke()
    grown = base.extended(log.entries[1:])
    assert base.about(MODEL, None, NOW).denied is None
    assert grown.about(MODEL, None, NOW).denied is not None
    assert isinstance(grown.ignored_revocations, tuple)
    assert all(isinstance(item, Refused) for item in grown.about(MODEL, None, NOW).refused)
