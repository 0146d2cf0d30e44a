"""X.509 chains for signing: whose certificate signs, and whether a given root vouches for it.

Promise: a chain counts only up to a root that the caller gave, at the time that the caller gave,
and only if its leaf is meant to sign code. Nothing is fetched: neither missing intermediates nor
revocation lists, so a certificate that was revoked still counts here until it expires.

Sources: RFC 5280 6 (path validation, by `cryptography`'s verifier), 4.2.1.3 (key usage),
4.2.1.12 (extended key usage: code signing).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store
from cryptography.x509.verification import VerificationError as PathError

from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.identity.signing import Algorithm, VerifyingKey

MAX_CHAIN = 8
MAX_CERTIFICATE = 16 << 10
_MAX_ROOTS = 1 << 20
_MAX_DEPTH = 6
# Shown to people and compared with what they expect: one line that turns no text around.
_PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]{1,1024}\Z")


@dataclass(frozen=True, slots=True)
class Certified:
    """A key and what its certificate calls its holder. `names` are its alternative names."""

    key: VerifyingKey
    subject: str
    names: tuple[str, ...]
    issuer: str
    fingerprint: str

    @property
    def identity(self) -> str:
        """The name to show: the first alternative name, else the subject."""
        return self.names[0] if self.names else self.subject

    def is_called(self, identity: str) -> bool:
        """Whether `identity` is one of its names, or its subject (RFC 4514), letter by letter."""
        return identity in self.names or identity == self.subject


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """The authorities that a caller trusts. At least one; each is an authority."""

    certificates: tuple[x509.Certificate, ...] = field(repr=False)

    @classmethod
    def parse(cls, pem: bytes) -> TrustRoots:
        """Read PEM. Raises InputError `certificate.malformed`, `certificate.not_authority`."""
        found = parse_pem_certificates(pem)
        for certificate in found:
            if not _is_authority(certificate):
                raise InputError(
                    "certificate.not_authority",
                    f"A trust root is no authority: {_name(certificate.subject)}.",
                    "Give the certificate of the authority, not that of the signer.",
                )
        return cls(found)

    @property
    def pem(self) -> tuple[str, ...]:
        return tuple(one.public_bytes(Encoding.PEM).decode("ascii") for one in self.certificates)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        return tuple(sorted(_fingerprint(certificate) for certificate in self.certificates))


@dataclass(frozen=True, slots=True)
class SigningChain:
    """A signer's certificate and those between it and a root, as a signature carries them."""

    certificates: tuple[x509.Certificate, ...] = field(repr=False)

    @classmethod
    def parse(cls, leaf_pem: bytes, chain_pem: Sequence[bytes] = ()) -> SigningChain:
        """Read PEM: exactly one certificate for the signer, any number in the chain's files.

        Raises InputError `certificate.malformed`.
        """
        leaf = parse_pem_certificates(leaf_pem)
        if len(leaf) != 1:
            raise _malformed("the signer's own file holds more than one certificate")
        rest = [one for pem in chain_pem for one in parse_pem_certificates(pem)]
        if len(rest) >= MAX_CHAIN:
            raise _malformed(f"the chain is longer than {MAX_CHAIN}")
        return cls((*leaf, *rest))

    @property
    def der(self) -> tuple[bytes, ...]:
        return tuple(one.public_bytes(Encoding.DER) for one in self.certificates)

    def require_usable(self, key: VerifyingKey, now: int) -> None:
        """Return if a signature by `key` with this chain can verify anywhere.

        Raises InputError `certificate.key_mismatch`, `certificate.not_for_signing`,
        `certificate.not_valid_now`.
        """
        leaf = self.certificates[0]
        if _key_of(leaf) != key:
            raise InputError(
                "certificate.key_mismatch",
                "The certificate is not for the key that signs.",
                "Give the certificate that was issued for this key.",
            )
        try:
            _require_signs_code(leaf)
        except ValueError as error:
            raise InputError(
                "certificate.not_for_signing",
                f"The certificate may not sign: {error}.",
                "Ask for one with the key usage digitalSignature and the extended codeSigning.",
            ) from error
        if not leaf.not_valid_before_utc <= _moment(now) <= leaf.not_valid_after_utc:
            raise InputError(
                "certificate.not_valid_now",
                "The certificate has expired, or is not valid yet.",
                "Renew it.",
            )


