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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.ledger.tiles import FullTile, TileId
from keepstone.ledger.tree import HASH_SIZE

FORMAT = 1
BUSY_MS = 5_000
# FULL syncs the write-ahead log at every commit: an acknowledged entry is on the disk.
# secure_delete overwrites what is freed, so that nothing once erased stays in the file.
SYNCHRONOUS = "FULL"
_TILE_ROW = HASH_SIZE * 257

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE segments (
  first INTEGER PRIMARY KEY, count INTEGER NOT NULL, newest INTEGER NOT NULL,
  bodies BLOB NOT NULL) STRICT;
CREATE TABLE tiles (
  level INTEGER NOT NULL, number INTEGER NOT NULL, root BLOB NOT NULL, hashes BLOB NOT NULL,
  PRIMARY KEY (level, number)) STRICT;
CREATE TABLE entry_keys (
  key TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, number)) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
  size INTEGER PRIMARY KEY, note TEXT NOT NULL, t INTEGER NOT NULL) STRICT;
"""
_STATEMENTS = [statement.strip() for statement in _SCHEMA.split(";") if statement.strip()]
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


@dataclass(frozen=True, slots=True)
class Segment:
    """The bodies of one commit, as read back. `newest` is the latest time up to here."""

    first: int
    newest: int
    bodies: tuple[bytes, ...] = field(repr=False)

    @property
    def end(self) -> int:
        return self.first + len(self.bodies)


def corrupt(cause: str) -> VerificationError:
    return VerificationError(
        "ledger.corrupt",
        cause,
        "Run `keepstone ledger verify`, then restore a backup that it accepts.",
    )


def _frame(bodies: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f">{len(bodies)}I", *map(len, bodies))
    return b"".join((lengths, *bodies))


def _unframe(first: int, count: int, newest: int, blob: bytes) -> Segment:
    if not isinstance(blob, bytes) or count < 1 or first < 0 or count * 4 > len(blob):
        raise corrupt(f"The segment at {first} is not a list of {count} bodies.")
    lengths = struct.unpack_from(f">{count}I", blob)
    if sum(lengths) + count * 4 != len(blob):
        raise corrupt(f"The segment at {first} has the wrong length.")
    bodies, at = [], count * 4
    for length in lengths:
        bodies.append(blob[at : at + length])
        at += length
    return Segment(first, newest, tuple(bodies))


# The low byte of an extended result code is its family.
_FULL, _CORRUPT, _NOTADB = sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB
_BROKEN = {_CORRUPT, _NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}


def read_error(error: sqlite3.Error) -> KeepstoneError:
    """What a failed read means: the content is broken, or the disk or a lock is in the way."""
    code = getattr(error, "sqlite_errorcode", _CORRUPT) & 0xFF
    if code in _BROKEN:
        return corrupt(f"The ledger's file cannot be read as a ledger: {error}.")
    return OperationalError(
        "ledger.unreadable",
        f"The ledger cannot be read: {error}.",
        "Check the disk and the permissions, then try again.",
    )


def write_error(error: Exception) -> OperationalError:
    """What a failed commit means; nothing of it was acknowledged."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == _FULL:
        return OperationalError(
            "ledger.disk_full",
            "The disk is full, so the entry is not durable.",
            "Free space on the ledger's disk, then start again.",
        )
    return OperationalError(
        "ledger.not_durable",
        f"The entry could not be made durable: {error}.",
        "Check the disk, then start again: nothing unacknowledged counts.",
    )


