"""What a ledger entry is: a canonical JSON object with a kind and a time.

An entry's body is opaque bytes once written: what is hashed is what was given. Only its kind,
its time and the keys it is indexed under are ever read back out of it by the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from keepstone.core.canonical import MAX_SAFE_INTEGER, canonical, parse_json
from keepstone.errors import InputError, VerificationError
from keepstone.ledger.tree import leaf_hash

MAX_ENTRY = 64 * 1024
_ID = re.compile(r"ks-(0|[1-9][0-9]{0,18})-([0-9a-f]{16})\Z", re.ASCII)


class Kind(StrEnum):
    STATEMENT = "statement"
    EVENT = "event"
    PREDICTION = "prediction"
    REFUSALS = "refusals"
    REGISTRY = "registry"
    ACCESS = "access"


# Which kinds can be looked up by key; predictions and accesses (who asked the registry for what)
# are too many, and found by their id.
_KEYS: dict[Kind, tuple[str, ...]] = {
    Kind.STATEMENT: ("statement",),
    Kind.EVENT: ("event",),
    Kind.PREDICTION: (),
    Kind.REFUSALS: (),
    Kind.REGISTRY: ("registry",),
    Kind.ACCESS: (),
}
INDEXED = frozenset(kind for kind, keys in _KEYS.items() if keys)


class EntryHead(msgspec.Struct, frozen=True, gc=False):
    """The two members that each entry has; all others are the business of who wrote it."""

    kind: Kind
    t: Annotated[int, msgspec.Meta(ge=0, le=MAX_SAFE_INTEGER)]

    @property
    def keys(self) -> tuple[str, ...]:
        return _KEYS[self.kind]


_decode_head = msgspec.json.Decoder(EntryHead).decode


def read_head(body: bytes) -> EntryHead:
    """The kind and time of an entry, in well under a microsecond.

    Raises InputError `entry.too_large` beyond 64 KiB, `entry.malformed` for what is not a JSON
    object with a known `kind` and a time `t` in milliseconds.
    """
    if len(body) > MAX_ENTRY:
        raise InputError(
            "entry.too_large",
            f"The entry has {len(body)} bytes; at most {MAX_ENTRY} fit.",
            "Record large evidence by its digest.",
        )
    try:
        return _decode_head(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError("entry.malformed", f"Not a ledger entry: {error}.") from error


def index_keys(body: bytes) -> tuple[str, ...]:
    """The keys under which the entry is found by `indexed`: a function of its body alone."""
    return read_head(body).keys


def make_entry(kind: Kind, now: int, fields: Mapping[str, Any]) -> bytes:
    """The canonical body of an entry. Raises InputError `entry.*` or `canonical.*`."""
    if fields.keys() & {"kind", "t"}:
        raise InputError("entry.malformed", "An entry's fields cannot name its kind or time.")
    body = canonical({"kind": str(kind), "t": now, **fields})
    read_head(body)
    return body


def parse_entry(body: bytes) -> dict[str, Any]:
    """The whole entry as a dictionary, parsed strictly. Raises InputError `entry.*`, `json.*`."""
    read_head(body)
    value: dict[str, Any] = parse_json(body, limit=MAX_ENTRY)
    return value


def entry_id(index: int, leaf: bytes) -> str:
    """The text of an entry's id, from its index and its leaf hash."""
    return f"ks-{index}-{leaf[:8].hex()}"


@dataclass(frozen=True, slots=True)
class EntryId:
    """`ks-<index>-<first 16 hex digits of the leaf hash>`: where an entry is, and which it is."""

    index: int
    leaf_prefix: str

    def __str__(self) -> str:
        return f"ks-{self.index}-{self.leaf_prefix}"

    @classmethod
    def of(cls, index: int, leaf: bytes) -> EntryId:
        return cls(index, leaf[:8].hex())

    @classmethod
    def parse(cls, text: str) -> EntryId:
        """Raises InputError `entry.bad_id`."""
        match = _ID.match(text)
        if match is None:
            raise InputError(
                "entry.bad_id",
                f"{text[:60]!r} is not an entry id.",
                "An entry id looks like ks-42-0123456789abcdef.",
            )
        return cls(int(match[1]), match[2])

    def check(self, body: bytes) -> None:
        """Return if `body` is the entry this id names, else `entry.id_mismatch`."""
        if leaf_hash(body)[:8].hex() != self.leaf_prefix:
            raise VerificationError(
                "entry.id_mismatch",
                f"Entry {self.index} is not the one that {self} names.",
                "Run `keepstone ledger verify`: the ledger may have been rewritten.",
            )
