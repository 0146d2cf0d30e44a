"""moto's server, with one thing mended: `MessageType=DIGEST` signs the digest that was sent.

moto 5.2 hashes it once more, as if it were a message; AWS does not (KMS API, Sign).
"""

from __future__ import annotations

import sys
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms import responses
from moto.kms.utils import ECDSAPrivateKey
from moto.server import main

_HASHES = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}


class Digest(bytes):
    """What was sent as a digest."""


def sign_digest(self: Any, message: bytes, signing_algorithm: str) -> bytes:
    if not isinstance(message, Digest):
        return bytes(_whole(self, message, signing_algorithm))
    prehashed = Prehashed(_HASHES[len(message)])
    return bytes(self.private_key.sign(bytes(message), ec.ECDSA(prehashed)))


def get_parameter(self: Any, name: str, *rest: Any) -> Any:
    value = _get(self, name, *rest)
    if name == "Message" and _get(self, "MessageType") == "DIGEST":
        return Digest(value)
    return value


_whole, ECDSAPrivateKey.sign = ECDSAPrivateKey.sign, sign_digest
_get, responses.KmsResponse._get_param = responses.KmsResponse._get_param, get_parameter

if __name__ == "__main__":
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
