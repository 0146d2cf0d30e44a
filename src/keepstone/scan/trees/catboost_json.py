"""CatBoost's JSON export: oblivious trees as lists of splits.

Source: CatBoost's "JSON model" documentation and catboost/libs/model/model_export/json_model*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.text.config import config_findings
from keepstone.scan.text.words import words
from keepstone.scan.trees.shape import reals
from keepstone.scan.view import View

_ROOT = frozenset(
    words(
        """
    features_info model_info oblivious_trees trees scale_and_bias ctr_data prediction_type
    """
    )
)
# Deeper oblivious trees than CatBoost grows (16) have more leaves than a file holds.
_MAX_SPLITS = 30


def is_catboost(value: Mapping[str, Any]) -> bool:
    return "features_info" in value and ("oblivious_trees" in value or "trees" in value)


def catboost_json_findings(view: View, value: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge a parsed export."""
    if unknown := set(value) - _ROOT:
        reason = f"CatBoost: {len(unknown)} parts of the model are not known."
        yield view.finding("trees.unknown", reason)
    trees = value.get("oblivious_trees", [])
    if not isinstance(trees, list):
        yield view.finding("trees.inconsistent", "CatBoost: the trees are no list.")
        return
    for index, tree in enumerate(trees):
        problem = _oblivious(tree)
        if problem:
            reason = f"CatBoost: tree {index} {problem}."
            yield view.finding("trees.inconsistent", reason)
            break
    if "trees" in value:
        # Trees that are not symmetric nest as deep as they are.
        yield from _nested(view, value["trees"])
    yield from config_findings(view, {key: value[key] for key in value if "trees" not in key})


def _oblivious(tree: Any) -> str:
    match tree:
        case {"splits": list() as splits, "leaf_values": list() as leaves}:
            weights = tree.get("leaf_weights", [])
            if len(splits) > _MAX_SPLITS:
                return "has more splits than any tree"
            if not reals(leaves) or not reals(weights):
                return "has leaves that are no numbers"
            if not leaves or len(leaves) % (1 << len(splits)):
                return "has another number of leaves than its splits make"
            if not all(isinstance(split, Mapping) for split in splits):
                return "has splits that are none"
            return ""
        case {"splits": None, "leaf_values": list() as leaves} if reals(leaves):
            return ""
    return "is none"


def _nested(view: View, trees: Any) -> Iterator[Finding]:
    pending = list(trees) if isinstance(trees, list) else [trees]
    while pending:
        match pending.pop():
            case {"left": left, "right": right, "split": Mapping()}:
                pending += [left, right]
            case {"value": value} if reals(value if isinstance(value, list) else [value]):
                pass
            case _:
                yield view.finding("trees.inconsistent", "CatBoost: a node of a tree is none.")
                return
