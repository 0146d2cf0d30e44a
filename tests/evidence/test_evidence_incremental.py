"""Remembered digests: what metadata shows, what it does not, and that nothing decides by it."""

from __future__ import annotations

import json
import mmap
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.evidence import incremental
from keepstone.evidence import memory as memories
from keepstone.evidence.hashcache import HashCache
from keepstone.evidence.incremental import (
    RecalledModel,
    Recollection,
    recall_model,
    sign_incrementally,
    verify_incrementally,
)
from keepstone.evidence.memory import (
    RACY_NS,
    Memory,
    Remembered,
    Stamp,
    open_memory,
    seal_memory,
)
from keepstone.evidence.modelsign import (
    VerifiedModel,
    sign_files,
    sign_model,
    verify_model,
    verify_model_files,
)
from keepstone.identity.signing import SigningKey

KEY = SigningKey.generate()
SECRET = bytes(range(32))
Attack = Callable[[Path], None]


def later() -> int:
    """A clock by which everything written until now is settled."""
    return time.time_ns() + 10 * RACY_NS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    (model / "weights").mkdir(parents=True)
    (model / "a.bin").write_bytes(b"first")
    (model / "b.bin").write_bytes(b"other")
    (model / "weights" / "w.bin").write_bytes(os.urandom(2_000_000))
    return model


@pytest.fixture
def remembered(folder: Path) -> Recollection:
    """Every file of `folder`, hashed when it was settled."""
    return recall_model(folder, lambda _: False, Memory(str(folder), {}), later)


def read_again(folder: Path, before: Recollection) -> list[str]:
    """Which files are read in the next run."""
    found = recall_model(folder, lambda _: False, before.memory, later)
    return [file.path for file in found.files if not file.unchanged_by_metadata]


def test_what_did_not_change_is_not_read(
    folder: Path, remembered: Recollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [file.unchanged_by_metadata for file in remembered.files] == [False] * 3
    assert read_again(folder, remembered) == []

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file was read")

    monkeypatch.setattr(incremental, "hash_file", fail)
    found = recall_model(folder, lambda _: False, remembered.memory, later)
    assert [file.recalled for file in found.files] == [file.recalled for file in remembered.files]
    assert found.memory == remembered.memory


def same_mtime(path: Path) -> None:
    """What an attacker does who knows of make: other content, the size and mtime as before."""
    before = path.stat()
    path.write_bytes(b"FIRST")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ctime_ns != before.st_ctime_ns


def in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"F")


def replaced(path: Path) -> None:
    """Another inode under the same name, with the old one's times."""
    before = path.stat()
    other = path.with_name("next")
    other.write_bytes(b"FIRST")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def renamed_over(path: Path) -> None:
    path.with_name("b.bin").replace(path)


def longer(path: Path) -> None:
    path.write_bytes(b"first and more")


def touched(path: Path) -> None:
    os.utime(path)


@pytest.mark.parametrize("attack", [same_mtime, in_place, replaced, longer, touched, renamed_over])
def test_every_way_of_writing_a_file_has_it_read_again(
    folder: Path, remembered: Recollection, attack: Attack
) -> None:
    attack(folder / "a.bin")
    assert "a.bin" in read_again(folder, remembered)


@pytest.mark.parametrize("attack", [same_mtime, in_place, replaced, longer, renamed_over])
def test_a_changed_file_is_refused_incrementally_too(
    folder: Path, remembered: Recollection, attack: Attack
) -> None:
    bundle = sign_model(folder, KEY)
    assert verify_incrementally(folder, bundle, KEY.verifying, remembered.memory)
    attack(folder / "a.bin")
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_incrementally(folder, bundle, KEY.verifying, remembered.memory)


@pytest.mark.parametrize("field", ["device", "inode", "size", "mtime", "ctime"])
def test_each_part_of_the_metadata_counts(
    folder: Path, remembered: Recollection, field: str
) -> None:
    files = dict(remembered.memory.files)
    one = files["a.bin"]
    files["a.bin"] = replace(one, stamp=replace(one.stamp, **{field: 1}))
    other = replace(remembered, memory=Memory(str(folder), files))
    assert read_again(folder, other) == ["a.bin"]


# Racy timestamps


