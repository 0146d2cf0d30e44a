"""LightGBM models: text in sections, where every count must be true.

Promise: clean only where each tree has the arrays that its number of leaves asks for, its nodes
form a tree, its bytes are as many as `tree_sizes` says, and what follows the trees is settings.
Source: LightGBM src/boosting/gbdt_model_text.cpp and src/io/tree.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.text.parsed import parse_json
from keepstone.scan.text.payload import attack_in
from keepstone.scan.text.words import words
from keepstone.scan.trees.shape import MAX_TREES, count, is_tree
from keepstone.scan.view import View

MARK = "tree\nversion="
_END = "end of trees"
_HEAD = frozenset(
    words(
        """
    version num_class num_tree_per_iteration label_index max_feature_idx objective
    average_output feature_names feature_infos tree_sizes monotone_constraints
    """
    )
)
_OBJECTIVES = frozenset(
    words(
        """
    regression regression_l1 huber fair poisson quantile mape gamma tweedie binary multiclass
    multiclassova cross_entropy cross_entropy_lambda lambdarank rank_xendcg l2 l1 mse mae custom
    none
    """
    )
)
_TREE = frozenset(
    words(
        """
    Tree num_leaves num_cat split_feature split_gain threshold decision_type left_child
    right_child leaf_value leaf_weight leaf_count internal_value internal_weight internal_count
    cat_boundaries cat_threshold is_linear leaf_const num_features leaf_features leaf_coeff
    shrinkage
    """
    )
)
_INNER = ["split_feature", "threshold", "left_child", "right_child"]
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|inf|nan)\Z", re.IGNORECASE)
_SETTING = re.compile(r"\[\w+: ?[^\n]*\]\Z")


def lightgbm_findings(view: View, text: str) -> Iterator[Finding]:
    """Judge a model in LightGBM's text format."""
    problem = _Text(text.replace("\r\n", "\n")).problem()
    if problem is not None:
        rule, what = problem
        yield view.finding(rule, f"LightGBM: {what}.")
    # The trees are numbers, or were refused; texts stand before and behind them.
    first, last = text.find("\nTree="), text.rfind(f"\n{_END}")
    if attack := attack_in(text[: first if first >= 0 else None] + text[max(last, 0) :]):
        yield view.finding("config.attack", f"The model says {printable(attack, 60)}.")


