"""Verify a whole ledger: every body, every stored hash, every checkpoint, the index.

What a ledger stores about itself is compared with what its bodies give; nothing stored is
believed. That still only shows that the file agrees with itself and with its key: whoever holds
both can write another history. So the last step compares with a checkpoint from *outside*, and
without one the status says so.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.identity.signing import VerifyingKey
from keepstone.ledger.checkpoint import Checkpoint, verify_checkpoint
from keepstone.ledger.entry import read_head
from keepstone.ledger.reader import LedgerReader
from keepstone.ledger.rows import BEFORE_ALL, Segment, corrupt
from keepstone.ledger.tiles import EMPTY_TAIL, Tail, TileId
from keepstone.ledger.tree import EMPTY_ROOT, leaf_hash

SCHEMA = "keepstone.ledger-verify/v1"
MAX_ERRORS = 100
# A tile of level 7 spans 2**64 entries.
MAX_LEVEL = 8


class Status(StrEnum):
    VERIFIED = "verified"
    VERIFIED_NO_OUTSIDE = "verified_no_outside"
    CORRUPT = "corrupt"
    ROLLED_BACK = "rolled_back"
    FORKED = "forked"
    NOT_EVALUATED = "not_evaluated"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not hold: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What `verify_ledger` found. `root` is the one computed from the bodies."""

    status: Status
    size: int
    root: bytes
    outside_checkpoint: Checkpoint | None
    errors: tuple[Fault, ...]

    def to_json(self) -> dict[str, Any]:
        """`keepstone.ledger-verify/v1`; roots in hex."""
        outside = self.outside_checkpoint
        return {
            "schema": SCHEMA,
            "status": str(self.status),
            "size": self.size,
            "root": self.root.hex(),
            "outside_checkpoint": outside
            and {"origin": outside.origin, "size": outside.size, "root": outside.root.hex()},
            "errors": [{"code": fault.code, "message": fault.message} for fault in self.errors],
        }


class _TooManyFaultsError(Exception):
    """Ends a walk that has found enough."""


