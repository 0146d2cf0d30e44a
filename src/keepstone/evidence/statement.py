"""in-toto Statement v1: one subject, by name and digest, and one predicate about it.

The subject's digest covers every path, size and content of the artifact and stands in the
digest set as `keepstoneArtifact`, a name of its own, so that nobody mistakes it for the SHA-256
of a file. For a single file that SHA-256 stands beside it, as information only.

Source: https://github.com/in-toto/attestation (spec v1, statement and digest set).
"""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.dsse import Envelope, sign_envelope
from keepstone.evidence.fields import MALFORMED, Fields
from keepstone.evidence.intoto import PAYLOAD_TYPE as PAYLOAD_TYPE
from keepstone.evidence.intoto import STATEMENT_TYPE as STATEMENT_TYPE
from keepstone.evidence.predicates import Predicate, Revocation, parse_predicate, type_of
from keepstone.identity.signing import Signatory

ARTIFACT = "keepstoneArtifact"
MAX_STATEMENT = 48 * 1024


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed statement. `predicate` has been read once and is what it says it is."""

    subject: Subject
    predicate: Predicate
    file_sha256: Digest | None = None

    @property
    def predicate_type(self) -> str:
        return type_of(self.predicate.kind)

    def to_bytes(self) -> bytes:
        """The canonical JSON to sign.

        Raises InputError if `parse` would refuse it, so nothing is signed that nobody can read.
        """
        digests = {ARTIFACT: self.subject.digest.hex}
        if self.file_sha256 is not None:
            digests["sha256"] = self.file_sha256.hex
        data = canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": self.subject.name, "digest": digests}],
                "predicateType": self.predicate_type,
                "predicate": self.predicate.to_dict(),
            }
        )
        parse_statement(data)
        return data


def parse_statement(data: bytes) -> Statement:
    """Read the payload of a verified envelope strictly.

    Raises InputError `statement.*`, `json.*`, `digest.malformed`, `name.invalid` or
    `time.malformed`.
    """
    fields = Fields(parse_json(data, limit=MAX_STATEMENT), "statement")
    if fields.text("_type") != STATEMENT_TYPE:
        raise fields.fault("_type", f"is not {STATEMENT_TYPE}")
    subjects = fields.items("subject", 1)
    if not subjects:
        raise fields.fault("subject", "names nothing")
    subject, file_sha256 = _read_subject(Fields(subjects[0], "subject"))
    predicate = parse_predicate(fields.text("predicateType"), fields.raw("predicate"))
    fields.done()
    _check_about(subject, predicate)
    return Statement(subject, predicate, file_sha256)


def _read_subject(fields: Fields) -> tuple[Subject, Digest | None]:
    digests = fields.inner("digest")
    subject = Subject(fields.line("name", 64), Digest(digests.text(ARTIFACT)))
    informative = digests.maybe("sha256")
    file_sha256 = None if informative is None else Digest(digests.text("sha256"))
    digests.done()
    fields.done()
    return subject, file_sha256


def _check_about(subject: Subject, predicate: Predicate) -> None:
    """A revocation's subject is what it ends, so it cannot be filed under something else."""
    if not isinstance(predicate, Revocation):
        return
    target = predicate.target
    if subject.digest != target.digest:
        raise InputError(MALFORMED, "The revocation's subject is not its target.")
    if target.kind != "artifact" and subject.name != target.kind:
        raise InputError(MALFORMED, f"A revoked {target.kind} has the name `{target.kind}`.")


def make_statement(
    subject: Subject, predicate: Predicate, key: Signatory, *, file_sha256: Digest | None = None
) -> Envelope:
    """State `predicate` about `subject`, signed by `key`. Raises InputError as `to_bytes`."""
    payload = Statement(subject, predicate, file_sha256).to_bytes()
    return sign_envelope(PAYLOAD_TYPE, payload, key)


def open_payload(envelope: Envelope) -> Statement:
    """Read the statement inside an envelope; the caller has verified its signatures.

    Raises InputError `statement.payload_type`, or as `parse_statement`.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(
            "statement.payload_type",
            f"The envelope holds {envelope.payload_type[:100]!r}, not an in-toto statement.",
        )
    return parse_statement(envelope.payload)
