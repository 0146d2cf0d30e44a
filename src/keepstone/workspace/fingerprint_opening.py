"""Open a fingerprint to somebody else, who verifies it with the ledger's key alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keepstone.core.canonical import canonical, parse_json
from keepstone.errors import InputError
from keepstone.evidence.fields import Fields
from keepstone.lab.ownership.asking import ask_all
from keepstone.lab.ownership.commitment import (
    MALFORMED,
    Opening,
    read_openings,
    require_committed,
)
from keepstone.lab.ownership.crossings import Ask
from keepstone.lab.ownership.judge import Judgement, judge, require_enough
from keepstone.lab.ownership.secret import SIZE, Secret
from keepstone.workspace.fingerprint import BATCH
from keepstone.workspace.fingerprint_record import (
    BODY_LIMIT,
    Fingerprint,
    find,
    read_commitment,
    secret_questions,
)
from keepstone.workspace.operations import perform
from keepstone.workspace.proving import prove_entry, verify_proof_file
from keepstone.workspace.site import Site

SCHEMA = "keepstone.fingerprint-opening/v1"


def open_fingerprint(site: Site, name: str, count: int | None = None) -> bytes:
    """A document that opens the first `count` crossings to whoever reads it, with the proof that
    they were committed when the ledger says. What is opened is secret no more.

    Raises as `secret_questions`, `prove_entry`; InputError `fingerprint.bad_count`, and
    `fingerprint.too_few` where no suspect could match what it opens.
    """
    found = find(site, name)
    _, openings = secret_questions(site, found)
    if count is not None and not 0 < count <= len(openings):
        raise InputError("fingerprint.bad_count", f"{name} has {len(openings)} crossings.")
    shown = openings[:count]
    require_enough(len(shown), found.null)
    fields = {"id": name, "count": len(shown)}
    perform(site, "fingerprint.record", {"event": "fingerprint.opened", "fields": fields})
    # A checkpoint from now covers the commitment, however old the last one is.
    perform(site, "ledger.checkpoint", {})
    proof = prove_entry(site, found.entry).text
    return canonical(
        {"schema": SCHEMA, "proof": proof, "crossings": [one.to_dict() for one in shown]}
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """Crossings that somebody opened, verified against the ledger's word."""

    fingerprint: Fingerprint
    openings: tuple[Opening, ...]

    def judge(self, ask: Ask) -> Judgement:
        """Put the opened questions to a suspect oneself."""
        crossings = [one.crossing for one in self.openings]
        return judge(ask_all(ask, crossings, Secret(bytes(SIZE)), 0, BATCH), self.fingerprint.null)


def verify_opening(data: bytes, vkey: str) -> Opened:
    """Verify a document of `open_fingerprint` offline, with the ledger's verifier key alone.

    (1) The proof holds: the entry is in that ledger, and says when it was written. (2) The entry
    commits to a fingerprint. (3) Each crossing is the one committed under its number.

    Raises InputError `fingerprint.malformed`, `fingerprint.newer_version`, `proof.malformed`;
    VerificationError `proof.invalid`, `fingerprint.changed`.
    """
    value = parse_json(data, limit=BODY_LIMIT)
    if isinstance(value, Mapping) and value.get("schema") != SCHEMA:
        raise InputError(
            "fingerprint.newer_version", f"The document is not a {SCHEMA}.", "Upgrade Keepstone."
        )
    fields = Fields(value, "opening", MALFORMED)
    fields.text("schema")
    # (1)
    proved = verify_proof_file(fields.text("proof", 1 << 20).encode(), vkey)
    # (2)
    found = read_commitment(proved.entry_id.index, canonical(proved.entry))
    # (3)
    openings = read_openings(fields.raw("crossings"), found.kind, found.width)
    require_committed(openings, found.committed)
    fields.done()
    return Opened(found, openings)
