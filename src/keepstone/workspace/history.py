"""The ledger's entries as people read them."""

from __future__ import annotations

import json
from typing import Any

from keepstone.core.ports import rfc3339
from keepstone.errors import InputError
from keepstone.evidence.record import parse_statement_entry
from keepstone.evidence.statement import open_payload
from keepstone.ledger import EntryId, LedgerReader, parse_entry
from keepstone.ledger.tree import leaf_hash
from keepstone.workspace.layout import read_identity
from keepstone.workspace.site import Site

_HIDDEN = frozenset({"kind", "t", "nonce", "in", "out", "period"})


def find_entry(reader: LedgerReader, text: str) -> tuple[EntryId, bytes]:
    """The entry that `text` names, by id or by index.

    Raises InputError `entry.bad_id`, `ledger.no_such_entry`; VerificationError
    `entry.id_mismatch` where the entry is not the one that the id was given for.
    """
    if text.isascii() and text.isdigit() and len(text) < 16:
        index = int(text)
        body = reader.body(index)
        return EntryId.of(index, leaf_hash(body)), body
    entry_id = EntryId.parse(text)
    body = reader.body(entry_id.index)
    entry_id.check(body)
    return entry_id, body


def summary(index: int, body: bytes) -> dict[str, Any]:
    """One entry in a few members: its id, kind, time, and what it says."""
    entry = parse_entry(body)
    shown: dict[str, Any] = {
        "id": str(EntryId.of(index, leaf_hash(body))),
        "kind": entry["kind"],
        "time": rfc3339(entry["t"]),
    }
    if entry["kind"] != "statement":
        return shown | {name: value for name, value in entry.items() if name not in _HIDDEN}
    envelope = parse_statement_entry(body).envelope
    signers = [signature.key_id[:16] for signature in envelope.signatures]
    try:
        said = open_payload(envelope)
    except InputError as error:
        return shown | {"unreadable": error.code, "signers": signers}
    return shown | {
        "predicate": said.predicate.kind,
        "subject": said.subject.name,
        "digest": str(said.subject.digest),
        "signers": signers,
    }


def newest(site: Site, count: int) -> list[dict[str, Any]]:
    """The newest `count` entries, oldest of them first."""
    read_identity(site.layout)
    with LedgerReader.open(site.layout.ledger) as reader:
        size = reader.size()
        return [summary(i, body) for i, body in reader.entries(max(0, size - count), size)]


def one_line(entry: dict[str, Any]) -> str:
    """An entry for a terminal: time, id, kind, then the rest as it is."""
    rest = {key: value for key, value in entry.items() if key not in ("id", "kind", "time")}
    words = " ".join(f"{key}={_word(value)}" for key, value in rest.items())
    return f"{entry['time']}  {entry['id']}  {entry['kind']:<10}  {words}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def entry_document(site: Site, text: str) -> dict[str, Any]:
    """One entry whole: as it was recorded, and a statement's payload opened."""
    read_identity(site.layout)
    with LedgerReader.open(site.layout.ledger) as reader:
        entry_id, body = find_entry(reader, text)
    entry = parse_entry(body)
    document: dict[str, Any] = {
        "schema": "keepstone.ledger-entry/v1",
        "id": str(entry_id),
        "leaf": leaf_hash(body).hex(),
        "entry": entry,
    }
    if entry["kind"] == "statement":
        document["statement"] = json.loads(parse_statement_entry(body).envelope.payload)
    return document
