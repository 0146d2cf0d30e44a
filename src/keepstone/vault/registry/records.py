"""What the registry writes into the ledger: one record for each thing that was done.

A record is the whole of an entry of the kind `registry`, so it is there or it is not; nothing
is half done. Reading is strict: an unknown operation or field is refused, for it may say no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject, check_name
from keepstone.errors import InputError
from keepstone.evidence.fields import Fields
from keepstone.identity.principal import check_principal_id
from keepstone.ledger.entry import Kind, make_entry, parse_entry
from keepstone.vault.registry.reference import check_pointer

MALFORMED = "registry.malformed"
MAX_ATTRIBUTES = 16
# What fits into one entry of the ledger, with room to spare.
MAX_COLLECTED = 500
MAX_SWEPT = 300
ALIAS, STAGE = "alias", "stage"


@dataclass(frozen=True, slots=True)
class Author:
    """Who did it: a principal, how it authenticated, and with which key."""

    principal: str
    method: str
    key: str

    def to_dict(self) -> dict[str, Any]:
        return {"principal": self.principal, "method": self.method, "key": self.key}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(
            check_principal_id(fields.line("principal", 160)),
            fields.line("method", 32),
            fields.line("key", 128),
        )
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class Pushed:
    """A version of a model came in. Its number is never used again."""

    op: ClassVar[str] = "pushed"
    by: Author
    model: str
    number: int
    digest: Digest
    size: int
    sealed: int
    files: int
    format: str
    outcome: Outcome
    attributes: tuple[tuple[str, str], ...]
    contract: Digest | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "number": self.number,
            "digest": str(self.digest),
            "size": self.size,
            "sealed": self.sealed,
            "files": self.files,
            "format": self.format,
            "outcome": self.outcome.value,
            "attributes": dict(self.attributes),
            "contract": None if self.contract is None else str(self.contract),
            "note": self.note,
        }

    @classmethod
    def read(cls, by: Author, fields: Fields) -> Self:
        attributes = fields.lines("attributes", MAX_ATTRIBUTES)
        outcome = Outcome(fields.one_of("outcome", frozenset(Outcome)))
        if outcome is Outcome.FLAGGED:
            raise fields.fault("outcome", "says flagged, and what is flagged is not kept")
        return cls(
            by,
            _model(fields),
            fields.integer("number", 1),
            fields.digest("digest"),
            fields.integer("size"),
            fields.integer("sealed"),
            fields.integer("files", 1),
            fields.line("format", 64),
            outcome,
            tuple(sorted((check_name(key), check_name(attributes[key])) for key in attributes)),
            None if fields.raw("contract") is None else fields.digest("contract"),
            _note(fields),
        )


@dataclass(frozen=True, slots=True)
class Moved:
    """An alias or a stage points to another version: from `was` to `number`, None for nothing.

    `policy` and `evidence` name what the gate decided by. `proposal` is the entry of the proposal
    that this confirms, for a stage that takes two principals.
    """

    op: ClassVar[str] = "moved"
    by: Author
    model: str
    kind: str
    pointer: str
    number: int | None
    was: int | None
    policy: Digest
    evidence: tuple[Digest, ...]
    proposal: int | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "pointer": {"kind": self.kind, "name": self.pointer},
            "number": self.number,
            "was": self.was,
            "policy": str(self.policy),
            "evidence": [str(one) for one in self.evidence],
            "proposal": self.proposal,
            "note": self.note,
        }

    @classmethod
    def read(cls, by: Author, fields: Fields) -> Self:
        pointer = fields.inner("pointer")
        kind = pointer.one_of("kind", frozenset({ALIAS, STAGE}))
        name = check_pointer(pointer.line("name", 64))
        pointer.done()
        evidence = fields.items("evidence", 256)
        return cls(
            by,
            _model(fields),
            kind,
            name,
            _maybe(fields, "number", 1),
            _maybe(fields, "was", 1),
            fields.digest("policy"),
            tuple(Fields({"item": one}, "list", MALFORMED).digest("item") for one in evidence),
            _maybe(fields, "proposal", 0),
            _note(fields),
        )


@dataclass(frozen=True, slots=True)
class Proposed:
    """Somebody wants a stage to move from `was` to `number`; a second principal may confirm."""

    op: ClassVar[str] = "proposed"
    by: Author
    model: str
    stage: str
    number: int
    digest: Digest
    was: int | None
    expires: int
    note: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "stage": self.stage,
            "number": self.number,
            "digest": str(self.digest),
            "was": self.was,
            "expires": self.expires,
            "note": self.note,
        }

    @classmethod
    def read(cls, by: Author, fields: Fields) -> Self:
        return cls(
            by,
            _model(fields),
            check_pointer(fields.line("stage", 64)),
            fields.integer("number", 1),
            fields.digest("digest"),
            _maybe(fields, "was", 1),
            fields.integer("expires"),
            _note(fields),
        )


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A proposal, named by its entry, is no longer one."""

    op: ClassVar[str] = "withdrawn"
    by: Author
    model: str
    proposal: int

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "proposal": self.proposal}

    @classmethod
    def read(cls, by: Author, fields: Fields) -> Self:
        return cls(by, _model(fields), fields.integer("proposal"))


