"""The trees of scikit-learn's, XGBoost's and LightGBM's objects, as one kind of arrays.

Reads attributes and dumps of objects that the caller made; loads nothing, and imports none of
these libraries. Splits on categories, and trees that end in linear models, are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.targets.trees import Trees


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree by its own numbering. `left` is -1 at a leaf; `value` is `(nodes, k)`."""

    feature: Array
    threshold: Array
    left: Array
    right: Array
    value: Array


def read_trees(model: Any) -> Trees:
    """The trees of a fitted classifier.

    Raises InputError `target.no_trees` for an object that has none which are read here.
    """
    if hasattr(model, "tree_"):
        return _joined([_sklearn(model.tree_, 1.0)], None)
    if hasattr(model, "_predictors") and hasattr(model, "_baseline_prediction"):
        return _histogram(model)
    if hasattr(model, "get_booster") or hasattr(model, "save_raw"):
        return _xgboost(model.get_booster() if hasattr(model, "get_booster") else model)
    if hasattr(model, "booster_") or hasattr(model, "dump_model"):
        return _lightgbm(model.booster_ if hasattr(model, "booster_") else model)
    found = getattr(model, "estimators_", None)
    # Trees that are averaged. What weighs its trees, or adds to a first guess, is none of these.
    weighted = any(hasattr(model, name) for name in ("estimator_weights_", "init_", "train_score_"))
    if isinstance(found, list) and not weighted and all(hasattr(one, "tree_") for one in found):
        whole = all(getattr(one, "n_features_in_", None) == model.n_features_in_ for one in found)
        if whole and len({len(one.tree_.value[0][0]) for one in found}) == 1:
            return _joined([_sklearn(one.tree_, 1 / len(found)) for one in found], None)
    raise InputError(
        "target.no_trees",
        "The object has no decision trees that are read here.",
        "Give a tree, a forest or a histogram boosting of scikit-learn, or an XGBoost or LightGBM"
        " model without categories.",
    )


def _sklearn(tree: Any, weight: float) -> _Tree:
    value = np.asarray(tree.value[:, 0, :], np.float64)
    value = value / np.maximum(value.sum(axis=1, keepdims=True), 1e-300) * weight
    left = np.asarray(tree.children_left)
    return _Tree(tree.feature, tree.threshold, left, tree.children_right, value)


def _histogram(model: Any) -> Trees:
    base = np.asarray(model._baseline_prediction, np.float64).ravel()
    found = []
    for turn in model._predictors:
        for at, tree in enumerate(turn):
            nodes = tree.nodes
            if nodes["is_categorical"].any():
                raise _categories()
            leaf = nodes["is_leaf"].astype(bool)
            left = np.where(leaf, -1, nodes["left"].astype(np.int64))
            value = _column(nodes["value"], at, len(base))
            found.append(
                _Tree(nodes["feature_idx"], nodes["num_threshold"], left, nodes["right"], value)
            )
    return _joined(found, base)


def _xgboost(booster: Any) -> Trees:
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    if learner["gradient_booster"].get("name") != "gbtree":
        raise _categories()
    model = learner["gradient_booster"]["model"]
    count = max(1, int(learner["learner_model_param"]["num_class"]))
    base = _base_score(learner, count)
    found = []
    for tree, at in zip(model["trees"], model["tree_info"], strict=True):
        if any(tree.get("split_type", ())):
            raise _categories()
        left = np.array(tree["left_children"])
        # XGBoost goes left below its threshold, and compares 32-bit floats.
        cut = np.array(tree["split_conditions"], np.float32)
        below = np.nextafter(cut, np.float32(-np.inf))
        value = _column(np.where(left < 0, cut, 0), at, count)
        feature, right = np.array(tree["split_indices"]), np.array(tree["right_children"])
        found.append(_Tree(feature, below.astype(np.float64), left, right, value))
    return _joined(found, base)


