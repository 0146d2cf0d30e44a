"""Verification: each way to change a ledger is found, and what cannot be found is said."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.errors import InputError, OperationalError
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import (
    Checkpoint,
    Ledger,
    LedgerReader,
    LedgerReport,
    Status,
    parse_checkpoint,
    sign_checkpoint,
    verify_file,
    verify_ledger,
)
from keepstone.ledger import verify as verify_module
from keepstone.ledger.rows import Rows
from keepstone.ledger.sqlite import _frame as frame
from keepstone.ledger.tiles import EMPTY_TAIL
from keepstone.ledger.tree import leaf_hash

ORIGIN = "keepstone.test/ledger"
SIZE = 700
Body = Callable[[int], bytes]
Fill = Callable[..., None]
Commit = Callable[[Path, int, int], str]
Judge = Callable[..., LedgerReport]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, commit: Commit) -> tuple[Path, dict[int, str]]:
    """A ledger of 700 entries in commits of 100, and its checkpoints by size."""
    path = tmp_path_factory.mktemp("made") / "ledger.db"
    return path, {size: commit(path, size, 100) for size in (0, 100, 256, 300, SIZE)}


@pytest.fixture
def path(made: tuple[Path, dict[int, str]], tmp_path: Path) -> Path:
    copy = tmp_path / "ledger.db"
    shutil.copy(made[0], copy)
    return copy


@pytest.fixture
def notes(made: tuple[Path, dict[int, str]]) -> dict[int, str]:
    return made[1]


@pytest.fixture
def judge(path: Path, key: SigningKey) -> Judge:
    def verify(outside: str | None = None, where: Path = path) -> LedgerReport:
        return verify_file(where, ORIGIN, [key.verifying], outside)

    return verify


def alter(path: Path, *statements: str, args: tuple[object, ...] = ()) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement, args)
    connection.close()


def codes(report: LedgerReport) -> set[str]:
    return {fault.code for fault in report.errors}


def test_a_whole_ledger_is_verified(
    judge: Judge, notes: dict[int, str], body: Body, key: SigningKey
) -> None:
    root = EMPTY_TAIL.extended([leaf_hash(body(n)) for n in range(SIZE)])[0].root()
    report = judge()
    assert report == LedgerReport(Status.VERIFIED_NO_OUTSIDE, SIZE, root, None, ())
    for size, note in notes.items():
        report = judge(note)
        assert report == LedgerReport(Status.VERIFIED, SIZE, root, parse_checkpoint(note), ())
        assert report.outside_checkpoint is not None
        assert report.outside_checkpoint.size == size
    assert json.loads(json.dumps(report.to_json())) == {
        "schema": "keepstone.ledger-verify/v1",
        "status": "verified",
        "size": SIZE,
        "root": root.hex(),
        "outside_checkpoint": {"origin": ORIGIN, "size": SIZE, "root": root.hex()},
        "errors": [],
    }
    assert judge().to_json()["outside_checkpoint"] is None


def test_an_empty_ledger_is_verified(tmp_path: Path, key: SigningKey, judge: Judge) -> None:
    path = tmp_path / "empty.db"
    ledger = Ledger.create(path, origin=ORIGIN, key=key)
    note = ledger.checkpoint()
    ledger.close()
    assert judge(note, path).status is Status.VERIFIED
    assert judge(None, path).status is Status.VERIFIED_NO_OUTSIDE


def test_an_unsigned_tail_is_fine(path: Path, key: SigningKey, judge: Judge) -> None:
    alter(path, "DELETE FROM checkpoints WHERE size > 300")
    report = judge()
    assert (report.status, report.size) == (Status.VERIFIED_NO_OUTSIDE, SIZE)


def edited(blob: bytes) -> bytes:
    return blob.replace(b'"n":5,', b'"n":6,')


def test_an_edited_body_is_found(path: Path, judge: Judge, notes: dict[int, str]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    (blob,) = connection.execute("SELECT bodies FROM segments WHERE first = 0").fetchone()
    assert edited(blob) != blob
    connection.execute("UPDATE segments SET bodies = ? WHERE first = 0", (edited(blob),))
    connection.close()
    report = judge(notes[SIZE])
    assert report.status is Status.CORRUPT
    assert codes(report) == {"ledger.bad_tile", "ledger.bad_checkpoint", "ledger.forked"}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE tiles SET hashes = zeroblob(8192) WHERE number = 1", "ledger.bad_tile"),
        ("UPDATE tiles SET root = zeroblob(32) WHERE number = 1", "ledger.bad_tile"),
        ("DELETE FROM tiles WHERE number = 1", "ledger.corrupt"),
        ("INSERT INTO tiles SELECT 0, 2, root, hashes FROM tiles LIMIT 1", "ledger.bad_tile"),
        ("INSERT INTO tiles SELECT 0, -1, root, hashes FROM tiles LIMIT 1", "ledger.bad_tile"),
        (
            "INSERT INTO tiles SELECT 1000000000, 0, root, hashes FROM tiles LIMIT 1",
            "ledger.bad_tile",
        ),
        ("INSERT INTO tiles SELECT -3, 0, root, hashes FROM tiles LIMIT 1", "ledger.bad_tile"),
        ("INSERT INTO tiles SELECT -1, 0, root, hashes FROM tiles LIMIT 1", "ledger.bad_tile"),
        ("DELETE FROM segments WHERE first = 0", "ledger.corrupt"),
        ("DELETE FROM segments WHERE first = 300", "ledger.corrupt"),
        ("DELETE FROM segments WHERE first = 600", "ledger.truncated"),
        ("UPDATE segments SET count = 99 WHERE first = 600", "ledger.corrupt"),
        ("UPDATE segments SET bodies = x'' WHERE first = 300", "ledger.corrupt"),
        ("UPDATE segments SET newest = newest + 1 WHERE first = 300", "ledger.bad_time"),
        ("UPDATE segments SET newest = 5000000 WHERE first = 600", "ledger.bad_time"),
        ("DELETE FROM entry_keys WHERE number = 51", "ledger.bad_index"),
        ("DELETE FROM entry_keys WHERE number = 691", "ledger.bad_index"),
        ("DELETE FROM entry_keys WHERE key = 'statement'", "ledger.bad_index"),
        ("INSERT INTO entry_keys VALUES ('statement', 52)", "ledger.bad_index"),
        ("INSERT INTO entry_keys VALUES ('statement', 700)", "ledger.bad_index"),
        ("INSERT INTO entry_keys VALUES ('statement', -5)", "ledger.bad_index"),
        ("INSERT INTO entry_keys VALUES ('other', 52)", "ledger.bad_index"),
        ("UPDATE entry_keys SET key = 'event' WHERE number = 51", "ledger.bad_index"),
        ("UPDATE checkpoints SET size = 299 WHERE size = 300", "ledger.bad_checkpoint"),
        ("UPDATE checkpoints SET size = 701 WHERE size = 700", "ledger.bad_checkpoint"),
        ("UPDATE checkpoints SET note = 'x' WHERE size = 300", "checkpoint.malformed"),
        ("UPDATE meta SET value = 'other.test/x' WHERE name = 'origin'", "ledger.wrong_origin"),
    ],
)
def test_each_edited_row_is_found(path: Path, judge: Judge, statement: str, code: str) -> None:
    alter(path, statement)
    report = judge()
    assert report.status is Status.CORRUPT
    assert code in codes(report)


def test_a_checkpoint_of_another_key_or_tree_is_found(
    path: Path, judge: Judge, key: SigningKey
) -> None:
    other = SigningKey.generate(Algorithm.ED25519)
    stored = "UPDATE checkpoints SET note = ? WHERE size = 300"
    signed = sign_checkpoint(Checkpoint(ORIGIN, 300, bytes(32)), other)
    alter(path, stored, args=(signed,))
    assert codes(judge()) == {"checkpoint.unsigned"}
    alter(path, stored, args=(sign_checkpoint(Checkpoint(ORIGIN, 300, bytes(32)), key),))
    report = judge()
    assert (report.status, codes(report)) == (Status.CORRUPT, {"ledger.bad_checkpoint"})


def test_a_row_of_another_type_is_found(path: Path, judge: Judge) -> None:
    # STRICT keeps SQL from writing it; a hand on the file does not ask.
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'checkpoints'"
    )
    connection.close()
    alter(path, "UPDATE checkpoints SET note = x'00ff' WHERE size = 300")
    assert judge().status is Status.CORRUPT
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_schema SET sql = sql || ' STRICT' WHERE name = 'checkpoints'")
    connection.close()
    report = judge()
    assert report.status is Status.CORRUPT
    assert codes(report) & {"ledger.bad_checkpoint", "ledger.damaged_file", "ledger.corrupt"}


def test_an_entry_that_is_none_is_found(path: Path, judge: Judge) -> None:
    blob = frame([b"not an entry"])
    alter(path, "DELETE FROM checkpoints WHERE size > 300")
    alter(path, "INSERT INTO segments VALUES (700, 1, 1699, ?)", args=(blob,))
    assert codes(judge()) == {"ledger.bad_entry"}


def test_the_walk_ends_when_enough_was_found(
    path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "MAX_ERRORS", 2)
    alter(path, "UPDATE segments SET newest = 0")
    report = judge()
    assert report.status is Status.CORRUPT
    assert len(report.errors) == 2


def rewrite(path: Path, key: SigningKey, size: int, body: Body, shift: int) -> None:
    """Another history under the same key and name, perfectly made."""
    path.unlink()
    with Ledger.create(path, origin=ORIGIN, key=key) as ledger:
        for n in range(size):
            pending = ledger.append(body(n + shift))
        pending.wait(20)


def cut(path: Path, size: int) -> None:
    """Cut the tail on a commit's boundary, with everything that would tell of it."""
    alter(
        path,
        f"DELETE FROM segments WHERE first >= {size}",
        f"DELETE FROM checkpoints WHERE size > {size}",
        f"DELETE FROM entry_keys WHERE number >= {size}",
        f"DELETE FROM tiles WHERE (number + 1) * 256 > {size}",
    )


