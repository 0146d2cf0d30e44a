"""Who must have signed a bundle: the holder of a key, or whoever a root certifies.

Each kind of expectation is one value with one promise: `verify` returns who signed, or raises.
What was signed is another question (`modelsign`). Keyless signing is in `keyless`. What reads
certificates is imported where one is read: most signatures carry none, and it takes its time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keepstone.errors import InputError, VerificationError
from keepstone.evidence.bundle import Bundle
from keepstone.evidence.dsse import pae
from keepstone.identity.signing import Algorithm, VerifyingKey

if TYPE_CHECKING:
    from keepstone.identity.certificates import TrustRoots


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Whose signature holds. `identity` and `issuer` are there where a certificate says them."""

    key_id: str
    identity: str | None = None
    issuer: str | None = None


class Expected(Protocol):
    """Who must have signed."""

    def verify(self, bundle: Bundle) -> SignedBy:
        """Return who signed the envelope of `bundle`, if it is whom we expect; else raise."""
        ...


@dataclass(frozen=True, slots=True)
class ByKey:
    """The holder of one key. A certificate for it adds nothing, and must be for it."""

    key: VerifyingKey

    def verify(self, bundle: Bundle) -> SignedBy:
        """Raises VerificationError `signature.key_mismatch`, `signature.invalid`."""
        require_ec(self.key)
        hint_differs = bundle.hint and bundle.hint != key_hint(self.key)
        if hint_differs or (bundle.chain and not _certifies(bundle.chain[0], self.key)):
            raise VerificationError(
                "signature.key_mismatch",
                "The signature was made with another key.",
                "Verify with the public key that belongs to the signer's private key.",
            )
        verify_signature(bundle, self.key)
        return SignedBy(self.key.key_id)


@dataclass(frozen=True, slots=True)
class ByChain:
    """Whoever `roots` certify at `now` (ms) to sign code; `identity` narrows it to one name."""

    roots: TrustRoots
    now: int
    identity: str | None = None

    def verify(self, bundle: Bundle) -> SignedBy:
        """(1) A chain to a root (`verify_chain`); (2) its name; (3) its key made the signature.

        Raises VerificationError `certificate.*`, `signature.invalid`, `signature.other_kind`
        where there is no chain; InputError `certificate.malformed`.
        """
        from keepstone.identity.certificates import verify_chain

        if not bundle.chain:
            raise other_kind("It was made with a plain key, not with a certificate.")
        certified = verify_chain(bundle.chain, self.roots, self.now)
        if self.identity is not None and not certified.is_called(self.identity):
            raise VerificationError(
                "certificate.other_identity",
                f"The certificate is {certified.identity}'s, not {self.identity[:200]}'s.",
                "Look who signed it, and whom you expect.",
            )
        verify_signature(bundle, certified.key)
        return SignedBy(certified.key.key_id, certified.identity, certified.issuer)


def verify_signature(bundle: Bundle, key: VerifyingKey) -> None:
    """DSSE protocol, verification: the key id in the envelope decides nothing."""
    envelope = bundle.envelope
    key.verify(bundle.signed.signature, pae(envelope.payload_type, envelope.payload))


def require_ec(key: VerifyingKey) -> None:
    if key.algorithm is Algorithm.ED25519:
        raise InputError(
            "key.unsupported",
            "A model signature needs an EC key: P-256, P-384 or P-521.",
            "Make one with `openssl ecparam -name prime256v1 -genkey -noout`.",
        )


def key_hint(key: VerifyingKey) -> str:
    """The format's name for a key: SHA-256 over its PEM text, unlike our key id."""
    return hashlib.sha256(key.pem).hexdigest()


def other_kind(cause: str) -> VerificationError:
    return VerificationError(
        "signature.other_kind",
        f"The signature is of another kind than is expected. {cause}",
        "Look how the publisher signs, and name them by that.",
    )


def _certifies(der: bytes, key: VerifyingKey) -> bool:
    from keepstone.identity.certificates import parse_der_certificate

    try:
        return VerifyingKey.of(parse_der_certificate(der).public_key()) == key  # type: ignore[arg-type]
    except (InputError, ValueError):
        return False
