"""A certificate authority for this machine's endpoint alone, and short-lived leaves under it.

The authority is name-constrained to the hosts it was made for and may sign no further authority,
so whoever trusts it trusts it for these hosts only, even if its key is stolen. It is never
installed system-wide: a client names it (`curl --cacert`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keepstone.errors import InputError
from keepstone.identity.signing import Algorithm, SigningKey

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
MAX_LEAF_DAYS = 7
# A client whose clock lags a little must not refuse a certificate that was just made.
_SKEW = timedelta(minutes=5)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _host(text: str) -> str | Address:
    """Read a host: an address, or a DNS name in lower case. No wildcards, no scopes."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        name = text.lower()
        if not _DNS.match(name) or name.replace(".", "").isdigit():
            raise InputError(
                "tls.bad_host",
                f"{text[:64]!r} is neither a host name nor an IP address.",
                "Name the host as clients will call it, without a port.",
            ) from None
        return name
    if address.is_unspecified or "%" in text:
        raise InputError(
            "tls.bad_host",
            f"{text!r} is an address to listen on, not one that a client can call.",
            "Name the host as clients will call it.",
        )
    return address


def _hosts(texts: Iterable[str]) -> tuple[str | Address, ...]:
    seen = dict.fromkeys(_host(text) for text in texts)
    if not seen:
        raise InputError("tls.no_host", "A certificate needs at least one host.")
    return tuple(seen)


@dataclass(frozen=True, slots=True)
class Authority:
    """The local authority: its certificate in PEM and its key."""

    certificate_pem: bytes
    key: SigningKey = field(repr=False)

    @classmethod
    def load(cls, certificate_pem: bytes, key: SigningKey) -> Authority:
        """Pair a certificate with its key. Raises InputError `tls.malformed`, `tls.mismatch`."""
        authority = cls(certificate_pem, key)
        if authority.certificate.public_key() != key.private.public_key():
            raise InputError("tls.mismatch", "The authority's certificate is not for its key.")
        return authority

    @property
    def certificate(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self.certificate_pem)
        except (ValueError, x509.InvalidVersion) as error:
            raise InputError("tls.malformed", "Not a PEM certificate.") from error

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the authority may vouch for."""
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.NameConstraints)
        except x509.ExtensionNotFound as error:
            raise InputError(
                "tls.unconstrained", "The authority is not constrained to any names."
            ) from error
        names = found.value.permitted_subtrees or []
        # A subtree of one address is written as a network (RFC 5280 4.2.1.10).
        return tuple(str(name.value).partition("/")[0] for name in names)

    @property
    def expires(self) -> int:
        """Milliseconds."""
        return int(self.certificate.not_valid_after_utc.timestamp()) * 1000

    def covers(self, hosts: Iterable[str]) -> bool:
        """Whether a leaf for every one of `hosts` can be issued."""
        return {str(host) for host in _hosts(hosts)} <= set(self.hosts)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate, the authority's after it, its key, and when it ends (ms)."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    expires: int


def create_ca(hosts: Sequence[str], now: int, *, days: int = 730) -> Authority:
    """Make an authority that can vouch for `hosts` and this machine's loopback, nothing else.

    EC P-256; critical basic constraints (path length 0), key usage and name constraints.
    Raises InputError `tls.bad_host`.
    """
    names = _hosts([*LOCAL_HOSTS, *hosts])
    key = SigningKey.generate(Algorithm.P256)
    public = _ec(key).public_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Keepstone"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Keepstone local CA {key.key_id[:8]}"),
        ]
    )
    builder = _builder(subject, subject, public, now, days)
    constraints: list[x509.GeneralName] = [
        x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(ipaddress.ip_network(name))
        for name in names
    ]
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.NameConstraints(constraints, None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(_ec(key), hashes.SHA256())
    )
    return Authority(_pem(certificate), key)


def issue_leaf(
    authority: Authority, hosts: Sequence[str], now: int, *, days: int = MAX_LEAF_DAYS
) -> Leaf:
    """Make a fresh key and a certificate for `hosts` under `authority`, for at most 7 days.

    Raises InputError `tls.lifetime`, `tls.bad_host`, `tls.host_not_covered`, `tls.ca_expired`.
    """
    if not 0 < days <= MAX_LEAF_DAYS:
        raise InputError("tls.lifetime", f"A leaf lives at most {MAX_LEAF_DAYS} days.")
    names = _hosts(hosts)
    if not authority.covers(hosts):
        raise InputError(
            "tls.host_not_covered",
            "The local authority was not made for one of the hosts.",
            "Make a new authority that names it.",
        )
    issuer = authority.certificate
    if now >= authority.expires:
        raise InputError("tls.ca_expired", "The local authority has expired.", "Make a new one.")
    key = SigningKey.generate(Algorithm.P256)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keepstone endpoint")])
    builder = _builder(
        subject, issuer.subject, _ec(key).public_key(), now, days, latest=issuer.not_valid_after_utc
    )
    alternatives: list[x509.GeneralName] = [
        x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names
    ]
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(_ec(authority.key).public_key()),
            critical=False,
        )
        .sign(_ec(authority.key), hashes.SHA256())
    )
    expires = int(certificate.not_valid_after_utc.timestamp()) * 1000
    return Leaf(_pem(certificate) + authority.certificate_pem, key.to_pem(), expires)


def _ec(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key.private, ec.EllipticCurvePrivateKey):
        raise InputError("key.unsupported", "A certificate authority needs an EC key.")
    return key.private


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: int,
    days: int,
    *,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(now // 1000, UTC)
    # The skew counts towards the life: no certificate is valid longer than it was asked for.
    ends = moment + timedelta(days=days) - _SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _SKEW)
        .not_valid_after(ends if latest is None else min(ends, latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
