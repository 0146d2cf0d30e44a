"""Chains of certificates: only a given root vouches, only now, and only for signing code."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.identity.certificates import (
    Certified,
    SigningChain,
    TrustRoots,
    parse_pem_certificates,
    verify_chain,
)
from keepstone.identity.signing import Algorithm, SigningKey
from tests.pki import (
    CODE,
    DAY_MS,
    NOW,
    NOW_MS,
    SERVER,
    Holder,
    Wish,
    authority,
    make,
    publisher,
    usage,
)

ROOT = authority()
MIDDLE = authority("Middle", ROOT, path_length=0)
LEAF = publisher(MIDDLE)
ROOTS = TrustRoots.parse(ROOT.pem)


def verify(holder: Holder, roots: TrustRoots = ROOTS, now: int = NOW_MS) -> Certified:
    return verify_chain(holder.chain_der, roots, now)


def refusal(holder: Holder, roots: TrustRoots = ROOTS, now: int = NOW_MS) -> str:
    with pytest.raises(KeepstoneError) as caught:
        verify(holder, roots, now)
    return caught.value.code


@pytest.mark.parametrize("algorithm", [Algorithm.P256, Algorithm.P384, Algorithm.P521])
def test_a_chain_to_a_given_root_certifies_a_key(algorithm: Algorithm) -> None:
    leaf = publisher(MIDDLE, key=SigningKey.generate(algorithm))
    found = verify(leaf)
    assert found.key == leaf.key.verifying
    assert (found.identity, found.subject, found.issuer) == (
        "ci@example.org",
        "CN=CI",
        "CN=Middle",
    )
    assert found.is_called("ci@example.org")
    assert found.is_called("CN=CI")
    assert not found.is_called("CI@example.org")
    assert not found.is_called("ci@example.org.evil")


def test_a_root_in_the_chain_is_no_trust_in_it() -> None:
    chain = [*LEAF.chain_der, ROOT.der]
    assert verify_chain(chain, ROOTS, NOW_MS).identity == "ci@example.org"
    stranger = TrustRoots.parse(authority().pem)
    with pytest.raises(VerificationError, match=r"certificate\.untrusted"):
        verify_chain(chain, stranger, NOW_MS)
    with pytest.raises(VerificationError, match=r"certificate\.untrusted"):
        verify_chain(chain[:1], ROOTS, NOW_MS)


def below(**wishes: Any) -> Holder:
    """A leaf under an authority that says `wishes`."""
    return publisher(authority("Odd", ROOT, **wishes))


def name_constraints(name: x509.GeneralName) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return ((x509.NameConstraints([name], None), True),)


UNREAD = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
FOR_SERVERS = (x509.ExtendedKeyUsage(SERVER), False)
BAD_LEAVES = {
    "a server's": publisher(MIDDLE, purposes=SERVER),
    "for any purpose": publisher(MIDDLE, purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
    "without a purpose": publisher(MIDDLE, purposes=None),
    "without a usage": publisher(MIDDLE, no_usage=True),
    "for encipherment": publisher(MIDDLE, key_usage=usage(authority=False, signs=False)),
    "an authority": make("A", ROOT, authority=True, extra=((x509.ExtendedKeyUsage(CODE), False),)),
    "an authority that signs too": make(
        "A",
        ROOT,
        authority=True,
        key_usage=usage(authority=True, both=True),
        extra=((x509.ExtendedKeyUsage(CODE), False),),
    ),
    "by itself": make("CI"),
    "under a leaf": publisher(LEAF),
    "past the path length": publisher(authority("Deep", MIDDLE)),
    "with what nobody reads": publisher(MIDDLE, extra=(UNREAD,)),
    "of another kind": publisher(MIDDLE, key=rsa.generate_private_key(65537, 2048)),
    "on another curve": publisher(MIDDLE, key=ed25519.Ed25519PrivateKey.generate()),
    "with a line break": publisher(MIDDLE, names=(x509.DNSName("a\nb"),)),
    "nobody's": make("", MIDDLE),
    "expired": publisher(MIDDLE, ends=NOW - timedelta(seconds=1)),
    "not yet": publisher(MIDDLE, begins=NOW + timedelta(seconds=1)),
    "under an expired authority": below(ends=NOW - timedelta(seconds=1)),
    "under one for servers": below(extra=(FOR_SERVERS,)),
    "under one that may not sign certificates": below(key_usage=usage(authority=False)),
    "outside its authority's names": below(extra=name_constraints(x509.RFC822Name("other.org"))),
}


@pytest.mark.parametrize("why", BAD_LEAVES)
def test_what_may_not_sign_code_here_and_now_is_refused(why: str) -> None:
    assert refusal(BAD_LEAVES[why]) == "certificate.untrusted"


def test_inside_its_authoritys_names_it_counts() -> None:
    assert verify(below(extra=name_constraints(x509.RFC822Name("example.org"))))


def test_the_time_is_the_callers() -> None:
    expired = BAD_LEAVES["expired"]
    assert verify(expired, now=NOW_MS - DAY_MS).key == expired.key.verifying
    assert refusal(LEAF, now=NOW_MS + 31 * DAY_MS) == "certificate.untrusted"
    assert refusal(LEAF, now=NOW_MS - 11 * DAY_MS) == "certificate.untrusted"


def test_a_signature_of_another_authority_with_the_same_name_is_refused() -> None:
    forged = authority("Middle", authority("Root"))
    mixed = [publisher(forged).der, MIDDLE.der]
    with pytest.raises(VerificationError, match=r"certificate\.untrusted"):
        verify_chain(mixed, ROOTS, NOW_MS)


def test_only_an_authority_is_a_root() -> None:
    with pytest.raises(InputError) as caught:
        TrustRoots.parse(ROOT.pem + LEAF.pem)
    assert caught.value.code == "certificate.not_authority"
    assert len(TrustRoots.parse(ROOT.pem + MIDDLE.pem).fingerprints) == 2
    # An authority below the root may be trusted by itself.
    assert verify_chain([LEAF.der], TrustRoots.parse(MIDDLE.pem), NOW_MS)


@pytest.mark.parametrize("chain", [[], [b""], [b"x" * 20_000], [LEAF.der] * 9, [LEAF.der, b"x"]])
def test_what_is_no_chain_is_malformed(chain: list[bytes]) -> None:
    with pytest.raises(InputError) as caught:
        verify_chain(chain, ROOTS, NOW_MS)
    assert caught.value.code == "certificate.malformed"


@pytest.mark.parametrize("pem", [b"", b"x" * (2 << 20), ROOT.pem[:200], ROOT.key.verifying.pem])
def test_what_is_no_pem_is_malformed(pem: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_pem_certificates(pem)
    assert caught.value.code == "certificate.malformed"


# Of a serial number that became negative the library warns before it is asked to verify.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, len(LEAF.der) - 1), st.integers(0, 7))
@settings(max_examples=150)
# The version, which cryptography refuses with an error of a family of its own.
@example(12, 0)
# How many bits of the signature's last octet are unused.
@example(len(LEAF.der) - len(LEAF.certificate.signature) - 1, 0)
def test_a_certificate_with_any_bit_changed_is_refused(at: int, bit: int) -> None:
    leaf = bytearray(LEAF.der)
    leaf[at] ^= 1 << bit
    with pytest.raises((InputError, VerificationError)):
        verify_chain([bytes(leaf), MIDDLE.der], ROOTS, NOW_MS)


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_any_bytes_are_refused_with_a_code(chain: list[bytes]) -> None:
    with pytest.raises((InputError, VerificationError)):
        verify_chain(chain, ROOTS, NOW_MS)


def test_a_chain_to_sign_with_is_held_to_its_key_and_purpose() -> None:
    chain = SigningChain.parse(LEAF.pem, [MIDDLE.pem])
    chain.require_usable(LEAF.key.verifying, NOW_MS)
    assert list(chain.der) == LEAF.chain_der
    for holder, key, now, code in [
        (LEAF, ROOT.key, NOW_MS, "certificate.key_mismatch"),
        (LEAF, LEAF.key, NOW_MS + 31 * DAY_MS, "certificate.not_valid_now"),
        (ROOT, ROOT.key, NOW_MS, "certificate.not_for_signing"),
        *(
            (BAD_LEAVES[why], BAD_LEAVES[why].key, NOW_MS, "certificate.not_for_signing")
            for why in ("a server's", "for encipherment", "an authority", "without a usage")
        ),
    ]:
        with pytest.raises(InputError) as caught:
            SigningChain.parse(holder.pem).require_usable(key.verifying, now)
        assert caught.value.code == code
    with pytest.raises(InputError, match=r"certificate\.malformed"):
        SigningChain.parse(LEAF.pem + MIDDLE.pem)
    with pytest.raises(InputError, match=r"certificate\.malformed"):
        SigningChain.parse(LEAF.pem, [MIDDLE.pem] * 8)


def test_the_wish_is_what_is_made() -> None:
    made = make("x", ROOT, wish=Wish(names=(x509.DNSName("a.example"),)))
    assert verify(made).names == ("a.example",)
