"""The key-encryption key: the one secret that opens the vault, wherever it is kept.

Promise of every kind: a wrapped data key opens only under the same key-encryption key and for
the same context. The kinds are in `keks`: a file, a PKCS#11 token, AWS KMS.
"""

from __future__ import annotations

from typing import Protocol

from keepstone.core.ports import Randomness


class KeyEncryptionKey(Protocol):
    """Wraps the data key of each artifact. `key_id` names it in what it wrapped."""

    @property
    def key_id(self) -> str: ...

    def wrap(self, data_key: bytes, context: bytes, randomness: Randomness | None = None) -> bytes:
        """Encrypt `data_key`, bound to `context`. Raises OperationalError `hsm.*`, `kms.failed`."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the data key.

        Raises VerificationError `seal.wrong_key`; OperationalError `hsm.*`, `kms.failed`.
        """
        ...
