"""Admissions as the gate signs them, for tests of what they let through."""

from __future__ import annotations

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.evidence import predicates
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.predicates import LedgerHead
from keepstone.evidence.statement import make_statement
from keepstone.identity.signing import SigningKey
from keepstone.policy.admission import Admission, verify_admission
from keepstone.vault.load import prepare
from keepstone.vault.staging import Staged

NOW = 1_000_000
GATE = SigningKey.generate()


def permit(artifact: Digest, contract: Digest | None = None, name: str = "scale") -> Admission:
    """A verified admission for `artifact`, good from NOW for a second."""
    policy = Digest.of(b"policy")
    said = predicates.Admission(
        made=Made(Tool("keepstone", "0.1"), created=NOW, expires=NOW + 1000),
        name=name,
        endpoint="local",
        artifact=artifact,
        contract=contract or Digest.of(b"any"),
        policy=policy,
        ledger=LedgerHead(0, Digest.of(b"")),
        evidence=(),
    )
    return verify_admission(
        make_statement(Subject(name, artifact), said, GATE).to_json(),
        GATE.verifying,
        now=NOW,
        digest=artifact,
        name=name,
        endpoint="local",
        policy_digest=policy,
    )


def permit_staged(staged: Staged, architecture: str | None = None) -> Admission:
    """The admission of what was staged, with the contract that it has."""
    return permit(staged.digest, prepare(staged, architecture)[1].contract.digest)