@dataclass(frozen=True, slots=True)
class Deprecated:
    """Nothing may newly point to this version; from `until` on (ms) it may be collected."""

    op: ClassVar[str] = "deprecated"
    by: Author
    model: str
    number: int
    reason: str
    until: int | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "number": self.number,
            "reason": self.reason,
            "until": self.until,
        }

    @classmethod
    def read(cls, by: Author, fields: Fields) -> Self:
        return cls(
            by,
            _model(fields),
            fields.integer("number", 1),
            fields.line("reason"),
            _maybe(fields, "until", 0),
        )


@dataclass(frozen=True, slots=True)
class Collected:
    """The bytes of these versions of a model are gone; their numbers stay taken."""

    op: ClassVar[str] = "collected"
    by: Author
    model: str
    numbers: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "numbers": list(self.numbers)}

    @classmethod
    def read(cls, by: Author, fields: Fields) -> Self:
        numbers = fields.items("numbers", MAX_COLLECTED)
        if not numbers or not all(type(one) is int and one > 0 for one in numbers):
            raise fields.fault("numbers", "is not a list of versions' numbers")
        return cls(by, _model(fields), tuple(numbers))


@dataclass(frozen=True, slots=True)
class Swept:
    """Sealed blobs that no version names were dropped."""

    op: ClassVar[str] = "swept"
    by: Author
    blobs: tuple[Subject, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"blobs": [{"name": one.name, "digest": str(one.digest)} for one in self.blobs]}

    @classmethod
    def read(cls, by: Author, fields: Fields) -> Self:
        found = []
        for item in fields.items("blobs", MAX_SWEPT):
            inner = Fields(item, "registry record's blob", MALFORMED)
            found.append(Subject(inner.line("name", 64), inner.digest("digest")))
            inner.done()
        return cls(by, tuple(found))


Record = Pushed | Moved | Proposed | Withdrawn | Deprecated | Collected | Swept
RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {cls.op: cls for cls in (Pushed, Moved, Proposed, Withdrawn, Deprecated, Collected, Swept)}
)


def record_body(record: Record, now: int) -> bytes:
    """The ledger entry of a record, read back to be sure. Raises `entry.*`, `registry.*`."""
    said = {"op": record.op, "by": record.by.to_dict(), **record.to_dict()}
    body = make_entry(Kind.REGISTRY, now, said)
    read_record(body)
    return body


def read_record(body: bytes) -> tuple[Record, int]:
    """The record that an entry holds, and when it was written (ms).

    Raises InputError `registry.malformed`, `registry.newer_version`, `entry.*`, `name.invalid`
    and what reading a field raises.
    """
    value = parse_entry(body)
    fields = Fields(value, "registry record", MALFORMED)
    if fields.text("kind", 32) != Kind.REGISTRY:
        raise fields.fault("kind", "is not `registry`")
    at, op = fields.integer("t"), fields.text("op", 64)
    if op not in RECORDS:
        raise InputError(
            "registry.newer_version",
            f"This build does not know the registry's operation {op!r}.",
            "Upgrade Keepstone.",
        )
    author = Author.read(fields.inner("by"))
    record = RECORDS[op].read(author, fields)
    fields.done()
    return record, at


def _model(fields: Fields) -> str:
    return check_name(fields.line("model", 64))


def _note(fields: Fields) -> str:
    """A line, or nothing."""
    return fields.line("note") if fields.raw("note") else ""


def _maybe(fields: Fields, name: str, low: int) -> int | None:
    value = fields.raw(name)
    return None if value is None else fields.integer(name, low)


__all__ = [
    "ALIAS",
    "MAX_COLLECTED",
    "MAX_SWEPT",
    "STAGE",
    "Author",
    "Collected",
    "Deprecated",
    "Moved",
    "Proposed",
    "Pushed",
    "Record",
    "Swept",
    "Withdrawn",
    "read_record",
    "record_body",
]
