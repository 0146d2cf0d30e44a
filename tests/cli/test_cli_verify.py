"""`sign` and `verify` by whom one expects: a key, an authority's word, or an identity in a log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.identity.signing import write_secret_file
from tests.pki import authority, publisher
from tests.sigstore_instance import IDENTITY, ISSUER, Sigstore

Code = Callable[..., str]
BEGINS = datetime.now(UTC) - timedelta(days=3)
LIFE = {"begins": BEGINS, "ends": BEGINS + timedelta(days=30)}
ROOT = authority(**LIFE)
MIDDLE = authority("Middle", ROOT, **LIFE)
LEAF = publisher(MIDDLE, **LIFE)


@pytest.fixture
def files(place: Any) -> Path:
    """The signer's key, certificates and roots, as files beside the model."""
    root: Path = place.root
    write_secret_file(root / "leaf.key", LEAF.key.to_pem())
    for name, data in {
        "leaf.pem": LEAF.pem,
        "middle.pem": MIDDLE.pem,
        "root.pem": ROOT.pem,
        "stranger.pem": authority(**LIFE).pem,
        "leaf.pub": LEAF.key.verifying.pem,
    }.items():
        (root / name).write_bytes(data)
    return root


def test_a_chain_is_signed_with_and_verified_to_its_root(
    place: Any, files: Path, error_code: Code
) -> None:
    signing = ["sign", place.model, "--private-key", "leaf.key", "--certificate", "leaf.pem"]
    place.must(*signing, "--chain", "middle.pem")
    verifying = ["verify", place.model, "--signature", "scale.onnx.sig"]
    found = place.json(*verifying, "--trust-roots", "root.pem", "--identity", "ci@example.org")
    assert (found["identity"], found["issuer"]) == ("ci@example.org", "CN=Middle")
    for options, code, status in [
        (["--trust-roots", "stranger.pem"], "certificate.untrusted", 1),
        (["--trust-roots", "leaf.pem"], "certificate.not_authority", 2),
        (["--trust-roots", "leaf.pub"], "certificate.malformed", 2),
        (["--trust-roots", "none.pem"], "file.unreadable", 2),
        (["--trust-roots", "root.pem", "--identity", "eve"], "certificate.other_identity", 1),
        (["--trust-roots", "root.pem", "--at", "2001-01-01T00:00:00Z"], "certificate.untrusted", 1),
        (["--trust-roots", "root.pem", "--at", "yesterday"], "time.malformed", 2),
    ]:
        refused = place.run(*verifying, *options)
        assert (error_code(refused), refused.returncode) == (code, status), refused.stderr
    place.must(*verifying, "--public-key", "leaf.pub")
    wrong = place.run("sign", place.model, "--private-key", "leaf.key", "--certificate", "root.pem")
    assert error_code(wrong) == "certificate.key_mismatch"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--public-key", "leaf.pub", "--trust-roots", "root.pem"],
        ["--public-key", "leaf.pub", "--identity", "x"],
        ["--trust-roots", "root.pem", "--identity-provider", "x"],
        ["--trust-root", "root.json"],
        ["--trust-root", "root.json", "--identity", "x"],
        [
            *("--trust-root", "root.json", "--identity", "x"),
            *("--identity-provider", "y", "--at", "2026-01-01T00:00:00Z"),
        ],
    ],
)
def test_whom_one_expects_is_said_once_and_whole(
    place: Any, files: Path, options: list[str]
) -> None:
    refused = place.run("verify", place.model, "--signature", "x.sig", *options)
    assert refused.returncode == 2
    assert "Usage" in refused.stderr


def test_a_chain_needs_the_signers_own_certificate(place: Any, files: Path) -> None:
    signing = ["sign", place.model, "--private-key", "leaf.key", "--chain", "middle.pem"]
    assert place.run(*signing).returncode == 2


def test_a_keyless_signature_is_verified_against_a_given_root(place: Any, error_code: Code) -> None:
    sigstore = Sigstore()
    # Only the digests are wanted of this one.
    key = LEAF.key
    files = verify_model(place.model, sign_model(place.model, key), key.verifying).files
    (place.root / "keyless.sig").write_bytes(sigstore.sign(files))
    (place.root / "trusted_root.json").write_bytes(sigstore.trusted_root())
    verifying = ["verify", place.model, "--signature", "keyless.sig"]
    against = ["--trust-root", "trusted_root.json", "--identity-provider", ISSUER]
    found = place.json(*verifying, *against, "--identity", IDENTITY)
    assert (found["identity"], found["issuer"]) == (IDENTITY, ISSUER)
    refused = place.run(*verifying, *against, "--identity", "mallory@example.org")
    assert (error_code(refused), refused.returncode) == ("certificate.other_identity", 1)
    (place.root / "trusted_root.json").write_text(json.dumps([]))
    refused = place.run(*verifying, *against, "--identity", IDENTITY)
    assert (error_code(refused), refused.returncode) == ("keyless.bad_root", 2)


def test_a_signer_is_named_by_an_authority_or_a_log(place: Any, files: Path) -> None:
    sigstore = Sigstore()
    (place.root / "trusted_root.json").write_bytes(sigstore.trusted_root())
    place.must("init")
    adding = ["signers", "add", "training", "--role", "publisher"]
    place.must(*adding, "--trust-roots", "root.pem", "--identity", "ci@example.org")
    place.must(
        *("signers", "add", "ci", "--role", "publisher", "--trust-root", "trusted_root.json"),
        *("--identity", IDENTITY, "--identity-provider", ISSUER),
    )
    listed = {one["name"]: one for one in place.json("signers", "list")["signers"]}
    assert listed["training"]["role"] == listed["ci"]["role"] == "publisher"
    for options in (
        [],
        ["leaf.pub", "--trust-roots", "root.pem"],
        ["--trust-roots", "root.pem"],
        ["--trust-roots", "root.pem", "--identity", "x", "--identity-provider", "y"],
        ["--trust-root", "trusted_root.json", "--identity", "x"],
    ):
        assert place.run(*adding, *options).returncode == 2
    chain = ["--certificate", "leaf.pem", "--chain", "middle.pem"]
    place.must("sign", place.model, "--private-key", "leaf.key", *chain)
    place.must("policy", "check")
    place.up()
    place.stop()
    assert "signed by training" in (place.root / "up.log").read_text()
