"""Where a key-encryption key can be: a file, a PKCS#11 token, AWS KMS.

`open_kek` reads the workspace's key file, which holds the key or names where it is. The
libraries of the last two are imported only where such a key is opened.
"""

from __future__ import annotations

from pathlib import Path

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError
from keepstone.identity.keystores.reference import (
    FileReference,
    KeyReference,
    KmsReference,
    TokenAccess,
    TokenReference,
)
from keepstone.identity.signing import read_secret_file
from keepstone.vault.keks import file, remote
from keepstone.vault.keys import KeyEncryptionKey

_LIMIT = 1 << 16


def open_kek(
    path: Path, *, passphrase: bytes | None = None, access: TokenAccess | None = None
) -> KeyEncryptionKey:
    """Open the key-encryption key whose file is at `path`, which only its owner may read.

    Raises InputError `key.*`; OperationalError `key.open_permissions`, `extra.*`, `hsm.*`,
    `kms.failed`; VerificationError `seal.wrong_key` where another key stands in its place.
    """
    data = read_secret_file(path, limit=_LIMIT)
    document = parse_json(data, limit=_LIMIT)
    if isinstance(document, dict) and "reference" in document:
        return remote.parse_kek(document, lambda named: _store(named, access or TokenAccess()))
    return file.parse_kek(data, passphrase)


def make_kek(
    path: Path,
    where: KeyReference | None,
    *,
    passphrase: bytes | None = None,
    access: TokenAccess | None = None,
) -> KeyEncryptionKey:
    """Take a key-encryption key into use and write its file; an existing file is refused.

    Without `where` it is new and in the file itself. A token's key or one in KMS is there
    already, and the file names it. Raises as `open_kek`, and InputError `file.exists`,
    `kek.unsupported`.
    """
    if where is None:
        return file.create_kek(path, passphrase)
    if isinstance(where, FileReference):
        raise InputError(
            "kek.unsupported",
            f"A key-encryption key cannot be taken from the file {where}.",
            "Name pkcs11:URI or awskms:///KEY; a key in a file is made by Keepstone itself.",
        )
    return remote.create_kek(path, _store(where, access or TokenAccess()))


def reference_of(path: Path) -> KmsReference | TokenReference | None:
    """Where the key is that the file at `path` names; None where the file holds it."""
    document = parse_json(read_secret_file(path, limit=_LIMIT), limit=_LIMIT)
    if isinstance(document, dict) and "reference" in document:
        return remote.read_reference(document)
    return None


def _store(where: KmsReference | TokenReference, access: TokenAccess) -> remote.KeyStore:
    if isinstance(where, TokenReference):
        from keepstone.vault.keks.pkcs11 import open_token_store

        return open_token_store(where, access)
    from keepstone.vault.keks.awskms import open_kms_store

    return open_kms_store(where)


__all__ = ["make_kek", "open_kek", "reference_of"]
