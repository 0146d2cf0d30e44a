"""C2SP tlog-tiles coordinates, and the right edge of a growing tree.

A tile is 256 neighbouring hashes of one tile level; the hash `i` of level `l` spans `256**l`
leaves. Only full tiles are stored: they never change again. What is not in a full tile yet is
the `Tail`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keepstone.ledger.tree import root_of

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT


@dataclass(frozen=True, slots=True)
class TileId:
    """The `index`-th tile of a tile level, as tlog-tiles names it."""

    level: int
    index: int

    @property
    def end(self) -> int:
        """tlog-tiles *end index*: the tree size from which on this tile is full."""
        return (self.index + 1) << (TILE_HEIGHT * (self.level + 1))

    @property
    def path(self) -> str:
        """tlog-tiles path below the prefix, such as `tile/1/x001/234`."""
        groups = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        return f"tile/{self.level}/" + "/".join(reversed(groups))


@dataclass(frozen=True, slots=True)
class FullTile:
    """256 hashes of 32 bytes, and their root: the hash that stands in the level above."""

    id: TileId
    root: bytes
    hashes: bytes


def tile_of(level: int, index: int) -> tuple[TileId, int, int]:
    """Which tile holds the tree node `(level, index)`, and the slots of it that lie below.

    Returns the tile, the first slot and the number of slots (a power of two up to 128).
    """
    tile_level, inner = divmod(level, TILE_HEIGHT)
    first = index << inner
    return TileId(tile_level, first >> TILE_HEIGHT), first % TILE_WIDTH, 1 << inner


@dataclass(frozen=True, slots=True)
class Tail:
    """The right edge of a tree of `size` leaves: per tile level, the hashes not in a full tile.

    A value: extending it gives a new one, so a commit that fails leaves nothing to undo.
    """

    size: int
    levels: tuple[tuple[bytes, ...], ...]

    def extended(self, leaves: Sequence[bytes]) -> tuple[Tail, list[FullTile]]:
        """The tail after `leaves` (leaf hashes), and the tiles that became full on the way."""
        full: list[FullTile] = []
        levels: list[tuple[bytes, ...]] = []
        size, level = self.size, 0
        arriving = tuple(leaves)
        while arriving or level < len(self.levels):
            row = (self.levels[level] if level < len(self.levels) else ()) + arriving
            arriving = ()
            index = size >> (TILE_HEIGHT * (level + 1))
            while len(row) >= TILE_WIDTH:
                hashes, row = row[:TILE_WIDTH], row[TILE_WIDTH:]
                root = root_of(hashes)
                full.append(FullTile(TileId(level, index), root, b"".join(hashes)))
                arriving += (root,)
                index += 1
            levels.append(row)
            level += 1
        return Tail(size + len(leaves), tuple(levels)), full

    def root(self) -> bytes:
        """The RFC 6962 root: each level's hashes, closed by the ragged rest from below."""
        rest: tuple[bytes, ...] = ()
        for row in self.levels:
            if row or rest:
                rest = (root_of(row + rest),)
        return root_of(rest)


EMPTY_TAIL = Tail(0, ())
