"""The ledger in one process: append, acknowledge, read, prove, stop, resume."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import (
    EntryId,
    Kind,
    Ledger,
    LedgerReader,
    make_entry,
    parse_checkpoint,
    verify_checkpoint,
    verify_proof,
)
from keepstone.ledger import committer as committer_module
from keepstone.ledger import rows as rows_module
from keepstone.ledger.sqlite import SqliteStore, create_file
from keepstone.ledger.tree import Frontier, leaf_hash, verify_consistency

ORIGIN = "keepstone.test/ledger"
Body = Callable[[int], bytes]
Fill = Callable[..., None]
Commit = Callable[[Path, int, int], str]


def root_of_bodies(body: Body, size: int) -> bytes:
    frontier = Frontier()
    for n in range(size):
        frontier.append(leaf_hash(body(n)))
    return frontier.root()


def reopen(path: Path, key: SigningKey) -> Ledger:
    return Ledger.open(path, origin=ORIGIN, key=key)


def test_an_entry_gets_its_index_at_once_and_is_acknowledged_later(
    ledger: Ledger, body: Body
) -> None:
    pending = ledger.append(body(0))
    assert pending.index == 0
    assert pending.entry_id == str(EntryId.of(0, leaf_hash(body(0))))
    assert pending.wait(5) == 0
    assert pending.durable
    assert pending.wait() == 0, "waiting again is free"
    assert ledger.durable_size == 1
    assert ledger.body(0) == body(0)
    assert (ledger.outstanding, ledger.oldest_outstanding_ms) == (0, 0.0)


def test_the_file_is_its_owner_s_alone(path: Path, ledger: Ledger, fill: Fill) -> None:
    fill(ledger, 1)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_what_was_written_is_there_after_a_reopen(
    path: Path, key: SigningKey, body: Body, fill: Fill, batch: int
) -> None:
    size = 600
    with Ledger.create(path, origin=ORIGIN, key=key) as ledger:
        fill(ledger, size // 2, batch)
    with reopen(path, key) as ledger:
        assert ledger.newest_time() == 1_000 + size // 2 - 1
        fill(ledger, size, batch)
        assert ledger.head().root == root_of_bodies(body, size)
        assert list(ledger.entries()) == [(n, body(n)) for n in range(size)]
        assert list(ledger.entries(250, 260)) == [(n, body(n)) for n in range(250, 260)]
        assert list(ledger.entries(size + 1)) == []
        statements = [(n, body(n)) for n in range(size) if n % 10 == 1]
        assert list(ledger.indexed("statement")) == statements
        assert list(ledger.indexed("statement", 301)) == [x for x in statements if x[0] >= 301]
        assert [n for n, _ in ledger.indexed("event")] == list(range(0, size, 10))
        assert list(ledger.indexed("prediction")) == []
    with LedgerReader.open(path) as reader:
        assert reader.size() == size
        assert reader.head().root == root_of_bodies(body, size)
        assert reader.checkpoint() is not None, "closing leaves a checkpoint"


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.data())
@settings(max_examples=15)
def test_any_proof_of_any_ledger_holds(
    tmp_path_factory: pytest.TempPathFactory,
    key: SigningKey,
    body: Body,
    fill: Fill,
    steps: list[int],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with Ledger.create(path, origin=ORIGIN, key=key) as ledger:
        for step in steps:
            fill(ledger, ledger.durable_size + step)
        size = ledger.durable_size
        index = data.draw(st.integers(0, size - 1))
        at = data.draw(st.integers(index + 1, size))
        for proof in (ledger.prove(index), ledger.prove(index, at)):
            verify_proof(proof.to_text(), body(index), ORIGIN, key.verifying)
        assert ledger.prove(index, at).checkpoint.size == at
        old = data.draw(st.integers(0, size))
        new = data.draw(st.integers(old, size))
        reader = ledger.reader
        verify_consistency(
            old, new, reader.root_at(old), reader.root_at(new), ledger.consistency(old, new)
        )
        assert ledger.head().root == root_of_bodies(body, size) == reader.root_at(size)


def test_a_reader_follows_the_owner(path: Path, ledger: Ledger, body: Body, fill: Fill) -> None:
    with LedgerReader.open(path) as reader:
        assert reader.checkpoint() is None
        assert reader.newest_time() == 0
        for size in (3, 4, 255, 256, 257, 520):
            fill(ledger, size)
            assert reader.head() == ledger.head()
            assert reader.body(size - 1) == body(size - 1)
        with pytest.raises(OperationalError, match=r"ledger\.no_checkpoint"):
            reader.prove(0)
        ledger.checkpoint()
        fill(ledger, 700)
        assert reader.prove(519).checkpoint.size == 520
        with pytest.raises(OperationalError, match=r"ledger\.no_checkpoint"):
            reader.prove(520)
        with pytest.raises(OperationalError, match=r"ledger\.no_checkpoint"):
            reader.prove(5, 300)
        ledger.checkpoint()
        assert reader.prove(520).checkpoint.size == 700
        assert reader.prove(5, 699).checkpoint.size == 520
        assert reader.leaf(9) == leaf_hash(body(9))


def test_what_is_not_there(ledger: Ledger, fill: Fill) -> None:
    for index in (0, -1, 7):
        with pytest.raises(InputError, match=r"ledger\.no_such_entry"):
            ledger.body(index)
    fill(ledger, 5)
    for ask in (
        lambda: ledger.body(5),
        lambda: ledger.prove(5),
        lambda: ledger.prove(0, 6),
        lambda: ledger.consistency(2, 6),
        lambda: ledger.consistency(-1),
        lambda: ledger.prove(-1),
        lambda: ledger.prove(4, 4),
    ):
        with pytest.raises(InputError, match=r"ledger\.no_such_entry|proof\.bad_range"):
            ask()


def test_a_checkpoint_is_signed_stored_and_stable(
    path: Path, ledger: Ledger, key: SigningKey, fill: Fill
) -> None:
    assert parse_checkpoint(ledger.checkpoint()).size == 0
    fill(ledger, 10)
    note = ledger.checkpoint()
    assert ledger.checkpoint() == note
    assert verify_checkpoint(note, ORIGIN, [key.verifying]) == ledger.head()
    with LedgerReader.open(path) as reader:
        assert reader.checkpoint() == note


@pytest.mark.parametrize("bad", [b"", b"{}", b'{"kind":"event","t":1,"x":"' + b"a" * 65536 + b'"}'])
def test_what_is_no_entry_is_refused_and_costs_no_index(ledger: Ledger, bad: bytes) -> None:
    with pytest.raises(InputError, match="entry"):
        ledger.append(bad)
    assert ledger.append(b'{"kind":"event","t":1}').index == 0


def test_64_writers_lose_and_reorder_nothing(
    path: Path, key: SigningKey, ledger: Ledger, body: Body
) -> None:
    mine: dict[int, list[tuple[int, int]]] = {}

    def write(writer: int) -> None:
        mine[writer] = [
            (ledger.append(body(n)).wait(20), n) for n in range(writer * 10, writer * 10 + 10)
        ]

    threads = [threading.Thread(target=write, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    acknowledged = {index: n for pairs in mine.values() for index, n in pairs}
    assert sorted(acknowledged) == list(range(640))
    assert all(
        [index for index, _ in pairs] == sorted(i for i, _ in pairs) for pairs in mine.values()
    )
    assert all(ledger.body(index) == body(n) for index, n in acknowledged.items())


def test_large_queues_are_cut_into_commits(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "MAX_BATCH_ENTRIES", 10)
    monkeypatch.setattr(committer_module, "MAX_BATCH_BYTES", 100_000)
    bodies = [
        make_entry(Kind.EVENT, n, {"x": "a" * (60_000 if n % 4 == 0 else 10)}) for n in range(95)
    ]
    for item in bodies:
        pending = ledger.append(item)
    pending.wait(20)
    assert [item for _, item in ledger.entries()] == bodies
    segments = [s for at in range(95) for s in ledger.reader.rows.segments(at, 1) if s.first == at]
    assert max(len(s.bodies) for s in segments) <= 10
    assert max(sum(map(len, s.bodies)) for s in segments) <= 100_000
    assert [s.newest for s in segments] == [s.end - 1 for s in segments]


def test_the_newest_time_never_runs_back(path: Path, key: SigningKey, ledger: Ledger) -> None:
    for t in (50, 900, 7):
        ledger.append(make_entry(Kind.EVENT, t, {})).wait(5)
    assert ledger.newest_time() == 900
    ledger.close()
    with reopen(path, key) as again:
        assert again.newest_time() == 900


# Telling


def test_subscribers_hear_of_each_commit_once_it_is_durable(ledger: Ledger, body: Body) -> None:
    heard: list[tuple[int, KeepstoneError | None]] = []
    seen: list[int] = []

    def hear(size: int, error: KeepstoneError | None) -> None:
        seen.append(ledger.reader.size())
        heard.append((size, error))

    unsubscribe = ledger.subscribe(hear)
    for n in range(3):
        ledger.append(body(n)).wait(5)
    deadline = time.monotonic() + 5
    while len(heard) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert heard == [(1, None), (2, None), (3, None)]
    assert seen == [1, 2, 3], "told only what another connection already sees"
    unsubscribe()
    unsubscribe()
    ledger.append(body(3)).wait(5)
    assert len(heard) == 3


def test_a_subscriber_that_dies_ends_nobody_else(
    ledger: Ledger, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[object] = []
    told = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))

    def die(size: int, error: KeepstoneError | None) -> None:
        raise RuntimeError("the loop is closed")

    ledger.subscribe(die)
    ledger.subscribe(lambda size, error: told.set() if size == 2 else None)
    ledger.append(body(0)).wait(5)
    ledger.append(body(1)).wait(5)
    assert told.wait(5)
    assert [str(error) for error in reported] == ["the loop is closed"]


# Failing


class Broken:
    """Stands before a store's commit and fails it when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        real = SqliteStore.commit

        def commit(store: SqliteStore, batch: object) -> None:
            self.gate.wait(10)
            if self.failure is not None:
                raise self.failure
            real(store, batch)  # type: ignore[arg-type]

        monkeypatch.setattr(SqliteStore, "commit", commit)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as the disk said")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "ledger.disk_full"),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), "ledger.not_durable"),
        (MemoryError(), "ledger.not_durable"),
    ],
)
def test_a_failed_commit_stops_the_ledger_and_says_so(
    path: Path, key: SigningKey, body: Body, broken: Broken, failure: Exception, code: str
) -> None:
    ledger = Ledger.create(path, origin=ORIGIN, key=key)
    heard: list[tuple[int, str | None]] = []
    ledger.subscribe(lambda size, error: heard.append((size, error and error.code)))
    ledger.append(body(0)).wait(5)
    broken.failure = failure
    broken.gate.clear()
    pending = [ledger.append(body(n)) for n in range(1, 4)]
    outcome: list[str] = []

    def wait(item: object) -> None:
        with pytest.raises(OperationalError) as failed:
            item.wait(10)  # type: ignore[attr-defined]
        outcome.append(failed.value.code)

    threads = [threading.Thread(target=wait, args=(item,)) for item in pending]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    assert ledger.outstanding == 3
    assert ledger.oldest_outstanding_ms > 0
    with pytest.raises(OperationalError, match=r"ledger\.timeout"):
        pending[0].wait(0.01)
    broken.gate.set()
    for thread in threads:
        thread.join()
    assert outcome == [code] * 3
    with pytest.raises(OperationalError, match=code):
        pending[0].wait()
    assert heard[-1] == (1, code)
    assert ledger.stopped is not None
    assert (ledger.outstanding, ledger.durable_size) == (0, 1)
    with pytest.raises(OperationalError, match=r"ledger\.stopped"):
        ledger.append(body(9))
    assert ledger.body(0) == body(0), "what is durable stays readable"

    # Resuming gives the lost indexes to others, and the failed entries stay failed.
    broken.failure = None
    ledger.resume()
    ledger.resume()
    again = ledger.append(body(7))
    assert again.wait(5) == pending[0].index == 1
    assert ledger.body(1) == body(7)
    assert not pending[0].durable
    with pytest.raises(OperationalError, match=code):
        pending[0].wait(0.01)
    ledger.close()
    with reopen(path, key) as reopened:
        assert reopened.durable_size == 2


