"""Keys inside a token: SoftHSM signs, and nobody else's key or wrong answer passes for it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.evidence.dsse import sign_envelope, verify_envelope
from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.identity.keystores import open_signing_key
from keepstone.identity.keystores.pkcs11 import TokenKey
from keepstone.identity.keystores.reference import TokenAccess, parse_key_reference
from keepstone.identity.signing import Algorithm, SigningKey
from tests.keystores import PIN, SoftHsm

CURVES = {
    "secp256r1": Algorithm.P256,
    "secp384r1": Algorithm.P384,
    "secp521r1": Algorithm.P521,
}


def refusal(uri: str, access: TokenAccess) -> str:
    with pytest.raises(KeepstoneError) as caught:
        open_signing_key(parse_key_reference(uri), access=access)
    assert PIN not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("curve", CURVES)
def test_a_token_signs_models_and_statements(hsm: SoftHsm, tmp_path: Path, curve: str) -> None:
    uri = hsm.ec_key(f"signs-{curve}", curve)
    key = open_signing_key(parse_key_reference(uri), access=hsm.access)
    assert key.verifying.algorithm is CURVES[curve]
    (tmp_path / "m.bin").write_bytes(os.urandom(1000))
    bundle = sign_model(tmp_path / "m.bin", key)
    assert verify_model(tmp_path / "m.bin", bundle, key.verifying).key_id == key.key_id
    envelope = sign_envelope("text/plain", b"x" * 10_000, key)
    assert verify_envelope(envelope, {key.key_id: key.verifying}) == (key.key_id,)
    with pytest.raises(VerificationError):
        verify_model(tmp_path / "m.bin", bundle, SigningKey.generate().verifying)


def test_the_private_key_never_leaves_the_token(hsm: SoftHsm) -> None:
    from pkcs11 import Attribute

    key = open_signing_key(parse_key_reference(hsm.ec_key("kept")), access=hsm.access)
    assert isinstance(key, TokenKey)
    with pytest.raises(OperationalError), key._session.use():
        key._handle[Attribute.VALUE]
    assert PIN not in repr(key)


def test_an_id_and_a_label_name_one_key(hsm: SoftHsm) -> None:
    first = hsm.ec_key("pair", key_id=b"\x0a")
    hsm.ec_key("pair", key_id=b"\x0b")
    assert refusal(first, hsm.access) == "key.ambiguous"
    keys = {
        open_signing_key(parse_key_reference(f"{first};id=%0{byte}"), access=hsm.access).key_id
        for byte in "AB"
    }
    assert len(keys) == 2


def test_what_is_not_there_or_not_ours_is_said(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = hsm.ec_key("there")
    hsm.aes_key("symmetric")
    hsm.ec_key("koblitz", "secp256k1")
    for wrong, code in [
        ("pkcs11:token=keepstone;object=none", "key.missing"),
        ("pkcs11:token=none;object=there", "hsm.no_token"),
        ("pkcs11:token=twin;object=there", "hsm.no_token"),
        (f"{uri};serial=00", "hsm.no_token"),
        (f"{uri};model=other", "hsm.no_token"),
        (f"{uri};manufacturer=other", "hsm.no_token"),
        ("pkcs11:token=keepstone;object=symmetric", "key.missing"),
        ("pkcs11:token=keepstone;object=koblitz", "key.unsupported"),
        (f"{uri}?module-path=/nowhere/x.so", "hsm.bad_module"),
        (f"{uri}?pin-source=/nowhere/pin", "key.missing"),
    ]:
        assert refusal(wrong, hsm.access) == code, wrong
    assert refusal(uri, replace(hsm.access, module=None)) == "hsm.no_module"
    assert refusal(uri, replace(hsm.access, pin=None)) == "hsm.no_pin"


def test_a_wrong_pin_is_refused_also_after_a_right_one(hsm: SoftHsm) -> None:
    uri = hsm.ec_key("pinned")
    wrong = replace(hsm.access, pin="0000")
    open_signing_key(parse_key_reference(uri), access=hsm.access)
    assert refusal(uri, wrong) == "hsm.wrong_pin"
    # A token nobody has logged in to yet says it itself.
    from pkcs11 import lib

    serials = [one.serial.decode() for one in lib(str(hsm.module)).get_tokens(token_label="twin")]
    assert refusal(f"pkcs11:serial={serials[0]};object=x", wrong) == "hsm.wrong_pin"


def test_a_pin_comes_from_a_file_that_only_its_owner_reads(hsm: SoftHsm, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text(PIN + "\n")
    pin.chmod(0o600)
    uri = hsm.ec_key("from-file") + f"?pin-source=file:{pin}&module-path={hsm.module}"
    assert open_signing_key(parse_key_reference(uri), access=TokenAccess()).sign(b"m")
    pin.chmod(0o644)
    assert refusal(uri, TokenAccess()) == "key.open_permissions"


def test_an_answer_that_does_not_verify_never_leaves(hsm: SoftHsm) -> None:
    uri = hsm.ec_key("honest")
    key = open_signing_key(parse_key_reference(uri), access=hsm.access)
    assert isinstance(key, TokenKey)
    # As if the token had signed with another key than the one that it showed.
    swapped = replace(key, verifying=SigningKey.generate().verifying)
    with pytest.raises(VerificationError, match=r"signature\.invalid"):
        swapped.sign(b"message")


def test_a_token_that_fails_is_an_operational_error(hsm: SoftHsm) -> None:
    from pkcs11 import Attribute

    uri = hsm.ec_key("gone")
    key = open_signing_key(parse_key_reference(uri), access=hsm.access)
    assert isinstance(key, TokenKey)
    with hsm.session() as writing:
        for found in list(writing.get_objects({Attribute.LABEL: "gone"})):
            found.destroy()
    with pytest.raises(OperationalError) as caught:
        key.sign(b"message")
    assert caught.value.code == "hsm.failed"


def test_a_driver_that_is_no_driver(hsm: SoftHsm, tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"not a library")
    with pytest.raises(OperationalError) as caught:
        open_signing_key(
            parse_key_reference("pkcs11:token=t;object=k"),
            access=TokenAccess(PIN, tmp_path / "x.so"),
        )
    assert caught.value.code == "hsm.bad_module"
    with pytest.raises(InputError):
        parse_key_reference("pkcs11:token=t;object=k?module-path=x.so")
