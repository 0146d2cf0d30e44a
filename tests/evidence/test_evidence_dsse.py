"""DSSE envelopes: what was signed, as what, by whom - and every way to lie about it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as PublicEnvelope

from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.evidence.dsse import (
    MAX_SIGNATURES,
    Envelope,
    Signed,
    add_signature,
    pae,
    sign_envelope,
    verify_envelope,
)
from keepstone.identity.signing import Algorithm, SigningKey, VerifyingKey

ALICE, BOB, MALLORY = (SigningKey.generate() for _ in range(3))
KEYS = {key.key_id: key.verifying for key in (ALICE, BOB)}
TYPE = "application/vnd.in-toto+json"
ENVELOPE = sign_envelope(TYPE, b'{"a": 1}', ALICE)


def test_pae_is_the_specification_s_own_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.text(max_size=20), st.binary(max_size=40))
def test_pae_is_that_of_a_public_implementation(kind: str, payload: bytes) -> None:
    assert pae(kind, payload) == PublicEnvelope(payload, kind, {}).pae()


@given(st.text(max_size=8), st.binary(max_size=8), st.text(max_size=8), st.binary(max_size=8))
def test_pae_is_injective(kind: str, payload: bytes, kind2: str, payload2: bytes) -> None:
    same = (kind, payload) == (kind2, payload2)
    assert (pae(kind, payload) == pae(kind2, payload2)) == same


def test_pae_keeps_a_boundary_from_moving() -> None:
    """The same characters, split elsewhere between type and payload."""
    assert pae("a", b"b 1 c") != pae("a 1 b", b"c")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_one_key_signs_it_verifies(algorithm: Algorithm) -> None:
    key = SigningKey.generate(algorithm)
    envelope = sign_envelope(TYPE, b"\0\xff", key)
    read = Envelope.parse(envelope.to_json())
    assert read == envelope
    assert verify_envelope(read, {key.key_id: key.verifying}) == (key.key_id,)


def test_two_keys_over_one_payload() -> None:
    both = add_signature(ENVELOPE, BOB)
    assert verify_envelope(both, KEYS) == (ALICE.key_id, BOB.key_id)
    assert both.payload_digest == ENVELOPE.payload_digest
    assert both.digest != ENVELOPE.digest
    # Signatures that nobody here knows neither help nor harm.
    assert verify_envelope(add_signature(ENVELOPE, MALLORY), KEYS) == (ALICE.key_id,)


# --- attacks ----------------------------------------------------------------------------------


def refused(envelope: Envelope, code: str = "signature.invalid") -> None:
    with pytest.raises(VerificationError) as caught:
        verify_envelope(envelope, KEYS)
    assert caught.value.code == code


def test_a_swapped_payload_is_refused() -> None:
    refused(Envelope(TYPE, b'{"a": 2}', ENVELOPE.signatures))


def test_another_payload_type_is_refused() -> None:
    """Signed as one thing, shown as another: the type is under the signature."""
    refused(Envelope("text/plain", ENVELOPE.payload, ENVELOPE.signatures))


def test_a_stripped_signature_is_refused() -> None:
    stripped = json.loads(ENVELOPE.to_json()) | {"signatures": []}
    with pytest.raises(InputError, match=r"envelope\.malformed"):
        Envelope.parse(json.dumps(stripped).encode())
    refused(Envelope(TYPE, ENVELOPE.payload, ()), "signature.unknown_key")


def test_a_key_id_is_only_a_hint() -> None:
    """Mallory signs and writes Alice's key id beside it; or takes Alice's word as Bob's."""
    forged = Signed(ALICE.key_id, MALLORY.sign(pae(TYPE, b"x")))
    refused(Envelope(TYPE, b"x", (forged,)))
    relabelled = Signed(BOB.key_id, ENVELOPE.signatures[0].signature)
    refused(Envelope(TYPE, ENVELOPE.payload, (relabelled,)))


def test_a_key_filed_under_another_id_does_not_count() -> None:
    confused: dict[str, VerifyingKey] = {ALICE.key_id: MALLORY.verifying}
    forged = Signed(ALICE.key_id, MALLORY.sign(pae(TYPE, b"x")))
    with pytest.raises(VerificationError, match=r"signature\.unknown_key"):
        verify_envelope(Envelope(TYPE, b"x", (forged,)), confused)


def test_nobody_known_signed() -> None:
    refused(sign_envelope(TYPE, b"x", MALLORY), "signature.unknown_key")
    refused(Envelope(TYPE, b"x", (Signed("", b"x"),)), "signature.unknown_key")


