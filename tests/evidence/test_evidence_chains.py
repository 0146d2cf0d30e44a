"""Models signed with a chain of certificates: ours and the public package's, both ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography import x509
from OpenSSL.crypto import X509StoreContextError

from keepstone.errors import KeepstoneError, VerificationError
from keepstone.evidence.modelsign import sign_model, verify_model, verify_model_files
from keepstone.evidence.signedby import ByChain
from keepstone.identity.certificates import SigningChain, TrustRoots
from keepstone.identity.signing import Algorithm, SigningKey
from tests.pki import DAY_MS, NOW_MS, SERVER, Holder, authority, publisher

ROOT = authority()
MIDDLE = authority("Middle", ROOT)
LEAF = publisher(MIDDLE)
ROOTS = TrustRoots.parse(ROOT.pem)
EXPECTED = ByChain(ROOTS, NOW_MS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    (model / "inner").mkdir(parents=True)
    (model / "a.bin").write_bytes(b"first")
    (model / "inner" / "b.bin").write_bytes(b"second")
    return model


def signed(model: Path, holder: Holder = LEAF) -> bytes:
    above = [one.pem for one in holder.above]
    return sign_model(model, holder.key, chain=SigningChain.parse(holder.pem, above))


def theirs_signs(folder: Path, model: Path, holder: Holder) -> bytes:
    for name, data in {
        "key.pem": holder.key.to_pem(),
        "leaf.pem": holder.pem,
        "chain.pem": b"".join(one.pem for one in holder.above),
    }.items():
        (folder / name).write_bytes(data)
    model_signing.signing.Config().use_certificate_signer(
        private_key=folder / "key.pem",
        signing_certificate=folder / "leaf.pem",
        certificate_chain=[folder / "chain.pem"],
    ).sign(model, folder / "theirs.sig")
    return (folder / "theirs.sig").read_bytes()


def theirs_verifies(folder: Path, model: Path, bundle: bytes, root: Holder) -> None:
    (folder / "ours.sig").write_bytes(bundle)
    (folder / "root.pem").write_bytes(root.pem)
    model_signing.verifying.Config().use_certificate_verifier(
        certificate_chain=[folder / "root.pem"]
    ).verify(model, folder / "ours.sig")


def refusal(model: Path, bundle: bytes, expected: Any = EXPECTED) -> str:
    with pytest.raises(KeepstoneError) as caught:
        verify_model(model, bundle, expected)
    return caught.value.code


@pytest.mark.parametrize("algorithm", [Algorithm.P256, Algorithm.P384, Algorithm.P521])
def test_the_public_package_verifies_our_chain(
    tmp_path: Path, folder: Path, algorithm: Algorithm
) -> None:
    leaf = publisher(MIDDLE, key=SigningKey.generate(algorithm))
    bundle = signed(folder, leaf)
    theirs_verifies(tmp_path, folder, bundle, ROOT)
    with pytest.raises(X509StoreContextError):
        theirs_verifies(tmp_path, folder, bundle, authority())


@pytest.mark.parametrize("algorithm", [Algorithm.P256, Algorithm.P384, Algorithm.P521])
def test_we_verify_the_public_packages_chain(
    tmp_path: Path, folder: Path, algorithm: Algorithm
) -> None:
    leaf = publisher(MIDDLE, key=SigningKey.generate(algorithm))
    bundle = theirs_signs(tmp_path, folder, leaf)
    found = verify_model(folder, bundle, EXPECTED)
    assert (found.identity, found.issuer) == ("ci@example.org", "CN=Middle")
    assert found.key_id == leaf.key.key_id
    assert refusal(folder, bundle, ByChain(TrustRoots.parse(authority().pem), NOW_MS)) == (
        "certificate.untrusted"
    )


def test_a_servers_certificate_signs_no_model_though_the_public_package_takes_it(
    tmp_path: Path, folder: Path
) -> None:
    server = publisher(MIDDLE, purposes=SERVER)
    bundle = theirs_signs(tmp_path, folder, server)
    theirs_verifies(tmp_path, folder, bundle, ROOT)
    assert refusal(folder, bundle) == "certificate.untrusted"


def test_only_the_expected_name_counts(folder: Path) -> None:
    bundle = signed(folder)
    for identity in ("ci@example.org", "CN=CI"):
        assert verify_model(folder, bundle, ByChain(ROOTS, NOW_MS, identity))
    for identity in ("mallory@example.org", "ci@example.or", "", "CN=Middle"):
        expected = ByChain(ROOTS, NOW_MS, identity)
        assert refusal(folder, bundle, expected) == "certificate.other_identity"


def test_an_expired_chain_counts_only_at_a_time_that_is_given(folder: Path) -> None:
    bundle = signed(folder)
    late = NOW_MS + 31 * DAY_MS
    assert refusal(folder, bundle, ByChain(ROOTS, late)) == "certificate.untrusted"
    assert verify_model(folder, bundle, ByChain(ROOTS, NOW_MS + 29 * DAY_MS))


def test_whoever_knows_the_key_needs_no_root(folder: Path) -> None:
    bundle = signed(folder)
    found = verify_model(folder, bundle, LEAF.key.verifying)
    # Nobody vouched for the name, so none is said.
    assert (found.key_id, found.identity) == (LEAF.key.key_id, None)
    assert refusal(folder, bundle, ROOT.key.verifying) == "signature.key_mismatch"


def test_a_plain_key_is_not_taken_where_a_certificate_is_expected(folder: Path) -> None:
    assert refusal(folder, sign_model(folder, LEAF.key)) == "signature.other_kind"


def edited(bundle: bytes, edit: Callable[[dict[str, Any]], Any]) -> bytes:
    document = json.loads(bundle)
    edit(document["verificationMaterial"]["x509CertificateChain"])
    return json.dumps(document).encode()


OTHER = publisher(MIDDLE, "mallory@example.org")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        # Another's certificate over this signature: a name that did not sign.
        (lambda c: c["certificates"].__setitem__(0, _raw(OTHER)), "signature.invalid"),
        (lambda c: c["certificates"].pop(0), "certificate.untrusted"),
        (lambda c: c["certificates"].pop(), "certificate.untrusted"),
        (lambda c: c["certificates"].reverse(), "certificate.untrusted"),
        (lambda c: c["certificates"].clear(), "bundle.malformed"),
        (lambda c: c.update(more=1), "bundle.malformed"),
        (lambda c: c["certificates"][0].update(rawBytes="!"), "bundle.malformed"),
        (lambda c: c["certificates"][0].update(rawBytes="AAAA"), "certificate.malformed"),
        (lambda c: c["certificates"].extend([_raw(MIDDLE)] * 8), "bundle.malformed"),
    ],
)
def test_edited_chains_are_refused(
    folder: Path, edit: Callable[[dict[str, Any]], Any], code: str
) -> None:
    assert refusal(folder, edited(signed(folder), edit)) == code


def _raw(holder: Holder) -> dict[str, str]:
    import base64

    return {"rawBytes": base64.b64encode(holder.der).decode()}


def test_a_bundle_with_two_kinds_of_material_is_refused(folder: Path) -> None:
    document = json.loads(signed(folder))
    document["verificationMaterial"]["publicKey"] = {"hint": ""}
    assert refusal(folder, json.dumps(document).encode()) == "bundle.malformed"


def test_a_changed_model_is_refused_whoever_signed(folder: Path) -> None:
    bundle = signed(folder)
    (folder / "a.bin").write_bytes(b"changed")
    assert refusal(folder, bundle) == "model.mismatch"


def test_a_name_constraint_of_the_authority_binds_the_signer(folder: Path) -> None:
    limits = (x509.NameConstraints([x509.RFC822Name("other.org")], None), True)
    outside = publisher(authority("Limited", ROOT, extra=(limits,)))
    assert refusal(folder, signed(folder, outside)) == "certificate.untrusted"


def test_files_that_were_hashed_before_are_held_to_the_chain_too(folder: Path) -> None:
    bundle = signed(folder)
    files = verify_model(folder, bundle, EXPECTED).files
    assert verify_model_files(files, bundle, EXPECTED).identity == "ci@example.org"
    with pytest.raises(VerificationError):
        verify_model_files(files[1:], bundle, EXPECTED)
