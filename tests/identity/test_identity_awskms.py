"""Keys in AWS KMS, as moto plays it: the key that was named signs, or nothing is signed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keepstone.errors import KeepstoneError, VerificationError
from keepstone.evidence.dsse import sign_envelope, verify_envelope
from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.identity.keystores import open_signing_key
from keepstone.identity.keystores.awskms import KmsKey
from keepstone.identity.keystores.reference import TokenAccess, parse_key_reference
from keepstone.identity.signing import Algorithm, Signatory
from tests.keystores import Kms

pytestmark = pytest.mark.loopback
SPECS = {
    "ECC_NIST_P256": Algorithm.P256,
    "ECC_NIST_P384": Algorithm.P384,
    "ECC_NIST_P521": Algorithm.P521,
}


def opened(key: str) -> Signatory:
    return open_signing_key(parse_key_reference(f"awskms:///{key}"), access=TokenAccess())


def refusal(key: str) -> str:
    with pytest.raises(KeepstoneError) as caught:
        opened(key)
    return caught.value.code


@pytest.mark.parametrize("spec", SPECS)
def test_kms_signs_models_and_statements(kms: Kms, tmp_path: Path, spec: str) -> None:
    key = opened(kms.ec_key(spec))
    assert key.verifying.algorithm is SPECS[spec]
    (tmp_path / "m.bin").write_bytes(os.urandom(1000))
    bundle = sign_model(tmp_path / "m.bin", key)
    assert verify_model(tmp_path / "m.bin", bundle, key.verifying).key_id == key.key_id
    # Below and above what KMS hashes itself.
    for size in (10, 4000, 4096, 5000):
        envelope = sign_envelope("text/plain", b"x" * size, key)
        assert verify_envelope(envelope, {key.key_id: key.verifying}) == (key.key_id,)


def test_an_alias_is_held_to_the_key_that_it_meant(kms: Kms) -> None:
    first = kms.ec_key(alias="publisher")
    key = opened("alias/publisher")
    kms.client.update_alias(AliasName="alias/publisher", TargetKeyId=kms.ec_key())
    assert isinstance(key, KmsKey)
    assert key.arn == first
    key.verifying.verify(key.sign(b"message"), b"message")
    assert opened("alias/publisher").key_id != key.key_id


def test_an_answer_that_does_not_verify_never_leaves(kms: Kms) -> None:
    key, other = opened(kms.ec_key()), opened(kms.ec_key())
    assert isinstance(key, KmsKey)
    with pytest.raises(VerificationError, match=r"signature\.invalid"):
        replace(key, verifying=other.verifying).sign(b"message")


def test_what_cannot_sign_is_refused(kms: Kms) -> None:
    assert refusal("alias/nobody") == "key.missing"
    assert refusal(kms.ec_key("ECC_SECG_P256K1")) == "key.unsupported"
    rsa = kms.client.create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]
    assert refusal(rsa["KeyId"]) == "key.unsupported"
    assert refusal(kms.symmetric_key()) in ("key.unsupported", "kms.failed")


class Refuses:
    """A client whose every call fails as KMS does for whoever may not use the key."""

    def __getattr__(self, name: str) -> Any:
        from botocore.exceptions import ClientError

        def call(**given: object) -> None:
            told = {"Error": {"Code": "AccessDeniedException", "Message": "not you"}}
            raise ClientError(told, name)

        return call


def test_a_refusal_and_an_outage_are_operational(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    key = opened(kms.ec_key())
    assert isinstance(key, KmsKey)
    with pytest.raises(KeepstoneError) as caught:
        replace(key, _client=Refuses()).sign(b"message")
    assert caught.value.code == "kms.failed"
    assert "AccessDeniedException" in caught.value.cause
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    assert refusal("alias/publisher") == "kms.failed"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert refusal("alias/publisher") == "kms.failed"
