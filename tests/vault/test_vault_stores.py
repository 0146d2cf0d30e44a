"""Addresses of stores, the local store's part of the port, and waits that end."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.vault.stores import parse_store_address
from keepstone.vault.stores.files import FileStore
from keepstone.vault.stores.patience import Ahead, within
from keepstone.vault.stores.port import Held, Leftover, Written, parse_blob_path

DIGEST = Digest.of(b"any")


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket",
        "s3://bucket/a/prefix?region=eu-central-1",
        "s3://bucket/p?endpoint=https://minio.example:9000",
        "s3://bucket/p?endpoint=http://127.0.0.1:9000&lock=governance&retain=30d",
        "s3://bucket?lock=compliance&retain=1d",
        "oci://registry.example/team/models",
        "oci://127.0.0.1:5000/models",
    ],
)
def test_an_address_prints_as_it_was_read(text: str) -> None:
    assert str(parse_store_address(text)) == text
    assert parse_store_address(text) == parse_store_address(str(parse_store_address(text)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bucket",
        "/a/folder",
        "file:///a",
        "S3://bucket",
        "s3://",
        "s3://B",
        "s3://key:secret@bucket/p",
        "s3://bucket/../p",
        "s3://bucket/a//b",
        "s3://bucket/.hidden",
        "s3://bucket/p#x",
        "s3://bucket/p?access_key=x",
        "s3://bucket/p?region=a&region=b",
        "s3://bucket/p?region=",
        "s3://bucket/p?region=EU",
        "s3://bucket/p?endpoint=http://minio.example",
        "s3://bucket/p?endpoint=https://u:p@minio.example",
        "s3://bucket/p?endpoint=https://minio.example/path",
        "s3://bucket/p?endpoint=minio.example",
        "s3://bucket/p?lock=governance",
        "s3://bucket/p?retain=30d",
        "s3://bucket/p?lock=forever&retain=1d",
        "s3://bucket/p?lock=governance&retain=0d",
        "s3://bucket/p?lock=governance&retain=40000d",
        "s3://bucket/p?lock=governance&retain=1y",
        "s3://b\u00fccket/p",
        "s3://bucket/p q",
        "s3://bucket/p\n",
        "s3://" + "b" * 2000,
        "oci://registry.example",
        "oci://models",
        "oci://registry.example/a:tag",
        "oci://registry.example/a@sha256:" + "0" * 64,
        "oci://user:pw@registry.example/a",
        "oci://registry.example/a?tls=off",
    ],
)
def test_addresses_that_name_no_store(text: str) -> None:
    with pytest.raises(InputError, match=r"store\.bad_address") as caught:
        parse_store_address(text)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_address_parses_or_is_refused(text: str) -> None:
    for one in (
        text,
        f"s3://{text}",
        f"s3://bucket/{text}",
        f"s3://bucket?{text}",
        f"oci://{text}",
    ):
        try:
            found = parse_store_address(one)
        except InputError as error:
            assert error.code == "store.bad_address"  # noqa: PT017
            continue
        assert parse_store_address(str(found)) == found
        assert "@" not in str(found)


@given(st.text(max_size=60))
def test_what_is_no_path_of_a_blob_is_no_address(text: str) -> None:
    for path in (text, f"blobs/{DIGEST.hex}/{text}.sealed"):
        found = parse_blob_path(path)
        assert found is None or path == f"blobs/{found[0].hex}/{found[1]}.sealed"


def test_the_folder_tells_sizes_and_leftovers(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    assert store.write(DIGEST, "a", lambda sink: sink(memoryview(b"12345"))) == Written(5)
    folder = store.path(DIGEST, "a").parent
    left = folder / ".a.sealed.0011aa"
    left.write_bytes(b"half")
    (folder / "x").mkdir()
    (tmp_path / "blobs" / "not-a-digest").mkdir()
    (tmp_path / "blobs" / "not-a-digest" / "b.sealed").write_bytes(b"")
    assert list(store.addresses()) == [Held(DIGEST, "a", 5)]
    found = list(store.leftovers())
    assert [one.place for one in found] == [f"blobs/{DIGEST.hex}/.a.sealed.0011aa"]
    assert abs(found[0].since / 1000 - time.time()) < 600
    # Nothing but a leftover is removed as one.
    store.remove(Leftover(f"blobs/{DIGEST.hex}/a.sealed", found[0].since))
    store.remove(Leftover("../outside", 0))
    assert store.has(DIGEST, "a")
    store.remove(found[0])
    store.remove(found[0])
    assert not left.exists()


def test_the_folder_knows_no_pin(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write(DIGEST, "a", lambda sink: sink(memoryview(b"1")))
    with pytest.raises(InputError, match=r"blob\.missing"), store.open(DIGEST, "a", "v1"):
        pass


def test_a_call_that_does_not_return_is_left() -> None:
    late: list[int] = []
    with pytest.raises(TimeoutError):
        within(0.05, lambda: time.sleep(0.3) or 7, late.append)
    deadline = time.monotonic() + 30
    while not late and time.monotonic() < deadline:
        time.sleep(0.02)
    assert late == [7]
    assert within(30, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(30, lambda: 1 // 0)


def test_a_stream_that_stops_is_left_and_closed() -> None:
    closed: list[bool] = []

    def pieces(wait: float) -> Generator[bytes, None, None]:
        try:
            yield b"abc"
            yield b""
            time.sleep(wait)
            yield b"def"
        finally:
            closed.append(True)

    with Ahead(pieces(0), 30, ValueError) as stream:
        assert b"".join(iter(lambda: stream.read(2), b"")) == b"abcdef"
        assert stream.read(5) == b""
    with Ahead(pieces(0.5), 0.1, ValueError) as stream:
        assert stream.read(3) == b"abc"
        with pytest.raises(ValueError):  # noqa: PT011
            stream.read(3)
    deadline = time.monotonic() + 30
    while len(closed) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert closed == [True, True]


def test_what_is_wrong_with_a_stream_comes_in_its_place() -> None:
    def pieces() -> Generator[bytes, None, None]:
        yield b"abc"
        raise ZeroDivisionError

    with Ahead(pieces(), 30, ValueError) as stream:
        assert stream.read(3) == b"abc"
        with pytest.raises(ZeroDivisionError):
            stream.read(3)