def test_a_resume_that_fails_leaves_the_ledger_stopped_and_readable(
    path: Path, key: SigningKey, body: Body, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.create(path, origin=ORIGIN, key=key)
    ledger.append(body(0)).wait(5)
    broken.failure = OSError("gone")
    with pytest.raises(OperationalError):
        ledger.append(body(1)).wait(5)
    with monkeypatch.context() as patch:
        full = sqlite_error(sqlite3.SQLITE_FULL)
        patch.setattr(SqliteStore, "_empty_log", lambda self: (_ for _ in ()).throw(full))
        with pytest.raises(OperationalError, match=r"ledger\.disk_full"):
            ledger.resume()
    assert ledger.stopped is not None
    assert ledger.body(0) == body(0)
    with pytest.raises(OperationalError, match=r"ledger\.stopped"):
        ledger.append(body(1))
    broken.failure = None
    ledger.resume()
    assert ledger.append(body(1)).wait(5) == 1
    ledger.close()


def test_nothing_new_stands_on_a_log_that_could_not_be_emptied(
    path: Path, key: SigningKey, body: Body, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "BUSY_MS", 20)
    ledger = Ledger.create(path, origin=ORIGIN, key=key)
    ledger.append(body(0)).wait(5)
    broken.failure = OSError("gone")
    with pytest.raises(OperationalError):
        ledger.append(body(1)).wait(5)
    broken.failure = None
    # Somebody reads in one long transaction, so the log cannot be emptied under it.
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM segments").fetchall()
    for start in (ledger.resume, lambda: reopen(path, key)):
        with pytest.raises(OperationalError, match=r"ledger\.busy"):
            start()
    assert ledger.stopped is not None
    other.execute("COMMIT")
    ledger.resume()
    assert ledger.append(body(1)).wait(5) == 1
    other.close()
    ledger.close()


def test_closing_makes_everything_durable_first(
    path: Path, key: SigningKey, body: Body, broken: Broken
) -> None:
    ledger = Ledger.create(path, origin=ORIGIN, key=key)
    broken.gate.clear()
    pending = [ledger.append(body(n)) for n in range(50)]
    threading.Timer(0.05, broken.gate.set).start()
    ledger.close()
    assert [item.wait(0) for item in pending] == list(range(50))
    with pytest.raises(OperationalError, match=r"ledger\.closed"):
        ledger.append(body(50))
    with pytest.raises(OperationalError, match=r"ledger\.closed"):
        ledger.body(0)
    ledger.close()


def test_closing_after_a_failure_signs_nothing(
    path: Path, key: SigningKey, body: Body, broken: Broken
) -> None:
    ledger = Ledger.create(path, origin=ORIGIN, key=key)
    ledger.append(body(0)).wait(5)
    broken.failure = OSError("gone")
    with pytest.raises(OperationalError):
        ledger.append(body(1)).wait(5)
    ledger.close()
    with LedgerReader.open(path) as reader:
        assert reader.checkpoint() is None


def test_a_second_writer_is_refused_not_merged(path: Path, key: SigningKey, body: Body) -> None:
    first = Ledger.create(path, origin=ORIGIN, key=key)
    second = reopen(path, key)
    first.append(body(0)).wait(5)
    with pytest.raises(OperationalError, match=r"ledger\.not_durable"):
        second.append(body(1)).wait(5)
    second.close()
    first.append(body(2)).wait(5)
    first.close()
    with LedgerReader.open(path) as reader:
        assert [item for _, item in reader.entries()] == [body(0), body(2)]


def test_a_checkpoint_that_cannot_be_stored_is_not_handed_out(
    path: Path, ledger: Ledger, fill: Fill
) -> None:
    fill(ledger, 3)
    blocker = sqlite3.connect(path, isolation_level=None)
    ledger._store._connection.execute("PRAGMA busy_timeout=1")
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match=r"ledger\.not_durable"):
        ledger.checkpoint()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert parse_checkpoint(ledger.checkpoint()).size == 3


