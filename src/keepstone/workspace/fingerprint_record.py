"""What the ledger and the workspace hold of each fingerprint: commitments, and secret questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.core.subject import Subject
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.fields import Fields
from keepstone.files import make_private_directory, write_atomic
from keepstone.identity.signing import read_secret_file
from keepstone.lab.ownership.commitment import (
    MALFORMED,
    MAX_CROSSINGS,
    Opening,
    read_openings,
    require_committed,
)
from keepstone.lab.ownership.crossings import Kind
from keepstone.lab.ownership.judge import Null
from keepstone.lab.ownership.secret import Secret
from keepstone.ledger import EntryId, LedgerReader, parse_entry
from keepstone.ledger.tree import leaf_hash
from keepstone.workspace.fingerprint_secrets import FingerprintSecrets
from keepstone.workspace.kek import current_kek
from keepstone.workspace.layout import Layout, read_identity
from keepstone.workspace.site import Site

COMMITTED = "fingerprint.committed"
BODY_LIMIT = 256 << 20
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the ledger says of one: everything but its questions."""

    name: str
    entry: str
    time: int
    subject: Subject
    kind: Kind
    width: int
    null: Null
    secret: Digest
    committed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "entry": self.entry,
            "time": rfc3339(self.time),
            "model": self.subject.name,
            "digest": str(self.subject.digest),
            "kind": self.kind.value,
            "crossings": len(self.committed),
            "null_rate": f"{self.null.rate:.4f}",
            "null": self.null.how,
        }


def fingerprints(site: Site) -> list[Fingerprint]:
    """Every committed fingerprint, oldest first. Raises InputError `fingerprint.malformed`."""
    read_identity(site.layout)
    with LedgerReader.open(site.layout.ledger) as reader:
        return [
            read_commitment(index, body)
            for index, body in reader.indexed("event")
            if parse_entry(body).get("event") == COMMITTED
        ]


def find(site: Site, name: str) -> Fingerprint:
    """Raises InputError `fingerprint.unknown`."""
    for one in fingerprints(site):
        if one.name == name:
            return one
    raise InputError(
        "fingerprint.unknown",
        f"The ledger commits to no fingerprint {name[:64]!r}.",
        "See `keepstone fingerprint list`.",
    )


def read_commitment(index: int, body: bytes) -> Fingerprint:
    """A fingerprint from its ledger entry, read strictly."""
    entry = parse_entry(body)
    fields = Fields({k: v for k, v in entry.items() if k != "kind"}, "entry", MALFORMED)
    if fields.text("event") != COMMITTED:
        raise fields.fault("event", f"is not {COMMITTED}")
    committed = fields.items("committed", MAX_CROSSINGS)
    fields.raw("margin")
    found = Fingerprint(
        fields.line("id", 64),
        str(EntryId.of(index, leaf_hash(body))),
        fields.integer("t"),
        Subject(fields.line("model", 64), Digest(fields.text("digest"))),
        Kind(fields.one_of("type", frozenset(Kind))),
        fields.integer("width", low=1),
        Null(_rate_of(fields), fields.integer("null_models")),
        Digest(fields.text("secret")),
        tuple(Digest(str(one)).hex for one in committed),
    )
    fields.done()
    return found


def _rate_of(fields: Fields) -> float:
    try:
        rate = float(fields.line("null_rate", 32))
    except ValueError as error:
        raise fields.fault("null_rate", "is not a number") from error
    if not 0 < rate < 1:
        raise fields.fault("null_rate", "is not between 0 and 1")
    return rate


def _body_path(layout: Layout, name: str) -> Path:
    return layout.fingerprints / f"{name}.bin"


def write_body(layout: Layout, name: str, secret: Secret, openings: Sequence[Opening]) -> None:
    make_private_directory(layout.fingerprints)
    plain = canonical({"crossings": [one.to_dict() for one in openings]})
    # A key of its own that encrypts once: the nonce need not vary.
    sealed = AESGCM(secret.key("body")).encrypt(_NONCE, plain, name.encode())
    write_atomic(_body_path(layout, name), sealed)


def secret_questions(site: Site, found: Fingerprint) -> tuple[Secret, tuple[Opening, ...]]:
    """The questions of a fingerprint, decrypted and held against what was committed.

    Raises VerificationError `fingerprint.changed`; InputError `fingerprint.unknown`, and for a
    file that is gone `file.missing` or `key.*`.
    """
    held = FingerprintSecrets(site.layout.fingerprint_secrets)
    secret = Secret(held.find(found.name, current_kek(site)))
    sealed = read_secret_file(_body_path(site.layout, found.name), limit=BODY_LIMIT)
    try:
        plain = AESGCM(secret.key("body")).decrypt(_NONCE, sealed, found.name.encode())
    except InvalidTag as error:
        raise VerificationError(
            "fingerprint.changed",
            f"The questions of {found.name} are not the ones that were written.",
            "Restore the file from a backup.",
        ) from error
    openings = read_openings(
        parse_json(plain, limit=BODY_LIMIT).get("crossings"), found.kind, found.width
    )
    require_committed(openings, found.committed)
    if secret.digest != found.secret or len(openings) != len(found.committed):
        raise VerificationError(
            "fingerprint.changed", f"{found.name} is not the fingerprint that was committed."
        )
    return secret, openings
