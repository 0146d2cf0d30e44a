"""XGBoost, LightGBM and CatBoost: files of numbers, and ways to make them more than that."""

from __future__ import annotations

import json
import pickle
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.corpus.case import EXPRESSION, Case, fail, good, need
from bench.corpus.opcodes import pickled, shell

_XGB, _LGB, _CAT, _NONE = "xgboost", "lightgbm", "catboost", "none"


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (EXPRESSION,)


def _rows(seed: int) -> tuple[Any, Any]:
    numpy = need("numpy")
    rows = numpy.random.default_rng(seed).normal(size=(60, 4))
    return rows, (rows[:, 0] > 0).astype(int)


def _xgboost(seed: int) -> Iterator[Case]:
    xgboost = need("xgboost")
    rows, labels = _rows(seed)
    model = xgboost.XGBClassifier(n_estimators=4, max_depth=3, n_jobs=1, random_state=seed)
    model.fit(rows, labels)
    booster = model.get_booster()
    json_raw, ubj = bytes(booster.save_raw("json")), bytes(booster.save_raw("ubj"))
    yield good("xgboost.json", json_raw, _XGB)
    yield good("xgboost.ubj", ubj, _XGB)
    yield good("xgboost_sklearn.pkl", pickle.dumps(model, 4))
    yield good("xgboost_booster.pkl", pickle.dumps(booster, 4))
    linear = xgboost.XGBRegressor(booster="gblinear", n_estimators=2, n_jobs=1).fit(rows, labels)
    yield good("xgboost_linear.json", bytes(linear.get_booster().save_raw("json")), _XGB)
    dart = xgboost.XGBRegressor(booster="dart", n_estimators=3, n_jobs=1).fit(rows, labels)
    yield good("xgboost_dart.ubj", bytes(dart.get_booster().save_raw("ubj")), _XGB)
    model.extra_ = _Evil()
    yield fail(
        "xgboost_attribute.pkl",
        pickle.dumps(model, 4),
        "Evaluates text, as an attribute of a model.",
    )
    yield fail(
        "xgboost_named.json",
        pickled(shell()),
        "Runs a shell command: a pickle named as a model.",
        "pickle.load",
    )
    yield fail(
        "xgboost_named.ubj",
        pickled(shell(), 2),
        "Runs a shell command: a pickle named as a model.",
        "pickle.load",
    )
    whole = json.loads(json_raw)
    tree = whole["learner"]["gradient_booster"]["model"]["trees"][0]
    cycle, outside = [*tree["left_children"]], [*tree["left_children"]]
    cycle[0], outside[0] = 0, 1 << 30
    for slug, children in (("cycle", cycle), ("outside", outside)):
        tree["left_children"] = children
        yield fail(
            f"xgboost_{slug}.json",
            json.dumps(whole).encode(),
            "A tree's child is itself or lies outside of the tree.",
            _NONE,
        )
    twice = json_raw.replace(b'{"learner"', b'{"learner":{},"learner"', 1)
    yield fail("xgboost_key_twice.json", twice, "A key comes twice: readers take either.", _NONE)
    at = ubj.index(b"left_children")
    bomb = ubj[: at + 13] + b"[$l#L" + struct.pack(">q", 1 << 60) + ubj[at + 13 :]
    yield fail("xgboost_count.ubj", bomb, "An array claims more numbers than there are.", _NONE)


def _lightgbm(seed: int) -> Iterator[Case]:
    lightgbm = need("lightgbm")
    rows, labels = _rows(seed)
    options = {
        "verbose": -1,
        "num_threads": 1,
        "seed": seed,
        "min_data_in_leaf": 2,
        "deterministic": True,
    }
    for objective in ("binary", "regression"):
        data = lightgbm.Dataset(rows, labels)
        booster = lightgbm.train({**options, "objective": objective}, data, 4)
        text = booster.model_to_string()
        yield good(f"lightgbm_{objective}.txt", text.encode(), _LGB)
        yield good(f"lightgbm_{objective}.pkl", pickle.dumps(booster, 4))
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1, min_child_samples=2)
    model.fit(rows, labels)
    yield good("lightgbm_sklearn.pkl", pickle.dumps(model, 4))
    model.extra_ = _Evil()
    yield fail(
        "lightgbm_attribute.pkl",
        pickle.dumps(model, 4),
        "Evaluates text, as an attribute of a model.",
    )
    custom = lightgbm.LGBMClassifier(objective=eval)
    yield fail(
        "lightgbm_objective.pkl",
        pickle.dumps(custom, 4),
        "Has a function of Python as its objective.",
        _NONE,
    )
    yield fail(
        "lightgbm_named.txt",
        b"S'tree\\nversion=v4'\n0" + pickled(shell(), 0)[2:],
        "Runs a shell command: a pickle that begins as a model's text.",
        "pickle.load",
    )
    lines = text.split("\n")
    changed = [
        "left_child=" + " ".join(["99999999"] * len(line.split(" ")))
        if line.startswith("left_child=")
        else line
        for line in lines
    ]
    yield fail(
        "lightgbm_outside.txt",
        "\n".join(changed).encode(),
        "A tree's child lies outside of the tree.",
        _NONE,
    )
    huge = [f"num_leaves={1 << 31}" if line.startswith("num_leaves=") else line for line in lines]
    yield fail(
        "lightgbm_count.txt",
        "\n".join(huge).encode(),
        "A tree claims two thousand million leaves.",
        _NONE,
    )


def _catboost(seed: int) -> Iterator[Case]:
    catboost = need("catboost")
    rows, labels = _rows(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = catboost.CatBoostClassifier(
            iterations=4,
            depth=3,
            verbose=False,
            thread_count=1,
            random_seed=seed,
            allow_writing_files=False,
            train_dir=folder,
        )
        model.fit(rows, labels)
        found = {}
        for ending in ("cbm", "json"):
            path = Path(folder) / f"model.{ending}"
            model.save_model(str(path), format=ending)
            found[ending] = path.read_bytes()
    yield good("catboost.cbm", found["cbm"], _CAT)
    yield good("catboost.json", found["json"], _NONE)
    yield good("catboost.pkl", pickle.dumps(model, 4))
    model.extra_ = _Evil()
    yield fail(
        "catboost_attribute.pkl",
        pickle.dumps(model, 4),
        "Evaluates text, as an attribute of a model.",
        _NONE,
    )
    yield fail(
        "catboost_size.cbm",
        b"CBM1" + b"\xff\xff\xff\x7f" + found["cbm"][8:],
        "The core claims two gigabytes.",
        _NONE,
    )
    yield fail(
        "catboost_offset.cbm",
        found["cbm"][:8] + b"\xff\xff\xff\x7f" + found["cbm"][12:],
        "The root's place lies outside of the file.",
        _NONE,
    )
    yield fail(
        "catboost_named.cbm",
        pickled(shell()),
        "Runs a shell command: a pickle named as a model.",
        "pickle.load",
    )
    yield fail(
        "catboost_trailing.cbm",
        found["cbm"] + pickled(shell()),
        "A pickle follows the model.",
        _NONE,
    )


PARTS = (_xgboost, _lightgbm, _catboost)
