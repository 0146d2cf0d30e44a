"""CatBoost's `.cbm`: a FlatBuffer behind four letters and a length.

Promise: clean only where every table and vector of the core lies inside of it, no table has a
field that this layout does not know, and the trees' sizes, splits and leaves fit together. What
follows the core (tables of categorical statistics) is *not evaluated*.
Source: CatBoost catboost/libs/model/flatbuffers/model.fbs and features.fbs, release 1.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.text.payload import attack_in
from keepstone.scan.trees.flatbuffer import Buffer, FlatbufferError, Many, Numbers, Table
from keepstone.scan.view import View

_CAT = Table("CatFeature", ("i", "i", "text", "?"))
_FLOAT = Table("FloatFeature", ("?", "i", "i", Many("f"), "text", "b"))
_ONE_HOT = Table("OneHotFeature", ("i", Many("i"), Many("text")))
_COMBINATION = Table("FeatureCombination", (Many("i"), Many("if"), Many("ii")))
_CTR_BASE = Table("ModelCtrBase", (_COMBINATION, "b", "i"))
_CTR = Table("ModelCtr", (_CTR_BASE, "i", "f", "f", "f", "f"))
_CTR_FEATURE = Table("CtrFeature", (_CTR, Many("f")))
# Features whose calculation lies in parts that are not judged.
_OTHER = Table("Other", ())
_TREES = Table(
    "ModelTrees",
    (
        "i",  # approximated dimensions
        Many("i"),  # splits
        Many("i"),  # sizes of trees
        Many("i"),  # where trees start
        Many(_CAT),
        Many(_FLOAT),
        Many(_ONE_HOT),
        Many(_CTR_FEATURE),
        Many("d"),  # leaves
        Many("d"),  # weights of leaves
        Many("HH"),  # steps of trees that are not symmetric
        Many("I"),  # their leaves
        Many(_OTHER),  # features made of text
        Many(_OTHER),  # features that are estimated
        "d",  # scale
        "d",  # bias
        Many("d"),  # bias of each dimension
        Many("HBB"),  # the splits again, as an evaluator wants them
        Many(_OTHER),  # features that are embeddings
    ),
)
_KEY_VALUE = Table("KeyValue", ("text", "text"))
_CORE = Table("ModelCore", ("text", _TREES, Many(_KEY_VALUE), Many("text")))
_VERSION = b"FlabuffersModel_v1"
_HEAD = 8


def scan_catboost(view: View) -> Iterator[Finding]:
    """Judge a model in CatBoost's own format."""
    size = int.from_bytes(bytes(view.data[4:_HEAD]), "little")
    if len(view.data) < _HEAD + size:
        yield view.finding("trees.inconsistent", "CatBoost: the file is shorter than it says.")
        return
    buffer = Buffer(view.data[_HEAD : _HEAD + size])
    try:
        version, trees, info, parts = buffer.root(_CORE)
        problem = _check(trees) if trees else "it has no trees"
    except FlatbufferError as error:
        yield view.finding("trees.inconsistent", f"CatBoost: {error}.")
        return
    if version != _VERSION:
        yield view.finding("trees.unknown", "CatBoost: the version of the format is not known.")
    if problem:
        yield view.finding("trees.inconsistent", f"CatBoost: {problem}.")
    if buffer.unknown:
        shown = printable(", ".join(sorted(buffer.unknown)))
        yield view.finding("trees.unknown", f"CatBoost: fields that are not known: {shown}.")
    if not parts and len(view.data) > _HEAD + size:
        yield view.finding("trees.inconsistent", "CatBoost: bytes follow the model.")
        yield from view.inside("(behind the model)", view.data[_HEAD + size :])
    others = trees and any(trees[index] for index in (12, 13, 18))
    if parts or others:
        reason = "CatBoost: what follows the trees, statistics of categories, is not judged."
        yield view.finding("trees.unknown", reason)
    for pair in info or []:
        for text in pair:
            plain = (text or b"").decode("utf-8", "replace")
            if attack := attack_in(plain):
                reason = f"Its information says {printable(attack, 60)}."
                yield view.finding("config.attack", reason)


def _check(trees: list[Any]) -> str:
    """What does not fit together, or nothing."""
    dimension, splits, sizes, starts, _, floats, one_hots, ctrs, leaves = trees[:9]
    steps, ids, packed = trees[10], trees[11], trees[17]
    depth = _values(sizes)
    begin = _values(starts)
    borders = [len(_values(item[3])) for item in floats or []]
    borders += [len(_values(item[1])) for item in [*(one_hots or []), *(ctrs or [])]]
    bins = sum(borders)
    total = len(_values(splits))
    if any(size < 0 for size in depth) or sum(depth) > total:
        return "its trees have more splits than there are"
    if any(not 0 <= item <= total for item in begin) or (begin and len(begin) != len(depth)):
        return "its trees start outside of their splits"
    # An evaluator holds up to 254 borders of a feature in one byte.
    buckets = sum(max(1, -(-count // 254)) for count in borders)
    if any(bucket >= buckets for bucket, _, _ in _values(packed)):
        return "a split is on a feature that does not exist"
    dimensions = 1 if dimension is None else dimension
    if dimensions < 1:
        return "it has no dimension"
    if not steps or not steps.length:
        if any(size > 30 for size in depth):
            return "a tree has more splits than any tree"
        if sum(dimensions << size for size in depth) != len(_values(leaves)):
            return "it has another number of leaves than its trees make"
        if any(not 0 <= split < bins for split in _values(splits)):
            return "a split is on a border that does not exist"
        return ""
    return _steps(steps, ids, leaves, total)


def _steps(steps: Numbers, ids: Any, leaves: Any, total: int) -> str:
    """Trees that are not symmetric: each node says how far its children are."""
    most = len(_values(leaves))
    if steps.length != total:
        return "its nodes are not one for each split"
    for index, (left, right) in enumerate(steps.values()):
        if index + left >= total or index + right >= total:
            return "a node points outside of its tree"
    if any(item >= most and item != 0xFFFFFFFF for item in _values(ids)):
        return "a node points outside of the leaves"
    return ""


def _values(numbers: Any) -> Sequence[Any]:
    return numbers.values() if isinstance(numbers, Numbers) else ()
