"""The ledger's file and how it is read: its tables, its format, one reading connection.

Nothing here believes the file: a row that is missing, misshapen or of another type is
`ledger.corrupt`, never a crash and never a silent gap.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.identity.signing import write_secret_file
from keepstone.ledger.tiles import FullTile, TileId
from keepstone.ledger.tree import HASH_SIZE

FORMAT = 1
# Smaller than any integer a row can hold: what a walk over all rows starts from.
BEFORE_ALL = -(2**63)
BUSY_MS = 5_000
# FULL syncs the write-ahead log at every commit: an acknowledged entry is on the disk.
# secure_delete overwrites what is freed, so that nothing once erased stays in the file.
SYNCHRONOUS = "FULL"

TABLES = """
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
_STATEMENTS = [statement.strip() for statement in TABLES.split(";") if statement.strip()]


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


def _unframe(first: int, count: int, newest: int, blob: bytes) -> Segment:
    if count < 1 or first < 0 or count * 4 > len(blob):
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
_CORRUPT = sqlite3.SQLITE_CORRUPT
_BROKEN = {_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}


# A damaged file can make SQLite's own message undecodable, and then Python raises this instead.
FAILURES = (sqlite3.Error, UnicodeDecodeError)


def read_error(error: Exception) -> KeepstoneError:
    """What a failed read means: the content is broken, or the disk or a lock is in the way."""
    if isinstance(error, sqlite3.ProgrammingError):
        return OperationalError("ledger.closed", "The ledger is closed.", "Open it again.")
    code = getattr(error, "sqlite_errorcode", _CORRUPT) & 0xFF
    if code in _BROKEN:
        return corrupt(f"The ledger's file cannot be read as a ledger: {error}.")
    return OperationalError(
        "ledger.unreadable",
        f"The ledger cannot be read: {error}.",
        "Check the disk and the permissions, then try again.",
    )


def disk_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def write_error(error: Exception) -> OperationalError:
    """What a failed commit means; nothing of it was acknowledged."""
    if disk_full(error):
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
        return cls(connect(path, read_only=True))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def snapshot(self, target: Path) -> None:
        """Copy the ledger as it is at one moment into a new file (mode 0600), synced.

        Works beside the owner. Raises `file.exists`, `file.unwritable`, `ledger.disk_full` or
        what a read does, and then leaves no copy.
        """
        write_secret_file(target, b"")
        try:
            with self._lock, closing(sqlite3.connect(target)) as copy:
                self._connection.backup(copy)
        except FAILURES as error:
            target.unlink()
            raise (write_error if disk_full(error) else read_error)(error) from error

    def _all(self, kinds: tuple[type, ...], sql: str, *args: object) -> list[tuple[Any, ...]]:
        """All rows of a query, each of the given types: a damaged file can hold any other."""
        try:
            with self._lock:
                rows: list[tuple[Any, ...]] = self._connection.execute(sql, args).fetchall()
        except FAILURES as error:
            raise read_error(error) from error
        for row in rows:
            if tuple(map(type, row)) != kinds:
                raise corrupt("The ledger's file holds a value of another type than it should.")
        return rows

    def _meta(self, name: str) -> str:
        rows = self._all((str,), "SELECT value FROM meta WHERE name = ?", name)
        if not rows:
            raise corrupt(f"The ledger's file does not say its {name}.")
        return str(rows[0][0])

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
        found = self._all(
            (str,), "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rootpage"
        )
        if [row[0] for row in found] != _STATEMENTS:
            raise corrupt("The ledger's file holds other tables than a ledger has.")

    def size(self) -> int:
        """The number of durable entries."""
        rows = self._all((int,), "SELECT first + count FROM segments ORDER BY first DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def newest(self) -> int:
        """The latest time of any entry, 0 in an empty ledger."""
        rows = self._all((int,), "SELECT newest FROM segments ORDER BY first DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def segments(self, start: int, limit: int = 16) -> list[Segment]:
        """Up to `limit` segments from the one that holds entry `start` on."""
        rows = self._all(
            (int, int, int, bytes),
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
            (bytes, bytes),
            "SELECT root, hashes FROM tiles WHERE level = ? AND number = ?",
            tile.level,
            tile.index,
        )
        if not rows or len(rows[0][0]) != HASH_SIZE or len(rows[0][1]) != HASH_SIZE * 256:
            raise corrupt(f"The ledger lacks its {tile.path}.")
        return FullTile(tile, *rows[0])

    def tile_roots(self, level: int, start: int, stop: int) -> list[bytes]:
        """The roots of the full tiles `start` to `stop` of a level, all of them."""
        rows = self._all(
            (bytes,),
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
        level, number = BEFORE_ALL, BEFORE_ALL
        while rows := self._all(
            (int, int),
            "SELECT level, number FROM tiles WHERE (level, number) > (?, ?)"
            " ORDER BY level, number LIMIT 1000",
            level,
            number,
        ):
            yield from (TileId(*row) for row in rows)
            level, number = rows[-1]

    def numbers(self, key: str, after: int, limit: int = 1000) -> list[int]:
        """Indexes of entries under `key`, ascending, beyond `after`."""
        rows = self._all(
            (int,),
            "SELECT number FROM entry_keys WHERE key = ? AND number > ? ORDER BY number LIMIT ?",
            key,
            after,
            limit,
        )
        return [row[0] for row in rows]

    def keys(self) -> list[str]:
        """Every key that the index knows."""
        rows = self._all((str,), "SELECT DISTINCT key FROM entry_keys ORDER BY key")
        return [row[0] for row in rows]

    def checkpoint(self, at_most: int | None = None) -> tuple[int, str] | None:
        """The newest stored checkpoint (size, note), of a tree no larger than `at_most`."""
        rows = self._all(
            (int, str),
            "SELECT size, note FROM checkpoints WHERE ? IS NULL OR size <= ?"
            " ORDER BY size DESC LIMIT 1",
            at_most,
            at_most,
        )
        return (rows[0][0], rows[0][1]) if rows else None

    def checkpoints(self, after: int, limit: int = 1000) -> list[tuple[int, str]]:
        """Stored checkpoints of trees larger than `after`, ascending."""
        rows = self._all(
            (int, str),
            "SELECT size, note FROM checkpoints WHERE size > ? ORDER BY size LIMIT ?",
            after,
            limit,
        )
        return [(row[0], row[1]) for row in rows]

    def integrity(self) -> list[str]:
        """What SQLite's own `integrity_check` complains about, at most 20 lines."""
        rows = self._all((str,), "PRAGMA integrity_check(20)")
        return [str(row[0]) for row in rows if row[0] != "ok"]


def connect(path: Path, *, read_only: bool = False, query_only: bool = False) -> sqlite3.Connection:
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
    except FAILURES as error:
        if connection is not None:
            connection.close()
        raise read_error(error) from error