def test_a_cut_tail_is_seen_from_outside_only(
    path: Path, judge: Judge, notes: dict[int, str]
) -> None:
    cut(path, 600)
    assert judge().status is Status.VERIFIED_NO_OUTSIDE
    assert judge(notes[300]).status is Status.VERIFIED
    report = judge(notes[SIZE])
    assert (report.status, codes(report)) == (Status.ROLLED_BACK, {"ledger.rolled_back"})
    assert report.size == 600


def test_a_rewritten_ledger_is_seen_from_outside_only(
    path: Path, judge: Judge, notes: dict[int, str], key: SigningKey, body: Body
) -> None:
    rewrite(path, key, SIZE + 50, body, shift=10)
    assert judge().status is Status.VERIFIED_NO_OUTSIDE
    for size in (100, 256, 300, SIZE):
        report = judge(notes[size])
        assert (report.status, codes(report)) == (Status.FORKED, {"ledger.forked"})
    assert judge(notes[0]).status is Status.VERIFIED, "an empty checkpoint proves nothing"


def test_an_outside_checkpoint_that_cannot_be_trusted_decides_nothing(
    judge: Judge, notes: dict[int, str]
) -> None:
    other = SigningKey.generate(Algorithm.ED25519)
    forged = sign_checkpoint(parse_checkpoint(notes[300]), other)
    for note, code in [
        (forged, "checkpoint.unsigned"),
        ("x", "checkpoint.malformed"),
        (notes[300].replace("\n300\n", "\n301\n"), "checkpoint.invalid"),
    ]:
        report = judge(note)
        assert (report.status, codes(report)) == (Status.NOT_EVALUATED, {code})