# Opening


def test_what_cannot_be_opened(path: Path, key: SigningKey, tmp_path: Path) -> None:
    for opener in (lambda: reopen(path, key), lambda: LedgerReader.open(path)):
        with pytest.raises(InputError, match=r"ledger\.missing"):
            opener()
    Ledger.create(path, origin=ORIGIN, key=key).close()
    with pytest.raises(InputError, match=r"ledger\.exists"):
        Ledger.create(path, origin=ORIGIN, key=key)
    with pytest.raises(VerificationError, match=r"ledger\.wrong_origin"):
        Ledger.open(path, origin="other.test/log", key=key)
    with pytest.raises(OperationalError, match=r"ledger\.unwritable"):
        Ledger.create(tmp_path / "none" / "ledger.db", origin=ORIGIN, key=key)
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db"]


def test_a_new_ledger_is_on_the_disk_with_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    leftover = path.with_name(f"{path.name}.{os.getpid()}.new")
    leftover.write_text("of a process that died")
    create_file(path, ORIGIN)
    # The content before it gets its name, then the folder that holds the name.
    assert synced == [(leftover.name, False), (path.parent.name, True)]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("failure", "code"),
    [(OSError("no links here"), "ledger.not_durable"), (FileExistsError(), "ledger.exists")],
)
def test_a_ledger_that_cannot_be_made_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError, code: str
) -> None:
    def link(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(KeepstoneError) as failed:
        create_file(path, ORIGIN)
    assert failed.value.code == code
    assert not list(path.parent.iterdir())


def alter(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE meta SET value = '2' WHERE name = 'format'", "ledger.newer_version"),
        ("UPDATE meta SET value = 'x' WHERE name = 'format'", "ledger.corrupt"),
        ("DELETE FROM meta WHERE name = 'format'", "ledger.corrupt"),
        ("DELETE FROM meta WHERE name = 'origin'", "ledger.corrupt"),
        ("DROP TABLE meta", "ledger.corrupt"),
        ("DROP TABLE tiles", "ledger.corrupt"),
        ("CREATE TRIGGER t AFTER INSERT ON segments BEGIN SELECT 1; END", "ledger.corrupt"),
    ],
)
def test_a_file_of_another_form_is_refused(
    path: Path, key: SigningKey, statement: str, code: str
) -> None:
    Ledger.create(path, origin=ORIGIN, key=key).close()
    alter(path, statement)
    for opener in (lambda: reopen(path, key), lambda: LedgerReader.open(path)):
        with pytest.raises(KeepstoneError) as refused:
            opener()
        assert refused.value.code == code


