"""The Merkle tree of RFC 6962, pure: bytes in, hashes out.

Nodes are named `(level, index)`: the node at `level` with `index` spans the `2**level` leaves
from `index * 2**level` on, and only complete nodes are ever asked for. Every `verify_*` returns
None if the claim holds and raises VerificationError `proof.invalid` if it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest

from keepstone.errors import InputError, VerificationError

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()
MAX_PATH = 64

Node = Callable[[int, int], bytes]


def leaf_hash(body: bytes) -> bytes:
    """RFC 6962 2.1: the hash of one entry. The 0x00 keeps it from reading as a node."""
    return sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 2.1: the hash of an inner node over its two children."""
    return sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring subtrees of one size, of which the last may be smaller.

    Pairing from the left and carrying an odd last one up is the split at the largest power of
    two of RFC 6962 2.1.
    """
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        odd = [row[-1]] if len(row) % 2 else []
        row = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(row[0::2], row[1::2], strict=False)
        ] + odd
    return row[0]


class Frontier:
    """A growing tree that keeps only the roots of its complete subtrees, largest first.

    `append` costs one hash on average, `root` one per set bit of the size.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add one leaf *hash* on the right."""
        carry, size = leaf, self.size
        while size & 1:
            carry = node_hash(self._peaks.pop(), carry)
            size >>= 1
        self._peaks.append(carry)
        self.size += 1

    def root(self) -> bytes:
        """The RFC 6962 root over everything appended so far."""
        return _fold(self._peaks)


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def _split(size: int) -> int:
    """RFC 6962 2.1: the largest power of two smaller than `size` (which is at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def range_root(start: int, stop: int, node: Node) -> bytes:
    """The hash of the subtree over the leaves `start` to `stop`, from complete nodes.

    `start` must be a multiple of the largest power of two within the range, as it is for each
    range that RFC 6962 forms.
    """
    peaks = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        peaks.append(node(level, start >> level))
        start += 1 << level
    return _fold(peaks)


def inclusion_path(index: int, size: int, node: Node) -> list[bytes]:
    """RFC 6962 2.1.1: the audit path of leaf `index` in the tree of `size` leaves, leaf first."""
    if not 0 <= index < size:
        raise InputError("proof.bad_range", f"There is no entry {index} in a tree of {size}.")
    path: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    path.reverse()
    return path


def consistency_path(old: int, new: int, node: Node) -> list[bytes]:
    """RFC 6962 2.1.2: the proof that the tree of `old` leaves is a prefix of that of `new`."""
    if not 0 <= old <= new:
        raise InputError("proof.bad_range", f"A tree of {new} cannot extend one of {old}.")
    if old in (0, new):
        return []
    path: list[bytes] = []
    start, stop = 0, new
    # SUBPROOF(m, D[n], b): walk down to where the old tree ends; `start` counts what is left
    # of it, and b ("the old tree is one complete subtree that starts at 0") is `start == 0`.
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    if start:
        path.append(range_root(start, stop, node))
    path.reverse()
    return path


def _invalid(cause: str) -> VerificationError:
    return VerificationError(
        "proof.invalid", cause, "Ask for a fresh proof; if it fails again, verify the ledger."
    )


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(item) != HASH_SIZE for item in hashes):
        raise _invalid("A hash of the proof is not 32 bytes long.")


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Return if `leaf` (a leaf *hash*) is entry `index` of the tree with `size` and `root`.

    RFC 9162 2.1.3.2, which verifies the audit path of RFC 6962 2.1.1:
    (1) the index lies within the tree; (2) walk from the leaf to the root, joining left or
    right as the bits of the index say; (3) the path is used up exactly at the root; (4) the
    root is the one claimed.
    """
    # (1) RFC 9162 2.1.3.2 step 1
    if not 0 <= index < size:
        raise _invalid(f"There is no entry {index} in a tree of {size}.")
    _check_hashes([leaf, root, *path])
    # (2) RFC 9162 2.1.3.2 steps 2 to 4
    node, last, computed = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise _invalid("The inclusion path is longer than the tree is high.")
        if node & 1 or node == last:
            computed = node_hash(sibling, computed)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, sibling)
        node >>= 1
        last >>= 1
    # (3) RFC 9162 2.1.3.2 step 5: sn is 0
    if last:
        raise _invalid("The inclusion path ends below the root.")
    # (4) RFC 9162 2.1.3.2 step 5: r is the root hash
    if not compare_digest(computed, root):
        raise _invalid(f"Entry {index} is not under this root.")


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Return if the tree of `old_size` and `old_root` is a prefix of the new one.

    RFC 9162 2.1.4.2, which verifies the proof of RFC 6962 2.1.2:
    (1) the trivial sizes have an empty proof; (2) a complete old tree is the first node itself;
    (3) walk up, rebuilding both roots; (4) the path is used up exactly at the root; (5) both
    roots are the ones claimed.
    """
    _check_hashes([old_root, new_root, *path])
    # (1) equal trees and the empty tree need no proof
    if not 0 <= old_size <= new_size:
        raise _invalid(f"A tree of {new_size} cannot extend one of {old_size}.")
    if old_size in (0, new_size):
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if path or not compare_digest(old_root, expected):
            raise _invalid("Two trees of the same size have different roots.")
        return
    # (2) RFC 9162 2.1.4.2 step 2: a power of two needs no first node
    nodes = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    if len(nodes) < 2:
        raise _invalid("The consistency proof is too short.")
    # (3) RFC 9162 2.1.4.2 steps 3 to 6
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            raise _invalid("The consistency proof is longer than the tree is high.")
        if node & 1 or node == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    # (4) RFC 9162 2.1.4.2 step 7: sn is 0
    if last:
        raise _invalid("The consistency proof ends below the root.")
    # (5) RFC 9162 2.1.4.2 step 7: fr is the first root, sr the second
    if not (compare_digest(old, old_root) and compare_digest(new, new_root)):
        raise _invalid("The later tree does not extend the earlier one.")