def test_one_good_signature_does_not_carry_a_bad_one() -> None:
    """Bob's forged signature beside Alice's good one: only Alice signed."""
    forged = Signed(BOB.key_id, ENVELOPE.signatures[0].signature)
    both = Envelope(TYPE, ENVELOPE.payload, (forged, *ENVELOPE.signatures))
    assert verify_envelope(both, KEYS) == (ALICE.key_id,)


def test_a_key_cannot_sign_twice() -> None:
    with pytest.raises(InputError, match="one key id twice"):
        add_signature(ENVELOPE, ALICE)
    many = ENVELOPE
    for _ in range(MAX_SIGNATURES - 1):
        many = add_signature(many, SigningKey.generate())
    with pytest.raises(InputError, match=r"envelope\.malformed"):
        add_signature(many, MALLORY)


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_bit_of_payload_type_or_signature_is_refused(data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(["payload", "type", "signature"]))
    one = ENVELOPE.signatures[0]
    value = {"payload": ENVELOPE.payload, "type": TYPE.encode(), "signature": one.signature}[part]
    flipped = bytearray(value)
    flipped[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 6))
    new = bytes(flipped)
    refused(
        Envelope(
            new.decode("latin-1") if part == "type" else TYPE,
            new if part == "payload" else ENVELOPE.payload,
            (Signed(one.key_id, new if part == "signature" else one.signature),),
        )
    )


# --- parsing ----------------------------------------------------------------------------------


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    st.binary(max_size=100),
    st.dictionaries(
        st.text(st.characters(max_codepoint=126), max_size=20),
        st.binary(max_size=40),
        min_size=1,
        max_size=4,
    ),
)
def test_an_envelope_reads_back(kind: str, payload: bytes, signatures: dict[str, bytes]) -> None:
    envelope = Envelope(kind, payload, tuple(Signed(*pair) for pair in signatures.items()))
    assert Envelope.parse(envelope.to_json()) == envelope
    spaced = json.dumps(envelope.to_dict(), indent=3).encode()
    assert Envelope.parse(spaced).digest == envelope.digest


def _one(value: dict[str, Any]) -> dict[str, Any]:
    signature: dict[str, Any] = value["signatures"][0]
    return signature


BAD: list[Callable[[dict[str, Any]], Any]] = [
    lambda v: v.pop("payload"),
    lambda v: v.pop("payloadType"),
    lambda v: v.pop("signatures"),
    lambda v: v.update(extra=1),
    lambda v: v.update(payload=1),
    lambda v: v.update(payload="a"),
    lambda v: v.update(payload="YQ"),
    lambda v: v.update(payload="YQ==\n"),
    lambda v: v.update(payload=" YQ=="),
    lambda v: v.update(payload="YR=="),
    lambda v: v.update(payload="-_=="),
    lambda v: v.update(payload="é"),
    lambda v: v.update(payloadType=""),
    lambda v: v.update(payloadType=None),
    lambda v: v.update(payloadType="a\nb"),
    lambda v: v.update(payloadType="x" * 257),
    lambda v: v.update(signatures={}),
    lambda v: v.update(signatures=[]),
    lambda v: v.update(signatures=["x"]),
    lambda v: v["signatures"].append(v["signatures"][0]),
    lambda v: v.update(signatures=v["signatures"] * 17),
    lambda v: _one(v).update(keyid=1),
    lambda v: _one(v).update(keyid="x" * 257),
    lambda v: _one(v).update(keyid="é"),
    lambda v: _one(v).update(sig=None),
    lambda v: _one(v).update(cert="x"),
    lambda v: _one(v).pop("sig"),
]


@pytest.mark.parametrize("edit", BAD)
def test_other_forms_are_refused(edit: Callable[[dict[str, Any]], Any]) -> None:
    value = ENVELOPE.to_dict()
    edit(value)
    with pytest.raises(InputError, match=r"envelope\.malformed"):
        Envelope.parse(json.dumps(value).encode())


def test_a_missing_key_id_reads_as_an_empty_one() -> None:
    value = ENVELOPE.to_dict()
    del value["signatures"][0]["keyid"]
    assert Envelope.parse(json.dumps(value).encode()).signatures[0].key_id == ""


def test_doubled_members_are_refused() -> None:
    other = base64.b64encode(b"other").decode()
    doubled = ENVELOPE.to_json().replace(
        b'{"payload":', b'{"payload":"%b","payload":' % other.encode()
    )
    with pytest.raises(InputError, match=r"json\.duplicate_key"):
        Envelope.parse(doubled)


def test_a_large_envelope_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InputError, match=r"json\.too_large"):
        Envelope.parse(b" " * (1 << 20) + b"{}")


@given(st.binary(max_size=100))
def test_arbitrary_bytes_end_in_a_coded_error(data: bytes) -> None:
    with pytest.raises(KeepstoneError):
        Envelope.parse(data)
