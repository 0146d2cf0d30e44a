"""Keyless signatures against a Sigstore of our own: the network is closed, every lie is refused."""

from __future__ import annotations

import base64
import builtins
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest, FileDigest
from keepstone.errors import InputError, KeepstoneError
from keepstone.evidence.keyless import Keyless, root_at
from keepstone.evidence.modelsign import sign_files, verify_model, verify_model_files
from keepstone.identity.signing import SigningKey
from tests.pki import authority
from tests.sigstore_instance import IDENTITY, ISSUER, SIGNED_AT, Ask, Sigstore, b64

SIGSTORE = Sigstore()
OTHER = Sigstore()
STRANGER = SigningKey.generate()
FILES = (FileDigest("a.bin", 5, Digest.of(b"first")), FileDigest("b.bin", 6, Digest.of(b"second")))
ROOT = SIGSTORE.trusted_root()
EXPECTED = Keyless(ROOT, IDENTITY, ISSUER)
GOOD = SIGSTORE.sign(FILES)


def refusal(bundle: bytes, expected: Keyless = EXPECTED) -> str:
    with pytest.raises(KeepstoneError) as caught:
        verify_model_files(FILES, bundle, expected)
    return caught.value.code


def test_a_keyless_signature_is_verified_with_the_network_closed(tmp_path: Path) -> None:
    for file, data in (("a.bin", b"first"), ("b.bin", b"second")):
        (tmp_path / file).write_bytes(data)
    found = verify_model(tmp_path, SIGSTORE.sign(FILES), EXPECTED)
    assert (found.identity, found.issuer) == (IDENTITY, ISSUER)
    assert [file.path for file in found.files] == ["a.bin", "b.bin"]
    (tmp_path / "a.bin").write_bytes(b"fir5t")
    with pytest.raises(KeepstoneError, match=r"model\.mismatch"):
        verify_model(tmp_path, SIGSTORE.sign(FILES), EXPECTED)


LIES: dict[str, tuple[Ask, str]] = {
    "another identity": (Ask(identity="mallory@example.org"), "certificate.other_identity"),
    "another issuer": (Ask(issuer="https://evil.example"), "certificate.other_identity"),
    "no issuer": (Ask(issuer=None), "certificate.other_identity"),
    "logged after the certificate ended": (
        Ask(logged_at=SIGNED_AT + timedelta(minutes=10)),
        "keyless.refused",
    ),
    "logged before it began": (Ask(logged_at=SIGNED_AT - timedelta(minutes=2)), "keyless.refused"),
    "another log's key": (Ask(rekor_key=STRANGER), "keyless.refused"),
    "another key's promise": (Ask(promise_key=STRANGER), "keyless.refused"),
    "another certificate log": (Ask(ct_key=STRANGER), "keyless.refused"),
    "no certificate log": (Ask(without_sct=True), "keyless.refused"),
    "another authority": (Ask(issued_by=OTHER.fulcio), "keyless.refused"),
    "an authority of the same name": (Ask(issued_by=authority("Fulcio")), "keyless.refused"),
    "a server's certificate": (Ask(purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), "keyless.refused"),
}


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_of_who_where_and_when_is_refused(lie: str) -> None:
    ask, code = LIES[lie]
    assert refusal(SIGSTORE.sign(FILES, ask)) == code


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [
        ("mallory@example.org", ISSUER),
        (IDENTITY, "https://issuer.example/"),
        (IDENTITY.upper(), ISSUER),
        ("ci@example", ISSUER),
    ],
)
def test_only_the_expected_identity_counts(identity: str, issuer: str) -> None:
    expected = Keyless(ROOT, identity, issuer)
    assert refusal(SIGSTORE.sign(FILES), expected) == "certificate.other_identity"


@pytest.mark.parametrize(("identity", "issuer"), [("", ISSUER), (IDENTITY, ""), (IDENTITY, " ")])
def test_an_identity_of_any_issuer_is_nobodys(identity: str, issuer: str) -> None:
    with pytest.raises(InputError) as caught:
        Keyless(ROOT, identity, issuer)
    assert caught.value.code == "keyless.no_identity"


def edited(edit: Callable[[dict[str, Any]], Any], ask: Ask | None = None) -> bytes:
    document = json.loads(SIGSTORE.sign(FILES, ask))
    edit(document)
    return json.dumps(document).encode()