def test_a_file_that_is_no_database_is_refused(path: Path, key: SigningKey) -> None:
    path.write_bytes(b"not a database, whatever its name says" * 100)
    for opener in (lambda: reopen(path, key), lambda: LedgerReader.open(path)):
        with pytest.raises(VerificationError, match=r"ledger\.corrupt"):
            opener()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE segments SET bodies = x'00000001' WHERE first = 0",
        "UPDATE segments SET bodies = x'00' WHERE first = 0",
        "UPDATE segments SET count = 0 WHERE first = 0",
        "DELETE FROM segments WHERE first = 0",
    ],
)
def test_a_broken_segment_is_corrupt_never_a_gap(
    path: Path, key: SigningKey, commit: Commit, statement: str
) -> None:
    commit(path, 600, 200)
    alter(path, statement)
    with LedgerReader.open(path) as reader:
        for read in (lambda: list(reader.entries()), lambda: reader.body(3)):
            with pytest.raises(VerificationError, match=r"ledger\.corrupt"):
                read()
        assert reader.size() == 600


def test_a_gap_behind_the_first_segment_is_corrupt(
    path: Path, key: SigningKey, commit: Commit
) -> None:
    commit(path, 600, 100)
    alter(path, "DELETE FROM segments WHERE first = 200")
    with LedgerReader.open(path) as reader:
        with pytest.raises(VerificationError, match=r"ledger\.corrupt"):
            list(reader.entries())
        with pytest.raises(InputError, match=r"ledger\.no_such_entry"):
            reader.body(250)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM segments WHERE first >= 500",
        "DELETE FROM tiles WHERE number = 1",
        "UPDATE tiles SET root = zeroblob(32)",
        "UPDATE checkpoints SET note = 'x'",
    ],
)
def test_opening_refuses_a_tree_that_contradicts_its_checkpoint(
    path: Path, key: SigningKey, commit: Commit, statement: str
) -> None:
    commit(path, 600, 100)
    alter(path, statement)
    with pytest.raises(KeepstoneError) as refused:
        reopen(path, key)
    assert refused.value.code in ("ledger.corrupt", "checkpoint.malformed")


