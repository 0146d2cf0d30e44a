"""Admissions: what the gate signs, and what a vault or gateway believes of one.

An `Admission` is made by `verify_admission` alone, so whoever is handed one need not verify it
again, and nobody can be handed one that was not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import VerificationError
from keepstone.evidence import predicates
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.predicates import LedgerHead
from keepstone.evidence.verified import Signer, verify_statement
from keepstone.identity.signing import VerifyingKey
from keepstone.policy.document import GATE
from keepstone.policy.parse import MAX_ADMISSION_MS

# What an admission names where nothing is known of what the model accepts: it may be taken, and
# no loader ever finds that contract.
NO_CONTRACT = Digest.of(b"no contract")
_SEAL = object()


@dataclass(frozen=True, slots=True)
class Admission:
    """Permission to load one artifact under one name at one endpoint, until `expires` (ms).

    `digest` names it in audit entries. `contract` is the digest of what the model accepts,
    `policy` of the policy file it was decided under, `ledger` the head it was decided at.
    """

    digest: Digest
    subject: Subject
    endpoint: str
    contract: Digest
    policy: Digest
    ledger: LedgerHead
    evidence: tuple[Digest, ...]
    issued: int
    expires: int
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise VerificationError(
                "admission.unverified", "An admission is made by verifying one, never by hand."
            )

    @property
    def name(self) -> str:
        return self.subject.name

    @property
    def artifact(self) -> Digest:
        return self.subject.digest

    def holds(self, now: int) -> bool:
        """Whether it is in force at `now`, as far as time goes."""
        return self.issued <= now < self.expires


def verify_admission(
    envelope: bytes | Envelope,
    gate: VerifyingKey,
    *,
    now: int,
    digest: Digest,
    name: str,
    endpoint: str,
    policy_digest: Digest,
) -> Admission:
    """Return the admission inside `envelope` if it is the gate's, for exactly this, now.

    (1) DSSE protocol, verification; in-toto Statement v1: the gate's key signed it.
    (2) It is an admission, and its subject is the artifact and name that it admits.
    (3) The artifact and the name are those asked for.
    (4) The endpoint is this one.
    (5) The policy it was decided under is the one in force.
    (6) It holds now, and for no longer than an admission may.

    Raises VerificationError: `signature.unknown_key`, `signature.invalid`,
    `admission.not_an_admission`, `admission.wrong_artifact`, `admission.wrong_name`,
    `admission.wrong_endpoint`, `admission.wrong_policy`, `admission.expired`,
    `admission.not_yet`, `admission.too_long`; InputError as `verify_statement` raises.
    """
    # (1)
    found = verify_statement(envelope, {gate.key_id: Signer(GATE, GATE, gate)})
    said = found.predicate
    # (2)
    if not isinstance(said, predicates.Admission):
        raise _wrong("not_an_admission", "The gate signed something else, not an admission.")
    if found.subject != Subject(said.name, said.artifact):
        raise _wrong("not_an_admission", "The admission contradicts its own subject.")
    # (3)
    if said.artifact != digest:
        raise _wrong("wrong_artifact", f"The admission is for {said.artifact.short}.")
    if said.name != name:
        raise _wrong("wrong_name", f"The admission is for the name {said.name}.")
    # (4)
    if said.endpoint != endpoint:
        raise _wrong("wrong_endpoint", "The admission is for another endpoint.")
    # (5)
    if said.policy != policy_digest:
        raise _wrong("wrong_policy", "The admission was decided under another policy.")
    # (6)
    if now < said.issued:
        raise _wrong("not_yet", "The admission was issued later than now: check the clock.")
    if now >= said.expires:
        raise _wrong("expired", "The admission has expired.")
    if said.expires - said.issued > MAX_ADMISSION_MS:
        raise _wrong("too_long", "The admission claims a longer life than one may have.")
    return Admission(
        found.digest,
        found.subject,
        said.endpoint,
        said.contract,
        said.policy,
        said.ledger,
        said.evidence,
        said.issued,
        said.expires,
        _SEAL,
    )


def _wrong(code: str, cause: str) -> VerificationError:
    return VerificationError(f"admission.{code}", cause, "Run the gate again: keepstone up.")