def test_a_file_that_was_just_written_is_not_remembered(folder: Path) -> None:
    written = (folder / "a.bin").stat().st_ctime_ns
    for after, kept in ((0, False), (RACY_NS, False), (RACY_NS + 1, True), (-RACY_NS, False)):
        clock = lambda at=written + after: at  # noqa: E731
        found = recall_model(folder / "a.bin", lambda _: False, Memory("m", {}), clock)
        assert bool(found.memory.files) is kept


def test_a_write_within_the_granularity_of_the_timestamps_is_found(folder: Path) -> None:
    """The race: hashed right after a write, and written again in the same tick of the clock."""
    path = folder / "a.bin"
    bundle = sign_model(folder, KEY)
    first = recall_model(folder, lambda _: False, Memory(str(folder), {}))
    before = path.stat()
    path.write_bytes(b"FIRST")
    # A file system with coarse timestamps would leave it with the very stamp it had.
    coarse = dict(first.memory.files)
    if "a.bin" in coarse:
        coarse["a.bin"] = Remembered(Stamp.of(path.stat()), Digest.of(b"first"))
    assert before.st_size == path.stat().st_size
    with pytest.raises(VerificationError, match=r"'a\.bin' was changed"):
        verify_incrementally(folder, bundle, KEY.verifying, Memory(str(folder), coarse))


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = incremental.hash_file

    def write_meanwhile(file: Any, relative: str) -> FileDigest:
        found = real(file, relative)
        if relative == "a.bin":
            (folder / relative).write_bytes(b"FIRST")
        return found

    monkeypatch.setattr(incremental, "hash_file", write_meanwhile)
    found = recall_model(folder, lambda _: False, Memory(str(folder), {}), later)
    assert sorted(found.memory.files) == ["b.bin", "weights/w.bin"]


# What the mode cannot see


def test_what_metadata_does_not_show_only_a_full_verification_finds(
    folder: Path,
) -> None:
    """A page that is dirty already can be written through a mapping, and no timestamp moves."""
    path = folder / "a.bin"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"f"
        bundle = sign_model(folder, KEY)
        memory = recall_model(folder, lambda _: False, Memory(str(folder), {}), later).memory
        before = Stamp.of(path.stat())
        mapped[0:5] = b"EVIL!"
        assert path.read_bytes() == b"EVIL!"
        if Stamp.of(path.stat()) != before:
            pytest.skip("the kernel wrote the page back in between")
        model, _ = verify_incrementally(folder, bundle, KEY.verifying, memory)
        # It says as signed, and says that it did not look.
        assert model.unchanged_by_metadata == 3
        with pytest.raises(VerificationError, match=r"'a\.bin' was changed"):
            verify_model(folder, bundle, KEY.verifying)


# Results of their own type


def test_a_result_by_metadata_is_no_verified_model_and_no_digest_of_an_artifact(
    folder: Path, remembered: Recollection
) -> None:
    bundle = sign_model(folder, KEY)
    model, _ = verify_incrementally(folder, bundle, KEY.verifying, remembered.memory)
    assert isinstance(model, RecalledModel)
    assert not isinstance(model, VerifiedModel)
    assert model.unchanged_by_metadata == len(model.files) == 3
    # Also where every file was read in this very run.
    fresh, _ = verify_incrementally(folder, bundle, KEY.verifying, Memory(str(folder), {}))
    assert (type(fresh), fresh.unchanged_by_metadata) == (RecalledModel, 0)
    for files in (model.files, fresh.files):
        assert not any(isinstance(file, FileDigest) for file in files)
        given: Any = files
        with pytest.raises(VerificationError, match=r"model\.by_metadata"):
            verify_model_files(given, bundle, KEY.verifying)
        with pytest.raises(VerificationError, match=r"model\.by_metadata"):
            sign_files(given, "m", KEY)
        with pytest.raises(InputError, match=r"artifact\.not_hashed"):
            artifact_digest(given)


