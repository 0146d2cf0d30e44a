"""A key-encryption key in AWS KMS: KMS wraps each data key, under an encryption context.

KMS sees the data keys while it wraps them; it never sees an artifact. The context travels in
the clear and is in CloudTrail: it is the artifact's digest and name. Rotation of the key's
material inside KMS needs nothing here. Tried against moto's KMS.

Source: AWS KMS API, Encrypt and Decrypt; an alias is followed once, and the key's ARN kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keepstone.core.ports import Randomness
from keepstone.errors import InputError
from keepstone.identity.keystores.awskms import kms_client, kms_errors
from keepstone.identity.keystores.reference import KmsReference
from keepstone.vault.keks.remote import wrong_key

_WRONG = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class KmsStore:
    """One symmetric key of KMS, by its ARN."""

    place: KmsReference
    _client: Any = field(repr=False, compare=False)

    def encrypt(self, data: bytes, context: bytes, randomness: Randomness) -> bytes:
        with kms_errors(self.place):
            answer = self._client.encrypt(
                KeyId=self.place.key, Plaintext=data, EncryptionContext=_context(context)
            )
        return bytes(answer["CiphertextBlob"])

    def decrypt(self, data: bytes, context: bytes) -> bytes:
        from botocore.exceptions import ClientError

        if not 0 < len(data) <= _LARGEST:
            raise wrong_key()
        with kms_errors(self.place):
            try:
                # The key is named: a blob must not choose under which of our keys it opens.
                answer = self._client.decrypt(
                    KeyId=self.place.key,
                    CiphertextBlob=data,
                    EncryptionContext=_context(context),
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _WRONG:
                    raise wrong_key() from error
                raise
        return bytes(answer["Plaintext"])


def _context(context: bytes) -> dict[str, str]:
    return {"keepstone": context.decode("utf-8")}


def open_kms_store(reference: KmsReference) -> KmsStore:
    """Find the key that `reference` names.

    Raises InputError `key.missing`, `kek.unsupported`; OperationalError `extra.aws`, `kms.failed`.
    """
    client = kms_client(reference)
    with kms_errors(reference):
        key = client.describe_key(KeyId=reference.key)["KeyMetadata"]
    if key.get("KeyUsage") != "ENCRYPT_DECRYPT" or key.get("KeySpec") != "SYMMETRIC_DEFAULT":
        raise InputError(
            "kek.unsupported",
            "The key in KMS is not a symmetric one that encrypts.",
            "Make one with `aws kms create-key`.",
        )
    return KmsStore(KmsReference(key["Arn"]), client)
