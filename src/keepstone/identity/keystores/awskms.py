"""EC keys in AWS KMS: KMS signs, the private key never leaves it.

Promise: what comes back is checked against the public key that was read at the start, so an
alias that is moved meanwhile, or an answer that is wrong, never becomes a signature of ours.
Region, credentials and endpoint are AWS's usual settings (`AWS_REGION`, `AWS_PROFILE`,
`AWS_ENDPOINT_URL_KMS`). Tried against moto's KMS.

Source: AWS KMS API, GetPublicKey and Sign (a message of more than 4,096 bytes goes as its digest).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keepstone.errors import InputError, OperationalError
from keepstone.identity.keystores.reference import KmsReference
from keepstone.identity.signing import Algorithm, VerifyingKey

# KMS hashes a shorter message itself, and its log then shows what was signed.
_MAX_MESSAGE = 4096
_ALGORITHMS = {
    Algorithm.P256: "ECDSA_SHA_256",
    Algorithm.P384: "ECDSA_SHA_384",
    Algorithm.P521: "ECDSA_SHA_512",
}


def kms_client(reference: KmsReference) -> Any:
    """A client of KMS in the region of `reference`, or of the environment.

    Raises OperationalError `extra.aws`, `kms.failed`.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise OperationalError(
            "extra.aws",
            "Keys in AWS KMS need the extra `aws`, which is not installed.",
            "pip install 'keepstone[aws]'",
        ) from error
    region = reference.key.split(":")[3] if reference.key.startswith("arn:") else None
    config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 3})
    with kms_errors(reference):
        return boto3.client("kms", region_name=region, config=config)


@contextmanager
def kms_errors(reference: KmsReference) -> Iterator[None]:
    """Give what KMS or the road to it says a code: `key.missing`, or `kms.failed`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        if told.get("Code") == "NotFoundException":
            raise InputError("key.missing", f"KMS knows no key {reference.key}.") from error
        raise _failed(f"{told.get('Code')} {told.get('Message', '')}") from error
    except BotoCoreError as error:
        raise _failed(str(error)) from error


def _failed(why: str) -> OperationalError:
    return OperationalError(
        "kms.failed",
        f"KMS refused, or was not reached: {why.strip().rstrip('.')}.",
        "Look at the AWS region, the credentials and what they may do with the key.",
    )


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A signing key in KMS. `arn` is the key itself, whatever alias named it."""

    arn: str
    verifying: VerifyingKey
    _client: Any = field(repr=False, compare=False)

    @property
    def key_id(self) -> str:
        return self.verifying.key_id

    def sign(self, message: bytes) -> bytes:
        """Sign. Raises OperationalError `kms.failed`, VerificationError `signature.invalid`."""
        algorithm = self.verifying.algorithm
        kind, sent = "RAW", message
        if len(message) > _MAX_MESSAGE:
            kind, sent = "DIGEST", hashlib.new(algorithm.hash_name, message).digest()
        with kms_errors(KmsReference(self.arn)):
            answer = self._client.sign(
                KeyId=self.arn,
                Message=sent,
                MessageType=kind,
                SigningAlgorithm=_ALGORITHMS[algorithm],
            )
        signature = bytes(answer["Signature"])
        self.verifying.verify(signature, message)
        return signature


def open_kms_key(reference: KmsReference) -> KmsKey:
    """Find the EC key that `reference` names.

    Raises InputError `key.missing`, `key.unsupported`; OperationalError `extra.aws`, `kms.failed`.
    """
    client = kms_client(reference)
    with kms_errors(reference):
        arn = client.describe_key(KeyId=reference.key)["KeyMetadata"]["Arn"]
        answer = client.get_public_key(KeyId=arn)
    try:
        public = load_der_public_key(answer["PublicKey"])
        verifying = VerifyingKey.of(public)  # type: ignore[arg-type]  # of() refuses other kinds
    except (ValueError, UnsupportedAlgorithm, InputError) as error:
        raise _not_ec() from error
    if verifying.algorithm not in _ALGORITHMS or answer.get("KeyUsage") != "SIGN_VERIFY":
        raise _not_ec()
    return KmsKey(arn, verifying, client)


def _not_ec() -> InputError:
    return InputError(
        "key.unsupported",
        "The key in KMS is not one that signs on P-256, P-384 or P-521.",
        "Make one with `aws kms create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_P256`.",
    )
