"""Read a ledger: bodies, hashes, proofs. Never writes, and works beside the owner.

Everything below the size that a reader has seen is immutable, so a reader needs no lock
against the owner and no long transaction: what it read stays true.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from keepstone.errors import InputError, OperationalError
from keepstone.ledger.checkpoint import Checkpoint
from keepstone.ledger.proof import EntryProof
from keepstone.ledger.rows import Rows, corrupt
from keepstone.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tail, TileId, tile_of
from keepstone.ledger.tree import (
    HASH_SIZE,
    consistency_path,
    inclusion_path,
    leaf_hash,
    range_root,
    root_of,
)

_KEPT_TILES = 64
_KEPT_NODES = 1 << 15


class LedgerReader:
    """The read-only face of a ledger file. Safe to share between threads."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.origin = rows.origin
        self._lock = threading.Lock()
        self._tiles: OrderedDict[TileId, list[bytes]] = OrderedDict()
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._partial: dict[int, tuple[int, list[bytes]]] = {}

    @classmethod
    def open(cls, path: Path) -> LedgerReader:
        """Open `path` read-only; another process may own it.

        Raises InputError `ledger.missing` or `ledger.newer_version`, VerificationError
        `ledger.corrupt`, OperationalError `ledger.unreadable`.
        """
        return cls(Rows.open(path))

    def close(self) -> None:
        self.rows.close()

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def snapshot(self, target: Path) -> None:
        """Copy the ledger as it is now into the new file `target`, beside a running owner."""
        self.rows.snapshot(target)

    def size(self) -> int:
        """The number of durable entries."""
        return self.rows.size()

    def newest_time(self) -> int:
        """The latest time of any durable entry in ms, 0 in an empty ledger."""
        return self.rows.newest()

    def body(self, index: int) -> bytes:
        """The body of entry `index`. Raises InputError `ledger.no_such_entry`."""
        segments = self.rows.segments(index, 1) if index >= 0 else []
        if not segments or index >= segments[0].end:
            raise InputError(
                "ledger.no_such_entry",
                f"The ledger has no entry {index}.",
                "`keepstone ledger tail` shows the newest entries.",
            )
        if index < segments[0].first:
            raise corrupt(f"The ledger lacks entry {index}.")
        return segments[0].bodies[index - segments[0].first]

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Each `(index, body)` from `start` to before `stop` (now's size if None), in order."""
        end = self.size() if stop is None else min(stop, self.size())
        at = max(start, 0)
        while at < end:
            segments = self.rows.segments(at)
            if not segments:
                raise corrupt(f"The ledger lacks entry {at}.")
            for segment in segments:
                if not segment.first <= at < segment.end:
                    raise corrupt(f"The ledger lacks entry {at}.")
                for body in segment.bodies[at - segment.first :]:
                    if at >= end:
                        return
                    yield at, body
                    at += 1

    def indexed(self, key: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Each `(index, body)` of the entries under `key` from `start` on, in order.

        Keys are those of `entry.index_keys`: `statement`, `event` and `registry`.
        """
        after, segment = start - 1, None
        while numbers := self.rows.numbers(key, after):
            for number in numbers:
                # Many entries may have been committed together: their segment is read once.
                if segment is None or not segment.first <= number < segment.end:
                    found = self.rows.segments(number, 1)
                    if not found or not found[0].first <= number < found[0].end:
                        raise corrupt(f"The ledger lacks entry {number}.")
                    segment = found[0]
                yield number, segment.bodies[number - segment.first]
            after = numbers[-1]

    def indexed_and_checked(self, key: str) -> Iterator[tuple[int, bytes]]:
        """As `indexed`, and each body is the one whose hash stands in the tree.

        For entries that nobody signed one by one. A body that was changed in the file raises
        VerificationError `ledger.corrupt`; whether the tree is the true one, `verify` says.
        """
        tile = -1
        for index, body in self.indexed(key):
            if leaf_hash(body) != self.node(0, index):
                raise corrupt(f"Entry {index} is not what was hashed into the tree.")
            above = index >> TILE_HEIGHT
            if above != tile and self.size() >= (above + 1) << TILE_HEIGHT:
                hashes = self._hashes(TileId(0, above), TILE_WIDTH)
                if root_of(hashes) != self.node(TILE_HEIGHT, above):
                    raise corrupt(f"The hashes around entry {index} do not lead to the root.")
            tile = above
            yield index, body

    def leaf(self, index: int) -> bytes:
        """The RFC 6962 leaf hash of entry `index`."""
        return leaf_hash(self.body(index))

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete node of the tree; see `ledger.tree`."""
        known = self._nodes.get((level, index))
        if known is not None:
            return known
        tile, first, count = tile_of(level, index)
        hashes = self._hashes(tile, first + count)[first : first + count]
        node = hashes[0] if count == 1 else root_of(hashes)
        # A complete node never changes. Those above the lowest tiles are on every proof's path.
        if level > TILE_HEIGHT and len(self._nodes) < _KEPT_NODES:
            self._nodes[level, index] = node
        return node

    def root_at(self, size: int) -> bytes:
        """The RFC 6962 root of the first `size` entries, from stored hashes."""
        self._check_size(size)
        return range_root(0, size, self.node)

    def head(self) -> Checkpoint:
        """Size and root of all that is durable now, unsigned."""
        size = self.size()
        return Checkpoint(self.origin, size, self.root_at(size))

    def checkpoint(self) -> str | None:
        """The newest *stored* signed checkpoint, not verified here; None if there is none."""
        newest = self.rows.checkpoint(self.size())
        return newest[1] if newest else None

    def prove(self, index: int, size: int | None = None) -> EntryProof:
        """The proof that entry `index` is in the tree of a stored checkpoint.

        `size` picks the newest checkpoint of a tree no larger; None the newest of all. Raises
        InputError `ledger.no_such_entry`, OperationalError `ledger.no_checkpoint` if no stored
        checkpoint covers the entry yet.
        """
        found = self.rows.checkpoint(self.size() if size is None else size)
        if found is None or found[0] <= index:
            self.body(index)
            raise OperationalError(
                "ledger.no_checkpoint",
                f"No signed checkpoint covers entry {index} yet.",
                "Make one with `keepstone ledger checkpoint`.",
            )
        return self.prove_under(index, found[0], found[1])

    def prove_under(self, index: int, size: int, note: str) -> EntryProof:
        """The proof that entry `index` is in the tree of `size` entries that `note` signs."""
        self._check_size(size)
        return EntryProof(index, tuple(inclusion_path(index, size, self.node)), note)

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """The RFC 6962 proof that the tree of `old` entries is a prefix of that of `new`."""
        size = self.size() if new is None else new
        self._check_size(size)
        return consistency_path(old, size, self.node)

    def tail(self) -> Tail:
        """The right edge of the tree, rebuilt from stored tiles and the newest bodies."""
        size = self.size()
        levels: list[tuple[bytes, ...]] = []
        while size >> (TILE_HEIGHT * len(levels)):
            level = len(levels)
            count = size >> (TILE_HEIGHT * level)
            start = count - count % TILE_WIDTH
            levels.append(tuple(self._slots(level, start, count)))
        return Tail(size, tuple(levels))

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.size():
            raise InputError(
                "ledger.no_such_entry", f"The ledger has {self.size()} entries, not {size}."
            )

    def _hashes(self, tile: TileId, needed: int) -> list[bytes]:
        """At least the first `needed` hashes of a tile."""
        with self._lock:
            if tile in self._tiles:
                self._tiles.move_to_end(tile)
                return self._tiles[tile]
            number, partial = self._partial.get(tile.level, (-1, []))
            if number == tile.index and len(partial) >= needed:
                return partial
            if self.size() >= tile.end:
                raw = self.rows.tile(tile).hashes
                hashes = [raw[at : at + HASH_SIZE] for at in range(0, len(raw), HASH_SIZE)]
                self._tiles[tile] = hashes
                if len(self._tiles) > _KEPT_TILES:
                    self._tiles.popitem(last=False)
                return hashes
            # A partial tile only grows: what is known of it stays, and the rest is added.
            known = list(partial) if number == tile.index else []
            base = tile.index * TILE_WIDTH
            hashes = known + self._slots(tile.level, base + len(known), base + needed)
            self._partial[tile.level] = (tile.index, hashes)
            return hashes

    def _slots(self, level: int, start: int, stop: int) -> list[bytes]:
        """The hashes `start` to `stop` of a tile level, computed from what lies below it."""
        if level:
            return self.rows.tile_roots(level - 1, start, stop)
        return [leaf_hash(body) for _, body in self.entries(start, stop)]
