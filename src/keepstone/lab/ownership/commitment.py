"""Commitments to crossings: binding before any dispute, hiding until they are opened.

Each is SHA-256 over a domain, the crossing's number, its rows as little-endian binary64, its
answers, and 32 secret bytes of its own: nobody can open one to another crossing, and nobody who
guesses a crossing can confirm it. One can be opened without the others.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.fields import Fields
from keepstone.lab.ownership.crossings import Crossing, Kind
from keepstone.lab.ownership.secret import SIZE

_DOMAIN = b"keepstone fingerprint commitment v1\n"
MALFORMED = "fingerprint.malformed"
MAX_CROSSINGS = 400
_MAX_NUMBERS = 4 << 20
_ROWS = {Kind.LABEL: 2, Kind.NUMBER: 3}


@dataclass(frozen=True, slots=True)
class Opening:
    """One crossing with its number and the salt of its commitment."""

    number: int
    crossing: Crossing
    salt: bytes

    def to_dict(self) -> dict[str, Any]:
        rows = np.asarray(self.crossing.rows, "<f8")
        return {
            "number": self.number,
            "shape": list(rows.shape),
            "rows": b64encode(rows.tobytes()).decode(),
            "answers": list(self.crossing.answers),
            "salt": self.salt.hex(),
        }

    @property
    def commitment(self) -> Digest:
        return Digest.of(_DOMAIN + canonical(self.to_dict()))


def commitments(openings: Sequence[Opening]) -> list[str]:
    return [one.commitment.hex for one in openings]


def require_committed(openings: Sequence[Opening], committed: Sequence[str]) -> None:
    """Return if every opening is the crossing that was committed under its number.

    Raises VerificationError `fingerprint.changed`.
    """
    for one in openings:
        if one.number >= len(committed) or committed[one.number] != one.commitment.hex:
            raise VerificationError(
                "fingerprint.changed",
                f"Crossing {one.number} is not the one that was committed.",
                "Restore the fingerprint's file from a backup.",
            )


def read_openings(values: Any, kind: Kind, width: int) -> tuple[Opening, ...]:
    """Read openings strictly, each number once. Raises InputError `fingerprint.malformed`."""
    if not isinstance(values, list) or not 0 < len(values) <= MAX_CROSSINGS:
        raise InputError(MALFORMED, f"It does not list 1 to {MAX_CROSSINGS} crossings.")
    found = tuple(_read(value, kind, width) for value in values)
    if len({one.number for one in found}) != len(found):
        raise InputError(MALFORMED, "It lists one crossing twice.")
    return found


def _read(value: Mapping[str, Any], kind: Kind, width: int) -> Opening:
    fields = Fields(value, "crossing", MALFORMED)
    number, shape = fields.integer("number"), fields.items("shape", 2)
    texts = fields.items("answers", 2)
    if shape != [_ROWS[kind], width] or not 0 < width <= _MAX_NUMBERS:
        raise fields.fault("shape", f"is not {_ROWS[kind]} rows of {width} numbers")
    if len(texts) != (2 if kind is Kind.LABEL else 0) or not all(
        isinstance(text, str) and len(text) <= 256 for text in texts
    ):
        raise fields.fault("answers", f"are not those of a {kind}")
    try:
        raw = b64decode(fields.text("rows", _MAX_NUMBERS * 12), validate=True)
        salt = bytes.fromhex(fields.text("salt", 2 * SIZE))
        rows = np.frombuffer(raw, "<f8").reshape(shape).astype(np.float64)
    except ValueError as error:
        raise InputError(MALFORMED, "A crossing cannot be read.") from error
    fields.done()
    if len(salt) != SIZE or not np.isfinite(rows).all():
        raise InputError(MALFORMED, "A crossing cannot be read.")
    return Opening(number, Crossing(rows, tuple(texts)), salt)
