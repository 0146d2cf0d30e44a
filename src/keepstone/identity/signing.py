"""Signing keys: EC P-256 for statements and models, Ed25519 for checkpoints and tokens.

`Signatory` is whatever can sign; a `SigningKey` is one whose private half is here, and
`keystores` has those whose private half is somewhere else.

A key's id is the SHA-256 of its public key in SubjectPublicKeyInfo DER, so an id can be
recomputed by anyone who has the public key. A private key file is refused unless only its
owner can read it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from keepstone.errors import InputError, OperationalError, VerificationError

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Algorithm(StrEnum):
    P256 = "ecdsa-p256-sha256"
    P384 = "ecdsa-p384-sha384"
    P521 = "ecdsa-p521-sha512"
    ED25519 = "ed25519"

    @property
    def hash_name(self) -> str:
        """What an EC signature hashes its message with: `sha256`, `sha384` or `sha512`."""
        return self.value.rpartition("-")[2]


_CURVES: dict[str, tuple[Algorithm, hashes.HashAlgorithm]] = {
    "secp256r1": (Algorithm.P256, hashes.SHA256()),
    "secp384r1": (Algorithm.P384, hashes.SHA384()),
    "secp521r1": (Algorithm.P521, hashes.SHA512()),
}


def _algorithm(key: PublicKey) -> Algorithm:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return Algorithm.ED25519
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name][0]
    raise _unsupported()


def _unsupported() -> InputError:
    return InputError(
        "key.unsupported",
        "The key is neither EC P-256, P-384, P-521 nor Ed25519.",
        "Make one with `keepstone signers create`.",
    )


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key. Equality and hash go by its id."""

    public: PublicKey = field(compare=False, repr=False)
    key_id: str

    @classmethod
    def of(cls, public: PublicKey) -> VerifyingKey:
        _algorithm(public)
        return cls(public, sha256(_spki(public)).hexdigest())

    @property
    def algorithm(self) -> Algorithm:
        return _algorithm(self.public)

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return _spki(self.public)

    @property
    def pem(self) -> bytes:
        return self.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if `signature` over `message` is this key's, else raise `signature.invalid`."""
        try:
            if isinstance(self.public, ed25519.Ed25519PublicKey):
                self.public.verify(signature, message)
            else:
                digest = _CURVES[self.public.curve.name][1]
                self.public.verify(signature, message, ec.ECDSA(digest))
        except InvalidSignature as error:
            raise VerificationError(
                "signature.invalid", f"The signature is not by key {self.key_id[:16]}."
            ) from error


class Signatory(Protocol):
    """Whatever can sign: a key in a file, in a token, or in a key management service."""

    @property
    def verifying(self) -> VerifyingKey: ...

    @property
    def key_id(self) -> str: ...

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, as `VerifyingKey.verify` takes it."""
        ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. Its repr shows the id only."""

    private: PrivateKey = field(compare=False, repr=False)
    verifying: VerifyingKey

    @classmethod
    def of(cls, private: PrivateKey) -> SigningKey:
        return cls(private, VerifyingKey.of(private.public_key()))

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.P256) -> SigningKey:
        if algorithm is Algorithm.ED25519:
            return cls.of(ed25519.Ed25519PrivateKey.generate())
        curve = {Algorithm.P256: ec.SECP256R1, Algorithm.P384: ec.SECP384R1}.get(
            algorithm, ec.SECP521R1
        )
        return cls.of(ec.generate_private_key(curve()))

    @property
    def key_id(self) -> str:
        return self.verifying.key_id

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        return self.private.sign(message, ec.ECDSA(_CURVES[self.private.curve.name][1]))

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        """PKCS#8 PEM, encrypted when a passphrase is given."""
        protection: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption()
        )
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )


def _spki(public: PublicKey) -> bytes:
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def parse_public_pem(data: bytes) -> VerifyingKey:
    """Read a PEM public key. Raises InputError `key.malformed` or `key.unsupported`."""
    try:
        public = serialization.load_pem_public_key(data)
    except (ValueError, TypeError) as error:
        raise InputError("key.malformed", "Not a PEM public key.") from error
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error
    return VerifyingKey.of(public)  # type: ignore[arg-type]  # of() refuses other kinds


def parse_private_pem(data: bytes, passphrase: bytes | None = None) -> SigningKey:
    """Read a PEM private key. Raises `key.malformed`, `key.passphrase` or `key.unsupported`."""
    try:
        private = serialization.load_pem_private_key(data, passphrase)
    except TypeError as error:
        raise InputError(
            "key.passphrase",
            "The key is encrypted and no passphrase was given, or the other way round.",
            "Set KEEPSTONE_PASSPHRASE to the key's passphrase.",
        ) from error
    except ValueError as error:
        raise InputError(
            "key.malformed", "Not a PEM private key, or the passphrase is wrong."
        ) from error
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error
    return SigningKey.of(private)  # type: ignore[arg-type]  # of() refuses other kinds


def read_secret_file(path: Path, *, limit: int = 1 << 16) -> bytes:
    """Read a file that only its owner may read; the check and the read see one open file.

    Raises InputError `key.missing`, OperationalError `key.open_permissions`.
    """
    try:
        # Non-blocking: a pipe in a key's place must not hang us before it is refused.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(
            "key.missing", f"Cannot read the key file {path}: {error.strerror}."
        ) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InputError("key.missing", f"{path} is not a regular file.")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_mode & 0o077:
            raise OperationalError(
                "key.open_permissions",
                f"Others may read the key file {path}.",
                f"chmod 600 {path}",
            )
        if status.st_size > limit:
            raise InputError("key.malformed", f"{path} is larger than {limit} bytes.")
        return file.read()


def load_private_key(path: Path, passphrase: bytes | None = None) -> SigningKey:
    """Read a private key file that only its owner can read."""
    return parse_private_pem(read_secret_file(path), passphrase)


def load_public_key(path: Path) -> VerifyingKey:
    """Read a public key file. Raises InputError `key.missing`, `key.malformed`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("key.missing", f"Cannot read {path}: {error.strerror}.") from error
    return parse_public_pem(data)


def write_secret_file(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600, whole and synced; an existing file is refused.

    A failed write leaves no file. Raises InputError `file.exists`, OperationalError
    `file.unwritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise InputError(
            "file.exists", f"{path} already exists.", "Choose another path, or move it away."
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # Half a key would be found by the next start and taken for a broken one.
        path.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OperationalError:
    return OperationalError("file.unwritable", f"Cannot write {path}: {error.strerror}.")