def test_a_ledger_may_grow_while_it_is_verified(
    path: Path, key: SigningKey, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(path, origin=ORIGIN, key=key) as ledger, LedgerReader.open(path) as reader:
        real = Rows.tile_ids
        grown: list[int] = []

        def grow(rows: Rows) -> object:
            fill(ledger, SIZE + 400, 100)
            ledger.checkpoint()
            grown.append(ledger.durable_size)
            return real(rows)

        monkeypatch.setattr(Rows, "tile_ids", grow)
        report = verify_ledger(reader, ORIGIN, [key.verifying], None)
        assert grown == [SIZE + 400]
        assert (report.status, report.size) == (Status.VERIFIED_NO_OUTSIDE, SIZE)


def test_what_cannot_be_read_is_not_evaluated(
    path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"ledger\.missing"):
        judge(None, tmp_path / "none.db")
    alter(path, "UPDATE meta SET value = '2' WHERE name = 'format'")
    report = judge()
    assert (report.status, codes(report)) == (Status.NOT_EVALUATED, {"ledger.newer_version"})
    alter(path, "UPDATE meta SET value = '1' WHERE name = 'format'")

    def fail(rows: Rows, start: int, limit: int = 16) -> object:
        raise OperationalError("ledger.unreadable", "The ledger cannot be read: a lock.")

    monkeypatch.setattr(Rows, "segments", fail)
    report = judge()
    assert (report.status, codes(report)) == (Status.NOT_EVALUATED, {"ledger.unreadable"})


def content(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        tables = ("meta", "segments", "tiles", "entry_keys", "checkpoints")
        return [row for table in tables for row in connection.execute(f"SELECT * FROM {table}")]
    finally:
        connection.close()


def claims(path: Path) -> list[tuple[object, ...]]:
    """All content but the times of checkpoints, which are notes to the operator."""
    return [row[:2] if len(row) == 3 and isinstance(row[2], int) else row for row in content(path)]


@dataclass(frozen=True)
class Small:
    """A small ledger, its bytes and what they claim."""

    path: Path
    data: bytes = field(repr=False)
    whole: object = field(repr=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, commit: Commit) -> Small:
    path = tmp_path_factory.mktemp("small") / "flip.db"
    commit(path, 300, 60)
    return Small(path, path.read_bytes(), claims(path))


def flip(small: Small, at: int, bit: int, key: SigningKey) -> None:
    """Flip one bit: either the verifier finds it, or it changed nothing that a reader sees."""
    changed = bytearray(small.data)
    changed[at] ^= 1 << bit
    small.path.write_bytes(changed)
    for suffix in ("-wal", "-shm"):
        small.path.with_name(small.path.name + suffix).unlink(missing_ok=True)
    report = verify_file(small.path, ORIGIN, [key.verifying], None)
    if report.status is Status.VERIFIED_NO_OUTSIDE:
        assert claims(small.path) == small.whole, f"byte {at} bit {bit} changed content unseen"


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_is_found_or_harmless(
    small: Small, key: SigningKey, where: float, bit: int
) -> None:
    flip(small, int(len(small.data) * where), bit, key)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_flipped_byte_is_found_or_harmless(small: Small, key: SigningKey) -> None:
    for at in range(len(small.data)):
        flip(small, at, at % 8, key)
