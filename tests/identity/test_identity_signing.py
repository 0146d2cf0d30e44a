"""Signing keys: who made a signature, and who may read the key."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.identity import signing
from keepstone.identity.signing import (
    Algorithm,
    SigningKey,
    VerifyingKey,
    load_private_key,
    load_public_key,
    parse_private_pem,
    parse_public_pem,
    read_secret_file,
    write_secret_file,
)

KEYS = {algorithm: SigningKey.generate(algorithm) for algorithm in Algorithm}
KEY = KEYS[Algorithm.P256]
SIGNATURE = KEY.sign(b"message")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_verifies_and_nothing_else_does(algorithm: Algorithm) -> None:
    key = KEYS[algorithm]
    assert key.verifying.algorithm is algorithm
    signature = key.sign(b"message")
    key.verifying.verify(signature, b"message")
    others = [other.verifying for other in KEYS.values() if other is not key]
    for verifying, tried, message in (
        (key.verifying, signature, b"Message"),
        (key.verifying, signature[:-1], b"message"),
        (key.verifying, signature + b"\0", b"message"),
        (key.verifying, b"", b"message"),
        *((other, signature, b"message") for other in others),
        (SigningKey.generate(algorithm).verifying, signature, b"message"),
    ):
        with pytest.raises(VerificationError, match=r"signature\.invalid"):
            verifying.verify(tried, message)


@given(st.data())
@settings(max_examples=40)
def test_any_flipped_bit_of_a_signature_is_refused(data: st.DataObject) -> None:
    signature = bytearray(SIGNATURE)
    place = data.draw(st.integers(0, len(signature) - 1))
    signature[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VerificationError):
        KEY.verifying.verify(bytes(signature), b"message")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_key_id_is_the_hash_of_the_public_key(algorithm: Algorithm) -> None:
    key = KEYS[algorithm]
    assert key.key_id == sha256(key.verifying.spki).hexdigest()
    assert parse_public_pem(key.verifying.pem) == key.verifying
    assert hash(parse_public_pem(key.verifying.pem)) == hash(key.verifying)
    assert parse_private_pem(key.to_pem()).key_id == key.key_id


def test_a_repr_never_shows_the_key() -> None:
    assert repr(KEY) == f"SigningKey(verifying=VerifyingKey(key_id='{KEY.key_id}'))"


def pem(private: Any) -> bytes:
    return bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.mark.parametrize(
    "private",
    [
        rsa.generate_private_key(65537, 2048),
        x25519.X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP224R1()),
    ],
)
def test_other_kinds_of_key_are_refused(private: Any) -> None:
    with pytest.raises(InputError, match=r"key\.unsupported"):
        parse_private_pem(pem(private))
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(InputError, match=r"key\.unsupported"):
        parse_public_pem(public)


def test_curves_that_the_library_does_not_know_are_refused_alike() -> None:
    """The library has an error of its own for these, which must not reach a user raw."""
    spki = bytes.fromhex("3014300c06072a8648ce3d020106012a030400040102")
    text = serialization_pem("PUBLIC KEY", spki)
    with pytest.raises(InputError, match=r"key\.(unsupported|malformed)"):
        parse_public_pem(text)


def serialization_pem(label: str, der: bytes) -> bytes:
    from base64 import b64encode

    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (
        label.encode(), b64encode(der), label.encode()
    )  # fmt: skip


def test_keys_made_by_openssl_are_read(need: Callable[[str, str], str]) -> None:
    openssl = need("openssl", "make keys as the README shows")

    def run(*arguments: str, given: bytes = b"") -> bytes:
        return subprocess.run([openssl, *arguments], input=given, capture_output=True).stdout

    # With the parameters before the key, without, and protected in the old style.
    plain = run("ecparam", "-name", "prime256v1", "-genkey")
    bare = run("ecparam", "-name", "secp384r1", "-genkey", "-noout")
    locked = run("ec", "-aes256", "-passout", "pass:secret", given=bare)
    assert parse_private_pem(plain).verifying.algorithm is Algorithm.P256
    assert parse_private_pem(locked, b"secret") == parse_private_pem(bare)
    public = run("ec", "-pubout", given=plain)
    assert parse_public_pem(public) == parse_private_pem(plain).verifying
    odd = run("ecparam", "-name", "sect233k1", "-genkey", "-noout")
    with pytest.raises(InputError, match=r"key\.unsupported"):
        parse_private_pem(odd)
    with pytest.raises(InputError, match=r"key\.unsupported"):
        parse_public_pem(run("ec", "-pubout", given=odd))


def test_passphrases() -> None:
    locked = KEY.to_pem(b"secret")
    assert b"ENCRYPTED" in locked
    assert parse_private_pem(locked, b"secret") == KEY
    for data, passphrase, code in (
        (locked, None, "key.passphrase"),
        (KEY.to_pem(), b"secret", "key.passphrase"),
        (locked, b"wrong", "key.malformed"),
        (b"no key", None, "key.malformed"),
        (KEY.verifying.pem, None, "key.malformed"),
    ):
        with pytest.raises(InputError) as caught:
            parse_private_pem(data, passphrase)
        assert caught.value.code == code


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_no_key(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_public_pem(data)
    with pytest.raises(InputError):
        parse_private_pem(data)


def test_a_private_key_in_place_of_a_public_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"key\.malformed"):
        parse_public_pem(KEY.to_pem())


# --- files ------------------------------------------------------------------------------------


def test_a_secret_file_is_written_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    previous = os.umask(0)
    try:
        write_secret_file(path, KEY.to_pem())
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_private_key(path) == KEY
    with pytest.raises(InputError, match=r"file\.exists"):
        write_secret_file(path, b"other")
    assert load_private_key(path) == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601, 0o644])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    write_secret_file(path, KEY.to_pem())
    path.chmod(mode)
    with pytest.raises(OperationalError, match=r"key\.open_permissions") as caught:
        load_private_key(path)
    assert caught.value.next_step == f"chmod 600 {path}"


def test_a_link_does_not_hide_the_mode_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_secret_file(path, KEY.to_pem())
    path.chmod(0o644)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OperationalError, match=r"key\.open_permissions"):
        load_private_key(tmp_path / "link")


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", ".", "pipe"):
        with pytest.raises(InputError, match=r"key\.missing"):
            read_secret_file(tmp_path / name)
    write_secret_file(tmp_path / "large", b"x" * 70_000)
    with pytest.raises(InputError, match=r"key\.malformed"):
        read_secret_file(tmp_path / "large")
    with pytest.raises(InputError, match=r"key\.missing"):
        load_public_key(tmp_path / "missing")
    (tmp_path / "public").write_bytes(KEY.verifying.pem)
    assert load_public_key(tmp_path / "public") == KEY.verifying


def test_a_failed_write_leaves_no_half_key(tmp_path: Path, monkeypatch: Any) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(signing.os, "fsync", full)
    with pytest.raises(OperationalError, match=r"file\.unwritable"):
        write_secret_file(tmp_path / "key", b"secret")
    assert not (tmp_path / "key").exists()
    with pytest.raises(OperationalError, match=r"file\.unwritable"):
        write_secret_file(tmp_path / "none" / "key", b"secret")


def test_other_objects_are_no_verifying_key() -> None:
    with pytest.raises(InputError, match=r"key\.unsupported"):
        VerifyingKey.of(x25519.X25519PrivateKey.generate().public_key())  # type: ignore[arg-type]
    assert VerifyingKey.of(ed25519.Ed25519PrivateKey.generate().public_key())
