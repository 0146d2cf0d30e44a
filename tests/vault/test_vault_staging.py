"""Staging: the digest is of the copy, and nothing but regular files gets in."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.errors import InputError, OperationalError
from keepstone.vault.staging import BLOCK, Staged, StagingLimits, stage


def code(path: Path, staging: Path, limits: StagingLimits | None = None) -> str:
    """The error code that refuses `path`; nothing may be left in staging."""
    with pytest.raises((InputError, OperationalError)) as caught:
        stage(path, staging, limits)
    assert list(staging.iterdir()) == []
    return caught.value.code


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    return tmp_path / "staging"


def test_a_file_is_copied_and_hashed(tmp_path: Path, staging: Path) -> None:
    data = os.urandom(2 * BLOCK + 17)
    source = tmp_path / "model.bin"
    source.write_bytes(data)
    steps: list[tuple[int, int]] = []

    staged = stage(source, staging, progress=lambda done, total: steps.append((done, total)))

    assert staged.path.read_bytes() == data
    assert staged.artifact == (FileDigest(".", len(data), Digest.of(data)),)
    assert staged.digest == artifact_digest(staged.artifact)
    assert (staged.size, staged.is_single_file) == (len(data), True)
    assert steps[-1] == (len(data), len(data))
    assert [os.stat(p).st_mode & 0o777 for p in (staged.path, staged.path.parent, staging)] == [
        0o600,
        0o700,
        0o700,
    ]
    staged.discard()
    staged.discard()
    assert list(staging.iterdir()) == []


def test_another_file_name_has_the_same_digest(tmp_path: Path, staging: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    assert stage(tmp_path / "a", staging).digest == stage(tmp_path / "b", staging).digest


def test_a_folder_is_copied_with_every_file(tmp_path: Path, staging: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "weights").write_bytes(b"w")
    (folder / ".hidden").write_bytes(b"")
    (folder / "a.json").write_bytes(b"{}")

    staged = stage(folder, staging)

    assert [f.path for f in staged.artifact] == [".hidden", "a.json", "deep/er/weights"]
    assert staged.file("deep/er/weights").read_bytes() == b"w"
    assert not staged.is_single_file


def test_a_link_given_on_the_command_line_is_followed_to_a_file(
    tmp_path: Path, staging: Path
) -> None:
    (tmp_path / "real").write_bytes(b"data")
    (tmp_path / "link").symlink_to("real")
    assert stage(tmp_path / "link", staging).path.read_bytes() == b"data"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"data")
    (tmp_path / "folder-link").symlink_to("folder")
    assert code(tmp_path / "folder-link", tmp_path / "second") == "model.symlink"


@pytest.mark.parametrize("target", ["file", "missing", "sub", "../outside"])
def test_links_inside_a_folder_are_refused(tmp_path: Path, staging: Path, target: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_bytes(b"data")
    (tmp_path / "outside").write_bytes(b"secret")
    (folder / "link").symlink_to(target)
    assert code(folder, staging) == "model.symlink"


def test_a_fifo_neither_hangs_nor_gets_in(tmp_path: Path, staging: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert code(tmp_path / "fifo", staging) == "model.not_regular"
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "fifo")
    assert code(tmp_path / "folder", staging) == "model.not_regular"
    assert code(Path("/dev/zero"), staging) == "model.not_regular"


def test_a_fifo_put_in_the_place_of_a_file_is_seen(
    tmp_path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack between the look and the open: the open file is asked again."""
    path = tmp_path / "model"
    path.write_bytes(b"data")
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda self, **_: regular)
    with pytest.raises(InputError) as caught:
        stage(path, staging)
    assert caught.value.code == "model.not_regular"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: None, "model.missing"),
        (lambda p: p.write_bytes(b""), "model.empty"),
        (lambda p: p.mkdir(), "model.empty"),
        (lambda p: p.symlink_to(p.name), "model.symlink"),
    ],
    ids=["missing", "empty file", "empty folder", "a link to itself"],
)
def test_what_cannot_be_staged_has_a_code(
    tmp_path: Path, staging: Path, make: object, expected: str
) -> None:
    make(tmp_path / "model")  # type: ignore[operator]
    assert code(tmp_path / "model", staging) == expected


def test_unreadable_is_said(tmp_path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root reads everything, so the refusal is made here rather than by the file's mode.
    (tmp_path / "model").write_bytes(b"data")

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("keepstone.vault.staging.os.readv", refuse)
    assert code(tmp_path / "model", staging) == "model.unreadable"


@pytest.mark.parametrize("name", [b"back\\slash", b"not-utf8-\xff", b"new\x00line"[:3] + b"\\"])
def test_names_that_are_not_plain_are_refused(tmp_path: Path, staging: Path, name: bytes) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/" + name, "wb") as file:
        file.write(b"x")
    assert code(folder, staging) == "path.unsafe"


@pytest.mark.parametrize(
    "limits",
    [StagingLimits(max_bytes=3), StagingLimits(max_files=1), StagingLimits(max_depth=1)],
    ids=str,
)
def test_each_limit_bites(tmp_path: Path, staging: Path, limits: StagingLimits) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"aa")
    (folder / "sub" / "b").write_bytes(b"bb")
    assert code(folder, staging, limits) == "model.too_large"


@pytest.fixture
def small_files() -> Iterator[None]:
    """Writing beyond 1 MiB fails as a full disk does (Python ignores the signal)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(tmp_path: Path, staging: Path, request: object) -> None:
    (tmp_path / "model").write_bytes(bytes(3 << 20))
    request.getfixturevalue("small_files")  # type: ignore[attr-defined]
    assert code(tmp_path / "model", staging) == "disk.full"


def test_a_source_that_changes_all_the_time_cannot_split_hash_and_copy(
    tmp_path: Path, staging: Path
) -> None:
    """The race: a writer flips the source while it is staged. The digest is always the copy's."""
    source = tmp_path / "model"
    source.write_bytes(bytes(BLOCK * 2))
    stop = threading.Event()

    def flip() -> None:
        versions = [bytes([i]) * (BLOCK * 2) for i in range(4)]
        with source.open("r+b", buffering=0) as file:
            while not stop.is_set():
                for version in versions:
                    file.seek(0)
                    file.write(version)

    def swap() -> None:
        while not stop.is_set():
            other = tmp_path / "other"
            other.write_bytes(os.urandom(100))
            other.replace(tmp_path / "swapped")

    (tmp_path / "swapped").write_bytes(b"first")
    threads = [threading.Thread(target=flip), threading.Thread(target=swap)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            for path in (source, tmp_path / "swapped"):
                staged: Staged = stage(path, staging)
                assert sha256(staged.path.read_bytes()).hexdigest() == staged.artifact[0].sha256.hex
                staged.discard()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
