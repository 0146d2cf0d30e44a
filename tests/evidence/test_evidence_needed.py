"""What travels decides as everything would: no way of ending a statement gets left behind."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.evidence.dsse import Envelope, add_signature
from keepstone.evidence.made import Input, Made, Tool
from keepstone.evidence.needed import needed
from keepstone.evidence.predicates import (
    Admission,
    Approval,
    LedgerHead,
    Predicate,
    Reinstatement,
    Revocation,
    Scan,
    Target,
)
from keepstone.evidence.record import entry_body
from keepstone.evidence.statement import make_statement
from keepstone.evidence.verify import Evidence, EvidenceBase, Signer
from keepstone.identity.signing import SigningKey

ONE, OTHER = Digest.of(b"one"), Digest.of(b"other")
RIGHTS = frozenset(
    {"state.scan", "state.approval", "state.revocation", "state.reinstatement", "state.admission"}
)
KEYS = {name: SigningKey.generate() for name in ("ann", "bob")}
SIGNERS = {key.key_id: Signer(name, "any", key.verifying) for name, key in KEYS.items()}


class Log:
    """A ledger's statements, each made a moment after the one before."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.envelopes: list[Envelope] = []

    def add(self, envelope: Envelope) -> Digest:
        self.entries.append((len(self.entries) * 2 + 1, entry_body(envelope, 1000)))
        self.envelopes.append(envelope)
        return envelope.digest

    def state(self, artifact: Digest, predicate: Predicate, by: str = "ann") -> Digest:
        name = "key" if getattr(predicate, "target", None) == Target("key", artifact) else "m"
        if getattr(predicate, "target", None) == Target("statement", artifact):
            name = "statement"
        return self.add(make_statement(Subject(name, artifact), predicate, KEYS[by]))

    def made(self, *inputs: Digest) -> Made:
        listed = tuple(Input("x", digest) for digest in inputs)
        return Made(Tool("test", "1"), len(self.entries), None, listed)

    def scan(self, artifact: Digest, *inputs: Digest) -> Digest:
        said = Scan(self.made(*inputs), Outcome.CLEAN, "onnx", (), 0, Digest.of(b""), "1")
        return self.state(artifact, said)

    def approve(self, artifact: Digest, *inputs: Digest) -> Digest:
        return self.state(artifact, Approval(self.made(*inputs), "fine"))

    def revoke(self, kind: str, target: Digest) -> Digest:
        return self.state(target, Revocation(self.made(), Target(kind, target), "bad"))

    def reinstate(self, artifact: Digest, revocation: Digest) -> Digest:
        return self.state(artifact, Reinstatement(self.made(), revocation, "good"), "bob")

    def admit(self, artifact: Digest) -> Digest:
        said = Admission(
            Made(Tool("test", "1"), len(self.entries), 10_000),
            "m",
            "local",
            artifact,
            ONE,
            ONE,
            LedgerHead(1, ONE),
            (),
        )
        return self.state(artifact, said)

    def base(self) -> EvidenceBase:
        return EvidenceBase.build(self.entries, SIGNERS, dict.fromkeys(SIGNERS, RIGHTS))

    def cut(self, *artifacts: Digest) -> tuple[EvidenceBase, set[int]]:
        places = {item.place for item in needed(self.base().verified, artifacts or None)}
        kept = [(index, body) for index, body in self.entries if index in places]
        return EvidenceBase.build(kept, SIGNERS, dict.fromkeys(SIGNERS, RIGHTS)), places


def said(evidence: Evidence) -> tuple[object, ...]:
    live = [item.digest for item in evidence.live if item.kind != Admission.kind]
    denied = None if evidence.denied is None else evidence.denied.digest
    return live, denied, [one.digest for one in evidence.revocations]


def test_only_what_is_about_the_artifacts_travels() -> None:
    log = Log()
    log.scan(ONE)
    log.scan(OTHER)
    log.admit(ONE)
    assert log.cut(ONE)[1] == {1}
    assert log.cut()[1] == {1, 3}
    assert log.cut(Digest.of(b"nothing"))[1] == set()


def test_every_revocation_travels_whatever_it_ends() -> None:
    log = Log()
    log.scan(ONE)
    unseen = log.revoke("artifact", OTHER)
    log.revoke("key", Digest(KEYS["bob"].key_id))
    log.reinstate(OTHER, unseen)
    assert log.cut(ONE)[1] == {1, 3, 5, 7}


def test_an_end_reaches_through_statements_about_other_artifacts() -> None:
    log = Log()
    first = log.scan(OTHER)
    second = log.approve(Digest.of(b"third"), first)
    log.approve(ONE, second)
    assert len(log.cut(ONE)[0].about(ONE, "m", 2000).live) == 1
    log.revoke("statement", first)
    assert log.base().about(ONE, "m", 2000).live == ()
    assert log.cut(ONE)[0].about(ONE, "m", 2000).live == ()


@pytest.mark.parametrize("artifact", [ONE, OTHER])
def test_a_statement_revoked_by_the_digest_of_a_copy_stays_revoked(artifact: Digest) -> None:
    log = Log()
    log.approve(ONE, log.scan(artifact))
    # The same payload under two signatures, and again in another wrapping: it adds nothing.
    log.add(add_signature(log.envelopes[0], KEYS["bob"]))
    (one, two) = log.envelopes[-1].signatures
    envelope = log.envelopes[-1]
    copy = log.add(Envelope(envelope.payload_type, envelope.payload, (two, one)))
    assert copy != envelope.digest
    assert log.cut(ONE)[0].about(ONE, "m", 2000).live
    log.revoke("statement", copy)
    assert log.base().about(ONE, "m", 2000).live == ()
    assert log.cut(ONE)[0].about(ONE, "m", 2000).live == ()


_STEP = st.tuples(st.sampled_from(["scan", "approve", "artifact", "statement", "key", "lift"]),
                  st.integers(0, 30), st.integers(0, 30))  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(_STEP, min_size=1, max_size=14))
def test_any_ledger_cut_down_to_an_artifact_says_the_same_about_it(
    steps: list[tuple[str, int, int]],
) -> None:
    log = Log()
    artifacts = [ONE, OTHER, Digest.of(b"third")]
    for kind, first, second in steps:
        artifact = artifacts[first % 3]
        earlier = [envelope.digest for envelope in log.envelopes]
        one = earlier[second % len(earlier)] if earlier else OTHER
        if kind == "scan":
            log.scan(artifact, one)
        elif kind == "approve":
            log.approve(artifact, one)
        elif kind == "artifact":
            log.revoke("artifact", artifact)
        elif kind == "statement":
            log.revoke("statement", one)
        elif kind == "key":
            log.revoke("key", Digest(KEYS["bob"].key_id))
        else:
            log.reinstate(artifact, one)
    whole = log.base()
    for artifact in artifacts:
        cut = log.cut(artifact)[0]
        assert said(cut.about(artifact, "m", 2000)) == said(whole.about(artifact, "m", 2000))
        assert said(log.cut()[0].about(artifact, "m", 2000)) == said(
            whole.about(artifact, "m", 2000)
        )
