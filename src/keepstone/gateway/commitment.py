"""Commitments to what went in and out, which only the holder of an entry's key can open.

    entry key = HMAC-SHA256(period key, nonce)
    in  = HMAC-SHA256(entry key, "input"  0x00 body)
    out = HMAC-SHA256(entry key, "output" 0x00 body)

The ledger holds the nonce and both commitments. Without the key they say nothing, not even to
who can guess the input; destroying a period's key closes all of its entries for good. An entry's
key opens that entry and no other.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any, Protocol

from keepstone.core.canonical import parse_json
from keepstone.core.mac import KEY_SIZE as KEY_SIZE
from keepstone.errors import InputError

INPUT, OUTPUT = b"input\0", b"output\0"


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time under one key. `ends` is in milliseconds; the key's repr is hidden."""

    name: str
    key: bytes
    ends: int

    def __repr__(self) -> str:
        return f"Period(name={self.name!r}, ends={self.ends})"


class Periods(Protocol):
    def current(self, now: int) -> Period:
        """The period that holds `now`, made if there is none yet."""
        ...


def entry_key(period_key: bytes, nonce: str) -> bytes:
    """The key that opens the entry with this nonce, and no other."""
    return hmac.digest(period_key, nonce.encode("ascii"), "sha256")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an entry says, and whether the given bytes are what it committed to.

    None: no bytes were given to compare, or the entry holds no such commitment.
    """

    entry: dict[str, Any]
    input_matches: bool | None
    output_matches: bool | None


def open_entry(
    body: bytes, key: bytes, *, input: bytes | None = None, output: bytes | None = None
) -> Opened:
    """Compare what went in and out with a prediction's entry. Raises `entry.not_a_prediction`."""
    entry = parse_json(body, limit=64 << 10)
    if not isinstance(entry, dict) or entry.get("kind") != "prediction":
        raise InputError("entry.not_a_prediction", "The entry is not that of a prediction.")
    return Opened(
        entry,
        _matches(entry.get("in"), key, INPUT, input),
        _matches(entry.get("out"), key, OUTPUT, output),
    )


def _matches(commitment: object, key: bytes, domain: bytes, data: bytes | None) -> bool | None:
    if data is None or not isinstance(commitment, str):
        return None
    found = hmac.digest(key, domain + data, "sha256").hex()
    return hmac.compare_digest(found.encode("ascii"), commitment.encode("utf-8", "replace"))
