"""Rotation: another key-encryption key, the same sealed bytes, and never a blob that is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from keepstone.errors import OperationalError, VerificationError
from keepstone.vault.keks.file import FileKek
from keepstone.vault.rotate import rewrap, rewrap_all
from keepstone.vault.seal import MAGIC, check_sealed, seal
from keepstone.vault.staging import Staged, stage
from keepstone.vault.stores.files import FileStore

OLD, NEW = FileKek.of(b"o" * 32), FileKek.of(b"n" * 32)


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    (tmp_path / "model.bin").write_bytes(os.urandom(3_000_000))
    return stage(tmp_path / "model.bin", tmp_path / "staging")


def body(store: FileStore, staged: Staged, name: str) -> bytes:
    data = store.path(staged.digest, name).read_bytes()
    start = len(MAGIC) + 4
    return data[start + int.from_bytes(data[len(MAGIC) : start], "big") :]


def test_only_the_wrapping_changes(store: FileStore, staged: Staged) -> None:
    for name in ("a", "b"):
        seal(staged, store, OLD, name)
    before = {name: body(store, staged, name) for name in ("a", "b")}
    told: list[int] = []
    done = rewrap_all(store, OLD, NEW, told.append)
    assert (done.blobs, done.damaged, told) == (2, (), [1, 2])
    for name in ("a", "b"):
        assert body(store, staged, name) == before[name]
        check_sealed(store, NEW, staged.digest, name)
        with pytest.raises(VerificationError, match=r"seal\.wrong_key"):
            check_sealed(store, OLD, staged.digest, name)


def test_doing_it_again_writes_nothing(
    store: FileStore, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(staged, store, OLD, "a")
    assert rewrap(store, OLD, NEW, staged.digest, "a")
    monkeypatch.setattr(FileStore, "write", None)
    assert not rewrap(store, OLD, NEW, staged.digest, "a")


def test_a_swapped_blob_is_not_wrapped_anew(
    store: FileStore, staged: Staged, tmp_path: Path
) -> None:
    seal(staged, store, OLD, "a")
    store.path(staged.digest, "b").write_bytes(store.path(staged.digest, "a").read_bytes())
    done = rewrap_all(store, OLD, NEW)
    assert done.blobs == 1
    assert done.damaged == (f"b ({staged.digest.short})",)
    with pytest.raises(VerificationError):
        check_sealed(store, NEW, staged.digest, "b")


class Forgets(FileKek):
    """A key that opens nothing of what it wrapped."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        if wrapped.startswith(b"lost"):
            return b"another data key"
        return super().unwrap(wrapped, context)

    def wrap(self, data_key: bytes, context: bytes, randomness: object = None) -> bytes:
        return b"lost" + bytes(56)


def test_a_key_that_cannot_open_what_it_wrapped_takes_nothing_over(
    store: FileStore, staged: Staged
) -> None:
    seal(staged, store, OLD, "a")
    with pytest.raises(VerificationError, match=r"seal\.wrong_key"):
        rewrap(store, OLD, Forgets.of(b"f" * 32), staged.digest, "a")
    check_sealed(store, OLD, staged.digest, "a")


def test_after_any_failing_write_each_blob_opens_under_one_of_the_two(
    store: FileStore, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a", "b", "c")
    for name in names:
        seal(staged, store, OLD, name)
    real, fails = os.fsync, 0
    for fails in range(100):
        left = [fails]

        def fsync(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            rewrap_all(store, OLD, NEW)
            break
        except OperationalError:
            monkeypatch.setattr(os, "fsync", real)
        for name in names:
            try:
                check_sealed(store, NEW, staged.digest, name)
            except VerificationError:
                check_sealed(store, OLD, staged.digest, name)
    assert 3 < fails < 99
    monkeypatch.setattr(os, "fsync", real)
    assert rewrap_all(store, OLD, NEW).blobs == 3
