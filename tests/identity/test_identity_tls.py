from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from keepstone.errors import InputError
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.identity.tls import Authority, create_ca, issue_leaf

NOW = 1_790_000_000_000
DAY = 86_400_000


def accepts(authority: Authority, chain: list[x509.Certificate], host: str) -> bool:
    """Whether an independent verifier accepts the chain for `host`."""
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    verifier = (
        PolicyBuilder()
        .store(Store([authority.certificate]))
        .time(datetime.fromtimestamp(NOW / 1000, UTC))
        .build_server_verifier(subject)
    )
    try:
        verifier.verify(chain[0], chain[1:])
    except VerificationError:
        return False
    return True


def hand_made(
    issuer: Authority, host: str, *, authority: bool = False, key: SigningKey | None = None
) -> x509.Certificate:
    """What a thief of the authority's key could sign."""
    private = (key or SigningKey.generate()).private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signer = issuer.key.private
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    moment = datetime.fromtimestamp(NOW / 1000, UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "thief")])
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if authority:
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
            )
        )
    else:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_ca(["models.example", "10.1.2.3"], NOW)


def test_a_leaf_is_accepted_for_each_of_its_hosts(authority: Authority) -> None:
    hosts = ["localhost", "127.0.0.1", "::1", "models.example", "10.1.2.3"]
    leaf = issue_leaf(authority, hosts, NOW)
    chain = x509.load_pem_x509_certificates(leaf.chain_pem)
    assert len(chain) == 2
    for host in hosts:
        assert accepts(authority, chain, host)
    assert not accepts(authority, chain, "other.example")


def test_a_thief_of_the_authoritys_key_cannot_vouch_for_other_hosts(authority: Authority) -> None:
    assert accepts(authority, [hand_made(authority, "models.example")], "models.example")
    for host in ("bank.example", "example", "8.8.8.8", "2001:db8::1"):
        assert not accepts(authority, [hand_made(authority, host)], host)


def test_the_authority_cannot_make_another_authority(authority: Authority) -> None:
    key = SigningKey.generate()
    middle = hand_made(authority, "models.example", authority=True, key=key)
    below = Authority(middle.public_bytes(serialization.Encoding.PEM), key)
    leaf = hand_made(below, "models.example")
    assert not accepts(authority, [leaf, middle], "models.example")


def test_constraints_are_critical_and_the_path_ends_here(authority: Authority) -> None:
    extensions = authority.certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value.ca
    assert basic.value.path_length == 0
    assert extensions.get_extension_for_class(x509.NameConstraints).critical
    assert extensions.get_extension_for_class(x509.KeyUsage).critical
    assert authority.hosts == ("localhost", "127.0.0.1", "::1", "models.example", "10.1.2.3")


def test_openssl_shakes_hands_under_the_authority_and_refuses_another_name(
    authority: Authority, tmp_path: Path
) -> None:
    import time

    now = time.time_ns() // 1_000_000
    mine = create_ca([], now)
    leaf = issue_leaf(mine, ["localhost", "127.0.0.1"], now)
    (tmp_path / "chain.pem").write_bytes(leaf.chain_pem)
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    client = ssl.create_default_context(cadata=mine.certificate_pem.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert shake_hands(server, client, "localhost") == "TLSv1.3"
    assert shake_hands(server, client, "127.0.0.1") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "models.example")
    stranger = ssl.create_default_context(cadata=create_ca([], now).certificate_pem.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, stranger, "localhost")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str | None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=host)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(6):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours.version()


def test_a_leaf_lives_at_most_seven_days_and_never_longer_than_its_authority() -> None:
    authority = create_ca([], NOW, days=3)
    leaf = issue_leaf(authority, ["localhost"], NOW)
    certificate = x509.load_pem_x509_certificate(leaf.chain_pem)
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert leaf.expires == authority.expires
    longest = issue_leaf(create_ca([], NOW), ["localhost"], NOW)
    life = x509.load_pem_x509_certificate(longest.chain_pem)
    assert life.not_valid_after_utc - life.not_valid_before_utc <= timedelta(days=7)
    for days in (0, 8):
        with pytest.raises(InputError) as caught:
            issue_leaf(authority, ["localhost"], NOW, days=days)
        assert caught.value.code == "tls.lifetime"
    with pytest.raises(InputError) as caught:
        issue_leaf(authority, ["localhost"], NOW + 4 * DAY)
    assert caught.value.code == "tls.ca_expired"


def test_a_host_the_authority_was_not_made_for_is_refused(authority: Authority) -> None:
    assert authority.covers(["LOCALHOST", "0:0:0:0:0:0:0:1"])
    assert not authority.covers(["models.example", "other.example"])
    with pytest.raises(InputError) as caught:
        issue_leaf(authority, ["other.example"], NOW)
    assert caught.value.code == "tls.host_not_covered"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*.example",
        "*",
        "a b",
        "a_b",
        "-a",
        "a..b",
        "http://a",
        "a:443",
        "0.0.0.0",
        "::",
        "1.2.3",
        "1.2.3.256",
        "fe80::1%eth0",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "exämple",
        "a\n",
    ],
)
def test_what_is_no_callable_host_is_refused(host: str) -> None:
    with pytest.raises(InputError) as caught:
        create_ca([host], NOW)
    assert caught.value.code == "tls.bad_host"


def test_a_leaf_needs_a_host(authority: Authority) -> None:
    with pytest.raises(InputError) as caught:
        issue_leaf(authority, [], NOW)
    assert caught.value.code == "tls.no_host"


def test_an_authority_is_paired_with_its_own_key(authority: Authority) -> None:
    again = Authority.load(authority.certificate_pem, authority.key)
    assert again.hosts == authority.hosts
    with pytest.raises(InputError) as caught:
        Authority.load(authority.certificate_pem, SigningKey.generate())
    assert caught.value.code == "tls.mismatch"
    with pytest.raises(InputError) as caught:
        Authority.load(b"nonsense", authority.key)
    assert caught.value.code == "tls.malformed"
    with pytest.raises(InputError) as caught:
        issue_leaf(
            Authority(authority.certificate_pem, SigningKey.generate(Algorithm.ED25519)),
            ["localhost"],
            NOW,
        )
    assert caught.value.code == "key.unsupported"


def test_an_unconstrained_authority_is_refused() -> None:
    key = SigningKey.generate()
    private = key.private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")])
    moment = datetime.fromtimestamp(NOW / 1000, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(9)
        .not_valid_before(moment)
        .not_valid_after(moment + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(InputError) as caught:
        issue_leaf(Authority(pem, key), ["localhost"], NOW)
    assert caught.value.code == "tls.unconstrained"


def test_private_keys_stay_out_of_reprs(authority: Authority) -> None:
    leaf = issue_leaf(authority, ["localhost"], NOW)
    assert "PRIVATE" not in repr(leaf)
    assert "PRIVATE" not in repr(authority)
