"""Statements in the ledger: an envelope becomes an entry's body, and comes back unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.errors import InputError
from keepstone.evidence.dsse import Envelope
from keepstone.ledger.entry import MAX_ENTRY, Kind, make_entry, parse_entry


@dataclass(frozen=True, slots=True)
class StatementEntry:
    """What the ledger holds of a statement: the envelope, and when it was logged (ms)."""

    envelope: Envelope
    logged_at: int


def entry_body(envelope: bytes | Envelope, now: int) -> bytes:
    """The body of the ledger entry for this envelope.

    Raises InputError `evidence.too_large` beyond 64 KiB, `envelope.malformed`, `json.*`.
    """
    if isinstance(envelope, bytes):
        envelope = Envelope.parse(envelope)
    try:
        return make_entry(Kind.STATEMENT, now, {"envelope": envelope.to_dict()})
    except InputError as error:
        if error.code != "entry.too_large":
            raise
        raise InputError(
            "evidence.too_large",
            f"The statement does not fit into a ledger entry of {MAX_ENTRY} bytes.",
            "Name large evidence by its digest.",
        ) from error


def parse_statement_entry(body: bytes) -> StatementEntry:
    """Read a statement entry. Raises InputError `entry.*`, `envelope.malformed`, `json.*`."""
    value = parse_entry(body)
    if value["kind"] != Kind.STATEMENT or value.keys() != {"kind", "t", "envelope"}:
        raise InputError("entry.malformed", "The entry is not a statement's.")
    return StatementEntry(Envelope.from_dict(value["envelope"]), value["t"])
