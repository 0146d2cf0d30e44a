"""The tree against RFC 6962: known answers, a naive recursive tree, and forged proofs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.errors import InputError, VerificationError
from keepstone.ledger.tiles import EMPTY_TAIL, TileId, tile_of
from keepstone.ledger.tree import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The reference inputs and roots of the Certificate Transparency test suite.
INPUTS = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(item)) for item in INPUTS]

# Audit paths of RFC 6962 2.1.3 are checked through the naive tree below; sizes stay small
# enough to try every pair.
SIZES = st.integers(0, 70)


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def naive_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962 2.1.1, word by word."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_proof(m: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """RFC 6962 2.1.2, word by word."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_proof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_proof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(b"%d" % n) for n in range(size)]


class Nodes:
    """Complete nodes of a list of leaves, as proofs ask for them."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves

    def __call__(self, level: int, index: int) -> bytes:
        part = self.leaves[index << level : (index + 1) << level]
        assert len(part) == 1 << level, "an incomplete node was asked for"
        return naive_root(part)


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    frontier = Frontier()
    for leaf in LEAVES[:size]:
        frontier.append(leaf)
    tail, _ = EMPTY_TAIL.extended(LEAVES[:size])
    want = bytes.fromhex(ROOTS[size])
    assert frontier.root() == root_of(LEAVES[:size]) == tail.root() == want
    assert frontier.size == size


def test_leaves_and_nodes_are_told_apart() -> None:
    left, right = leaves_of(2)
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.lists(st.integers(0, 600), max_size=6))
@settings(max_examples=30, deadline=None)
def test_tail_grows_like_the_naive_tree(steps: list[int]) -> None:
    total = sum(steps)
    leaves, tail, at, full = leaves_of(total), EMPTY_TAIL, 0, []
    for step in steps:
        tail, tiles = tail.extended(leaves[at : at + step])
        full += tiles
        at += step
        assert tail.size == at
        assert tail.root() == root_of(leaves[:at])
    assert [tile.id for tile in full] == [TileId(0, n) for n in range(total // 256)]
    for tile in full:
        part = leaves[tile.id.index * 256 : (tile.id.index + 1) * 256]
        assert tile.hashes == b"".join(part)
        assert tile.root == naive_root(part)


def test_a_level_one_tile_fills() -> None:
    leaves = leaves_of(256) * 256
    tail, tiles = EMPTY_TAIL.extended(leaves[:-1])
    assert len(tiles) == 255
    tail, tiles = tail.extended(leaves[-1:])
    assert [tile.id for tile in tiles] == [TileId(0, 255), TileId(1, 0)]
    assert tiles[1].hashes == naive_root(leaves[:256]) * 256
    assert tail.root() == tiles[1].root
    assert [len(level) for level in tail.levels] == [0, 0, 1]


@given(SIZES)
def test_frontier_is_the_naive_root(size: int) -> None:
    leaves = leaves_of(size)
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    assert frontier.root() == naive_root(leaves) == root_of(leaves)


@given(st.data(), st.integers(1, 70))
def test_inclusion_paths(data: st.DataObject, size: int) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(index, size, Nodes(leaves))
    assert path == naive_path(index, leaves)
    verify_inclusion(leaves[index], index, size, path, naive_root(leaves))


@given(st.data(), SIZES)
def test_consistency_paths(data: st.DataObject, new: int) -> None:
    leaves = leaves_of(new)
    old = data.draw(st.integers(0, new))
    path = consistency_path(old, new, Nodes(leaves))
    assert path == (naive_proof(old, leaves) if old else [])
    verify_consistency(old, new, naive_root(leaves[:old]), naive_root(leaves), path)


@given(st.data(), st.integers(1, 40))
def test_forged_inclusion_is_refused(data: st.DataObject, size: int) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    path, root = naive_path(index, leaves), naive_root(leaves)
    other = data.draw(st.integers(0, size + 3).filter(lambda n: n != index))
    forged: list[tuple[bytes, int, int, list[bytes], bytes]] = [
        (leaf_hash(b"other"), index, size, path, root),
        (leaves[index], other, size, path, root),
        (leaves[index], -1, size, path, root),
        (leaves[index], index, size, path, leaf_hash(b"root")),
        (leaves[index], index, size, [*path, leaf_hash(b"more")], root),
        (leaves[index], index, size, [*path, b"short"], root),
    ]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        wrong = bytes([path[at][0] ^ 1]) + path[at][1:]
        forged.append((leaves[index], index, size, [*path[:at], wrong, *path[at + 1 :]], root))
        forged.append((leaves[index], index, size, path[:-1], root))
    for claim in forged:
        with pytest.raises(VerificationError) as refused:
            verify_inclusion(*claim)
        assert refused.value.code == "proof.invalid"


@given(st.data(), st.integers(1, 40))
def test_forged_consistency_is_refused(data: st.DataObject, new: int) -> None:
    leaves = leaves_of(new)
    old = data.draw(st.integers(0, new))
    path = consistency_path(old, new, Nodes(leaves))
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves)
    other = leaf_hash(b"other")
    forged = [
        (old, new, other, new_root, path),
        (old, new, old_root, new_root, [*path, other]),
        (new + 1, new, old_root, new_root, path),
        (-1, new, old_root, new_root, path),
        (old, new, old_root, new_root, [b"short"]),
    ]
    if old:
        forged.append((old, new, old_root, other, path))
    if path:
        forged.append((old, new, old_root, new_root, path[:-1]))
        forged.append((old, new, old_root, new_root, []))
        at = data.draw(st.integers(0, len(path) - 1))
        forged.append((old, new, old_root, new_root, [*path[:at], other, *path[at + 1 :]]))
    for claim in forged:
        with pytest.raises(VerificationError) as refused:
            verify_consistency(*claim)
        assert refused.value.code == "proof.invalid"


def test_the_empty_tree_is_a_prefix_of_every_tree() -> None:
    verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    verify_consistency(0, 3, EMPTY_ROOT, naive_root(LEAVES[:3]), [])


def test_what_does_not_exist_cannot_be_asked_for() -> None:
    nodes = Nodes(LEAVES)
    for index, size in [(8, 8), (-1, 8), (0, 0)]:
        with pytest.raises(InputError, match=r"proof\.bad_range"):
            inclusion_path(index, size, nodes)
    for old, new in [(9, 8), (-1, 8)]:
        with pytest.raises(InputError, match=r"proof\.bad_range"):
            consistency_path(old, new, nodes)


def test_tile_coordinates() -> None:
    assert tile_of(0, 257) == (TileId(0, 1), 1, 1)
    assert tile_of(7, 3) == (TileId(0, 1), 128, 128)
    assert tile_of(8, 256) == (TileId(1, 1), 0, 1)
    assert tile_of(17, 1) == (TileId(2, 0), 2, 2)
    # C2SP tlog-tiles gives these three.
    assert TileId(1, 1234067).path == "tile/1/x001/x234/067"
    assert TileId(0, 0).path == "tile/0/000"
    assert TileId(0, 272).end == 69888
    assert TileId(1, 0).end == 65536
