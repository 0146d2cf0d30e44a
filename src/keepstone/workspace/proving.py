"""Prove one entry: that the ledger holds it, what it says, and what it committed to.

A proof is a C2SP tlog-proof whose extra data holds the entry and, for a prediction, the key
that opens it and no other. It verifies offline, by anybody with the ledger's verifier key.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.ports import rfc3339
from keepstone.errors import InputError, OperationalError
from keepstone.gateway.commitment import entry_key, open_entry
from keepstone.ledger import (
    EntryId,
    EntryProof,
    LedgerReader,
    format_vkey,
    parse_entry,
    parse_vkey,
    verify_proof,
)
from keepstone.ledger.tree import leaf_hash
from keepstone.workspace.history import find_entry
from keepstone.workspace.kek import current_kek
from keepstone.workspace.layout import read_identity
from keepstone.workspace.operations import perform
from keepstone.workspace.reading import public_key
from keepstone.workspace.secrets import AuditPeriods
from keepstone.workspace.site import Site

_SCHEMA = "keepstone.entry-proof/v1"
_ANSWERS = {True: "matches", False: "differs", None: "not_compared"}


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry proven to be under a signed checkpoint; `text` is the proof to hand out."""

    entry_id: EntryId
    entry: dict[str, Any]
    size: int
    text: str
    input_matches: bool | None
    output_matches: bool | None

    @property
    def holds(self) -> bool:
        """Whether nothing that was held against the entry differs from it."""
        return self.input_matches is not False and self.output_matches is not False

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": _SCHEMA,
            "id": str(self.entry_id),
            "included": True,
            "checkpoint_size": self.size,
            "entry": self.entry,
            "input": _ANSWERS[self.input_matches],
            "output": _ANSWERS[self.output_matches],
        }

    def lines(self) -> list[str]:
        """What it says, line by line, for a terminal."""
        said = {key: value for key, value in self.entry.items() if key not in ("t", "envelope")}
        return [
            f"{self.entry_id} is in the ledger, under a signed checkpoint of {self.size} entries",
            f"  time      {rfc3339(self.entry['t'])}",
            *(f"  {name:<9} {value}" for name, value in said.items()),
            f"  request   {_ANSWERS[self.input_matches]}",
            f"  answer    {_ANSWERS[self.output_matches]}",
        ]


def vkey_of(site: Site) -> str:
    """The ledger's verifier key: what an auditor needs, and may keep."""
    return format_vkey(read_identity(site.layout).origin, public_key(site.layout, "ledger"))


def prove_entry(
    site: Site, text: str, *, input: bytes | None = None, output: bytes | None = None
) -> Proved:
    """Prove the entry `text` names, and hold a request's and an answer's body against it.

    (1) The entry is the one that its id was given for. (2) A checkpoint covers it; one is made
    if none does. (3) The inclusion proof verifies under the ledger's public key. (4) Its key
    opens its commitments. Raises `entry.*`, `ledger.*`, `proof.invalid`,
    `audit.period_destroyed`.
    """
    identity = read_identity(site.layout)
    with LedgerReader.open(site.layout.ledger) as reader:
        # (1)
        entry_id, body = find_entry(reader, text)
        # (2)
        try:
            proof = reader.prove(entry_id.index)
        except OperationalError as error:
            if error.code != "ledger.no_checkpoint":
                raise
            perform(site, "ledger.checkpoint", {})
            proof = reader.prove(entry_id.index)
    entry = parse_entry(body)
    key = _key_of(site, entry)
    proof = replace(proof, extra=_extra(body, key))
    # (3)
    checkpoint = verify_proof(
        proof.to_text(), body, identity.origin, public_key(site.layout, "ledger")
    )
    # (4)
    matches: tuple[bool | None, bool | None] = (None, None)
    if key is not None:
        opened = open_entry(body, key, input=input, output=output)
        matches = (opened.input_matches, opened.output_matches)
    elif input is not None or output is not None:
        raise InputError("entry.not_a_prediction", f"{entry_id} commits to no request or answer.")
    return Proved(entry_id, entry, checkpoint.size, proof.to_text(), *matches)


def _key_of(site: Site, entry: dict[str, Any]) -> bytes | None:
    if entry["kind"] != "prediction":
        return None
    periods = AuditPeriods(site.layout.audit_periods, current_kek(site))
    return entry_key(periods.find(entry["period"]).key, entry["nonce"])


def _extra(body: bytes, key: bytes | None) -> bytes:
    opened = {"schema": _SCHEMA, "entry": b64encode(body).decode()}
    return canonical(opened | ({} if key is None else {"key": b64encode(key).decode()}))


def _carried(data: bytes) -> tuple[bytes, bytes | None]:
    """The entry and, of a prediction, its key. No signature covers how they are wrapped."""
    try:
        extra = parse_json(data)
        if extra["schema"] == _SCHEMA and extra.keys() <= {"schema", "entry", "key"}:
            opening = b64decode(extra["key"], validate=True) if "key" in extra else None
            return b64decode(extra["entry"], validate=True), opening
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError("proof.malformed", "The proof does not carry its entry.") from error
    raise InputError(
        "proof.malformed", f"What the proof carries is not a {_SCHEMA}.", "Use a newer Keepstone."
    )


def verify_proof_file(
    data: bytes, vkey: str, *, input: bytes | None = None, output: bytes | None = None
) -> Proved:
    """Verify a proof offline, with nothing but the ledger's verifier key.

    Raises InputError `proof.malformed`, VerificationError `proof.invalid`, `checkpoint.*`.
    """
    text = data.decode("utf-8", "replace")
    proof = EntryProof.parse(text)
    origin, key = parse_vkey(vkey)
    body, opening = _carried(proof.extra or b"")
    checkpoint = verify_proof(text, body, origin, key)
    matches: tuple[bool | None, bool | None] = (None, None)
    if opening is not None:
        opened = open_entry(body, opening, input=input, output=output)
        matches = (opened.input_matches, opened.output_matches)
    entry_id = EntryId.of(proof.index, leaf_hash(body))
    return Proved(entry_id, parse_entry(body), checkpoint.size, text, *matches)
