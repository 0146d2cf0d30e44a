"""The OCI store on a real registry: seal, load, rotate, delete, and what a writer of it may try."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import KeepstoneError, VerificationError
from keepstone.vault.keks.file import FileKek
from keepstone.vault.rotate import rewrap
from keepstone.vault.seal import check_sealed, seal
from keepstone.vault.staging import Staged, stage
from keepstone.vault.stores.address import OciAddress
from keepstone.vault.stores.oci.logins import Login
from keepstone.vault.stores.oci.manifest import IMAGE_MANIFEST
from keepstone.vault.stores.oci.reference import Reference
from keepstone.vault.stores.oci.registry import Registry
from keepstone.vault.stores.oci.store import OciStore, parse_tag, tag_of
from keepstone.vault.stores.port import Held
from tests.conftest import _find
from tests.registry import PASSWORD, USER, LocalRegistry, docker_registry

pytestmark = pytest.mark.loopback
KEYS = b"k" * 32, b"n" * 32
KEK, NEXT = map(FileKek.of, KEYS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    program = _find("docker-registry", "keep sealed models in a real registry")
    with docker_registry(program, tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def store(place: LocalRegistry, tmp_path: Path) -> Iterator[OciStore]:
    repository = Reference.parse(f"{place.host}/{Digest.of(str(tmp_path).encode()).short}/models")
    with Registry({place.host: Login(USER, PASSWORD)}) as registry:
        yield OciStore(OciAddress(repository), registry)


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    (tmp_path / "model.bin").write_bytes(b"the weights " * 1000 + os.urandom(3_000_000))
    return stage(tmp_path / "model.bin", tmp_path / "staging")


def code_of(action: object, *given: object) -> str:
    assert callable(action)
    with pytest.raises(KeepstoneError) as caught:
        action(*given)
    return caught.value.code


def read(store: OciStore, digest: Digest, name: str, pin: str | None = None) -> bytes:
    with store.open(digest, name, pin) as blob:
        return b"".join(iter(lambda: blob.read(1 << 16), b""))


def test_a_model_is_sealed_comes_back_and_goes(
    store: OciStore, staged: Staged, place: LocalRegistry
) -> None:
    assert list(store.addresses()) == []
    assert code_of(read, store, staged.digest, "digits") == "blob.missing"
    store.require_usable()
    sealed = seal(staged, store, KEK, "digits")
    check_sealed(store, KEK, staged.digest, "digits")
    assert store.has(staged.digest, "digits")
    assert not store.has(staged.digest, "other")
    assert list(store.addresses()) == [Held(staged.digest, "digits", sealed.size)]
    kept = b"".join(path.read_bytes() for path in place.folder.rglob("*") if path.is_file())
    assert b"keepstone-seal/v1" in kept
    for secret in (b"the weights", *KEYS):
        assert secret not in kept
    store.delete(staged.digest, "digits")
    store.delete(staged.digest, "digits")
    assert not store.has(staged.digest, "digits")
    assert list(store.addresses()) == []


def test_rotation_replaces_the_blob_and_the_pin_finds_the_older_one(
    store: OciStore, staged: Staged
) -> None:
    seal(staged, store, KEK, "digits")
    before = read(store, staged.digest, "digits")
    assert rewrap(store, KEK, NEXT, staged.digest, "digits")
    check_sealed(store, NEXT, staged.digest, "digits")
    with pytest.raises(VerificationError, match=r"seal\.wrong_key"):
        check_sealed(store, KEK, staged.digest, "digits")
    written = store.write(staged.digest, "digits", lambda sink: sink(memoryview(b"newer")))
    assert read(store, staged.digest, "digits") == b"newer"
    assert read(store, staged.digest, "digits", written.pin) == b"newer"
    again = store.write(staged.digest, "digits", lambda sink: sink(memoryview(before)))
    assert read(store, staged.digest, "digits", written.pin) == b"newer"
    assert read(store, staged.digest, "digits", again.pin) == before


def test_a_write_that_fails_shows_nothing(store: OciStore, staged: Staged) -> None:
    def fill(sink: object) -> None:
        assert callable(sink)
        sink(memoryview(bytes(10 << 20)))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(staged.digest, "digits", fill)
    assert list(store.addresses()) == []


def test_what_a_writer_of_the_registry_tries_is_refused(
    store: OciStore, staged: Staged, place: LocalRegistry, tmp_path: Path
) -> None:
    (tmp_path / "other.bin").write_bytes(b"another model")
    other = stage(tmp_path / "other.bin", tmp_path / "staging")
    first = seal(staged, store, KEK, "digits", 1)
    seal(other, store, KEK, "digits", 2)
    mine = store._repository.tagged(tag_of(staged.digest, "digits"))
    theirs = store._repository.tagged(tag_of(other.digest, "digits"))
    with Registry({place.host: Login(USER, PASSWORD)}) as evil:
        old = evil.manifest(mine)
        # The tag is moved to another model's blob.
        evil.push_manifest(mine, evil.manifest(theirs).document, tag=mine.tag)
        assert code_of(check_sealed, store, KEK, staged.digest, "digits", 1).startswith("seal.")
        # Back to the older sealing, when a newer one is known.
        seal(staged, store, KEK, "digits", 3)
        check_sealed(store, KEK, staged.digest, "digits", 3)
        evil.push_manifest(mine, old.document, tag=mine.tag)
        assert code_of(check_sealed, store, KEK, staged.digest, "digits", 3) == "seal.rolled_back"
        # To something that is no blob at all.
        config = evil.push_empty_config(mine).to_dict()
        document = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": config,
            "layers": [config],
        }
        evil.push_manifest(mine, document, tag=mine.tag)
        assert code_of(check_sealed, store, KEK, staged.digest, "digits", 3) == "oci.malformed"
        evil.push_manifest(mine, document, tag="latest")
    # What is no blob has an address all the same, and no size that anybody should believe.
    sizes = {held.digest: held.size for held in store.addresses()}
    assert sizes.keys() == {staged.digest, other.digest}
    assert sizes[staged.digest] == 0
    assert first.size > 0


def test_the_bytes_of_a_layer_that_were_changed_on_its_disk_are_refused(
    store: OciStore, staged: Staged, place: LocalRegistry
) -> None:
    seal(staged, store, KEK, "digits")
    layer = store._registry.manifest(
        store._repository.tagged(tag_of(staged.digest, "digits"))
    ).layers[0]
    file = next(place.folder.rglob(f"{layer.digest.hex}/data"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    code = code_of(check_sealed, store, KEK, staged.digest, "digits")
    assert code in ("seal.corrupt", "oci.wrong_digest")


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?", fullmatch=True)


@given(st.binary(min_size=32, max_size=32), NAMES)
def test_each_address_has_one_tag(raw: bytes, name: str) -> None:
    tag = tag_of(Digest(raw.hex()), name)
    assert len(tag) <= 128
    assert Reference.parse("h.example/a").tagged(tag)
    assert parse_tag(tag) == (Digest(raw.hex()), name)
    assert parse_tag(tag.upper()) is None
    assert parse_tag(f"{name}.x") is None


@given(st.text(max_size=130))
def test_any_other_tag_is_no_address(text: str) -> None:
    found = parse_tag(text)
    assert found is None or tag_of(*found) == text