def verify_chain(chain: Sequence[bytes], roots: TrustRoots, now: int) -> Certified:
    """Return whose key the first of `chain` (DER) certifies, if one of `roots` vouches for it.

    (1) RFC 5280 4.1: every certificate parses; there are 1 to 8, of at most 16 KiB each.
    (2) RFC 5280 6.1: a path leads to a given root: signatures, validity of each at `now` (ms),
        authorities, path lengths, name constraints; no critical extension is left unread.
    (3) RFC 5280 4.2.1.3, 4.2.1.12: the leaf is no authority, and both its key usage
        (digitalSignature) and its extended key usage (codeSigning) say that it signs code.
    (4) Its key is an EC key on P-256, P-384 or P-521.

    Raises InputError `certificate.malformed`; VerificationError `certificate.untrusted`.
    """
    # (1) RFC 5280 4.1.
    if not 0 < len(chain) <= MAX_CHAIN:
        raise _malformed(f"a chain has 1 to {MAX_CHAIN} certificates")
    leaf, *rest = [parse_der_certificate(data) for data in chain]
    # (2) RFC 5280 6.1, and (3) as the policy for the leaf.
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots.certificates)))
        .time(_moment(now))
        .max_chain_depth(_MAX_DEPTH)
        .extension_policies(ca_policy=_AUTHORITIES, ee_policy=_SIGNERS)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, rest)
    except (PathError, ValueError, UnsupportedAlgorithm) as error:
        raise _untrusted(str(error).partition(" (encountered")[0]) from error
    # (4) What can make a model signature.
    try:
        key = _key_of(leaf)
    except KeepstoneError as error:
        raise _untrusted("its key is not one that signs models") from error
    return _certified(leaf, key)


# Only some of what cryptography raises for a broken certificate is a ValueError.
_UNREADABLE = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def parse_pem_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read at least one certificate. Raises InputError `certificate.malformed`."""
    if len(pem) > _MAX_ROOTS:
        raise _malformed("the file is larger than 1 MiB")
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except _UNREADABLE as error:
        raise _malformed("there is no PEM certificate, or one that cannot be read") from error


def parse_der_certificate(data: bytes) -> x509.Certificate:
    """Read one certificate, its extensions too. Raises InputError `certificate.malformed`."""
    if len(data) > MAX_CERTIFICATE:
        raise _malformed(f"it is larger than {MAX_CERTIFICATE} bytes")
    try:
        certificate = x509.load_der_x509_certificate(data)
        # Parsed when they are asked for, names too: what is broken in them shows here, at once.
        assert certificate.extensions is not None
        assert certificate.subject is not None
        assert certificate.issuer is not None
    except _UNREADABLE as error:
        raise _malformed("it is not DER, or an extension of it is broken") from error
    # A signature is whole octets. The library reads one with unused bits too, as the same.
    if not data.endswith(b"\x00" + certificate.signature):
        raise _malformed("its signature is not whole octets")
    return certificate


def _usage(policy: object, leaf: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature:
        raise ValueError("its key usage is not digitalSignature")


def _purpose(policy: object, leaf: x509.Certificate, purpose: x509.ExtendedKeyUsage) -> None:
    if ExtendedKeyUsageOID.CODE_SIGNING not in purpose:
        raise ValueError("its extended key usage is not codeSigning")


def _no_authority(
    policy: object, leaf: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("it is an authority's, not a signer's")


def _vouches_for_code(
    policy: object, authority: x509.Certificate, purpose: x509.ExtendedKeyUsage | None
) -> None:
    """An authority that is limited to other purposes vouches for no code."""
    allowed = (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if purpose is not None and not any(one in purpose for one in allowed):
        raise ValueError("the authority does not vouch for codeSigning")


_AUTHORITIES = ExtensionPolicy.webpki_defaults_ca().may_be_present(
    x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _vouches_for_code
)
_SIGNERS = (
    ExtensionPolicy.permit_all()
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _usage)
    .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _purpose)
    .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _no_authority)
)


def _require_signs_code(leaf: x509.Certificate) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        purpose = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise ValueError("it lacks a key usage, or an extended one") from error
    _usage(None, leaf, usage)
    _purpose(None, leaf, purpose)
    if _is_authority(leaf):
        raise ValueError("it is an authority's")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _key_of(certificate: x509.Certificate) -> VerifyingKey:
    """Raises InputError `key.unsupported`."""
    try:
        key = VerifyingKey.of(certificate.public_key())  # type: ignore[arg-type]  # refuses others
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("key.unsupported", "The certificate's key cannot be read.") from error
    if key.algorithm is Algorithm.ED25519:
        raise InputError("key.unsupported", "A model signature needs an EC key.")
    return key


def _certified(leaf: x509.Certificate, key: VerifyingKey) -> Certified:
    names: list[str] = []
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = x509.SubjectAlternativeName([])
    for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
        names += [str(value) for value in found.get_values_for_type(kind)]
    subject, issuer = _name(leaf.subject), _name(leaf.issuer)
    if not all(_PLAIN.match(text) for text in (*names, *filter(None, (subject, issuer)))):
        raise _untrusted("one of its names cannot be shown")
    if not names and not subject:
        raise _untrusted("it names nobody")
    return Certified(key, subject, tuple(names), issuer, _fingerprint(leaf))


def _name(name: x509.Name) -> str:
    return name.rfc4514_string()


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _moment(now: int) -> datetime:
    return datetime.fromtimestamp(now // 1000, UTC)


def _malformed(why: str) -> InputError:
    return InputError("certificate.malformed", f"A certificate cannot be used: {why}.")


def _untrusted(why: str) -> VerificationError:
    return VerificationError(
        "certificate.untrusted",
        f"No trust root vouches for the signer's certificate: {why[:300]}.",
        "Give the root of the publisher's authority, and --at for a certificate that has expired.",
    )
