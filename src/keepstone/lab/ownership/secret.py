"""The one secret of a fingerprint, and everything that is drawn from it.

Every draw is SHAKE-256 (FIPS 202) over the secret, a purpose and a number: who saw some of the
inputs learns nothing about the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256, shake_256

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError

SIZE = 32
_DOMAIN = b"keepstone fingerprint secret v1\n"


@dataclass(frozen=True, slots=True)
class Secret:
    """32 random bytes. `digest` names it without giving it away."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SIZE:
            raise InputError("fingerprint.bad_secret", f"The secret is not {SIZE} bytes.")

    @property
    def digest(self) -> Digest:
        return Digest(sha256(_DOMAIN + b"digest\n" + self.seed).hexdigest())

    def key(self, purpose: str) -> bytes:
        """32 bytes for another use, which say nothing about the secret."""
        return self._bytes(purpose, 0, 32)

    def salt(self, number: int) -> bytes:
        """What hides the committed answer `number` until it is opened."""
        return self._bytes("salt", number, 32)

    def uniform(self, purpose: str, number: int, count: int) -> Array:
        """`count` numbers of [0, 1), each of 53 bits."""
        raw = np.frombuffer(self._bytes(purpose, number, 8 * count), "<u8")
        return np.asarray((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def order(self, purpose: str, number: int, count: int) -> Array:
        """The numbers below `count` in a drawn order."""
        return np.argsort(self.uniform(purpose, number, count), kind="stable")

    def _bytes(self, purpose: str, number: int, count: int) -> bytes:
        text = f"{purpose}\n{number}\n".encode()
        return shake_256(_DOMAIN + text + self.seed).digest(count)
