"""XGBoost models, as JSON and UBJSON hold them: data, where every count is true.

Promise: a model is clean only where all of its arrays have the lengths that its counts say,
every node is reached once, every feature exists, and the names of its booster and objective are
XGBoost's own. Source: XGBoost's model schema (doc/model.schema) and src/tree/tree_model.cc.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.text.payload import attack_in
from keepstone.scan.text.words import words
from keepstone.scan.trees.shape import MAX_TREES, count, is_tree, numbers, reals
from keepstone.scan.view import View

_OBJECTIVES = frozenset(
    words(
        """
    reg:squarederror reg:squaredlogerror reg:logistic reg:pseudohubererror reg:absoluteerror
    reg:quantileerror reg:gamma reg:tweedie reg:linear reg:expectileerror binary:logistic
    binary:logitraw binary:hinge count:poisson survival:cox survival:aft multi:softmax
    multi:softprob rank:ndcg rank:map rank:pairwise
    """
    )
)
_ROOT = frozenset(("learner", "version", "Config", "Model"))
_LEARNER = frozenset(
    words(
        """
    attributes feature_names feature_types gradient_booster learner_model_param objective
    learner_train_param metrics cats generic_param generic_parameter
    """
    )
)
_MODEL = frozenset(
    words(
        """
    gbtree_model_param trees tree_info iteration_indptr cats weights boosted_rounds param
    """
    )
)
_NODES = words(
    """
    left_children right_children parents split_indices split_conditions default_left split_type
    loss_changes sum_hessian
    """
)
_OTHER = frozenset(
    words(
        """
    id base_weights leaf_weights leaf_child_counts categories categories_nodes
    categories_segments categories_sizes tree_param num_nodes
    """
    )
)
_NONE = 0x7FFFFFFF


def is_xgboost(value: Any) -> bool:
    """True where a parsed value is an XGBoost model to its reader."""
    if isinstance(value, Mapping) and isinstance(value.get("Model"), Mapping):
        value = value["Model"]
    learner = value.get("learner") if isinstance(value, Mapping) else None
    return isinstance(learner, Mapping) and "gradient_booster" in learner


def xgboost_findings(view: View, value: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge a parsed model."""
    look = _Look(view)
    if isinstance(value.get("Model"), Mapping):
        yield from look.others(value, _ROOT, "model")
        value = value["Model"]
    yield from look.others(value, _ROOT, "model")
    yield from look.learner(value["learner"])