def test_a_copy_is_whole_and_taken_beside_the_owner(
    path: Path, tmp_path: Path, ledger: Ledger, key: SigningKey, fill: Fill
) -> None:
    fill(ledger, 300)
    copy = tmp_path / "copy.db"
    ledger.reader.snapshot(copy)
    fill(ledger, 310)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with LedgerReader.open(copy) as reader:
        assert reader.size() == 300
        assert reader.root_at(300) == ledger.reader.root_at(300)
    with pytest.raises(InputError, match=r"file\.exists"):
        ledger.reader.snapshot(copy)
    with LedgerReader.open(copy) as reader:
        assert reader.size() == 300, "a refused copy touches nothing"
    with pytest.raises(OperationalError, match=r"file\.unwritable"):
        ledger.reader.snapshot(tmp_path / "none" / "copy.db")


def failing(failure: Exception) -> SimpleNamespace:
    """A connection whose backup fails, part of it written."""

    def backup(copy: sqlite3.Connection) -> None:
        copy.execute("CREATE TABLE half (x)")
        raise failure

    return SimpleNamespace(backup=backup, close=lambda: None)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "ledger.disk_full"),
        (sqlite_error(sqlite3.SQLITE_IOERR_READ), "ledger.unreadable"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), "ledger.corrupt"),
    ],
)
def test_a_copy_that_fails_leaves_none(
    path: Path, tmp_path: Path, ledger: Ledger, fill: Fill, failure: Exception, code: str
) -> None:
    fill(ledger, 30)
    copy = tmp_path / "copy.db"
    with LedgerReader.open(path) as reader:
        real, reader.rows._connection = reader.rows._connection, failing(failure)
        with pytest.raises(KeepstoneError) as failed:
            reader.snapshot(copy)
        assert failed.value.code == code
        assert not list(tmp_path.glob("copy.db*"))
        reader.rows._connection = real
        reader.snapshot(copy)
    with LedgerReader.open(copy) as reader:
        assert reader.size() == 30


def test_another_key_takes_over_a_ledger(path: Path, key: SigningKey, fill: Fill) -> None:
    with Ledger.create(path, origin=ORIGIN, key=key) as ledger:
        fill(ledger, 5)
    other = SigningKey.generate(Algorithm.ED25519)
    with reopen(path, other) as ledger:
        note = ledger.checkpoint()
    assert verify_checkpoint(note, ORIGIN, [other.verifying]).size == 5
