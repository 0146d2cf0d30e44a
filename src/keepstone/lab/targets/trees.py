"""Models that are sums of decision trees, with their splits laid open to who attacks them.

What is served is still what the model says; the splits only tell where to look. They are read off
the objects of scikit-learn, XGBoost and LightGBM (`forests`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.targets.around import Around
from keepstone.lab.targets.port import Capability, Target

_PROBES = 64
# Ties may fall otherwise in the library's own sum than in this one; no more than so many do.
_AGREE = 0.9


@dataclass(frozen=True, slots=True)
class Trees:
    """The nodes of all trees, one after another, in arrays of `m`.

    A row goes to `left` where its `feature` is `<= threshold`, else to `right`. A leaf is its own
    child, whatever the row. Scores are `base` (k,) and the `value` (m, k) of one leaf a tree;
    `roots` (t,) is where each tree begins, `depth` the most steps to a leaf.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    value: Array
    roots: Array
    depth: int
    base: Array

    @property
    def is_leaf(self) -> Array:
        return np.asarray(self.left == np.arange(len(self.left)))

    def thresholds(self, width: int) -> list[Array]:
        """The places at which each of `width` features is split, ascending."""
        inner = ~self.is_leaf
        feature, threshold = self.feature[inner], self.threshold[inner]
        return [np.unique(threshold[feature == at]) for at in range(width)]

    def descend(self, rows: Array, nodes: Array) -> Array:
        """Where rows end that stand at `nodes` (n,) or (n, t) of their trees."""
        at = np.arange(len(rows)).reshape(-1, *(1,) * (nodes.ndim - 1))
        for _ in range(self.depth):
            low = rows[at, self.feature[nodes]] <= self.threshold[nodes]
            nodes = np.where(low, self.left[nodes], self.right[nodes])
        return nodes

    def leaves(self, rows: Array) -> Array:
        """The leaf of each tree at each row, `(n, t)`."""
        return self.descend(rows, np.broadcast_to(self.roots, (len(rows), len(self.roots))))

    def scores(self, rows: Array) -> Array:
        """`(n, k)`, in pieces that fit a cache."""
        piece = max(1, 200_000 // max(1, len(self.roots)))
        parts = [
            self.base + self.value[self.leaves(rows[at : at + piece])].sum(axis=1)
            for at in range(0, len(rows), piece)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.base)))

    def boxes(self, tree: int, width: int) -> tuple[Array, Array, Array]:
        """The leaves of one tree, and the `low` (exclusive) and `high` of each, `(leaves, d)`."""
        inner = ~self.is_leaf
        found, low, high = [], [], []
        todo = [(int(self.roots[tree]), np.full(width, -np.inf), np.full(width, np.inf))]
        while todo:
            node, below, above = todo.pop()
            if not inner[node]:
                found.append(node)
                low.append(below)
                high.append(above)
                continue
            at, cut = self.feature[node], self.threshold[node]
            less, more = above.copy(), below.copy()
            less[at], more[at] = min(above[at], cut), max(below[at], cut)
            todo.append((int(self.left[node]), below, less))
            todo.append((int(self.right[node]), more, above))
        return np.array(found), np.stack(low), np.stack(high)


@runtime_checkable
class TreesTarget(Target, Protocol):
    """A classifier whose trees are known."""

    @property
    def trees(self) -> Trees: ...


class TreeTarget(Around):
    """`served` is asked; `trees` is what an attacker knows of it.

    Raises InputError `target.bad_trees` if the trees are not those of what is served.
    """

    gives = frozenset({Capability.TREES})

    def __init__(self, served: Target, trees: Trees) -> None:
        super().__init__(served)
        self.trees = trees
        rows = served.domain.draw(_PROBES)
        if trees.feature.max(initial=0) >= served.domain.width or len(trees.base) != served.classes:
            raise _others()
        same = trees.scores(rows).argmax(axis=1) == served.predict(rows).labels
        if same.mean() < _AGREE:
            raise _others()


def _others() -> InputError:
    return InputError(
        "target.bad_trees",
        "The trees answer otherwise than the model that is served.",
        "Read them off the very object that serves, and give it the inputs that it was fitted on.",
    )
