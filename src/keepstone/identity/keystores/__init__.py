"""Signing keys wherever they are: a file, a PKCS#11 token, AWS KMS.

Three adapters of one port, `identity.signing:Signatory`. Each imports its library only when a
key of its kind is opened, and says which extra is missing where it is.
"""

from __future__ import annotations

from keepstone.identity.keystores.reference import (
    FileReference,
    KeyReference,
    TokenAccess,
    TokenReference,
)
from keepstone.identity.signing import Signatory, load_private_key


def open_signing_key(
    reference: KeyReference, *, passphrase: bytes | None = None, access: TokenAccess
) -> Signatory:
    """Open the key that `reference` names, ready to sign.

    Raises InputError `key.missing`, `key.ambiguous`, `key.unsupported`, `hsm.no_pin`, and as
    `load_private_key`; OperationalError `extra.*`, `hsm.*`, `kms.failed`.
    """
    if isinstance(reference, FileReference):
        return load_private_key(reference.path, passphrase)
    if isinstance(reference, TokenReference):
        from keepstone.identity.keystores.pkcs11 import open_token_key

        return open_token_key(reference, access)
    from keepstone.identity.keystores.awskms import open_kms_key

    return open_kms_key(reference)


__all__ = ["open_signing_key"]
