"""Signatures over shards, BLAKE2 and BLAKE3: ours and the public package's, both ways."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_signing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.evidence import modelshards
from keepstone.evidence.dsse import Envelope, Signed, pae
from keepstone.evidence.manifest import SHARD, Hashing
from keepstone.evidence.modelfiles import hash_model
from keepstone.evidence.modelshards import ResourceDigest, hash_resources
from keepstone.evidence.modelsign import sign_model, verify_model, verify_model_files
from keepstone.evidence.statement import PAYLOAD_TYPE
from keepstone.identity.signing import SigningKey

KEY = SigningKey.generate()
ALGORITHMS = ["sha256", "blake2", "blake3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "digits"
    (model / "weights").mkdir(parents=True)
    (model / "a.bin").write_bytes(b"first")
    (model / "a-b.bin").write_bytes(b"second")
    (model / "weights" / "w.bin").write_bytes(os.urandom(2 * SHARD + 12_345))
    (model / "exact").write_bytes(os.urandom(SHARD))
    return model


def theirs_signs(tmp_path: Path, model: Path, hashing: Any) -> bytes:
    (tmp_path / "key.pem").write_bytes(KEY.to_pem())
    config = model_signing.signing.Config().use_elliptic_key_signer(
        private_key=tmp_path / "key.pem"
    )
    config.set_hashing_config(hashing).sign(model, tmp_path / "theirs.sig")
    return (tmp_path / "theirs.sig").read_bytes()


def theirs_verifies(tmp_path: Path, model: Path, bundle: bytes, hashing: Any = None) -> None:
    (tmp_path / "key.pub").write_bytes(KEY.verifying.pem)
    (tmp_path / "ours.sig").write_bytes(bundle)
    config = model_signing.verifying.Config().use_elliptic_key_verifier(
        public_key=tmp_path / "key.pub"
    )
    if hashing is not None:
        config.set_hashing_config(hashing)
    config.verify(model, tmp_path / "ours.sig")


def shards(algorithm: str = "sha256", size: int = SHARD) -> Any:
    return model_signing.hashing.Config().use_shard_serialization(
        hashing_algorithm=algorithm, shard_size=size
    )


def change_a_shard(folder: Path) -> None:
    with (folder / "weights" / "w.bin").open("r+b") as file:
        file.seek(SHARD + 7)
        byte = file.read(1)
        file.seek(SHARD + 7)
        file.write(bytes([byte[0] ^ 1]))


def swap_shards(folder: Path) -> None:
    """The digests stay the same, each under another place."""
    data = (folder / "weights" / "w.bin").read_bytes()
    (folder / "weights" / "w.bin").write_bytes(
        data[SHARD : 2 * SHARD] + data[:SHARD] + data[2 * SHARD :]
    )


def cut_a_shard(folder: Path) -> None:
    os.truncate(folder / "weights" / "w.bin", 2 * SHARD)


def grow(folder: Path) -> None:
    with (folder / "exact").open("ab") as file:
        file.write(b"x")


def add(folder: Path) -> None:
    (folder / "extra").write_text("x")


def rename(folder: Path) -> None:
    (folder / "a.bin").rename(folder / "a.bin2")


ATTACKS = [change_a_shard, swap_shards, cut_a_shard, grow, add, rename]


@pytest.mark.parametrize("inside", ["", "a.bin", "weights/w.bin"])
def test_the_public_package_verifies_our_shards(tmp_path: Path, folder: Path, inside: str) -> None:
    model = folder / inside
    bundle = sign_model(model, KEY, shards=True)
    theirs_verifies(tmp_path, model, bundle)
    (model if inside else model / "a.bin").write_bytes(b"changed")
    with pytest.raises(ValueError, match="mismatch"):
        theirs_verifies(tmp_path, model, bundle)


@pytest.mark.parametrize("algorithm", ["sha256", "blake2"])
@pytest.mark.parametrize("size", [SHARD, 1_000_000_000, 10_000])
def test_we_verify_their_shards(tmp_path: Path, folder: Path, algorithm: str, size: int) -> None:
    bundle = theirs_signs(tmp_path, folder, shards(algorithm, size))
    verified = verify_model(folder, bundle, KEY.verifying)
    assert [file.path for file in verified.files] == ["a-b.bin", "a.bin", "exact", "weights/w.bin"]
    change_a_shard(folder)
    with pytest.raises(VerificationError, match=r"'weights/w\.bin:\d+:\d+' was changed"):
        verify_model(folder, bundle, KEY.verifying)


@pytest.mark.parametrize("algorithm", ["blake2", "blake3"])
@pytest.mark.parametrize("inside", ["", "a.bin"])
def test_we_verify_their_other_functions(
    tmp_path: Path, folder: Path, algorithm: str, inside: str
) -> None:
    model = folder / inside
    hashing = model_signing.hashing.Config().use_file_serialization(hashing_algorithm=algorithm)
    bundle = theirs_signs(tmp_path, model, hashing)
    verified = verify_model(model, bundle, KEY.verifying)
    assert isinstance(verified.files[0], ResourceDigest)
    (model if inside else model / "a.bin").write_bytes(b"changed")
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_model(model, bundle, KEY.verifying)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_change_of_a_sharded_model_is_refused(
    folder: Path, attack: Callable[[Path], None]
) -> None:
    bundle = sign_model(folder, KEY, shards=True)
    files = hash_model(folder, lambda _: False)
    assert verify_model_files(files, bundle, KEY.verifying, copy=folder).files == files
    attack(folder)
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_model(folder, bundle, KEY.verifying)
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_model_files(files, bundle, KEY.verifying, copy=folder)


def test_an_empty_file_has_no_shard_and_is_named_as_unsigned(folder: Path) -> None:
    bundle = sign_model(folder, KEY, shards=True)
    (folder / "__init__.py").touch()
    assert verify_model(folder, bundle, KEY.verifying).unsigned == ("__init__.py",)
    # Where nothing may be unsigned, that is a no.
    files = hash_model(folder, lambda _: False)
    with pytest.raises(VerificationError, match=r"'__init__\.py' is not signed"):
        verify_model_files(files, bundle, KEY.verifying, copy=folder)
    (folder / "__init__.py").write_text("x")
    with pytest.raises(VerificationError, match=r"'__init__\.py:0:1' is not signed"):
        verify_model(folder, bundle, KEY.verifying)


def test_digests_of_whole_files_say_nothing_about_shards(folder: Path) -> None:
    bundle = sign_model(folder, KEY, shards=True)
    files = hash_model(folder, lambda _: False)
    with pytest.raises(OperationalError, match=r"bundle\.unsupported.*sha256-sharded"):
        verify_model_files(files, bundle, KEY.verifying)


def test_an_empty_model_cannot_be_signed_in_shards(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match=r"model\.empty"):
        sign_model(tmp_path / "empty", KEY, shards=True)


def test_without_blake3_it_is_not_evaluated_and_names_the_extra(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashing = model_signing.hashing.Config().use_file_serialization(hashing_algorithm="blake3")
    bundle = theirs_signs(tmp_path, folder, hashing)
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(OperationalError, match=r"hash\.missing") as caught:
        verify_model(folder, bundle, KEY.verifying)
    assert "keepstone[blake3]" in caught.value.next_step


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=40_000), size=st.integers(4096, 12_000))
def test_shards_are_the_parts_of_the_file(
    data: bytes, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "part"
    path.write_bytes(data)
    (found,) = hash_resources(path, lambda _: False, Hashing(shard=size))
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert [digest for _, digest in found.digests] == [
        hashlib.sha256(part).hexdigest() for part in parts
    ]
    assert found.size == len(data)
    (whole,) = hash_resources(path, lambda _: False, Hashing("blake2b"))
    assert whole.hex == hashlib.blake2b(data).hexdigest()


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_that_changes_its_size_while_it_is_read_is_refused(folder: Path, more: int) -> None:
    file = modelshards._Open(os.open(folder / "exact", os.O_RDONLY))
    size = SHARD + more
    start = (size - 1) // SHARD * SHARD
    piece = modelshards._Piece(file, "exact", "exact", start, size, size)
    with pytest.raises(InputError, match=r"model\.changing"):
        piece.hash(hashlib.sha256())


def test_a_read_error_is_no_decision() -> None:
    # The kernel answers a read of the first page of a process's memory with EIO.
    file = modelshards._Open(os.open("/proc/self/mem", os.O_RDONLY))
    with pytest.raises(OperationalError, match=r"model\.unreadable"):
        modelshards._Piece(file, "m", "m", 0, 10, 10).hash(hashlib.sha256())


def test_memory_stays_flat_and_descriptors_are_closed(tmp_path: Path) -> None:
    import tracemalloc

    model = tmp_path / "many"
    model.mkdir()
    for number in range(300):
        (model / f"{number}").write_bytes(b"x" * 100)
    (model / "big").write_bytes(bytes(10 * SHARD))
    before = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    sign_model(model, KEY, shards=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24_000_000
    (model / "link").symlink_to(model)
    with pytest.raises(InputError):
        sign_model(model, KEY, shards=True)
    assert len(os.listdir("/proc/self/fd")) == before


# The form


def signed(edit: Callable[[dict[str, Any]], object], folder: Path) -> bytes:
    bundle = json.loads(sign_model(folder, KEY, shards=True))
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    edit(payload["predicate"])
    data = json.dumps(payload).encode()
    envelope = Envelope(PAYLOAD_TYPE, data, (Signed("", KEY.sign(pae(PAYLOAD_TYPE, data))),))
    bundle["dsseEnvelope"] = envelope.to_dict()
    return json.dumps(bundle).encode()


SIZES: list[tuple[Any, str]] = [
    (SHARD, ""),
    (float(SHARD), ""),
    (SHARD + 0.5, "bundle.malformed"),
    ("4194304", "bundle.malformed"),
    (True, "bundle.malformed"),
    (0, "bundle.malformed"),
    (-SHARD, "bundle.malformed"),
    (2**60, "bundle.malformed"),
    (4095, "bundle.unsupported"),
]


@pytest.mark.parametrize(("size", "code"), SIZES)
def test_the_size_of_shards_is_read_strictly(folder: Path, size: Any, code: str) -> None:
    bundle = signed(lambda it: it["serialization"].update(shard_size=size), folder)
    if not code:
        assert verify_model(folder, bundle, KEY.verifying)
        return
    with pytest.raises(KeepstoneError) as caught:
        verify_model(folder, bundle, KEY.verifying)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "name", ["a.bin", "a.bin:0", "a.bin:0:5:", "a.bin:00:5", "a.bin:-1:5", ":0:5", "a.bin:5:0"]
)
def test_names_of_shards_are_read_strictly(folder: Path, name: str) -> None:
    bundle = signed(lambda it: it["resources"][0].update(name=name), folder)
    with pytest.raises(KeepstoneError) as caught:
        verify_model(folder, bundle, KEY.verifying)
    assert caught.value.code in ("bundle.malformed", "path.unsafe")
