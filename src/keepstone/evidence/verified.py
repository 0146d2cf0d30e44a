"""One statement, verified: signed by a known signer, typed as a statement, strictly read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, VerificationError
from keepstone.evidence.dsse import Envelope, verify_envelope
from keepstone.evidence.predicates import Predicate, Revocation, right_of
from keepstone.evidence.record import parse_statement_entry
from keepstone.evidence.statement import Statement, open_payload
from keepstone.identity.signing import VerifyingKey


@dataclass(frozen=True, slots=True)
class Signer:
    """Who holds a key. Two keys of one name are one person: four eyes need two names."""

    name: str
    role: str
    key: VerifyingKey


Signers = Mapping[str, Signer]
Rights = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class VerifiedStatement:
    """A statement and the key ids that signed it. `digest` names it in other statements.

    `payload_digest` is the digest of what was signed alone: wrapping the same payload anew,
    or signing it again, changes `digest` but not this, so it cannot shake off a revocation.
    """

    digest: Digest
    payload_digest: Digest
    statement: Statement
    signers: tuple[str, ...]
    entry_index: int | None = None
    logged_at: int | None = None

    @property
    def place(self) -> int:
        """Its place in the order of the ledger; 0 outside one."""
        return self.entry_index or 0

    @property
    def subject(self) -> Subject:
        return self.statement.subject

    @property
    def predicate(self) -> Predicate:
        return self.statement.predicate

    @property
    def kind(self) -> str:
        return self.statement.predicate.kind

    @property
    def right(self) -> str:
        """The right its signer needs: `state.<kind>`."""
        return right_of(self.kind)


class Why(StrEnum):
    """Why a statement does not count. Stable codes: `policy explain` shows them."""

    UNKNOWN_SIGNER = "unknown_signer"
    SIGNATURE_INVALID = "signature_invalid"
    NO_RIGHT = "no_right"
    KEY_REVOKED = "key_revoked"
    STATEMENT_REVOKED = "statement_revoked"
    INPUT_ENDED = "input_ended"
    NOT_YET = "not_yet"
    EXPIRED = "expired"
    OTHER_NAME = "other_name"
    REVOCATION_STANDS = "revocation_stands"
    SAME_SIGNER = "same_signer"
    NOTHING_TO_LIFT = "nothing_to_lift"


@dataclass(frozen=True, slots=True)
class Refused:
    """A statement that does not count, and why, in one sentence.

    Where `why` is `unknown_signer` or `signature_invalid`, the kind and subject are only what
    it claims: show them, never act on them. `predicate` is what was said, where it was verified.
    """

    digest: Digest
    why: Why
    detail: str
    kind: str | None
    subject: Subject | None
    signers: tuple[str, ...]
    entry_index: int | None
    logged_at: int | None
    predicate: Predicate | None = None

    @classmethod
    def of(cls, found: VerifiedStatement, why: Why, detail: str) -> Refused:
        return cls(
            found.digest,
            why,
            detail,
            found.kind,
            found.subject,
            found.signers,
            found.entry_index,
            found.logged_at,
            found.predicate,
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A statement entry that cannot be understood. It may have been a revocation."""

    entry_index: int
    code: str
    cause: str


def verify_statement(
    envelope: bytes | Envelope,
    signers: Signers,
    *,
    entry_index: int | None = None,
    logged_at: int | None = None,
) -> VerifiedStatement:
    """Return the statement inside `envelope` if a known signer signed it.

    (1) DSSE envelope: strict form, nothing doubled, nothing unknown.
    (2) DSSE protocol, verification: at least one signature of a known signer holds over the
        payload type and the payload.
    (3) in-toto Statement v1: the signed payload type is in-toto's, the payload parses strictly.

    That the signer may state this is not decided here (`require_right`), nor whether it still
    holds (`EvidenceBase`). Raises VerificationError `signature.unknown_key` or
    `signature.invalid`; InputError `envelope.*`, `statement.*` and what strict parsing raises.
    """
    # (1) DSSE envelope.
    if isinstance(envelope, bytes):
        envelope = Envelope.parse(envelope)
    # (2) DSSE protocol, verification.
    keys = {key_id: signer.key for key_id, signer in signers.items()}
    verified = verify_envelope(envelope, keys)
    # (3) in-toto Statement v1.
    statement = open_payload(envelope)
    return VerifiedStatement(
        envelope.digest, envelope.payload_digest, statement, verified, entry_index, logged_at
    )


def require_right(found: VerifiedStatement, rights: Rights) -> VerifiedStatement:
    """Return `found` if one of its signers may state it, else raise `statement.no_right`."""
    if with_right(found, rights):
        return found
    raise no_right(found.right)


def no_right(right: str) -> DeniedError:
    return DeniedError(
        "statement.no_right",
        f"No signer of this statement has the right {right}.",
        "Sign with a key whose role grants it, or change the roles in the policy file.",
    )


def with_right(found: VerifiedStatement, rights: Rights) -> tuple[str, ...]:
    """The signers of `found` that may state it."""
    return tuple(key for key in found.signers if found.right in rights.get(key, frozenset()))


def read_entry(
    index: int, body: bytes, signers: Signers
) -> VerifiedStatement | Refused | Unreadable:
    """Read one statement entry of the ledger; never raises for what it holds.

    What cannot be parsed is unreadable, and so is what a known signer signed but this build
    does not understand, or a revocation that cannot be verified: each may be a denial. Nobody
    unknown gets a statement into a ledger, so a revocation by an unknown signer is by one that
    the policy no longer names.
    """
    try:
        entry = parse_statement_entry(body)
    except InputError as error:
        return Unreadable(index, error.code, error.cause)
    envelope = entry.envelope
    try:
        return verify_statement(envelope, signers, entry_index=index, logged_at=entry.logged_at)
    except InputError as error:
        return Unreadable(index, error.code, error.cause)
    except VerificationError as error:
        unknown = error.code == "signature.unknown_key"
        claimed = _claimed(envelope)
        if claimed is None and not unknown:
            return Unreadable(index, error.code, error.cause)
        if claimed is not None and isinstance(claimed.predicate, Revocation):
            cause = "It is a revocation, and the policy does not name its signer."
            return Unreadable(index, error.code, cause if unknown else error.cause)
        return Refused(
            envelope.digest,
            Why.UNKNOWN_SIGNER if unknown else Why.SIGNATURE_INVALID,
            error.cause,
            claimed.predicate.kind if claimed else None,
            claimed.subject if claimed else None,
            tuple(one.key_id for one in envelope.signatures),
            index,
            entry.logged_at,
        )


def _claimed(envelope: Envelope) -> Statement | None:
    """What an unverified envelope says it is: for people to read."""
    try:
        return open_payload(envelope)
    except InputError:
        return None
