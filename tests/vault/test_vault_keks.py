"""Key-encryption keys in a token and in KMS: what they wrapped opens there, or not at all."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.identity.keystores.reference import TokenAccess, parse_key_reference
from keepstone.vault.keks import make_kek, open_kek, reference_of
from keepstone.vault.keks.remote import RemoteKek
from keepstone.vault.seal import check_sealed, seal
from keepstone.vault.staging import stage
from keepstone.vault.stores.files import FileStore
from tests.keystores import PIN, Kms, SoftHsm

Make = Callable[[], RemoteKek]


class Store:
    """One of the two stores, with keys made in it on demand."""

    def __init__(self, kind: str, there: Any, folder: Path) -> None:
        self.kind = kind
        self.there = there
        self.folder = folder
        self.access = there.access if kind == "pkcs11" else TokenAccess()
        self.count = 0

    def name(self) -> str:
        """A new key of the store, by its name."""
        self.count += 1
        if self.kind == "pkcs11":
            return self.there.aes_key(f"{self.folder.name}-{self.count}")
        return f"awskms:///{self.there.symmetric_key()}"

    def take(self, name: str, file: str = "kek.json") -> RemoteKek:
        made = make_kek(self.folder / file, parse_key_reference(name), access=self.access)
        assert isinstance(made, RemoteKek)
        return made

    def open(self, file: str = "kek.json") -> RemoteKek:
        opened = open_kek(self.folder / file, access=self.access)
        assert isinstance(opened, RemoteKek)
        return opened


@pytest.fixture(params=["pkcs11", "awskms"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    fixture = {"pkcs11": "hsm", "awskms": "kms"}[request.param]
    return Store(request.param, request.getfixturevalue(fixture), tmp_path)


def refusal(action: Callable[..., object], *given: object) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given)
    return caught.value.code


@pytest.mark.loopback
def test_a_key_elsewhere_seals_and_opens_a_model(there: Store, tmp_path: Path) -> None:
    kek = there.take(there.name())
    (tmp_path / "model.bin").write_bytes(b"weights")
    staged = stage(tmp_path / "model.bin", tmp_path / "staging")
    store = FileStore(tmp_path / "vault")
    seal(staged, store, kek, "model")
    again = there.open()
    assert again.key_id == kek.key_id
    check_sealed(store, again, staged.digest, "model")
    assert refusal(check_sealed, store, again, Digest.of(b"x"), "model") == "blob.missing"
    # The blob, put under another name.
    store.path(staged.digest, "other").write_bytes(store.path(staged.digest, "model").read_bytes())
    assert refusal(check_sealed, store, again, staged.digest, "other") == "seal.wrong_key"


@pytest.mark.loopback
def test_wrapping_binds_key_context_and_workspace(there: Store) -> None:
    name = there.name()
    kek, other = there.take(name), there.take(there.name(), "other.json")
    # Another workspace that was given the same key of the store.
    neighbour = there.take(name, "neighbour.json")
    wrapped = kek.wrap(b"d" * 32, b"context")
    assert kek.unwrap(wrapped, b"context") == b"d" * 32
    for opener, blob, context in [
        (other, wrapped, b"context"),
        (neighbour, wrapped, b"context"),
        (kek, wrapped, b"other"),
        (kek, wrapped, b""),
        (kek, wrapped[:-1], b"context"),
        (kek, wrapped[:10], b"context"),
        (kek, b"", b"context"),
        (kek, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"context"),
    ]:
        code = refusal(opener.unwrap, blob, context)
        # KMS may as well say that this principal may not use the key that the blob names.
        assert code in ("seal.wrong_key", "kms.failed")
        assert (code == "seal.wrong_key") or (there.kind == "awskms" and opener is other)


@pytest.mark.loopback
def test_the_file_names_a_key_and_holds_neither_key_nor_pin(there: Store) -> None:
    name = there.name()
    there.take(name)
    path = there.folder / "kek.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert PIN not in path.read_text()
    assert str(reference_of(path)) == name


@pytest.mark.loopback
def test_another_key_in_the_named_ones_place_is_refused(there: Store) -> None:
    there.take(there.name())
    path = there.folder / "kek.json"
    document = json.loads(path.read_bytes())
    for changed in (
        {"reference": there.name()},
        {"id": "0" * 32},
        {"check": base64.b64encode(b"x" * 60).decode()},
    ):
        path.write_text(json.dumps(document | changed))
        code = refusal(there.open)
        assert code in ("seal.wrong_key", "kms.failed"), changed


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"reference": "kek.pem"}, "key.malformed"),
        # A file that came with a backup must not choose the library that is loaded.
        ({"reference": "pkcs11:token=t;object=k?module-path=/tmp/evil.so"}, "key.malformed"),
        ({"reference": "pkcs11:object=k;token=t"}, "key.malformed"),
        ({"reference": "pkcs11:token=t"}, "key.bad_reference"),
        ({"reference": 5}, "key.malformed"),
        ({"schema": "keepstone.kek/v9"}, "key.malformed"),
        ({"id": "x" * 32}, "key.malformed"),
        ({"id": "0"}, "key.malformed"),
        ({"more": 1}, "key.malformed"),
        ({"check": 1}, "key.malformed"),
    ],
    ids=str,
)
def test_a_file_that_says_more_or_less_is_refused(
    tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    document = {
        "schema": "keepstone.kek/v1",
        "id": "0" * 32,
        "reference": "pkcs11:token=t;object=k",
        "check": "AAAA",
    }
    path = tmp_path / "kek.json"
    path.write_text(json.dumps(document | changed))
    path.chmod(0o600)
    with pytest.raises(InputError) as caught:
        open_kek(path, access=TokenAccess("1", Path("/nowhere.so")))
    assert caught.value.code == code


def test_a_check_that_is_not_base64_is_malformed(hsm: SoftHsm, tmp_path: Path) -> None:
    there = Store("pkcs11", hsm, tmp_path)
    there.take(there.name())
    path = tmp_path / "kek.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"check": "!"}))
    assert refusal(there.open) == "key.malformed"


def test_a_key_that_the_token_gives_away_is_refused(hsm: SoftHsm, tmp_path: Path) -> None:
    there = Store("pkcs11", hsm, tmp_path)
    with pytest.raises(OperationalError) as caught:
        there.take(hsm.aes_key("given-away", extractable=True))
    assert caught.value.code == "kek.extractable"
    assert refusal(there.take, hsm.aes_key("short", bits=128)) == "kek.unsupported"
    assert refusal(there.take, hsm.ec_key("no-aes")) == "key.missing"
    assert refusal(there.take, str(tmp_path / "kek.pem")) == "kek.unsupported"


@pytest.mark.loopback
def test_only_a_key_that_encrypts_is_taken_from_kms(kms: Kms, tmp_path: Path) -> None:
    there = Store("awskms", kms, tmp_path)
    assert refusal(there.take, f"awskms:///{kms.ec_key()}") == "kek.unsupported"
    assert refusal(there.take, "awskms:///alias/nobody") == "key.missing"


@pytest.mark.loopback
def test_an_alias_that_is_moved_changes_nothing(kms: Kms, tmp_path: Path) -> None:
    there = Store("awskms", kms, tmp_path)
    arn = kms.symmetric_key(alias="vault")
    wrapped = there.take("awskms:///alias/vault").wrap(b"d" * 32, b"context")
    kms.client.update_alias(AliasName="alias/vault", TargetKeyId=kms.symmetric_key())
    assert str(reference_of(tmp_path / "kek.json")) == f"awskms:///{arn}"
    assert there.open().unwrap(wrapped, b"context") == b"d" * 32


@pytest.mark.loopback
def test_an_outage_is_not_a_wrong_key(
    kms: Kms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Store("awskms", kms, tmp_path)
    there.take(there.name())
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    assert refusal(there.open) == "kms.failed"


@given(data=st.binary(max_size=80), context=st.binary(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_any_bytes_do_not_open_in_a_token(
    hsm: SoftHsm, tmp_path_factory: pytest.TempPathFactory, data: bytes, context: bytes
) -> None:
    there = Store("pkcs11", hsm, tmp_path_factory.mktemp("any"))
    kek = there.take(there.name())
    with pytest.raises(VerificationError, match=r"seal\.wrong_key"):
        kek.unwrap(data, context)
    assert replace(kek) == kek
