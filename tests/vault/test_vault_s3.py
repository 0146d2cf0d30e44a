"""The S3 store against moto with IAM enforced: who may do what, and what is refused at a load."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.vault.keks.file import FileKek
from keepstone.vault.rotate import rewrap
from keepstone.vault.seal import check_sealed, seal
from keepstone.vault.staging import Staged, stage
from keepstone.vault.stores.address import S3Address, parse_store_address
from keepstone.vault.stores.port import Held
from keepstone.vault.stores.s3 import S3Store, open_s3
from tests.buckets import Buckets, buckets

pytestmark = pytest.mark.loopback
KEYS = b"k" * 32, b"n" * 32
KEK, NEXT = map(FileKek.of, KEYS)
SECRET = b"these are the weights that nobody may read "
Opened = Callable[..., S3Store]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Buckets]:
    with buckets() as running:
        yield running


@pytest.fixture
def opened(cloud: Buckets, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """`opened(bucket, "reader")`: the store as that principal sees it."""
    stores: list[S3Store] = []

    def find(bucket: str, principal: str = "writer", more: str = "") -> S3Store:
        cloud.be(principal, monkeypatch)
        address = parse_store_address(cloud.address(bucket, more))
        assert isinstance(address, S3Address)
        stores.append(open_s3(address))
        return stores[-1]

    yield find
    for store in stores:
        store.close()


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    (tmp_path / "model.bin").write_bytes(SECRET * 1000 + os.urandom(1000))
    return stage(tmp_path / "model.bin", tmp_path / "staging")


def code_of(action: Callable[..., object], *given: object) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given)
    return caught.value.code


def read(store: S3Store, digest: Digest, name: str, pin: str | None = None) -> bytes:
    with store.open(digest, name, pin) as blob:
        return b"".join(iter(lambda: blob.read(100_000), b""))


def put(store: S3Store, digest: Digest, data: bytes, name: str = "a") -> str:
    written = store.write(digest, name, lambda sink: sink(memoryview(data)))
    assert written.size == len(data)
    assert written.pin
    return written.pin


def test_a_model_is_sealed_and_comes_back(cloud: Buckets, opened: Opened, staged: Staged) -> None:
    bucket = cloud.bucket()
    store = opened(bucket)
    assert list(store.addresses()) == []
    sealed = seal(staged, store, KEK, "digits")
    check_sealed(store, KEK, staged.digest, "digits")
    assert store.has(staged.digest, "digits")
    assert not store.has(staged.digest, "other")
    assert list(store.addresses()) == [Held(staged.digest, "digits", sealed.size)]
    assert list(store.leftovers()) == []


def test_neither_plaintext_nor_key_reaches_the_bucket(
    cloud: Buckets, opened: Opened, staged: Staged
) -> None:
    bucket = cloud.bucket()
    store = opened(bucket)
    seal(staged, store, KEK, "digits")
    rewrap(store, KEK, NEXT, staged.digest, "digits")
    found = cloud.everything(bucket)
    assert found.count(b"keepstone-seal/v1") == 2
    for secret in (b"weights", *KEYS):
        assert secret not in found


def test_many_parts_make_one_blob(cloud: Buckets, opened: Opened) -> None:
    store = opened(cloud.bucket())
    store.part = 5 << 20
    data, digest = os.urandom((12 << 20) + 5), Digest.of(b"many")

    def fill(sink: Callable[[memoryview], object]) -> None:
        for start in range(0, len(data), 700_001):
            sink(memoryview(data)[start : start + 700_001])

    assert store.write(digest, "a", fill).size == len(data)
    assert read(store, digest, "a") == data
    assert list(store.leftovers()) == []


def test_a_write_that_fails_leaves_the_older_blob_and_no_parts(
    cloud: Buckets, opened: Opened
) -> None:
    store = opened(cloud.bucket())
    store.part = 5 << 20
    digest = Digest.of(b"older")
    put(store, digest, b"older")

    def fill(sink: Callable[[memoryview], object]) -> None:
        sink(memoryview(bytes(6 << 20)))
        assert len(list(store.leftovers())) == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(digest, "a", fill)
    assert read(store, digest, "a") == b"older"
    assert list(store.leftovers()) == []


def test_what_a_killed_writer_left_is_listed_and_removed(cloud: Buckets, opened: Opened) -> None:
    bucket = cloud.bucket()
    store = opened(bucket)
    key = store.key(Digest.of(b"x"), "a")
    cloud.client("writer").create_multipart_upload(Bucket=bucket, Key=key)
    found = list(store.leftovers())
    assert [one.place for one in found] == [key]
    assert found[0].since > 0
    assert list(store.addresses()) == []
    store.remove(found[0])
    store.remove(found[0])
    assert list(store.leftovers()) == []


@pytest.mark.parametrize("before", [False, True])
def test_two_writers_of_one_blob_do_not_replace_one_another_in_silence(
    cloud: Buckets, opened: Opened, before: bool
) -> None:
    bucket = cloud.bucket()
    first, second = opened(bucket), opened(bucket)
    digest = Digest.of(b"raced")
    if before:
        put(first, digest, b"there before")

    def fill(sink: Callable[[memoryview], object]) -> None:
        put(second, digest, b"of the second")
        sink(memoryview(b"of the first"))

    assert code_of(first.write, digest, "a", fill) == "store.conflict"
    assert read(first, digest, "a") == b"of the second"


def test_every_version_stays_and_can_be_read_by_its_pin(cloud: Buckets, opened: Opened) -> None:
    store, digest = opened(cloud.bucket()), Digest.of(b"versions")
    pins = [put(store, digest, data) for data in (b"one", b"two")]
    assert read(store, digest, "a") == b"two"
    assert [read(store, digest, "a", pin) for pin in pins] == [b"one", b"two"]
    store.delete(digest, "a")
    store.delete(digest, "a")
    assert not store.has(digest, "a")
    assert code_of(read, store, digest, "a") == "blob.missing"
    assert read(store, digest, "a", pins[0]) == b"one"
    # After a deletion it may be written again.
    put(store, digest, b"three")
    assert read(store, digest, "a") == b"three"


def test_a_bucket_without_versions_is_refused(cloud: Buckets, opened: Opened) -> None:
    store, digest = opened(cloud.bucket(versioned=False)), Digest.of(b"x")
    assert code_of(put, store, digest, b"data") == "store.not_versioned"
    assert code_of(store.delete, digest, "a") == "store.not_versioned"
    assert code_of(list, store.examine()) == "store.not_versioned"
    assert list(store.addresses()) == []


def test_a_lock_is_asked_for_with_every_version(cloud: Buckets, opened: Opened) -> None:
    bucket = cloud.bucket(lock=True)
    store, digest = opened(bucket, more="&lock=compliance&retain=30d"), Digest.of(b"locked")
    store.part = 5 << 20
    for data in (b"small", bytes(6 << 20)):
        pin = put(store, digest, data)
        said = cloud.client().head_object(Bucket=bucket, Key=store.key(digest, "a"), VersionId=pin)
        assert said["ObjectLockMode"] == "COMPLIANCE"
        assert 29 < (said["ObjectLockRetainUntilDate"] - said["LastModified"]).days <= 30
    assert code_of(store.delete, digest, "a") == "store.locked"
    assert read(store, digest, "a") == bytes(6 << 20)
    assert "30 days" in "".join(fact.message for fact in store.examine())


def test_a_lock_that_the_bucket_has_not_is_refused(cloud: Buckets, opened: Opened) -> None:
    store = opened(cloud.bucket(), more="&lock=governance&retain=1d")
    assert code_of(put, store, Digest.of(b"x"), b"data") == "store.no_lock"


def test_a_reader_reads_and_does_nothing_else(
    cloud: Buckets, opened: Opened, staged: Staged
) -> None:
    bucket = cloud.bucket()
    seal(staged, opened(bucket), KEK, "digits")
    store = opened(bucket, "reader")
    check_sealed(store, KEK, staged.digest, "digits")
    assert len(list(store.addresses())) == 1
    assert code_of(put, store, staged.digest, b"evil", "digits") == "store.denied"
    assert code_of(store.delete, staged.digest, "digits") == "store.denied"
    check_sealed(store, KEK, staged.digest, "digits")


def test_a_writer_cannot_remove_a_version(cloud: Buckets, opened: Opened, staged: Staged) -> None:
    from botocore.exceptions import ClientError

    bucket = cloud.bucket()
    store = opened(bucket)
    pin = put(store, staged.digest, b"kept")
    with pytest.raises(ClientError, match="AccessDenied"):
        cloud.client("writer").delete_object(
            Bucket=bucket, Key=store.key(staged.digest, "a"), VersionId=pin
        )
    store.delete(staged.digest, "a")
    assert read(store, staged.digest, "a", pin) == b"kept"


@pytest.mark.parametrize("name", ["nobody", "wrong"])
def test_without_credentials_that_hold_nothing_is_told(
    cloud: Buckets, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cloud.be("writer", monkeypatch)
    if name == "nobody":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    else:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guessed")
    address = parse_store_address(cloud.address(cloud.bucket()))
    assert isinstance(address, S3Address)
    with closing(open_s3(address)) as store:
        expected = "store.no_credentials" if name == "nobody" else "store.denied"
        assert code_of(store.has, Digest.of(b"x"), "a") == expected


def test_what_somebody_does_to_the_bucket_is_refused_at_the_load(
    cloud: Buckets, opened: Opened, staged: Staged, tmp_path: Path
) -> None:
    bucket = cloud.bucket()
    store, client = opened(bucket), cloud.client()
    (tmp_path / "other.bin").write_bytes(b"another model")
    other = stage(tmp_path / "other.bin", tmp_path / "staging")
    seal(staged, store, KEK, "digits", 1)
    seal(other, store, KEK, "digits", 2)
    key, others = store.key(staged.digest, "digits"), store.key(other.digest, "digits")
    first = read(store, staged.digest, "digits")

    def load(version: int = 1) -> None:
        check_sealed(store, KEK, staged.digest, "digits", version)

    load()
    # Overwritten: one bit, anywhere.
    client.put_object(
        Bucket=bucket, Key=key, Body=first[:-40] + bytes([first[-40] ^ 1]) + first[-39:]
    )
    assert code_of(load) == "seal.corrupt"
    # Cut off, and longer.
    client.put_object(Bucket=bucket, Key=key, Body=first[:-1])
    assert code_of(load) in ("seal.corrupt", "seal.truncated")
    client.put_object(Bucket=bucket, Key=key, Body=first + b"0")
    assert code_of(load).startswith("seal.")
    # Swapped with another of the same name.
    client.copy_object(Bucket=bucket, Key=key, CopySource=f"{bucket}/{others}")
    assert code_of(load).startswith("seal.")
    # Rolled back: the newest sealing is number 3, and number 1 is put back.
    seal(staged, store, KEK, "digits", 3)
    load(3)
    client.put_object(Bucket=bucket, Key=key, Body=first)
    assert code_of(load, 3) == "seal.rolled_back"
    # Deleted.
    client.delete_object(Bucket=bucket, Key=key)
    assert code_of(load, 3) == "blob.missing"


def test_rotation_writes_a_new_version_with_the_same_body(
    cloud: Buckets, opened: Opened, staged: Staged
) -> None:
    bucket = cloud.bucket()
    store = opened(bucket)
    seal(staged, store, KEK, "digits")
    before = read(store, staged.digest, "digits")
    assert rewrap(store, KEK, NEXT, staged.digest, "digits")
    after = read(store, staged.digest, "digits")
    assert before[-40_000:] == after[-40_000:]
    check_sealed(store, NEXT, staged.digest, "digits")
    with pytest.raises(VerificationError, match=r"seal\.wrong_key"):
        check_sealed(store, KEK, staged.digest, "digits")
    assert not rewrap(store, KEK, NEXT, staged.digest, "digits")


def test_what_else_lies_under_the_prefix_is_no_blob(cloud: Buckets, opened: Opened) -> None:
    bucket = cloud.bucket()
    store, client = opened(bucket), cloud.client()
    digest = Digest.of(b"mine")
    put(store, digest, b"data")
    for key in (
        "blobs/x/a.sealed",
        "models/blobs/../../a.sealed",
        f"models/blobs/{digest.hex}/a.sealed.tmp",
        f"models/blobs/{digest.hex}/Ä.sealed",
        f"models/blobs/{digest.hex}/a/b.sealed",
        f"other/blobs/{digest.hex}/a.sealed",
    ):
        client.put_object(Bucket=bucket, Key=key, Body=b"0")
    assert list(store.addresses()) == [Held(digest, "a", 4)]


def test_a_bucket_that_is_not_there_is_named(cloud: Buckets, opened: Opened) -> None:
    store = opened("keepstone-no-such-bucket")
    assert code_of(put, store, Digest.of(b"x"), b"data") in ("store.missing", "store.denied")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(OperationalError, match=r"extra\.aws"):
        open_s3(S3Address("bucket-name"))


def test_names_that_are_none_never_become_keys(cloud: Buckets, opened: Opened) -> None:
    store = opened(cloud.bucket())
    for name in ("../x", "a/b", "", "A", "a" * 65):
        with pytest.raises(InputError, match=r"name\.invalid"):
            store.has(Digest.of(b"x"), name)