def _entry(bundle: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]
    return entry


def _another_payload(bundle: dict[str, Any]) -> None:
    other = json.loads(SIGSTORE.sign((FileDigest("a.bin", 5, Digest.of(b"evil!")),)))
    bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]


def _another_envelope(bundle: dict[str, Any]) -> None:
    """Signed by the very key, but it is not what was logged."""
    bundle["dsseEnvelope"] = json.loads(SIGSTORE.sign(FILES))["dsseEnvelope"]


def _another_entry(bundle: dict[str, Any]) -> None:
    other = json.loads(SIGSTORE.sign((FileDigest("a.bin", 5, Digest.of(b"evil!")),)))
    bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]


def _another_certificate(bundle: dict[str, Any]) -> None:
    other = json.loads(SIGSTORE.sign(FILES))
    bundle["verificationMaterial"]["certificate"] = other["verificationMaterial"]["certificate"]


def _twice(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"] *= 2


EDITS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (_another_payload, "keyless.refused"),
    (_another_envelope, "keyless.refused"),
    (_another_entry, "keyless.refused"),
    (_another_certificate, "keyless.refused"),
    (_twice, "keyless.refused"),
    (lambda b: b["verificationMaterial"].update(tlogEntries=[]), "signature.other_kind"),
    (lambda b: b["verificationMaterial"].pop("tlogEntries"), "signature.other_kind"),
    (lambda b: _entry(b).pop("inclusionPromise"), "keyless.refused"),
    (lambda b: _entry(b).pop("inclusionProof"), "keyless.refused"),
    (lambda b: _entry(b)["inclusionProof"].pop("checkpoint"), "keyless.refused"),
    (lambda b: _entry(b)["inclusionProof"].update(hashes=[]), "keyless.refused"),
    (lambda b: _entry(b)["inclusionProof"].update(logIndex="0"), "keyless.refused"),
    (lambda b: _entry(b).pop("integratedTime"), "keyless.refused"),
    (lambda b: _entry(b).update(integratedTime="9" * 30), "keyless.refused"),
    (lambda b: _entry(b)["logId"].update(keyId=b64(bytes(32))), "keyless.refused"),
    (lambda b: _entry(b)["kindVersion"].update(version="0.0.9"), "keyless.refused"),
    (
        lambda b: b["verificationMaterial"].update(
            timestampVerificationData={"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}
        ),
        "keyless.refused",
    ),
]


@pytest.mark.parametrize(("edit", "code"), EDITS)
def test_edited_bundles_are_refused(edit: Callable[[dict[str, Any]], Any], code: str) -> None:
    assert refusal(edited(edit)) == code


def test_two_readers_must_see_one_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    from sigstore.verify import Verifier

    real = Verifier.verify_dsse

    def other(self: Verifier, *given: Any) -> tuple[str, bytes]:
        kind, payload = real(self, *given)
        return kind, payload + b" "

    monkeypatch.setattr(Verifier, "verify_dsse", other)
    assert refusal(GOOD) == "keyless.refused"


def test_another_instance_vouches_for_nothing_here() -> None:
    assert refusal(OTHER.sign(FILES)) == "keyless.refused"


def test_a_log_key_that_ended_vouches_for_nothing_later() -> None:
    """It was replaced because it leaked: what is signed with it now is the thief's."""
    ended = replace(SIGSTORE, rekor_ends=SIGNED_AT - timedelta(days=1)).trusted_root()
    assert refusal(SIGSTORE.sign(FILES), Keyless(ended, IDENTITY, ISSUER)) == "keyless.refused"
    # The other spelling of a member, which the library reads too, hides no time from us.
    snake = edited(
        lambda b: _entry(b).__setitem__("integrated_time", _entry(b).pop("integratedTime"))
    )
    assert verify_model_files(FILES, snake, EXPECTED)
    assert refusal(snake, Keyless(ended, IDENTITY, ISSUER)) == "keyless.refused"
    lasting = replace(SIGSTORE, rekor_ends=SIGNED_AT + timedelta(days=1)).trusted_root()
    assert verify_model_files(FILES, SIGSTORE.sign(FILES), Keyless(lasting, IDENTITY, ISSUER))


def test_an_authority_that_ended_certifies_nobody_later() -> None:
    for ends in (SIGNED_AT + timedelta(days=1), SIGNED_AT):
        lasting = replace(SIGSTORE, authority_ends=ends).trusted_root()
        assert verify_model_files(FILES, GOOD, Keyless(lasting, IDENTITY, ISSUER))
    ended = replace(SIGSTORE, authority_ends=SIGNED_AT - timedelta(seconds=1)).trusted_root()
    assert refusal(GOOD, Keyless(ended, IDENTITY, ISSUER)) == "keyless.refused"


def test_a_plain_key_is_no_keyless_signature() -> None:
    assert refusal(sign_files(FILES, "m", STRANGER)) == "signature.other_kind"


def test_the_identity_of_a_keyless_bundle_is_not_taken_from_a_key(tmp_path: Path) -> None:
    # Whoever verifies with the key of another publisher gets no for an answer.
    with pytest.raises(KeepstoneError) as caught:
        verify_model_files(FILES, SIGSTORE.sign(FILES), STRANGER.verifying)
    assert caught.value.code == "signature.key_mismatch"


@pytest.mark.parametrize(
    "root",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tlogs": 1}',
        ROOT.replace(b"version=0.1", b"version=9.9"),
        ROOT.replace(b"2025-01-01T00:00:00Z", b"yesterday"),
        ROOT.replace(b"2025-01-01T00:00:00Z", b"2025-01-01T00:00:00"),
        b" " * (2 << 20),
    ],
)
def test_a_trusted_root_that_is_none_is_refused(root: bytes) -> None:
    assert refusal(SIGSTORE.sign(FILES), Keyless(root, IDENTITY, ISSUER)) == "keyless.bad_root"