@pytest.mark.slow
def test_the_type_checker_refuses_it_where_something_is_decided(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        """\
from keepstone.core.digest import artifact_digest
from keepstone.evidence.incremental import RecalledModel
from keepstone.evidence.modelsign import VerifiedModel, verify_model_files
from keepstone.identity.signing import VerifyingKey


def misuse(model: RecalledModel, bundle: bytes, key: VerifyingKey) -> VerifiedModel:
    artifact_digest(model.files)
    verify_model_files(model.files, bundle, key)
    return model
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(wrong)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    for line in (8, 9, 10):
        assert f"wrong.py:{line}: error" in done.stdout


def test_an_incremental_signature_is_as_good_as_what_its_signer_read(
    folder: Path, remembered: Recollection
) -> None:
    bundle, found = sign_incrementally(folder, KEY, remembered.memory)
    assert all(file.unchanged_by_metadata for file in found.files)
    assert verify_model(folder, bundle, KEY.verifying)
    # Whoever verifies it reads everything, and finds a digest that was out of date.
    stale = dict(remembered.memory.files)
    stale["a.bin"] = replace(stale["a.bin"], digest=Digest.of(b"stale"))
    bundle, _ = sign_incrementally(folder, KEY, Memory(str(folder), stale))
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_model(folder, bundle, KEY.verifying)


def test_the_signature_itself_is_verified_in_full(folder: Path, remembered: Recollection) -> None:
    other = SigningKey.generate()
    bundle = sign_model(folder, KEY)
    with pytest.raises(VerificationError, match=r"signature\.key_mismatch"):
        verify_incrementally(folder, bundle, other.verifying, remembered.memory)
    sharded = sign_model(folder, KEY, shards=True)
    with pytest.raises(KeepstoneError, match=r"bundle\.unsupported"):
        verify_incrementally(folder, sharded, KEY.verifying, remembered.memory)


def test_added_removed_linked_and_unsigned_files_are_seen(
    folder: Path, remembered: Recollection
) -> None:
    bundle, _ = sign_incrementally(folder, KEY, remembered.memory, leave_out=["note"])
    (folder / "note").write_text("x")
    model, memory = verify_incrementally(folder, bundle, KEY.verifying, remembered.memory)
    assert model.unsigned == ("note",)
    assert sorted(memory.files) == ["a.bin", "b.bin", "weights/w.bin"]
    (folder / "extra").write_text("x")
    with pytest.raises(VerificationError, match="'extra' is not signed"):
        verify_incrementally(folder, bundle, KEY.verifying, memory)
    (folder / "extra").unlink()
    (folder / "b.bin").unlink()
    with pytest.raises(VerificationError, match=r"'b\.bin' is missing"):
        verify_incrementally(folder, bundle, KEY.verifying, memory)
    (folder / "b.bin").symlink_to(folder / "a.bin")
    with pytest.raises(InputError, match=r"model\.symlink"):
        verify_incrementally(folder, bundle, KEY.verifying, memory)


# The cache's file


@pytest.fixture
def cache(tmp_path: Path) -> HashCache:
    return HashCache(tmp_path / "state" / "hashes")


def code(action: Callable[..., object], *given: object) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given)
    return f"{caught.value.code}/{int(caught.value.exit_code)}"


def test_the_cache_is_private_outside_of_the_model_and_comes_back(
    folder: Path, remembered: Recollection, cache: HashCache
) -> None:
    assert cache.load(folder) == Memory(str(folder), {})
    cache.keep(folder, remembered.memory)
    assert cache.load(folder) == remembered.memory
    for path in (cache.path(folder), cache.folder / "key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert not list(folder.glob("**/*.cache"))
    inside = HashCache(folder / "state")
    assert code(inside.load, folder) == "hashcache.inside_model/2"


def test_an_edited_cache_is_refused(
    folder: Path, remembered: Recollection, cache: HashCache
) -> None:
    cache.keep(folder, remembered.memory)
    path = cache.path(folder)
    kept = path.read_bytes()
    # What an attacker wants: another digest beside the metadata that is there.
    wanted = kept.replace(Digest.of(b"first").hex.encode(), Digest.of(b"evil").hex.encode())
    assert wanted != kept
    for place in range(0, len(kept), 11):
        path.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
        with pytest.raises(KeepstoneError):
            cache.load(folder)
    for edited in (wanted, b"", kept[:-1], kept + b" ", kept[: len(kept) // 2]):
        path.write_bytes(edited)
        assert code(cache.load, folder) == "hashcache.tampered/1"
    # Under a key of the attacker's own.
    path.write_bytes(seal_memory(remembered.memory, bytes(32)))
    assert code(cache.load, folder) == "hashcache.tampered/1"
    # Of another folder, in the place of this one's.
    other = folder.parent / "other"
    other.mkdir()
    cache.keep(other, Memory(str(other), remembered.memory.files))
    path.write_bytes(cache.path(other).read_bytes())
    assert code(cache.load, folder) == "hashcache.tampered/1"
    path.write_bytes(kept)
    assert cache.load(folder) == remembered.memory


def test_a_newer_cache_is_refused_by_name(
    folder: Path, remembered: Recollection, cache: HashCache
) -> None:
    cache.keep(folder, remembered.memory)
    path = cache.path(folder)
    path.write_bytes(path.read_bytes().replace(b"hash-cache/v1", b"hash-cache/v2", 1))
    with pytest.raises(InputError, match=r"hash-cache/v2.*hash-cache/v1") as caught:
        cache.load(folder)
    assert caught.value.code == "hashcache.newer_version"


def test_a_cache_or_key_that_others_can_touch_is_not_used(
    folder: Path, remembered: Recollection, cache: HashCache
) -> None:
    cache.keep(folder, remembered.memory)
    for path in (cache.path(folder), cache.folder / "key"):
        path.chmod(0o640)
        assert code(cache.load, folder) == "file.not_private/3"
        path.chmod(0o600)
    (cache.folder / "key").write_bytes(b"short")
    assert code(cache.load, folder) == "hashcache.bad_key/3"
    (cache.folder / "key").write_bytes(bytes(100))
    assert code(cache.load, folder) == "file.not_private/3"
    cache.path(folder).unlink()
    cache.path(folder).symlink_to("/dev/null")
    assert code(cache.load, folder) == "file.not_private/3"
    cache.path(folder).unlink()
    os.mkfifo(cache.path(folder), 0o600)
    assert code(cache.load, folder) == "file.not_private/3"


def test_another_users_cache_is_not_ours(
    folder: Path, remembered: Recollection, cache: HashCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.keep(folder, remembered.memory)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert code(cache.load, folder) == "file.not_private/3"


def test_what_is_authentic_and_not_a_memory_is_refused() -> None:
    memory = Memory("/m", {})
    for body in ({}, {"model": "/m"}, {"model": "/m", "files": [1]}, {"model": "/m", "files": 1},
                 {"model": "/m", "files": [["a", 1]]}, [], {"model": "/m", "files": [[]]},
                 {"model": "/m", "files": [["../a", 1, 1, 1, 1, 1, "ab" * 32]]}):  # fmt: skip
        data = json.dumps(body).encode()
        sealed = b"%b %b\n%b" % (
            memories.SCHEMA.encode(),
            memories._mac(SECRET, data).encode(),
            data,
        )
        assert code(open_memory, sealed, SECRET, "/m") == "hashcache.tampered/1"
    assert open_memory(seal_memory(memory, SECRET), SECRET, "/m") == memory


_STAMP = st.builds(Stamp, *[st.integers(0, 2**63 - 1)] * 5)
_PATH = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=9)


@settings(max_examples=80, deadline=None)
@given(
    files=st.dictionaries(
        _PATH.filter(lambda path: path not in (".", "..")),
        st.builds(Remembered, _STAMP, st.binary(max_size=4).map(Digest.of)),
        max_size=4,
    )
)
def test_any_memory_comes_back(files: dict[str, Remembered]) -> None:
    memory = Memory("/model", files)
    assert open_memory(seal_memory(memory, SECRET), SECRET, "/model") == memory


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_code(data: bytes) -> None:
    with pytest.raises(KeepstoneError):
        open_memory(data, SECRET, "/model")


def test_files_that_change_all_the_time_are_read_all_the_time(folder: Path) -> None:
    path, ended = folder / "a.bin", threading.Event()
    memory = Memory(str(folder), {})

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            path.write_bytes(b"%05d" % (number % 99_999))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(30):
            found = recall_model(folder, lambda _: False, memory)
            memory = found.memory
            assert "a.bin" not in memory.files
    finally:
        ended.set()
        thread.join()
