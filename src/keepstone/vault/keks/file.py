"""A key-encryption key in a file.

Promise: the key file is readable by its owner only, and under a passphrase it is ciphertext. A
wrapped data key opens only under the same key-encryption key and for the same context.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.ports import Randomness, SystemRandomness
from keepstone.errors import InputError, VerificationError
from keepstone.identity.signing import read_secret_file, write_secret_file

SCHEMA = "keepstone.kek/v1"
KEY_SIZE = 32
_NONCE = 12
_SALT = 16
# 128 MiB and about half a second: RFC 7914 2, and OWASP's advice for scrypt.
_COST = {"n": 1 << 17, "r": 8, "p": 1}
# What a key file may ask of us: 1 GiB. A forged one must not exhaust the memory.
_MOST = {"n": 1 << 20, "r": 8, "p": 4}


@dataclass(frozen=True, slots=True)
class FileKek:
    """Wraps the data key of each artifact. Its repr and equality show the id only."""

    key_id: str
    _raw: bytes = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: bytes) -> FileKek:
        if len(raw) != KEY_SIZE:
            raise _malformed("A key-encryption key has 32 bytes.")
        return cls(_key_id(raw), raw)

    def wrap(self, data_key: bytes, context: bytes, randomness: Randomness | None = None) -> bytes:
        """Encrypt `data_key`, bound to `context`: nonce, then AES-256-GCM ciphertext and tag."""
        nonce = (randomness or SystemRandomness()).token_bytes(_NONCE)
        return nonce + AESGCM(self._raw).encrypt(nonce, data_key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the data key. Raises VerificationError `seal.wrong_key`."""
        try:
            return AESGCM(self._raw).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], context)
        except (InvalidTag, ValueError) as error:
            raise VerificationError(
                "seal.wrong_key",
                "The data key was not wrapped by this key-encryption key for this artifact.",
                "Restore the vault and its key file from one backup.",
            ) from error


def create_kek(
    path: Path, passphrase: bytes | None = None, randomness: Randomness | None = None
) -> FileKek:
    """Make a key and write its file, mode 0600; an existing file is refused (`file.exists`).

    With a passphrase the file holds the key encrypted under it (scrypt, AES-256-GCM).
    """
    source = randomness or SystemRandomness()
    key = FileKek.of(source.token_bytes(KEY_SIZE))
    document: dict[str, Any] = {"schema": SCHEMA, "id": key.key_id}
    if passphrase is None:
        document["key"] = _encode(key._raw)
    else:
        document["kdf"] = {"name": "scrypt", **_COST, "salt": _encode(source.token_bytes(_SALT))}
        # The authenticated data is the document so far: parameters cannot be swapped.
        nonce, bound = source.token_bytes(_NONCE), canonical(document)
        sealed = AESGCM(_stretch(passphrase, document["kdf"])).encrypt(nonce, key._raw, bound)
        document["wrapped"] = _encode(nonce + sealed)
    write_secret_file(path, canonical(document) + b"\n")
    return key


def load_kek(path: Path, passphrase: bytes | None = None) -> FileKek:
    """Read a key file that only its owner can read.

    Raises InputError `key.missing`, `key.malformed`, `key.passphrase`, `key.newer_version`;
    OperationalError `key.open_permissions`.
    """
    return parse_kek(read_secret_file(path), passphrase)


def parse_kek(data: bytes, passphrase: bytes | None = None) -> FileKek:
    """Read the content of a key file. Raises as `load_kek` does."""
    document = parse_json(data, limit=1 << 16)
    if not isinstance(document, dict):
        raise _malformed("The key file is not a JSON object.")
    schema = document.get("schema")
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith("keepstone.kek/"):
            raise InputError(
                "key.newer_version",
                f"The key file follows {schema[:64]}; this Keepstone knows {SCHEMA}.",
                "Use the Keepstone that made it, or a newer one.",
            )
        raise _malformed(f"The key file is not a {SCHEMA}.")
    match document:
        case {"id": str() as key_id, "key": str() as text} if len(document) == 3:
            key = FileKek.of(_decode(text))
        case {"id": str() as key_id, "kdf": dict(), "wrapped": str()} if len(document) == 4:
            key = FileKek.of(_unlock(document, passphrase))
        case _:
            raise _malformed("The key file has missing or unknown members.")
    if not hmac.compare_digest(key.key_id.encode(), key_id.encode()):
        raise _malformed("The key does not have the id that its file states.")
    return key


def is_encrypted(data: bytes) -> bool:
    """True where the content of a key file is protected by a passphrase."""
    document = parse_json(data, limit=1 << 16)
    return isinstance(document, dict) and "wrapped" in document


def _unlock(document: dict[str, Any], passphrase: bytes | None) -> bytes:
    if passphrase is None:
        raise _passphrase("The key file is encrypted and no passphrase was given.")
    wrapped = _decode(document["wrapped"])
    bound = canonical({name: document[name] for name in ("schema", "id", "kdf")})
    key = _stretch(passphrase, document["kdf"])
    try:
        return AESGCM(key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], bound)
    except (InvalidTag, ValueError) as error:
        raise _passphrase("The passphrase is wrong, or the key file was changed.") from error


def _stretch(passphrase: bytes, kdf: dict[str, Any]) -> bytes:
    known = set(kdf) == {"name", "salt", *_MOST} and kdf["name"] == "scrypt"
    if not known or not isinstance(kdf["salt"], str):
        raise _malformed("The key file names a key derivation that is not known.")
    if not all(type(kdf[name]) is int and 0 < kdf[name] <= most for name, most in _MOST.items()):
        raise _malformed("The key file asks for a key derivation that is not allowed.")
    salt, n, r, p = _decode(kdf["salt"]), kdf["n"], kdf["r"], kdf["p"]
    try:
        return Scrypt(salt=salt, length=KEY_SIZE, n=n, r=r, p=p).derive(passphrase)
    except ValueError as error:
        raise _malformed("The key file's key derivation cannot be done.") from error


def _key_id(raw: bytes) -> str:
    return hmac.new(raw, b"keepstone key-encryption key id v1", sha256).hexdigest()[:32]


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("The key file holds text that is not base64.") from error


def _malformed(cause: str) -> InputError:
    return InputError("key.malformed", cause, "Restore the key file from a backup.")


def _passphrase(cause: str) -> InputError:
    return InputError("key.passphrase", cause, "Set KEEPSTONE_PASSPHRASE to the key's passphrase.")