@pytest.mark.parametrize("role", ["tlogs", "ctlogs", "certificateAuthorities"])
def test_a_trusted_root_without_one_of_its_parts_vouches_for_nothing(role: str) -> None:
    root = json.dumps(json.loads(ROOT) | {role: []}).encode()
    assert refusal(SIGSTORE.sign(FILES), Keyless(root, IDENTITY, ISSUER)) == "keyless.refused"


def test_sigstores_own_root_is_read() -> None:
    import sigstore

    shipped = sorted(Path(sigstore.__file__).parent.glob("_store/**/trusted_root.json"))
    for root in shipped:
        kept = json.loads(root_at(root.read_bytes(), [SIGNED_AT]))
        assert kept["tlogs"]
        assert kept["certificateAuthorities"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "sigstore":
            raise ImportError(name)
        return real(name, *rest)

    bundle = SIGSTORE.sign(FILES)
    monkeypatch.setattr(builtins, "__import__", without)
    assert refusal(bundle) == "extra.sigstore"


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_a_bundle_with_any_bit_of_its_proof_changed_is_refused(data: st.DataObject) -> None:
    document = json.loads(GOOD)
    entry = _entry(document)
    where = data.draw(st.sampled_from(["canonicalizedBody", "rootHash", "hashes", "promise"]))
    place, name = {
        "canonicalizedBody": (entry, "canonicalizedBody"),
        "rootHash": (entry["inclusionProof"], "rootHash"),
        "hashes": (entry["inclusionProof"]["hashes"], 0),
        "promise": (entry["inclusionPromise"], "signedEntryTimestamp"),
    }[where]
    raw = bytearray(base64.b64decode(place[name]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    place[name] = b64(bytes(raw))
    assert refusal(json.dumps(document).encode()) == "keyless.refused"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 70) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(value=json_values, name=st.sampled_from(sorted(_entry(json.loads(GOOD)))))
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_anything_in_the_place_of_a_part_ends_in_a_code(value: Any, name: str) -> None:
    document = json.loads(GOOD)
    _entry(document)[name] = value
    code = refusal(json.dumps(document).encode())
    assert code.split(".")[0] in ("keyless", "json", "bundle", "signature")


def test_what_the_log_holds_is_what_was_signed() -> None:
    body = json.loads(base64.b64decode(_entry(json.loads(GOOD))["canonicalizedBody"]))
    payload = base64.b64decode(json.loads(GOOD)["dsseEnvelope"]["payload"])
    assert body["spec"]["payloadHash"]["value"] == sha256(payload).hexdigest()