class Rows:
    """Reads of a ledger file through one connection; safe to share between threads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        try:
            self._check_format()
        except BaseException:
            connection.close()
            raise
        self.origin = self._meta("origin")

    @classmethod
    def open(cls, path: Path) -> Rows:
        """Open read-only. Raises `ledger.missing`, `ledger.newer_version`, `ledger.corrupt`."""
        return cls(_connect(path, read_only=True))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _all(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise read_error(error) from error

    def _meta(self, name: str) -> str:
        rows = self._all("SELECT value FROM meta WHERE name = ?", name)
        if not rows or not isinstance(rows[0][0], str):
            raise corrupt(f"The ledger's file does not say its {name}.")
        return rows[0][0]

    def _check_format(self) -> None:
        text = self._meta("format")
        if not text.isascii() or not text.isdigit():
            raise corrupt("The ledger's format is not a number.")
        if int(text) > FORMAT:
            raise InputError(
                "ledger.newer_version",
                f"The ledger has format {text}, written by a newer Keepstone; this one reads "
                f"up to {FORMAT}.",
                "Upgrade Keepstone.",
            )
        # A trigger or a view slipped into the file would act on our behalf.
        found = self._all("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rootpage")
        if [row[0] for row in found] != _STATEMENTS:
            raise corrupt("The ledger's file holds other tables than a ledger has.")

    def size(self) -> int:
        """The number of durable entries."""
        rows = self._all("SELECT first + count FROM segments ORDER BY first DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def newest(self) -> int:
        """The latest time of any entry, 0 in an empty ledger."""
        rows = self._all("SELECT newest FROM segments ORDER BY first DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def segments(self, start: int, limit: int = 16) -> list[Segment]:
        """Up to `limit` segments from the one that holds entry `start` on."""
        rows = self._all(
            "SELECT first, count, newest, bodies FROM segments WHERE first >= coalesce("
            "(SELECT first FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1), 0)"
            " ORDER BY first LIMIT ?",
            start,
            limit,
        )
        return [_unframe(*row) for row in rows]

    def tile(self, tile: TileId) -> FullTile:
        """A full tile. Raises `ledger.corrupt` if it is not there."""
        rows = self._all(
            "SELECT root, hashes FROM tiles WHERE level = ? AND number = ?", tile.level, tile.index
        )
        if not rows or len(rows[0][0]) != HASH_SIZE or len(rows[0][1]) != HASH_SIZE * 256:
            raise corrupt(f"The ledger lacks its {tile.path}.")
        return FullTile(tile, *rows[0])

    def tile_roots(self, level: int, start: int, stop: int) -> list[bytes]:
        """The roots of the full tiles `start` to `stop` of a level, all of them."""
        rows = self._all(
            "SELECT root FROM tiles WHERE level = ? AND number >= ? AND number < ? ORDER BY number",
            level,
            start,
            stop,
        )
        if len(rows) != stop - start:
            raise corrupt(f"The ledger lacks tiles of level {level} between {start} and {stop}.")
        return [row[0] for row in rows]

    def tile_ids(self) -> Iterator[TileId]:
        """Every stored tile's id, by level and index."""
        level, number = -1, -1
        while rows := self._all(
            "SELECT level, number FROM tiles WHERE (level, number) > (?, ?)"
            " ORDER BY level, number LIMIT 1000",
            level,
            number,
        ):
            yield from (TileId(*row) for row in rows)
            level, number = rows[-1]

    def numbers(self, key: str, after: int = -1, limit: int = 1000) -> list[int]:
        """Indexes of entries under `key`, ascending, beyond `after`."""
        rows = self._all(
            "SELECT number FROM entry_keys WHERE key = ? AND number > ? ORDER BY number LIMIT ?",
            key,
            after,
            limit,
        )
        return [row[0] for row in rows]

    def keys(self) -> list[str]:
        """Every key that the index knows."""
        return [row[0] for row in self._all("SELECT DISTINCT key FROM entry_keys ORDER BY key")]

    def checkpoint(self, at_most: int | None = None) -> tuple[int, str] | None:
        """The newest stored checkpoint (size, note), of a tree no larger than `at_most`."""
        rows = self._all(
            "SELECT size, note FROM checkpoints WHERE ? IS NULL OR size <= ?"
            " ORDER BY size DESC LIMIT 1",
            at_most,
            at_most,
        )
        return (rows[0][0], rows[0][1]) if rows else None

    def checkpoints(self, after: int = -1, limit: int = 1000) -> list[tuple[int, str]]:
        """Stored checkpoints of trees larger than `after`, ascending."""
        rows = self._all(
            "SELECT size, note FROM checkpoints WHERE size > ? ORDER BY size LIMIT ?", after, limit
        )
        return [(row[0], row[1]) for row in rows]

    def integrity(self) -> list[str]:
        """What SQLite's own `integrity_check` complains about, at most 20 lines."""
        rows = self._all("PRAGMA integrity_check(20)")
        return [str(row[0]) for row in rows if row[0] != "ok"]

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy to `path`, which must not exist, and sync it."""
        os.close(_create_file(path))
        try:
            with self._lock, sqlite3.connect(path) as copy:
                self._connection.backup(copy)
            copy.close()
            _sync(path)
            _sync(path.parent)
        except (sqlite3.Error, OSError) as error:
            path.unlink(missing_ok=True)
            raise write_error(error) from error


class SqliteStore:
    """The owner's store: one writing connection, and `rows` to read beside it."""

    def __init__(self, path: Path) -> None:
        self._connection = _connect(path)
        self._lock = threading.Lock()
        try:
            self._connection.execute("PRAGMA temp_store=MEMORY")
            self._connection.executescript(_COMMITS)
            self._empty_log()
            self.rows = Rows(_connect(path, query_only=True))
        except sqlite3.Error as error:
            self._connection.close()
            raise read_error(error) from error
        except BaseException:
            self._connection.close()
            raise

    def _empty_log(self) -> None:
        # Whatever an earlier owner left in the write-ahead log goes into the file and is synced
        # before anything new is acknowledged: after a failed sync the log may hold pages that
        # the kernel dropped, and no later entry may stand on them.
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

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


def _connect(
    path: Path, *, read_only: bool = False, query_only: bool = False
) -> sqlite3.Connection:
    if not path.is_file():
        raise InputError(
            "ledger.missing", f"There is no ledger at {path}.", "Make one with `keepstone init`."
        )
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000
        )
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        if query_only:
            connection.execute("PRAGMA query_only=ON")
        return connection
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise read_error(error) from error


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
    os.close(_create_file(scratch))
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def create_file(path: Path, origin: str) -> None:
    """Make an empty ledger file, whole or not at all, readable by its owner only.

    Raises InputError `ledger.exists`, OperationalError `ledger.unwritable`, `ledger.disk_full`.
    """
    if path.exists():
        raise _exists(path)
    with _scratch(path) as scratch:
        try:
            connection = sqlite3.connect(scratch, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
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