@dataclass(slots=True)
class _Walk:
    """The one value that travels through the steps."""

    reader: LedgerReader
    size: int = 0
    tail: Tail = EMPTY_TAIL
    roots: dict[int, bytes] = field(default_factory=dict)
    keys: dict[str, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    faults: list[Fault] = field(default_factory=list)

    def fault(self, code: str, message: str) -> None:
        self.faults.append(Fault(code, message))
        if len(self.faults) >= MAX_ERRORS:
            raise _TooManyFaultsError


def verify_file(
    path: Path, origin: str, keys: Sequence[VerifyingKey], outside: str | None
) -> LedgerReport:
    """`verify_ledger` on a file, never raising for what the file holds.

    Raises InputError `ledger.missing` only.
    """
    try:
        reader = LedgerReader.open(path)
    except VerificationError as error:
        return LedgerReport(Status.CORRUPT, 0, EMPTY_ROOT, None, (_as_fault(error),))
    except KeepstoneError as error:
        if error.code == "ledger.missing":
            raise
        return LedgerReport(Status.NOT_EVALUATED, 0, EMPTY_ROOT, None, (_as_fault(error),))
    with reader:
        return verify_ledger(reader, origin, keys, outside)


def verify_ledger(
    reader: LedgerReader, origin: str, keys: Sequence[VerifyingKey], outside: str | None
) -> LedgerReport:
    """Judge the whole ledger; `outside` is a signed checkpoint kept elsewhere, or None.

    (1) re-hash every body; (2) recompute tiles and roots and compare the stored tiles and
    signed checkpoints; (3) compare the index with what the bodies give; (4) SQLite's own
    integrity check; (5) compare with the outside checkpoint. Entries after the newest stored
    checkpoint are an unsigned tail and fine. What could not be read is `not_evaluated`, never
    verified. Reads through one connection for as long as it takes: give it a reader of its own.
    """
    walk = _Walk(reader)
    try:
        checkpoint = None if outside is None else verify_checkpoint(outside, origin, keys)
    except (InputError, VerificationError) as error:
        # An outside checkpoint that cannot be trusted decides nothing, either way.
        return LedgerReport(Status.NOT_EVALUATED, 0, EMPTY_ROOT, None, (_as_fault(error),))
    try:
        _check_inside(walk, origin, keys, checkpoint)
    except _TooManyFaultsError:
        pass
    except VerificationError as error:
        walk.faults.append(_as_fault(error))
    except OperationalError as error:
        walk.faults.append(_as_fault(error))
        return _report(walk, Status.NOT_EVALUATED, checkpoint)
    # (5) RFC 6962 2.1: everything the outside checkpoint covers is still there
    return _report(walk, _outside(walk, checkpoint), checkpoint)


def _report(walk: _Walk, status: Status, outside: Checkpoint | None) -> LedgerReport:
    return LedgerReport(status, walk.tail.size, walk.tail.root(), outside, tuple(walk.faults))


def _as_fault(error: KeepstoneError) -> Fault:
    return Fault(error.code, error.cause)


def _check_inside(
    walk: _Walk, origin: str, keys: Sequence[VerifyingKey], outside: Checkpoint | None
) -> None:
    reader = walk.reader
    if reader.origin != origin:
        walk.fault("ledger.wrong_origin", f"The ledger is {reader.origin}, not {origin}.")
    # Checkpoints are read before the size: each was signed over entries that were there.
    notes = list(_checkpoints(reader))
    size = walk.size = reader.size()
    marks = {item for item, _ in notes} | ({outside.size} if outside else set())
    # (1) and (2) RFC 6962 2.1: leaves from bodies, tiles and roots from leaves
    _rehash(walk, size, sorted(marks))
    # (2) tlog-checkpoint: what was signed is what the bodies give
    for item, note in notes:
        _check_stored(walk, item, note, origin, keys)
    # (3) the index is a function of the bodies
    _check_index(walk)
    # (4) the file itself
    for line in reader.rows.integrity():
        walk.fault("ledger.damaged_file", f"SQLite: {line}.")


def _checkpoints(reader: LedgerReader) -> Iterator[tuple[int, str]]:
    after = BEFORE_ALL
    while notes := reader.rows.checkpoints(after):
        yield from notes
        after = notes[-1][0]


def _rehash(walk: _Walk, size: int, marks: list[int]) -> None:
    """Leaves, tiles and roots from the bodies; roots are kept at the sizes in `marks`."""
    walk.roots[0] = EMPTY_ROOT
    waiting = [mark for mark in reversed(marks) if 0 < mark <= size]
    newest = 0
    for segment in _segments(walk.reader, size):
        leaves = []
        for index, body in enumerate(segment.bodies, segment.first):
            leaves.append(leaf_hash(body))
            newest = max(newest, _note_head(walk, index, body))
        if segment.newest != newest:
            walk.fault("ledger.bad_time", f"The newest time up to {segment.end} is not {newest}.")
        while waiting and waiting[-1] <= segment.end:
            _extend(walk, leaves[: waiting[-1] - walk.tail.size], leaves)
            walk.roots[waiting.pop()] = walk.tail.root()
        _extend(walk, leaves[:], leaves)
    for tile in walk.reader.rows.tile_ids():
        if not _belongs(walk, tile):
            name = f"tile {tile.index} of level {tile.level}"
            walk.fault("ledger.bad_tile", f"The stored {name} covers no entries.")


def _belongs(walk: _Walk, tile: TileId) -> bool:
    """Whether a stored tile is one that was compared, or of entries written meanwhile."""
    # Checked before any arithmetic: these numbers are whatever somebody wrote into the file.
    if not (0 <= tile.level < MAX_LEVEL and tile.index >= 0):
        return False
    return tile.end <= walk.tail.size or tile.end <= walk.reader.size()


def _segments(reader: LedgerReader, size: int) -> Iterator[Segment]:
    """The segments up to the one that ends at `size`, without a gap or an overlap."""
    at = 0
    while at < size:
        segments = reader.rows.segments(at)
        if not segments or segments[0].first != at:
            raise corrupt(f"The ledger lacks entry {at}.")
        for segment in segments:
            if segment.first != at:
                break
            yield segment
            at = segment.end


def _note_head(walk: _Walk, index: int, body: bytes) -> int:
    """Collect the entry's index keys; returns its time."""
    try:
        head = read_head(body)
    except InputError as error:
        walk.fault("ledger.bad_entry", f"Entry {index}: {error.cause}")
        return 0
    for key in head.keys:
        walk.keys[key].append(index)
    return head.t


def _extend(walk: _Walk, leaves: list[bytes], rest: list[bytes]) -> None:
    """Grow the tree by `leaves`, taken off the front of `rest`; compare the tiles they fill."""
    del rest[: len(leaves)]
    walk.tail, tiles = walk.tail.extended(leaves)
    for tile in tiles:
        if walk.reader.rows.tile(tile.id) != tile:
            walk.fault("ledger.bad_tile", f"The stored {tile.id.path} is not what the bodies give.")


def _check_stored(
    walk: _Walk, size: int, note: str, origin: str, keys: Sequence[VerifyingKey]
) -> None:
    try:
        checkpoint = verify_checkpoint(note, origin, keys)
    except (InputError, VerificationError) as error:
        walk.fault(error.code, f"The stored checkpoint of {size} entries: {error.cause}")
        return
    if checkpoint.size != size:
        walk.fault(
            "ledger.bad_checkpoint",
            f"The checkpoint stored for {size} entries is of {checkpoint.size}.",
        )
    elif size > walk.tail.size:
        walk.fault(
            "ledger.truncated",
            f"A checkpoint of {size} entries was signed; the ledger has {walk.tail.size}.",
        )
    elif checkpoint.root != walk.roots[size]:
        walk.fault(
            "ledger.bad_checkpoint", f"The first {size} entries are not those that were signed."
        )


def _check_index(walk: _Walk) -> None:
    rows, size = walk.reader.rows, walk.tail.size
    for key in sorted({*rows.keys(), *walk.keys}):
        derived = walk.keys.get(key, array("q"))
        at, after = 0, BEFORE_ALL
        while numbers := rows.numbers(key, after):
            after = numbers[-1]
            known = [number for number in numbers if number < size]
            if known != derived[at : at + len(known)].tolist() or after >= walk.reader.size():
                walk.fault("ledger.bad_index", f"The index of {key} is not what the bodies give.")
                break
            at += len(known)
        else:
            if at != len(derived):
                walk.fault("ledger.bad_index", f"The index of {key} lacks entries.")


def _outside(walk: _Walk, outside: Checkpoint | None) -> Status:
    status = Status.VERIFIED if outside else Status.VERIFIED_NO_OUTSIDE
    broken = bool(walk.faults)
    if outside and outside.size > walk.size:
        status = Status.ROLLED_BACK
        cause = f"The checkpoint kept outside has {outside.size} entries; the ledger fewer."
        walk.faults.append(Fault("ledger.rolled_back", cause))
    elif outside and walk.roots.get(outside.size) not in (None, outside.root):
        status = Status.FORKED
        cause = f"The first {outside.size} entries are not those of the checkpoint kept outside."
        walk.faults.append(Fault("ledger.forked", cause))
    # A ledger that contradicts itself is corrupt first, whatever else it is.
    return Status.CORRUPT if broken else status