def _base_score(learner: Mapping[str, Any], count: int) -> Array:
    given = str(learner["learner_model_param"]["base_score"]).strip("[]")
    base = np.array([float(part) for part in given.split(",")])
    name = learner["objective"]["name"]
    if name in ("binary:logistic", "reg:logistic"):
        # It is said as a probability, and added as a logit.
        base = np.log(base) - np.log1p(-base)
    return np.broadcast_to(base, (count,)).astype(np.float64)


def _lightgbm(booster: Any) -> Trees:
    model = booster.dump_model()
    count = int(model["num_tree_per_iteration"])
    found = []
    for at, tree in enumerate(model["tree_info"]):
        nodes: list[Mapping[str, Any]] = []
        links: list[tuple[int, int]] = []
        # A tree may be deeper than Python's stack.
        todo = [(tree["tree_structure"], -1, 0)]
        while todo:
            node, parent, side = todo.pop()
            here = len(nodes)
            nodes.append(node)
            links.append((-1, -1))
            if parent >= 0:
                pair = list(links[parent])
                pair[side] = here
                links[parent] = (pair[0], pair[1])
            if "split_feature" in node:
                if node["decision_type"] != "<=" or node.get("missing_type") == "Zero":
                    raise _categories()
                todo += [(node["left_child"], here, 0), (node["right_child"], here, 1)]
            elif "leaf_const" in node:
                raise _categories()
        feature = np.array([node.get("split_feature", 0) for node in nodes])
        cut = np.array([float(node.get("threshold", 0)) for node in nodes])
        value = np.array([float(node.get("leaf_value", 0)) for node in nodes])
        left, right = np.array(links).T
        found.append(_Tree(feature, cut, left, right, _column(value, at % count, count)))
    return _joined(found, np.zeros(count))


def _column(value: Array, at: int, count: int) -> Array:
    found = np.zeros((len(value), count))
    found[:, at] = value
    return found


def _joined(trees: Iterable[_Tree], base: Array | None) -> Trees:
    trees = list(trees)
    sizes = np.array([len(tree.left) for tree in trees])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    parts: dict[str, list[Array]] = {name: [] for name in _Tree.__slots__}
    depth = 0
    for tree, root in zip(trees, roots.tolist(), strict=True):
        own = np.arange(len(tree.left))
        leaf = np.asarray(tree.left) < 0
        left = np.where(leaf, own, tree.left) + root
        right = np.where(leaf, own, tree.right) + root
        parts["feature"].append(np.where(leaf, 0, tree.feature))
        parts["threshold"].append(np.where(leaf, np.inf, tree.threshold))
        parts["left"].append(left)
        parts["right"].append(right)
        parts["value"].append(np.where(leaf[:, None], tree.value, 0.0))
        depth = max(depth, _depth(left - root, right - root, leaf))
    value = np.concatenate(parts["value"])
    base = np.zeros(value.shape[1]) if base is None else base
    if value.shape[1] == 1:
        # One score is that of the second of two classes.
        value = np.concatenate([np.zeros_like(value), value], axis=1)
        base = np.array([0.0, float(base[0])])
    integers = {
        name: np.concatenate(parts[name]).astype(np.int64) for name in ("feature", "left", "right")
    }
    threshold = np.concatenate(parts["threshold"]).astype(np.float64)
    return Trees(
        integers["feature"],
        threshold,
        integers["left"],
        integers["right"],
        value,
        roots,
        depth,
        base,
    )


def _depth(left: Array, right: Array, leaf: Array) -> int:
    level, depth = np.zeros(1, np.int64), 0
    while (inner := level[~leaf[level]]).size:
        level = np.concatenate([left[inner], right[inner]])
        depth += 1
    return depth


def _categories() -> InputError:
    return InputError(
        "target.no_trees",
        "The model splits on categories, takes zeros for missing, or ends in linear models.",
        "Attack it by what it serves: random search needs no trees.",
    )
