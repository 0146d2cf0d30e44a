"""Gradient-boosted trees: data where every count is true, flagged where one lies."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.formats import identify
from keepstone.scan.trees.ubjson import UbjsonError, read_ubjson
from tests.scan.judging import judged, outcome_of, reasons_of, rules_of

GOOD = Path(__file__).parent / "good"
FORMATS = {
    ".ubj": "xgboost",
    ".cbm": "catboost",
    ".txt": "lightgbm",
    ".json": "json",
    ".pmml": "xml",
    ".7z": "7z",
}
BOOK = json.loads((GOOD / "xgb_bin.json").read_bytes())
LIGHT = (GOOD / "lgb_cat.txt").read_text()


@pytest.mark.parametrize("path", sorted(GOOD.glob("*[!d]")), ids=lambda path: path.name)
def test_what_the_libraries_write_is_clean(path: Path) -> None:
    data = path.read_bytes()
    expected = "xgboost" if path.name.startswith("xgb") else FORMATS[path.suffix]
    assert identify(memoryview(data)) == expected
    assert judged(data, path.name) == []
    assert judged(data, "no-name") == []


# XGBoost --------------------------------------------------------------------------------------


def changed(change: Callable[[Any], object]) -> bytes:
    """A model of XGBoost with something in it changed."""
    model = json.loads(json.dumps(BOOK))
    change(model["learner"])
    return json.dumps(model).encode()


def tree(learner: Any) -> Any:
    return learner["gradient_booster"]["model"]["trees"][0]


def put(*keys: object, value: object) -> Callable[[Any], object]:
    def change(learner: Any) -> None:
        at = learner
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return change


_TREE = ("gradient_booster", "model", "trees", 0)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda learner: tree(learner)["left_children"].append(-1), "trees.inconsistent"),
        (put(*_TREE, "left_children", 0, value=10**6), "trees.inconsistent"),
        (put(*_TREE, "left_children", 0, value=-7), "trees.inconsistent"),
        (put(*_TREE, "left_children", 1, value=0), "trees.cycle"),
        (put(*_TREE, "split_indices", 0, value=5), "trees.inconsistent"),
        (put(*_TREE, "split_conditions", 0, value="x"), "trees.inconsistent"),
        (put(*_TREE, "parents", 1, value=10**6), "trees.inconsistent"),
        (put(*_TREE, "categories_nodes", value=[1]), "trees.inconsistent"),
        (put(*_TREE, "tree_param", "num_nodes", value="99999999999"), "trees.inconsistent"),
        (put(*_TREE, "tree_param", "num_nodes", value="-1"), "trees.inconsistent"),
        (put(*_TREE, "plugin", value="x"), "trees.unknown"),
        (
            put("gradient_booster", "model", "gbtree_model_param", "num_trees", value="6"),
            "trees.inconsistent",
        ),
        (put("gradient_booster", "model", "tree_info", value=[0]), "trees.inconsistent"),
        (put("gradient_booster", "model", "iteration_indptr", value=[5, 0]), "trees.inconsistent"),
        (put("gradient_booster", "name", value="gblinear"), "trees.inconsistent"),
        (put("learner_model_param", "num_feature", value="x"), "trees.inconsistent"),
        (put("feature_names", value=["a"]), "trees.inconsistent"),
        (put("feature_names", value=[1]), "trees.inconsistent"),
        (put("objective", "name", value="os.system"), "trees.unknown"),
        (put("callback", value="x"), "trees.unknown"),
        (put("attributes", "hook", value="__import__('os').system('id')"), "config.attack"),
    ],
)
def test_a_model_that_lies_is_not_clean(change: Callable[[Any], object], rule: str) -> None:
    assert rule in rules_of(changed(change))


def test_a_key_that_comes_twice_is_flagged() -> None:
    data = json.dumps(BOOK)
    twice = data.replace('"learner":', '"learner": {}, "learner":', 1)
    assert "config.ambiguous" in rules_of(twice.encode())


def test_a_saved_state_is_judged_as_its_model() -> None:
    assert judged(json.dumps({"Model": BOOK, "Config": {}}).encode()) == []
    bad = json.loads(changed(put("objective", "name", value="x")))
    assert "trees.unknown" in rules_of(json.dumps({"Model": bad}).encode())


def test_the_old_binary_format_is_named() -> None:
    assert "old binary format" in reasons_of(b"binf" + bytes(200))


# UBJSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{i\x01aU\x05}", {"a": 5}),
        (b"{i\x01a[$l#i\x02\x00\x00\x00\x01\x00\x00\x00\x02}", {"a": [1, 2]}),
        (b"{i\x01a[NTFZ]}", {"a": [True, False, None]}),
        (b"{#i\x01i\x01aSi\x02hi", {"a": "hi"}),
        (b"{$U#i\x01i\x01a\x07", {"a": 7}),
        (b"[Ch]", ["h"]),
        (b"D" + struct.pack(">d", 0.5), 0.5),
    ],
)
def test_ubjson_is_read(data: bytes, value: object) -> None:
    assert read_ubjson(memoryview(data)) == (value, [])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{i\x01aU\x05}x",
        b"{i\x01a[$l#l\x7f\xff\xff\xff}",
        b"{i\x01a[#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"{L\xff\xff\xff\xff\xff\xff\xff\xffa",
        b"[" * 300,
        b"{i\x01\xffU\x01}",
        b"[$Z]",
        b"Q",
    ],
)
def test_ubjson_that_promises_more_than_it_holds_is_refused(data: bytes) -> None:
    with pytest.raises(UbjsonError):
        read_ubjson(memoryview(data))


def test_counts_without_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepstone.scan.trees.ubjson.MAX_VALUES", 100)
    with pytest.raises(UbjsonError, match="limit"):
        read_ubjson(memoryview(b"[$Z#I\x7f\xff"))


def test_ubjson_that_is_no_model_is_not_evaluated() -> None:
    data = b"{i\x08_target_Si\x09os.system}"
    assert "config.loader" in rules_of(data + b"")
    assert outcome_of(b"{i\x01aU\x00}") is Outcome.NOT_EVALUATED
    assert "config.ambiguous" in rules_of(b"{i\x01aU\x00i\x01aU\x01}")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_ubjson_or_refused(data: bytes) -> None:
    with suppress(UbjsonError):
        read_ubjson(memoryview(b"{" + data))


# LightGBM -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("tree_sizes=861", "tree_sizes=860", "trees.inconsistent"),
        ("tree_sizes=861 ", "tree_sizes=", "trees.inconsistent"),
        ("num_leaves=7", "num_leaves=9", "trees.inconsistent"),
        ("left_child=1 5", "left_child=9 5", "trees.inconsistent"),
        ("left_child=1 5", "left_child=0 5", "trees.cycle"),
        ("split_feature=1 1", "split_feature=9 1", "trees.inconsistent"),
        ("max_feature_idx=4", "max_feature_idx=3", "trees.inconsistent"),
        ("objective=binary", "objective=plugin", "trees.unknown"),
        ("label_index=0", "label_index=0\nhook=os.system", "trees.unknown"),
        ("num_class=1\n", "num_class=1\nnum_class=2\n", "trees.inconsistent"),
        ("end of trees", "end of  trees", "trees.inconsistent"),
        ("pandas_categorical:null", "pandas_categorical:{", "trees.inconsistent"),
        ("end of parameters", "end of parameters\nimport os", "trees.unknown"),
        ("[boosting: gbdt]", "[boosting: __import__('os')]", "config.attack"),
        ("num_cat=0", "num_cat=3", "trees.inconsistent"),
    ],
)
def test_a_text_model_that_lies_is_not_clean(old: str, new: str, rule: str) -> None:
    assert old in LIGHT
    assert rule in rules_of(LIGHT.replace(old, new, 1).encode())


@given(st.integers(0, 1500), st.characters(codec="ascii", exclude_characters="\x00"))
def test_a_changed_letter_never_fails(at: int, letter: str) -> None:
    text = LIGHT[:at] + letter + LIGHT[at + 1 :]
    assert "failed" not in reasons_of(text.encode("utf-8", "replace"))


# CatBoost -------------------------------------------------------------------------------------

CBM = (GOOD / "cat_bin.cbm").read_bytes()


def test_a_flatbuffer_that_is_cut_is_flagged() -> None:
    for length in (9, 20, 100, len(CBM) - 1):
        assert outcome_of(CBM[:length]) is Outcome.FLAGGED


def test_what_follows_the_model_is_flagged() -> None:
    assert "trees.inconsistent" in rules_of(CBM + b"more")


def test_a_lie_about_the_trees_is_flagged() -> None:
    # The sizes of the five trees: each has three splits.
    at = CBM.find(struct.pack("<6I", 5, 3, 3, 3, 3, 3))
    assert at > 0
    for number in (2, 31, 0xFFFFFFFF):
        bad = CBM[: at + 4] + struct.pack("<I", number) + CBM[at + 8 :]
        assert "trees.inconsistent" in rules_of(bad)


@given(st.integers(8, len(CBM) - 1), st.integers(0, 255))
def test_a_changed_byte_never_fails(at: int, value: int) -> None:
    data = bytearray(CBM)
    data[at] = value
    assert "failed" not in reasons_of(bytes(data))


def test_catboost_json_that_lies_is_not_clean() -> None:
    model = json.loads((GOOD / "cat_bin.json").read_bytes())
    model["oblivious_trees"][0]["leaf_values"].append(1.0)
    assert "trees.inconsistent" in rules_of(json.dumps(model).encode())
    model["oblivious_trees"] = [{"splits": [{}] * 40, "leaf_values": [1.0]}]
    assert "trees.inconsistent" in rules_of(json.dumps(model).encode())
    model["oblivious_trees"] = 3
    assert "trees.inconsistent" in rules_of(json.dumps(model).encode())
    nested = {"features_info": {}, "trees": [{"left": {"value": 1.0}, "right": 3, "split": {}}]}
    assert "trees.inconsistent" in rules_of(json.dumps(nested).encode())
