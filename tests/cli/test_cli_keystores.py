"""The command line with keys that are not in a file: named, never shown, never stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.keystores import PIN, Kms, SoftHsm

Code = Callable[..., str]


@pytest.fixture(params=["pkcs11", "awskms"])
def store(request: pytest.FixtureRequest, place: Any) -> str:
    """The name of a signing key in SoftHSM or in KMS; `place` can open it."""
    if request.param == "pkcs11":
        hsm: SoftHsm = request.getfixturevalue("hsm")
        place.environment |= hsm.environment
        return hsm.ec_key(request.node.name)
    kms: Kms = request.getfixturevalue("kms")
    place.environment |= kms.environment
    return f"awskms:///{kms.ec_key()}"


@pytest.mark.loopback
def test_such_a_key_signs_a_model_and_speaks_for_its_holder(
    place: Any, store: str, error_code: Code
) -> None:
    place.must("sign", place.model, "--private-key", store)
    public = place.root / "public.pem"
    public.write_text(place.must("signers", "public-key", store).stdout)
    signature = place.root / "scale.onnx.sig"
    place.must("verify", place.model, "--public-key", public, "--signature", signature)
    place.must("init")
    place.must("signers", "add", "carol", public, "--role", "responder")
    digest = "ab" * 32
    place.must("revoke", digest, "--as", store, "--reason", "poisoned")
    refused = place.run("reinstate", digest, "--as", store, "--reason", "a mistake")
    assert error_code(refused) == "statement.no_right"
    written = [path.read_bytes() for path in place.workspace.rglob("*") if path.is_file()]
    assert not any(PIN.encode() in data for data in written)


def test_a_pin_on_the_command_line_is_refused(place: Any, error_code: Code) -> None:
    uri = "pkcs11:token=t;object=k?pin-value=12345"
    refused = place.run("sign", place.model, "--private-key", uri)
    assert (refused.returncode, error_code(refused)) == (2, "key.pin_in_reference")
    assert "12345" not in refused.stderr + refused.stdout


def test_the_pin_may_be_in_a_file_of_its_owner(
    place: Any, hsm: SoftHsm, tmp_path: Path, error_code: Code
) -> None:
    pin = tmp_path / "pin"
    pin.write_text(PIN + "\n")
    pin.chmod(0o600)
    uri = hsm.ec_key("cli-pin-file")
    environment = hsm.environment | {"KEEPSTONE_PIN": "", "KEEPSTONE_PIN_FILE": str(pin)}
    assert place.run("signers", "public-key", uri, **environment).returncode == 0
    pin.chmod(0o640)
    refused = place.run("signers", "public-key", uri, **environment)
    assert (refused.returncode, error_code(refused)) == (3, "key.open_permissions")


def test_the_vaults_key_moves_into_a_token_and_on(
    place: Any, hsm: SoftHsm, error_code: Code
) -> None:
    place.environment |= hsm.environment
    first = hsm.aes_key("cli-first")
    place.must("init", "--kek", first)
    assert first in (place.workspace / "keys" / "kek.json").read_text()
    moved = place.json("vault", "rotate", "--to", hsm.aes_key("cli-second"))
    assert (moved["blobs"], moved["damaged"]) == (0, [])
    again = place.json("vault", "rotate")
    assert again["old"] == moved["new"]
    place.must("vault", "rotate", "--finish")
    place.must("keys", "list")
    refused = place.run("keys", "list", KEEPSTONE_PIN="0000")
    assert (refused.returncode, error_code(refused)) == (3, "hsm.wrong_pin")
    refused = place.run("vault", "rotate", "--into-file", "--finish")
    assert refused.returncode == 2
    place.must("vault", "rotate", "--into-file")
    place.must("keys", "list")