class _Look:
    def __init__(self, view: View) -> None:
        self.view = view

    def wrong(self, what: str) -> Finding:
        return self.view.finding("trees.inconsistent", f"XGBoost: {what}.")

    def unknown(self, what: str) -> Finding:
        return self.view.finding("trees.unknown", f"XGBoost: {what}.")

    def others(
        self, value: Mapping[str, Any], known: frozenset[str], where: str
    ) -> Iterator[Finding]:
        names = sorted(set(value) - known)
        if names:
            shown = printable(", ".join(map(str, names)))
            yield self.unknown(f"the {where} has parts that are not known: {shown}")

    def learner(self, learner: Mapping[str, Any]) -> Iterator[Finding]:
        yield from self.others(learner, _LEARNER, "learner")
        param = learner.get("learner_model_param")
        features = count(param.get("num_feature")) if isinstance(param, Mapping) else None
        if features is None:
            yield self.wrong("the number of features is none")
            features = 0
        for key in ("feature_names", "feature_types"):
            names = learner.get(key, [])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                yield self.wrong(f"{key} are no names")
            elif names and len(names) != features:
                yield self.wrong(f"there are {len(names)} {key} for {features} features")
        objective = learner.get("objective")
        name = objective.get("name") if isinstance(objective, Mapping) else None
        if name not in _OBJECTIVES:
            yield self.unknown(f"the objective {printable(str(name))} is not XGBoost's")
        attributes = learner.get("attributes", {})
        for key, text in attributes.items() if isinstance(attributes, Mapping) else ():
            # Attributes are the user's own texts: their readers are unknown.
            if isinstance(text, str) and (attack := attack_in(text)):
                reason = f"The attribute {printable(key)} says {printable(attack, 60)}."
                yield self.view.finding("config.attack", reason)
        yield from self.booster(learner["gradient_booster"], features)

    def booster(self, booster: Any, features: int) -> Iterator[Finding]:
        match booster:
            case {"name": "dart", "gbtree": Mapping() as inner, "weight_drop": list() as drop}:
                trees = yield from self.trees(inner.get("model"), features)
                if trees is not None and (len(drop) != trees or not reals(drop)):
                    yield self.wrong("the weights of dropped trees are not one for each tree")
            case {"name": "gbtree", "model": model}:
                yield from self.trees(model, features)
            case {"name": "gblinear", "model": {"weights": weights}}:
                if not reals(weights):
                    yield self.wrong("the weights are no numbers")
                elif features and len(weights) % (features + 1):
                    yield self.wrong("the weights are not one for each feature and the bias")
            case _:
                yield self.wrong("the booster is none of XGBoost's")

    def trees(self, model: Any, features: int) -> Generator[Finding, None, int | None]:
        """Judge a model of trees; the number of them is handed back."""
        trees = model.get("trees") if isinstance(model, Mapping) else None
        if not isinstance(trees, list) or len(trees) > MAX_TREES:
            yield self.wrong("there are no trees")
            return None
        yield from self.others(model, _MODEL, "booster")
        param = model.get("gbtree_model_param")
        said = count(param.get("num_trees")) if isinstance(param, Mapping) else None
        if said != len(trees):
            yield self.wrong(f"there are {len(trees)} trees and not {said}")
        if len(numbers(model.get("tree_info"), 0, 1 << 31) or []) != len(trees):
            yield self.wrong("the trees' groups are not one for each tree")
        rounds = model.get("iteration_indptr")
        if rounds is not None and (
            numbers(rounds, 0, len(trees) + 1) is None
            or sorted(rounds) != rounds
            or (rounds and (rounds[0] != 0 or rounds[-1] != len(trees)))
        ):
            yield self.wrong("the rounds do not divide the trees")
        problems = 0
        for index, tree in enumerate(trees):
            for item in self.tree(tree, index, features):
                problems += 1
                yield item
            if problems > 20:
                break
        return len(trees)

    def tree(self, tree: Any, index: int, features: int) -> Iterator[Finding]:
        where = f"tree {index}"
        if not isinstance(tree, Mapping) or not isinstance(tree.get("tree_param"), Mapping):
            yield self.wrong(f"{where} is none")
            return
        yield from self.others(tree, _OTHER | set(_NODES), where)
        nodes = count(tree["tree_param"].get("num_nodes"))
        if nodes is None or nodes < 1:
            yield self.wrong(f"{where} has no number of nodes")
            return
        for key in _NODES:
            held = tree.get(key)
            optional = key in ("split_type", "loss_changes", "sum_hessian") and not held
            if not optional and (not isinstance(held, list) or len(held) != nodes):
                yield self.wrong(f"{where}: {key} is not one for each of {nodes} nodes")
                return
        left = numbers(tree["left_children"], -1, nodes)
        right = self.right(tree, left, nodes)
        parents = tree["parents"]
        if (
            left is None
            or right is None
            or not all(item in (-1, _NONE) or 0 <= item < nodes for item in parents)
        ):
            yield self.wrong(f"{where}: a node points outside of the tree")
        elif any((one < 0) != (two < 0) for one, two in zip(left, right, strict=True)):
            yield self.wrong(f"{where}: a node has one child")
        elif not is_tree(left, right):
            yield self.view.finding("trees.cycle", f"XGBoost: the nodes of {where} form a circle.")
        elif not self.splits(tree, left, features):
            yield self.wrong(f"{where}: a split is on a feature that does not exist")
        yield from self.categories(tree, nodes, where)
        if not reals(tree["split_conditions"]) or not reals(tree.get("base_weights", [])):
            yield self.wrong(f"{where}: a number is none")

    def right(
        self, tree: Mapping[str, Any], left: list[int] | None, nodes: int
    ) -> list[int] | None:
        """The right children; a leaf of several outputs keeps its place among the leaves there."""
        width = count(tree["tree_param"].get("size_leaf_vector", "1")) or 1
        right = tree["right_children"]
        if width > 1 and left is not None and reals(tree.get("leaf_weights")):
            leaves = len(tree["leaf_weights"]) // width
            if all(type(item) is int and -1 <= item < max(nodes, leaves) for item in right):
                ends = zip(left, right, strict=True)
                if all(two < leaves for one, two in ends if one < 0):
                    right = [two if one >= 0 else -1 for one, two in zip(left, right, strict=True)]
        return numbers(right, -1, nodes)

    def splits(self, tree: Mapping[str, Any], left: list[int], features: int) -> bool:
        held = tree["split_indices"]
        # A leaf's number means nothing, and old versions left anything there.
        return all(
            type(item) is int and (child < 0 or 0 <= item < features)
            for item, child in zip(held, left, strict=True)
        )

    def categories(self, tree: Mapping[str, Any], nodes: int, where: str) -> Iterator[Finding]:
        every = tree.get("categories", [])
        which = numbers(tree.get("categories_nodes", []), 0, nodes)
        starts = numbers(tree.get("categories_segments", []), 0, len(every) + 1)
        sizes = numbers(tree.get("categories_sizes", []), 0, len(every) + 1)
        if (
            numbers(every, 0, 1 << 31) is None
            or which is None
            or starts is None
            or sizes is None
            or not len(which) == len(starts) == len(sizes)
            or any(one + two > len(every) for one, two in zip(starts, sizes, strict=True))
        ):
            yield self.wrong(f"{where}: its categories point outside of their list")
