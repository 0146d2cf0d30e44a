"""The ledger on SQLite: one file, append-only, one transaction per commit.

A commit is *one statement* on a connection in autocommit mode: an INSERT on the view
`commits`, whose trigger writes the segment of bodies, the tiles that became full and the index
rows. So it is atomic by itself, and the committer gives up the interpreter lock once per
commit, not once per row. With `synchronous=FULL` the statement returns only after the
write-ahead log was synced.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keepstone.errors import InputError, OperationalError
from keepstone.ledger.rows import (
    FAILURES,
    FORMAT,
    TABLES,
    Rows,
    connect,
    disk_full,
    read_error,
    write_error,
)
from keepstone.ledger.tiles import FullTile

# The writing connection's own: kept out of the file, so the file is tables and nothing that acts.
_COMMITS = """
CREATE TEMP VIEW commits AS
  SELECT 0 AS first, 0 AS count, 0 AS newest, x'' AS bodies,
         '[]' AS places, x'' AS tiles, '[]' AS keys WHERE 0;
CREATE TEMP TRIGGER commits_insert INSTEAD OF INSERT ON commits BEGIN
  SELECT RAISE(ABORT, 'another writer') WHERE NEW.first <> coalesce(
    (SELECT first + count FROM segments ORDER BY first DESC LIMIT 1), 0);
  INSERT INTO segments VALUES (NEW.first, NEW.count, NEW.newest, NEW.bodies);
  INSERT INTO tiles SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'),
    substr(NEW.tiles, key * 8224 + 1, 32), substr(NEW.tiles, key * 8224 + 33, 8192)
    FROM json_each(NEW.places);
  INSERT INTO entry_keys SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
    FROM json_each(NEW.keys);
END;
"""
_COMMIT = "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit writes: neighbouring bodies, the tiles they fill, their index rows."""

    first: int
    bodies: Sequence[bytes]
    newest: int
    tiles: Sequence[FullTile] = ()
    keys: Sequence[tuple[str, int]] = ()


def _frame(bodies: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f">{len(bodies)}I", *map(len, bodies))
    return b"".join((lengths, *bodies))


class SqliteStore:
    """The owner's store: one writing connection, and `rows` to read beside it."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._lock = threading.Lock()
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA temp_store=MEMORY")
            self._connection.executescript(_COMMITS)
            self._empty_log()
            self.rows = Rows(connect(path, query_only=True))
        except FAILURES as error:
            self._connection.close()
            raise (write_error if disk_full(error) else read_error)(error) from error
        except BaseException:
            self._connection.close()
            raise

    def _empty_log(self) -> None:
        # Whatever an earlier owner left in the write-ahead log goes into the file and is synced
        # before anything new is acknowledged: after a failed sync the log may hold pages that
        # the kernel dropped, and no later entry may stand on them. A checkpoint that others keep
        # from ending is not an error to SQLite: it says so in a row.
        (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise OperationalError(
                "ledger.busy",
                "Another process keeps the ledger's log open in the middle of a read or a write.",
                "Let it end (a backup, a second owner), then start again.",
            )

    def commit(self, batch: Batch) -> None:
        """Make `batch` durable, all of it or nothing. Raises sqlite3.Error."""
        places, tiles = "[]", b""
        if batch.tiles:
            places = json.dumps([[tile.id.level, tile.id.index] for tile in batch.tiles])
            tiles = b"".join([tile.root + tile.hashes for tile in batch.tiles])
        keys = json.dumps(batch.keys) if batch.keys else "[]"
        count, blob = len(batch.bodies), _frame(batch.bodies)
        with self._lock:
            self._connection.execute(
                _COMMIT, (batch.first, count, batch.newest, blob, places, tiles, keys)
            )

    def put_checkpoint(self, size: int, note: str, now: int) -> None:
        """Keep a signed checkpoint, durably. Raises `ledger.disk_full`, `ledger.not_durable`."""
        try:
            with self._lock:
                self._connection.execute(
                    "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (size, note, now)
                )
        except sqlite3.Error as error:
            raise write_error(error) from error

    def close(self) -> None:
        """Close both connections; the last one empties the write-ahead log."""
        self.rows.close()
        with self._lock:
            self._connection.close()


def _create_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise InputError(
            "file.exists", f"{path} already exists.", "Choose another path, or move it away."
        ) from error
    except OSError as error:
        raise OperationalError(
            "ledger.unwritable", f"Cannot write {path}: {error.strerror}.", "Check the folder."
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    scratch = path.with_name(f"{path.name}.{os.getpid()}.new")
    # Left by a process that died; in a container the next one has the same number.
    scratch.unlink(missing_ok=True)
    os.close(_create_file(scratch))
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def create_file(path: Path, origin: str) -> None:
    """Make an empty ledger file, whole or not at all, readable by its owner only.

    Raises InputError `ledger.exists`, OperationalError `ledger.unwritable`, `ledger.disk_full`,
    `ledger.not_durable`.
    """
    if path.exists():
        raise _exists(path)
    with _scratch(path) as scratch:
        try:
            connection = sqlite3.connect(scratch, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(f"BEGIN;{TABLES}COMMIT;")
                connection.execute(
                    "INSERT INTO meta VALUES ('format', ?), ('origin', ?)", (str(FORMAT), origin)
                )
            finally:
                connection.close()
            _sync(scratch)
            # link(2), unlike rename(2), never replaces a ledger that is already there.
            os.link(scratch, path)
            _sync(path.parent)
        except FileExistsError as error:
            raise _exists(path) from error
        except (sqlite3.Error, OSError) as error:
            raise write_error(error) from error


def _exists(path: Path) -> InputError:
    return InputError(
        "ledger.exists", f"There is already a ledger at {path}.", "Open it, or move it away."
    )
