"""Outside checkpoints: what a replaced ledger cannot hide, and what it cannot overwrite."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import (
    Ledger,
    LedgerReader,
    OutsideCheckpoints,
    Standing,
    compare,
    parse_checkpoint,
    require_extends,
    sign_checkpoint,
)

ORIGIN = "keepstone.test/ledger"
Fill = Callable[..., None]
Body = Callable[[int], bytes]


@pytest.fixture
def outside(tmp_path: Path) -> OutsideCheckpoints:
    return OutsideCheckpoints(tmp_path / "elsewhere" / "checkpoints")


def test_the_newest_checkpoint_is_kept_for_its_owner_only(
    ledger: Ledger, key: SigningKey, fill: Fill, outside: OutsideCheckpoints
) -> None:
    assert outside.newest(ORIGIN) is None
    keys = [key.verifying]
    fill(ledger, 3)
    first = ledger.checkpoint()
    assert outside.keep(ledger.reader, first, ORIGIN, keys).size == 3
    assert outside.newest(ORIGIN) == first
    fill(ledger, 300)
    second = ledger.checkpoint()
    assert outside.keep(ledger.reader, second, ORIGIN, keys).size == 300
    assert outside.newest(ORIGIN) == second
    assert outside.keep(ledger.reader, first, ORIGIN, keys).size == 300, "older changes nothing"
    assert outside.newest(ORIGIN) == second
    assert stat.S_IMODE(outside.path(ORIGIN).stat().st_mode) == 0o600
    assert stat.S_IMODE(outside.folder.stat().st_mode) == 0o700
    assert [file.name for file in outside.folder.iterdir()] == [outside.path(ORIGIN).name]
    assert outside.newest("other.test/log") is None


def test_standing(ledger: Ledger, fill: Fill) -> None:
    fill(ledger, 10)
    head = ledger.head()
    assert compare(ledger.reader, head) is Standing.SAME
    fill(ledger, 11)
    assert compare(ledger.reader, head) is Standing.EXTENDS


def test_an_old_copy_is_refused_and_cannot_overwrite_the_evidence(
    tmp_path: Path, path: Path, key: SigningKey, fill: Fill, outside: OutsideCheckpoints
) -> None:
    keys = [key.verifying]
    with Ledger.create(path, origin=ORIGIN, key=key) as ledger:
        fill(ledger, 10)
    old = tmp_path / "old.db"
    shutil.copy(path, old)
    with Ledger.open(path, origin=ORIGIN, key=key) as ledger:
        fill(ledger, 20)
        newest = ledger.checkpoint()
        outside.keep(ledger.reader, newest, ORIGIN, keys)
        require_extends(ledger.reader, newest, ORIGIN, keys)
    shutil.copy(old, path)
    with Ledger.open(path, origin=ORIGIN, key=key) as ledger:
        assert compare(ledger.reader, parse_checkpoint(newest)) is Standing.ROLLED_BACK
        with pytest.raises(VerificationError, match=r"ledger\.rolled_back"):
            require_extends(ledger.reader, newest, ORIGIN, keys)
        with pytest.raises(VerificationError, match=r"ledger\.rolled_back"):
            outside.keep(ledger.reader, ledger.checkpoint(), ORIGIN, keys)
        assert outside.newest(ORIGIN) == newest


def test_another_history_is_refused_and_cannot_overwrite_the_evidence(
    path: Path, key: SigningKey, fill: Fill, body: Body, outside: OutsideCheckpoints
) -> None:
    keys = [key.verifying]
    with Ledger.create(path, origin=ORIGIN, key=key) as ledger:
        fill(ledger, 10)
        newest = ledger.checkpoint()
        outside.keep(ledger.reader, newest, ORIGIN, keys)
    path.unlink()
    with Ledger.create(path, origin=ORIGIN, key=key) as ledger:
        for n in range(30):
            pending = ledger.append(body(n + 1))
        pending.wait(5)
        with pytest.raises(VerificationError, match=r"ledger\.forked"):
            require_extends(ledger.reader, newest, ORIGIN, keys)
        with pytest.raises(VerificationError, match=r"ledger\.forked"):
            outside.keep(ledger.reader, ledger.checkpoint(), ORIGIN, keys)
        assert outside.newest(ORIGIN) == newest


def test_a_note_of_another_key_or_log_is_refused(
    ledger: Ledger, key: SigningKey, fill: Fill, outside: OutsideCheckpoints
) -> None:
    fill(ledger, 5)
    forged = sign_checkpoint(ledger.head(), SigningKey.generate(Algorithm.ED25519))
    with pytest.raises(VerificationError, match=r"checkpoint\.unsigned"):
        outside.keep(ledger.reader, forged, ORIGIN, [key.verifying])
    outside.folder.mkdir(parents=True)
    outside.path(ORIGIN).write_text("not a note")
    with pytest.raises(InputError, match=r"checkpoint\.malformed"):
        outside.keep(ledger.reader, ledger.checkpoint(), ORIGIN, [key.verifying])


def test_what_cannot_be_read_is_not_taken_for_nothing_kept(outside: OutsideCheckpoints) -> None:
    outside.path(ORIGIN).mkdir(parents=True)
    with pytest.raises(OperationalError, match=r"witness\.unreadable"):
        outside.newest(ORIGIN)
    outside.path(ORIGIN).rmdir()
    outside.path(ORIGIN).write_bytes(b"\xff\xfe")
    with pytest.raises(OperationalError, match=r"witness\.unreadable"):
        outside.newest(ORIGIN)


def test_what_cannot_be_written_says_so(
    tmp_path: Path, ledger: Ledger, key: SigningKey, fill: Fill
) -> None:
    fill(ledger, 5)
    (tmp_path / "file").write_text("in the way")
    outside = OutsideCheckpoints(tmp_path / "file" / "below")
    with pytest.raises(OperationalError, match=r"witness\.un"):
        outside.keep(ledger.reader, ledger.checkpoint(), ORIGIN, [key.verifying])


def test_a_reader_in_another_process_compares_too(
    path: Path, ledger: Ledger, key: SigningKey, fill: Fill
) -> None:
    fill(ledger, 5)
    note = ledger.checkpoint()
    with LedgerReader.open(path) as reader:
        assert require_extends(reader, note, ORIGIN, [key.verifying]).size == 5


def test_what_is_kept_is_replaced_whole_or_not_at_all(
    tmp_path: Path, ledger: Ledger, key: SigningKey, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = OutsideCheckpoints(tmp_path / "outside")
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().suffix)
        real(descriptor)

    fill(ledger, 5)
    first = ledger.checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        outside.keep(ledger.reader, first, ORIGIN, [key.verifying])
    assert synced == [".new", ""], "the content, then the folder that holds its name"
    fill(ledger, 9)
    second = ledger.checkpoint()

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OperationalError, match=r"witness\.unwritable"):
            outside.keep(ledger.reader, second, ORIGIN, [key.verifying])
    assert outside.newest(ORIGIN) == first
    outside.keep(ledger.reader, second, ORIGIN, [key.verifying])
    assert outside.newest(ORIGIN) == second
    outside.forget(ORIGIN)
    assert outside.newest(ORIGIN) is None
