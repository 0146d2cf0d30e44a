"""Verified files: what was hashed is what is loaded, whoever swaps what meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import io
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.vault import memory as memory_module
from keepstone.vault.keks.file import FileKek
from keepstone.vault.load.reader import ViewReader
from keepstone.vault.memory import PrivateMemory, SealedMemory, make_memory
from keepstone.vault.overlap import BUFFER, Ring, pour
from keepstone.vault.seal import seal, unseal
from keepstone.vault.staging import stage
from keepstone.vault.stores.files import FileStore
from keepstone.vault.verified import VerifiedFiles, verify_files
from keepstone.vault.walk import StagingLimits
from tests.vault.permits import NOW, permit

GOOD, EVIL = b"G" * 4096, b"E" * 4096


def digest_of(content: dict[str, bytes]) -> Digest:
    return artifact_digest(
        FileDigest(path, len(data), Digest.of(data)) for path, data in content.items()
    )


def write(folder: Path, content: dict[str, bytes]) -> Path:
    for path, data in content.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def held(files: VerifiedFiles) -> dict[str, bytes]:
    return {path: bytes(files.view(path)) for path in files.paths}


def test_files_come_back_as_they_are(tmp_path: Path) -> None:
    content = {"a": b"", "b": os.urandom(3 * BUFFER + 7), "sub/c": b"c", "z": os.urandom(BUFFER)}
    with verify_files(write(tmp_path / "m", content), digest_of(content)) as files:
        assert held(files) == content
    with verify_files(tmp_path / "m" / "b", digest_of({".": content["b"]})) as files:
        assert held(files) == {".": content["b"]}


def test_one_other_byte_path_or_file_is_refused(tmp_path: Path) -> None:
    content = {"a": b"one", "sub/b": b"two"}
    asked = digest_of(content)
    for number, other in enumerate(
        (
            {"a": b"onE", "sub/b": b"two"},
            {"a": b"one", "sub/c": b"two"},
            {"a": b"one"},
            {**content, "more": b""},
            {"a": b"two", "sub/b": b"one"},
        )
    ):
        with pytest.raises(VerificationError) as caught:
            verify_files(write(tmp_path / str(number), other), asked)
        assert caught.value.code == "model.wrong_digest"


def test_links_and_limits_are_those_of_staging(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", {"a": b"one"})
    (folder / "link").symlink_to("a")
    with pytest.raises(InputError) as caught:
        verify_files(folder, digest_of({"a": b"one"}))
    assert caught.value.code == "model.symlink"
    (folder / "link").unlink()
    with pytest.raises(InputError) as large:
        verify_files(folder, digest_of({"a": b"one"}), StagingLimits(max_bytes=2))
    assert large.value.code == "model.too_large"


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    path.write_bytes(GOOD)
    real = os.readv

    def growing(descriptor: int, buffers: list[memoryview]) -> int:
        with path.open("ab") as file:
            file.write(b"more")
        return real(descriptor, buffers)

    monkeypatch.setattr("keepstone.vault.verified.os.readv", growing)
    with pytest.raises(InputError) as caught:
        verify_files(path, digest_of({".": GOOD}))
    assert caught.value.code == "model.unreadable"


# Memory ---------------------------------------------------------------------------------------


def test_sealed_memory_cannot_be_changed_by_any_road() -> None:
    """By the descriptor, by its path, or by a shared mapping: the kernel refuses all of them.

    This fails if one of the seals is left out.
    """
    memory = make_memory(4096)
    assert isinstance(memory, SealedMemory)
    memory.write(memoryview(GOOD))
    memory.fix()
    assert memory.place is not None
    writing = os.open(memory.place, os.O_RDWR)
    for attack in (
        lambda: os.pwrite(writing, b"x", 0),
        lambda: os.ftruncate(writing, 1),
        lambda: os.ftruncate(writing, 9999),
        lambda: mmap.mmap(writing, 4096),
        lambda: fcntl.fcntl(writing, fcntl.F_ADD_SEALS, 0),
        lambda: memory.write(memoryview(b"x")),
    ):
        with pytest.raises((OSError, OperationalError)):
            attack()
    os.close(writing)
    memory.view()[0] = 0  # A private page: only this view sees it.
    assert Path(memory.place).read_bytes() == GOOD
    memory.close()
    memory.close()


@pytest.mark.parametrize("road", ["plain", "sealed"])
def test_what_is_handed_out_is_fixed(
    tmp_path: Path, store: FileStore, kek: FileKek, road: str
) -> None:
    """This fails if verified files are handed out before their memory is sealed."""
    path = tmp_path / "model"
    path.write_bytes(GOOD)
    staged = stage(path, tmp_path / "staging")
    seal(staged, store, kek, "scale")
    files = (
        verify_files(path, staged.digest)
        if road == "plain"
        else unseal(store, kek, permit(staged.digest), now=NOW)
    )
    with files:
        place = files.place(".")
        assert place is not None
        writing = os.open(place, os.O_RDWR)
        with pytest.raises(PermissionError):
            os.pwrite(writing, b"x", 0)
        os.close(writing)


def test_where_there_is_no_memfd_the_memory_is_this_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    content = {"a": b"", "b": os.urandom(2 * BUFFER)}
    with verify_files(write(tmp_path / "m", content), digest_of(content)) as files:
        assert held(files) == content
        assert files.place("b") is None
    memory = PrivateMemory(2)
    memory.write(memoryview(b"ab"))
    with pytest.raises(ValueError, match="full"):
        memory.write(memoryview(b"c"))
    memory.fix()
    memory.close()
    assert bytes(memory.view()) == b""


def test_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memory_module.os, "memfd_create", refuse)
    with pytest.raises(OperationalError) as caught:
        make_memory(1)
    assert caught.value.code == "memory.exhausted"


def test_a_refused_artifact_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", {"a": b"one", "b": b"two"})
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(VerificationError):
            verify_files(folder, Digest.of(b"another"))
    assert len(os.listdir("/proc/self/fd")) == before


# Races ----------------------------------------------------------------------------------------


@contextmanager
def swapping(folder: Path, versions: list[dict[str, bytes]]) -> Iterator[None]:
    """Swap every file of the artifact as fast as can be: by rename, in place, and cut."""
    stop = threading.Event()

    def swap() -> None:
        step = 0
        while not stop.is_set():
            for path, data in versions[step % 2].items():
                target = folder / path
                if step % 3:
                    other = folder.with_name("other")
                    other.write_bytes(data)
                    other.replace(target)
                else:
                    with target.open("r+b") as file:
                        file.write(data)
            step += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def race(folder: Path, rounds: int, seconds: float) -> tuple[int, int]:
    """Load `rounds` times against a swapper; how often it loaded and was refused. Never lost."""
    good = {"model": GOOD, "weights.bin": GOOD[:1000]}
    evil = {"model": EVIL, "weights.bin": EVIL[:1000]}
    asked = digest_of(good)
    write(folder, good)
    loads = refusals = 0
    end = time.monotonic() + seconds
    with swapping(folder, [good, evil]):
        while loads + refusals < rounds and time.monotonic() < end:
            try:
                with verify_files(folder, asked) as files:
                    for path in files.paths:
                        data = bytes(files.view(path))
                        assert b"E" not in data
                        place = files.place(path)
                        assert place is None or Path(place).read_bytes() == data
                loads += 1
            except (VerificationError, InputError):
                refusals += 1
    return loads, refusals


def test_no_swap_ever_wins(tmp_path: Path) -> None:
    """Model and sidecar are swapped all the time; what is loaded is the good pair, or nothing."""
    loads, refusals = race(tmp_path / "m", 1_000, 20)
    assert loads
    assert refusals


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_swap_wins_in_ten_thousand_races(tmp_path: Path) -> None:
    loads, refusals = race(tmp_path / "m", 10_000, 300)
    assert loads + refusals == 10_000
    assert loads
    assert refusals


# Two threads ----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5000), max_size=8), st.integers(0, 3 * BUFFER))
def test_both_sides_see_every_byte_once_and_in_order(cuts: list[int], size: int) -> None:
    data = hashlib.shake_256(b"data").digest(size)
    source, sizes = io.BytesIO(data), iter(cuts)
    here, there = io.BytesIO(), hashlib.sha256()

    def read(buffer: memoryview) -> int:
        # A short read is not the end.
        return source.readinto(buffer[: next(sizes, len(buffer)) or len(buffer)])

    assert pour(read, here.write, there.update, size) == size
    assert here.getvalue() == data
    assert there.digest() == hashlib.sha256(data).digest()


def test_a_failure_on_the_other_thread_ends_this_one() -> None:
    taken: list[int] = []

    def take(data: memoryview) -> None:
        taken.append(data[0])
        raise OSError("the other thread")

    def many(ring: Ring) -> None:
        for number in range(100):
            buffer = ring.free()
            buffer[0] = number
            ring.hand(buffer, buffer[:1])

    with pytest.raises(OSError, match="the other thread"), Ring(take, 8) as ring:
        many(ring)
    assert taken == [0]
    with pytest.raises(KeyError), Ring(take, 8):
        raise KeyError("this thread's own error is the one that counts")


def test_a_view_reads_like_a_file() -> None:
    data = bytes(range(256))
    reader = ViewReader(memoryview(data))
    assert reader.read() == data
    assert (reader.seek(-6, 2), reader.read(3), reader.tell()) == (250, data[250:253], 253)
    assert (reader.seek(-3, 1), reader.read(99)) == (250, data[250:])
    assert reader.readable()
    assert reader.seekable()
    with pytest.raises(ValueError, match="before the start"):
        reader.seek(-1)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_only_the_asked_bytes_pass(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, other: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-model"
    path.write_bytes(data)
    try:
        with verify_files(path, digest_of({".": other})) as files:
            assert held(files) == {".": other}
        assert data == other
    except KeepstoneError as error:
        assert data != other
        assert error.code == "model.wrong_digest"  # noqa: PT017