class _Text:
    def __init__(self, text: str) -> None:
        self.text = text
        self.features = 0

    def problem(self) -> tuple[str, str] | None:
        """The first thing that is wrong, with its rule."""
        trees_at = self.text.find("\nTree=")
        end = self.text.find(f"\n{_END}")
        if end < 0:
            return "trees.inconsistent", "the trees have no end"
        head = self.text[: trees_at if 0 <= trees_at < end else end]
        return (
            self.header(head)
            or self.trees(head, trees_at + 1 if 0 <= trees_at < end else end + 1, end)
            or self.rest(self.text[end + 1 :])
        )

    def header(self, head: str) -> tuple[str, str] | None:
        fields: dict[str, str] = {}
        for line in head.splitlines()[1:]:
            if not line.strip():
                continue
            key, _, value = line.partition("=")
            if key not in _HEAD:
                return "trees.unknown", f"a line of its head is not known: {printable(key, 40)}"
            if key in fields:
                return "trees.inconsistent", f"{key} comes twice"
            fields[key] = value
        most = count(fields.get("max_feature_idx"))
        if most is None or count(fields.get("num_class")) in (None, 0):
            return "trees.inconsistent", "it does not say how many features or classes it has"
        self.features = most + 1
        for key in ("feature_names", "feature_infos"):
            if key in fields and len(fields[key].split(" ")) != self.features:
                return "trees.inconsistent", f"{key} are not one for each of {self.features}"
        objective = fields.get("objective", "custom").split(" ")[0]
        if objective not in _OBJECTIVES:
            return "trees.unknown", f"the objective {printable(objective, 40)} is not LightGBM's"
        return None

    def trees(self, head: str, start: int, end: int) -> tuple[str, str] | None:
        found = re.search(r"^tree_sizes=(.*)$", head, re.MULTILINE)
        sizes = [count(item) for item in found.group(1).split()] if found else []
        if None in sizes or len(sizes) > MAX_TREES:
            return "trees.inconsistent", "the sizes of the trees are no numbers"
        blocks = self.text[start:end].split("\nTree=") if end > start else []
        if found and len(blocks) != len(sizes):
            return "trees.inconsistent", f"there are {len(blocks)} trees and not {len(sizes)}"
        at = start
        for index, block in enumerate(blocks):
            whole = block if index == 0 else f"Tree={block}"
            # The reader jumps from tree to tree by these sizes.
            size = sizes[index] if found else None
            if size is not None and at + size < len(self.text):
                following = self.text[at + size : at + size + len(_END)]
                if not following.startswith(("Tree=", _END)):
                    return "trees.inconsistent", f"tree {index} is not as long as the head says"
                at += size
            problem = self.tree(whole, index)
            if problem:
                return problem
        return None

    def tree(self, block: str, index: int) -> tuple[str, str] | None:
        where = f"tree {index}"
        fields: dict[str, str] = {}
        for line in block.splitlines():
            if not line.strip():
                continue
            key, _, value = line.partition("=")
            if key not in _TREE:
                return "trees.unknown", f"a line of {where} is not known: {printable(key, 40)}"
            if key in fields:
                return "trees.inconsistent", f"{key} comes twice in {where}"
            fields[key] = value
        leaves = count(fields.get("num_leaves"))
        if fields.get("Tree") != str(index) or leaves is None or leaves < 1:
            return "trees.inconsistent", f"{where} has no number of leaves, or another place"
        inner = leaves - 1
        lists = {key: value.split() for key, value in fields.items() if key != "Tree"}
        for key, items in lists.items():
            if not all(_NUMBER.match(item) for item in items):
                return "trees.inconsistent", f"{where}: {key} has what is no number"
        for key in _INNER if inner else ():
            if len(lists.get(key, ())) != inner:
                return "trees.inconsistent", f"{where}: {key} is not one for each of {inner} nodes"
        if len(lists.get("leaf_value", ())) != leaves:
            return "trees.inconsistent", f"{where}: leaf_value is not one for each leaf"
        return (self.nodes(lists, leaves, where) if inner else None) or self.categories(
            lists, where
        )

    def nodes(self, lists: dict[str, list[str]], leaves: int, where: str) -> tuple[str, str] | None:
        try:
            left, right, split = (
                [int(item) for item in lists[key]]
                for key in ("left_child", "right_child", "split_feature")
            )
        except ValueError:
            return "trees.inconsistent", f"{where}: a node is no whole number"
        inner = leaves - 1
        # A negative child is the leaf ~child.
        if any(not -leaves <= child < inner for child in (*left, *right)):
            return "trees.inconsistent", f"{where}: a node points outside of the tree"
        if any(not 0 <= feature < self.features for feature in split):
            return "trees.inconsistent", f"{where}: a split is on a feature that does not exist"
        if not is_tree(left, right):
            return "trees.cycle", f"the nodes of {where} form a circle"
        return None

    def categories(self, lists: dict[str, list[str]], where: str) -> tuple[str, str] | None:
        bounds = [count(item) for item in lists.get("cat_boundaries", [])]
        sets = lists.get("cat_threshold", [])
        number = count((lists.get("num_cat") or ["0"])[0])
        if number is None or (number and len(bounds) != number + 1):
            return "trees.inconsistent", f"{where}: its categories are another number"
        known = [item for item in bounds if item is not None]
        if len(known) != len(bounds) or sorted(known) != known or (known and known[-1] > len(sets)):
            return "trees.inconsistent", f"{where}: its categories point outside of their list"
        return None

    def rest(self, text: str) -> tuple[str, str] | None:
        """What follows the trees: importances, settings, and the categories of pandas."""
        section = ""
        for line in text.splitlines()[1:]:
            bare = line.strip()
            if bare in ("feature_importances:", "parameters:"):
                section = bare
            elif bare == "end of parameters":
                section = ""
            elif bare.startswith("pandas_categorical:"):
                if parse_json(bare.partition(":")[2]) is None:
                    return "trees.inconsistent", "the categories of pandas are no JSON"
            elif (section == "parameters:" and (not bare or _SETTING.match(bare))) or (
                section == "feature_importances:" and (not bare or "=" in bare)
            ):
                pass
            elif bare:
                return (
                    "trees.unknown",
                    f"a line behind the trees is not known: {printable(bare, 40)}",
                )
        return None
