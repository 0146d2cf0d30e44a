"""Climbing the margin of a sum of trees by crossing one split after another, without a query."""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.region import costs, into
from keepstone.lab.losses import best_other
from keepstone.lab.meter import Meter
from keepstone.lab.targets.trees import Trees

# How many of a row's crossings are tried in each step, the most promising first.
_TRIED = 3


def climb(
    meter: Meter, trees: Trees, at: Array, start: Array, eps: Array, most: int
) -> tuple[Array, Array]:
    """Rows within `eps` (n,) of the samples `at`, and their margins by the trees' own sums.

    A row is done when its margin is above zero or no crossing raises it.
    """
    rows = start.copy()
    right = meter.y[at]
    margin, rival = _margins(trees, rows, right)
    going = np.flatnonzero(margin <= 0)
    for _ in range(most):
        if not going.size:
            break
        tries, owner = _crossings(meter, trees, at, rows, eps, rival, going)
        if not owner.size:
            break
        tries = into(meter, at[owner], tries, eps[owner])
        found, other = _margins(trees, tries, right[owner])
        # Of each row's tries the best, which is written last.
        order = np.argsort(found, kind="stable")
        best = np.full(len(rows), -1)
        best[owner[order]] = order
        raised = going[best[going] >= 0]
        raised = raised[found[best[raised]] > margin[raised] + 1e-9]
        rows[raised], margin[raised] = tries[best[raised]], found[best[raised]]
        rival[raised] = other[best[raised]]
        going = raised[margin[raised] <= 0]
    return rows, margin


def _margins(trees: Trees, rows: Array, right: Array) -> tuple[Array, Array]:
    scores = trees.scores(rows)
    other, each = best_other(scores, right), np.arange(len(rows))
    return scores[each, other] - scores[each, right], other


def _crossings(
    meter: Meter,
    trees: Trees,
    at: Array,
    rows: Array,
    eps: Array,
    rival: Array,
    going: Array,
) -> tuple[Array, Array]:
    """Rows just across a split, and whose they are: the few most promising of each of `going`."""
    # A boosted tree adds to one class: those of other classes than the two in question wait.
    votes = np.logical_or.reduceat(trees.value != 0, trees.roots)
    counts = votes[:, rival[going]].T | votes[:, meter.y[at[going]]].T
    row, node, path = _splits(trees, rows, going, counts)
    feature = trees.feature[node]
    kind = rows.dtype
    value = rows[row, feature]
    up = value <= trees.threshold[node]
    cut = trees.threshold[node]
    beyond = np.where(up, above(cut, kind), at_most(cut, kind)).astype(kind)
    origin = meter.x[at[row], feature]
    # Alone, a feature's change is as long under every norm that is offered.
    near = np.abs(beyond - origin) * costs(meter)[feature] <= eps[row]
    near &= (beyond >= meter.domain.low[feature]) & (beyond <= meter.domain.high[feature])
    constraints = meter.domain.constraints
    if constraints is not None:
        near &= ~constraints.immutable[feature]
        near &= (beyond - origin) * constraints.direction[feature] >= 0
    row, node, feature, up, beyond, value, path = (
        part[near] for part in (row, node, feature, up, beyond, value, path)
    )
    if not row.size:
        return rows[:0], row
    # Where its tree ends a row that crosses this split, and what that is worth.
    child = np.where(up, trees.right[node], trees.left[node])
    end = _descend(trees, rows, row, feature, beyond, child)
    wanted, given = rival[row], meter.y[at[row]]
    worth = trees.value[end, wanted] - trees.value[end, given]
    worth -= trees.value[path, wanted] - trees.value[path, given]
    return _together(rows, row, feature, up, beyond, value, worth)


def _splits(trees: Trees, rows: Array, going: Array, counts: Array) -> tuple[Array, Array, Array]:
    """The splits on the paths of `going`, in the trees that count for each `(n, t)`: their row,
    their node, and the leaf that the path ends at."""
    owner, tree = np.nonzero(counts)
    owner, node = going[owner], trees.roots[tree]
    at = np.arange(len(node))
    found, steps = [], []
    while at.size:
        here = node[at]
        at = at[trees.left[here] != here]
        here = node[at]
        found.append(here)
        steps.append(at)
        low = rows[owner[at], trees.feature[here]] <= trees.threshold[here]
        node[at] = np.where(low, trees.left[here], trees.right[here])
    # Each path ended where its node now stands.
    way = np.concatenate(steps)
    return owner[way], np.concatenate(found), node[way]


def _descend(
    trees: Trees, rows: Array, row: Array, feature: Array, beyond: Array, node: Array
) -> Array:
    """The leaves below `node` of rows of which one feature has another value."""
    node = node.copy()
    open_ = np.flatnonzero(trees.left[node] != node)
    while open_.size:
        here = node[open_]
        asked = trees.feature[here]
        value = np.where(asked == feature[open_], beyond[open_], rows[row[open_], asked])
        low = value <= trees.threshold[here]
        here = np.where(low, trees.left[here], trees.right[here])
        node[open_] = here
        open_ = open_[trees.left[here] != here]
    return node


def _together(
    rows: Array,
    row: Array,
    feature: Array,
    up: Array,
    beyond: Array,
    value: Array,
    worth: Array,
) -> tuple[Array, Array]:
    """Who goes beyond a split has crossed the nearer ones too: their worths are added up."""
    group = (row * rows.shape[1] + feature) * 2 + up
    order = np.lexsort((np.abs(beyond - value), group))
    summed = np.cumsum(worth[order])
    first = np.flatnonzero(np.r_[True, group[order][1:] != group[order][:-1]])
    before = np.repeat(summed[first] - worth[order][first], np.diff(np.r_[first, len(order)]))
    total = np.empty_like(summed)
    total[order] = summed - before
    # The best of each row and feature side, then the best few of each row.
    order = np.lexsort((-total, group))
    kept = order[np.r_[True, group[order][1:] != group[order][:-1]]]
    kept = kept[np.lexsort((-total[kept], row[kept]))]
    start = np.flatnonzero(np.r_[True, row[kept][1:] != row[kept][:-1]])
    rank = np.arange(len(kept)) - np.repeat(start, np.diff(np.r_[start, len(kept)]))
    kept = kept[(rank < _TRIED) & (total[kept] > 0)]
    tries = rows[row[kept]]
    tries[np.arange(len(kept)), feature[kept]] = beyond[kept]
    return tries, row[kept]


def above(cut: Array, kind: np.dtype[np.generic]) -> Array:
    """The least number of a type that is greater than `cut`."""
    near = cut.astype(kind)
    return np.where(near > cut, near, np.nextafter(near, np.array(np.inf, kind)))


def at_most(cut: Array, kind: np.dtype[np.generic]) -> Array:
    """The greatest number of a type that is no greater than `cut`."""
    near = cut.astype(kind)
    return np.where(near <= cut, near, np.nextafter(near, np.array(-np.inf, kind)))
