"""A public key infrastructure for tests: authorities and signers, each as wrong as is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keepstone.identity.signing import SigningKey

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000
DAY_MS = 86_400_000
CODE = (ExtendedKeyUsageOID.CODE_SIGNING,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


def usage(*, authority: bool, signs: bool = True, both: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=both or (signs and not authority),
        content_commitment=False,
        key_encipherment=not signs and not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class Holder:
    """A certificate, its key, and who issued it."""

    certificate: x509.Certificate
    key: SigningKey
    issuer: Holder | None = None

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def above(self) -> list[Holder]:
        """The issuers between this one and its root, which is left out."""
        found, at = [], self.issuer
        while at is not None and at.issuer is not None:
            found.append(at)
            at = at.issuer
        return found

    @property
    def root(self) -> Holder:
        at = self
        while at.issuer is not None:
            at = at.issuer
        return at

    @property
    def chain_der(self) -> list[bytes]:
        return [self.der, *(one.der for one in self.above)]


@dataclass(frozen=True)
class Wish:
    """What a certificate says."""

    authority: bool = False
    path_length: int | None = None
    purposes: Sequence[x509.ObjectIdentifier] | None = CODE
    key_usage: x509.KeyUsage | None = None
    no_usage: bool = False
    names: Sequence[x509.GeneralName] = ()
    begins: datetime = NOW - timedelta(days=10)
    ends: datetime = NOW + timedelta(days=30)
    extra: Sequence[tuple[x509.ExtensionType, bool]] = ()


def make(
    name: str,
    issuer: Holder | None = None,
    *,
    key: SigningKey | Any = None,
    serial: int | None = None,
    wish: Wish | None = None,
    **wishes: Any,
) -> Holder:
    """A certificate for `name`, signed by `issuer` or by itself."""
    wish = replace(wish or Wish(), **wishes)
    key = key or SigningKey.generate()
    private = key.private if isinstance(key, SigningKey) else key
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(issuer.certificate.subject if issuer else called)
        .public_key(private.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(wish.begins)
        .not_valid_after(wish.ends)
        .add_extension(x509.BasicConstraints(wish.authority, wish.path_length), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
    )
    if not wish.no_usage:
        said = wish.key_usage or usage(authority=wish.authority)
        builder = builder.add_extension(said, critical=True)
    if wish.purposes is not None and not wish.authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wish.purposes), critical=False)
    if wish.names:
        # RFC 5280 4.2.1.6: critical where the subject says nothing.
        alternative = x509.SubjectAlternativeName(wish.names)
        builder = builder.add_extension(alternative, critical=not name)
    if issuer is not None:
        theirs = issuer.certificate.public_key()
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(theirs),  # type: ignore[arg-type]
            critical=False,
        )
    for extension, critical in wish.extra:
        builder = builder.add_extension(extension, critical)
    signs = issuer.key if issuer is not None else key
    assert isinstance(signs, SigningKey)
    assert isinstance(signs.private, ec.EllipticCurvePrivateKey)
    return Holder(builder.sign(signs.private, hashes.SHA256()), key, issuer)


def authority(name: str = "Root", issuer: Holder | None = None, **wishes: Any) -> Holder:
    return make(name, issuer, authority=True, **wishes)


def publisher(issuer: Holder, mail: str = "ci@example.org", **wishes: Any) -> Holder:
    return make("CI", issuer, **{"names": (x509.RFC822Name(mail),), **wishes})
