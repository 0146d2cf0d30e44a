"""The key-encryption key file: private, whole, and useless without its passphrase."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.vault.keks import file as keys
from keepstone.vault.keks.file import (
    FileKek,
    create_kek,
    is_encrypted,
    load_kek,
    parse_kek,
)


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_COST", {"n": 16, "r": 8, "p": 1})


def test_a_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    key = create_kek(tmp_path / "kek")
    assert (tmp_path / "kek").stat().st_mode & 0o777 == 0o600
    again = load_kek(tmp_path / "kek")
    assert again.unwrap(key.wrap(b"data key", b"context"), b"context") == b"data key"
    assert not is_encrypted((tmp_path / "kek").read_bytes())
    with pytest.raises(InputError) as caught:
        create_kek(tmp_path / "kek")
    assert caught.value.code == "file.exists"


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_kek(tmp_path / "kek")
    os.chmod(tmp_path / "kek", 0o640)
    with pytest.raises(OperationalError) as caught:
        load_kek(tmp_path / "kek")
    assert caught.value.code == "key.open_permissions"


def test_no_key_shows_in_a_repr(tmp_path: Path) -> None:
    raw = bytes(range(32))
    assert repr(FileKek.of(raw)).find(repr(raw)[2:10]) < 0
    assert "_raw" not in repr(FileKek.of(raw))


def test_under_a_passphrase_the_file_does_not_hold_the_key(tmp_path: Path) -> None:
    key = create_kek(tmp_path / "kek", b"passphrase")
    data = (tmp_path / "kek").read_bytes()
    assert is_encrypted(data)
    assert keys._encode(key._raw).encode() not in data
    assert load_kek(tmp_path / "kek", b"passphrase")._raw == key._raw
    for passphrase in (None, b"", b"wrong"):
        with pytest.raises(InputError) as caught:
            load_kek(tmp_path / "kek", passphrase)
        assert caught.value.code == "key.passphrase"


def test_wrapping_binds_key_and_context() -> None:
    key, other = FileKek.of(bytes(32)), FileKek.of(b"1" * 32)
    wrapped = key.wrap(b"data", b"context")
    for opener, blob, context in [
        (other, wrapped, b"context"),
        (key, wrapped, b"other"),
        (key, wrapped[:-1], b"context"),
        (key, b"", b"context"),
        (key, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"context"),
    ]:
        with pytest.raises(VerificationError) as caught:
            opener.unwrap(blob, context)
        assert caught.value.code == "seal.wrong_key"


def document(tmp_path: Path, **changes: Any) -> bytes:
    path = tmp_path / "made"
    if not path.exists():
        create_kek(path, b"passphrase")
    plain = json.loads(path.read_bytes())
    for name, value in changes.items():
        target = plain["kdf"] if name in plain["kdf"] else plain
        target[name] = value
    return json.dumps(plain).encode()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"schema": "keepstone.kek/v2"}, "key.newer_version"),
        ({"schema": "other"}, "key.malformed"),
        ({"n": 1 << 30}, "key.malformed"),  # a terabyte of memory, if it were believed
        ({"n": 15}, "key.malformed"),
        ({"r": True}, "key.malformed"),
        ({"p": 5}, "key.malformed"),
        ({"name": "none"}, "key.malformed"),
        ({"salt": 5}, "key.malformed"),
        ({"salt": "!"}, "key.malformed"),
        ({"n": 32}, "key.passphrase"),  # bound: another cost is another key
        ({"id": "0" * 32}, "key.passphrase"),
        ({"wrapped": ""}, "key.passphrase"),
        ({"more": 1}, "key.malformed"),
        ({"wrapped": 1}, "key.malformed"),
    ],
    ids=str,
)
def test_a_changed_file_is_refused(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_kek(document(tmp_path, **changes), b"passphrase")
    assert caught.value.code == code


def test_a_key_that_is_not_the_one_named_is_refused(tmp_path: Path) -> None:
    create_kek(tmp_path / "kek")
    plain = json.loads((tmp_path / "kek").read_bytes())
    plain["key"] = keys._encode(bytes(32))
    for bad in (plain, {**plain, "key": "AAAA"}, [plain]):
        with pytest.raises(InputError) as caught:
            parse_kek(json.dumps(bad).encode())
        assert caught.value.code == "key.malformed"


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_coded_error(data: bytes) -> None:
    with pytest.raises(KeepstoneError):
        parse_kek(data)
