"""Opening a model to attack it: real files of boosters, each read as what it was trained for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.samples import Samples
from keepstone.lab.targets.boosters import BoosterTarget
from keepstone.lab.targets.port import Capability, Explains
from keepstone.workspace.lab import attacking
from keepstone.workspace.lab.attacking import Wanted, chosen, open_again, open_model

Need = Callable[[str], ModuleType]
DRAW = np.random.default_rng(0)
X = DRAW.uniform(0, 1, (400, 4)).astype(np.float32)
TWO = (X[:, 0] > 0.6).astype(int)
THREE = np.digitize(X[:, 0], [0.3, 0.7])
WANTED = Wanted(low=0.0, high=1.0)
XGBOOST = {
    "binary:logistic": 2,
    "binary:logitraw": 2,
    "binary:hinge": 2,
    "multi:softprob": 3,
    "multi:softmax": 3,
}
NOT_XGBOOST = (
    *("reg:squarederror", "reg:logistic", "reg:absoluteerror", "count:poisson", "reg:gamma"),
    *("rank:pairwise", "rank:ndcg", "survival:cox", "survival:aft", "reg:tweedie"),
)
LIGHTGBM = {"binary": 2, "multiclass": 3, "multiclassova": 3}
NOT_LIGHTGBM = (
    *("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma"),
    *("tweedie", "cross_entropy", "cross_entropy_lambda", "lambdarank", "rank_xendcg"),
)


def samples(y: Any = TWO) -> Samples:
    return Samples(X, y, Digest.of(b"rows"), ())


def xgboosted(library: Any, objective: str, **more: Any) -> Any:
    many = {"num_class": 3} if objective.startswith("multi") else {}
    data = library.DMatrix(X, THREE if many else TWO + objective.endswith("gamma"))
    if objective.startswith("rank"):
        data.set_group([len(X)])
    if objective == "survival:aft":
        for bound in ("label_lower_bound", "label_upper_bound"):
            data.set_float_info(bound, TWO + 1.0)
    options = {"objective": objective, "nthread": 1, "verbosity": 0, "max_depth": 3}
    return library.train(options | many, data, 8, **more)


def lightgbm_of(library: Any, objective: Any) -> Any:
    many = {"num_class": 3} if str(objective).startswith("multi") else {}
    # What is to be positive is made so.
    y = TWO + (1.0 if objective == "gamma" else 0.0)
    group = [len(X)] if str(objective).startswith(("lambda", "rank")) else None
    data = library.Dataset(X, THREE if many else y, group=group)
    return library.train({"objective": objective, "num_threads": 1, "verbose": -1} | many, data, 8)


def code(path: Path, y: Any = TWO) -> str:
    with pytest.raises(InputError) as refused, open_model(path, samples(y), WANTED):
        pass
    return refused.value.code


@pytest.mark.parametrize("objective", XGBOOST)
@pytest.mark.parametrize("form", ["ubj", "json"])
def test_an_xgboost_classifier_is_read_as_one(
    need_module: Need, tmp_path: Path, objective: str, form: str
) -> None:
    """Its label is what the library itself says of its classes."""
    library = need_module("xgboost")
    booster = xgboosted(library, objective)
    path = tmp_path / f"model.{form}"
    booster.save_model(path)
    served = booster.inplace_predict(X)
    margin = booster.inplace_predict(X, predict_type="margin")
    right = margin.argmax(axis=1) if margin.ndim == 2 else (margin > 0).astype(int)
    y = THREE if margin.ndim == 2 else TWO
    with open_model(path, samples(y), WANTED) as opened:
        found = opened.target.predict(X)
        assert opened.target.classes == XGBOOST[objective]
        assert (found.labels == right).all()
        # Whoever serves labels serves no scores, whatever the trees say.
        hard = objective in ("binary:hinge", "multi:softmax")
        assert (found.scores is None) == hard
        assert (Capability.SCORES in opened.target.capabilities) == (not hard)
        assert Capability.TREES in opened.target.capabilities
        if hard:
            assert (found.labels == served).all()


@pytest.mark.parametrize("objective", LIGHTGBM)
def test_a_lightgbm_classifier_is_read_as_one(
    need_module: Need, tmp_path: Path, objective: str
) -> None:
    library = need_module("lightgbm")
    booster = lightgbm_of(library, objective)
    path = tmp_path / "model.txt"
    booster.save_model(path)
    said = booster.predict(X)
    right = said.argmax(axis=1) if said.ndim == 2 else (said > 0.5).astype(int)
    with open_model(path, samples(THREE if said.ndim == 2 else TWO), WANTED) as opened:
        assert opened.target.classes == LIGHTGBM[objective]
        assert (opened.target.predict(X).labels == right).all()


@pytest.mark.slow
@pytest.mark.parametrize("objective", NOT_XGBOOST)
def test_what_xgboost_trained_for_no_classes_is_refused(
    need_module: Need, tmp_path: Path, objective: str
) -> None:
    library = need_module("xgboost")
    booster = xgboosted(library, objective)
    booster.save_model(tmp_path / "model.ubj")
    assert code(tmp_path / "model.ubj") == "target.no_classifier"
    with pytest.raises(InputError) as refused:
        BoosterTarget(booster, Domain.of((4,), 0.0, 1.0, "float32"))
    assert refused.value.code == "target.no_classifier"


@pytest.mark.slow
@pytest.mark.parametrize("objective", NOT_LIGHTGBM)
def test_what_lightgbm_trained_for_no_classes_is_refused(
    need_module: Need, tmp_path: Path, objective: str
) -> None:
    library = need_module("lightgbm")
    booster = lightgbm_of(library, objective)
    booster.save_model(tmp_path / "model.txt")
    assert code(tmp_path / "model.txt") == "target.no_classifier"
    with pytest.raises(InputError) as refused:
        BoosterTarget(booster, Domain.of((4,), 0.0, 1.0, "float64"))
    assert refused.value.code == "target.no_classifier"


def test_an_objective_of_the_callers_own_says_nothing_of_classes(
    need_module: Need, tmp_path: Path
) -> None:
    """Neither library keeps it: XGBoost then says squared error, LightGBM nothing."""

    def own(said: Any, data: Any) -> Any:
        return said - data.get_label(), np.ones_like(said)

    xgboost, lightgbm = need_module("xgboost"), need_module("lightgbm")
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(X, TWO), 3, obj=own)
    booster.save_model(tmp_path / "own.json")
    assert code(tmp_path / "own.json") == "target.no_classifier"
    lightgbm_of(lightgbm, own).save_model(tmp_path / "own.txt")
    assert code(tmp_path / "own.txt") == "target.no_classifier"


def test_a_hinge_in_this_process_is_asked_for_its_margin(need_module: Need) -> None:
    booster = xgboosted(need_module("xgboost"), "binary:hinge")
    served = BoosterTarget(booster, Domain.of((4,), 0.0, 1.0, "float32"))
    found = served.predict(X)
    assert found.scores is not None
    assert (found.labels == booster.inplace_predict(X)).all()
    assert len(np.unique(found.scores[:, 1])) > 2


def test_places_are_called_as_the_caller_calls_them(need_module: Need, tmp_path: Path) -> None:
    booster = xgboosted(need_module("xgboost"), "multi:softmax")
    booster.save_model(tmp_path / "model.ubj")
    names = np.array(["low", "mid", "top"])[THREE]
    wanted = Wanted(low=0.0, high=1.0, classes=("low", "mid", "top"))
    with open_model(tmp_path / "model.ubj", samples(names), wanted) as opened:
        right = opened.target.predict(X).labels == opened.classes.encode(names)
        assert right.mean() > 0.95
    few = Wanted(low=0.0, high=1.0, classes=("low", "mid"))
    with (
        pytest.raises(InputError) as refused,
        open_model(tmp_path / "model.ubj", samples(names), few),
    ):
        pass
    assert refused.value.code == "target.bad_labels"


def test_an_estimator_without_classes_is_refused(need_module: Need, tmp_path: Path) -> None:
    need_module("sklearn")
    skops = need_module("skops.io")
    from sklearn.linear_model import LinearRegression

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.skops").write_bytes(skops.dumps(LinearRegression().fit(X, TWO)))
    said = {
        "schema": "keepstone.contract/v1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "predict", "datatype": "FP32", "shape": [-1]}],
    }
    (folder / "keepstone.contract.json").write_text(json.dumps(said))
    assert code(folder) == "target.no_classifier"


def test_a_file_with_neither_gradient_nor_trees_says_so(
    need_module: Need, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = need_module("xgboost")
    wanted = Wanted(low=0.0, high=1.0, gradient=True)
    path = tmp_path / "model.ubj"

    def none(_: Any) -> Any:
        raise InputError("target.no_trees", "It splits on categories.")

    # One serves labels, the other scores.
    for objective in ("multi:softmax", "multi:softprob"):
        xgboosted(library, objective).save_model(path)
        with open_model(path, samples(THREE), wanted) as opened:
            assert not isinstance(opened.target, Explains)
        with monkeypatch.context() as patch:
            patch.setattr(attacking, "read_trees", none)
            with open_model(path, samples(THREE), wanted) as opened:
                assert isinstance(opened.target, Explains)
                assert opened.target.hides_gradient
                assert "neither a gradient nor trees" in opened.target.without_gradient


def test_a_worker_opens_the_very_same_file(need_module: Need, tmp_path: Path) -> None:
    library = need_module("xgboost")
    path = tmp_path / "model.ubj"
    xgboosted(library, "binary:logistic").save_model(path)
    with open_model(path, samples(), WANTED) as opened:
        digest, names = opened.subject.digest, opened.classes.names
        first = opened.target.predict(X).labels
    one = samples().take(np.arange(1))
    with open_again(path, one, WANTED, names, digest) as target:
        assert (target.predict(X).labels == first).all()
    xgboosted(library, "binary:hinge").save_model(path)
    with pytest.raises(InputError) as refused, open_again(path, one, WANTED, names, digest):
        pass
    assert refused.value.code == "attack.other_file"


NAMES = ("age", "size", "rooms", "floor")


def refused(path: Path, features: tuple[str, ...]) -> str | None:
    """With which code rows of these columns are refused, if they are."""
    rows = Samples(X, TWO, Digest.of(b"rows"), features)
    try:
        with open_model(path, rows, WANTED):
            return None
    except InputError as error:
        return error.code


def named_file(kind: str, names: tuple[str, ...] | None, need_module: Need, folder: Path) -> Path:
    if kind == "xgboost":
        library = need_module("xgboost")
        given = None if names is None else list(names)
        data = library.DMatrix(X, TWO, feature_names=given)
        options = {"objective": "binary:logistic", "nthread": 1, "verbosity": 0}
        library.train(options, data, 2).save_model(folder / "model.ubj")
        return folder / "model.ubj"
    if kind == "lightgbm":
        library = need_module("lightgbm")
        told = "auto" if names is None else list(names)
        data = library.Dataset(X, TWO, feature_name=told)
        options = {"objective": "binary", "num_threads": 1, "verbose": -1}
        library.train(options, data, 2).save_model(folder / "model.txt")
        return folder / "model.txt"
    skops = need_module("skops.io")
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(X, TWO)
    if names is not None:
        model.feature_names_in_ = np.array(names, object)
    (folder / "model.skops").write_bytes(skops.dumps(model))
    said = {
        "schema": "keepstone.contract/v1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]}],
    }
    (folder / "keepstone.contract.json").write_text(json.dumps(said))
    return folder


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "sklearn"])
def test_columns_are_those_of_the_model(need_module: Need, tmp_path: Path, kind: str) -> None:
    """Columns in another order would be attacked, and told, as a model that knows nothing."""
    (tmp_path / "named").mkdir()
    path = named_file(kind, NAMES, need_module, tmp_path / "named")
    assert refused(path, NAMES) is None
    assert refused(path, ()) is None
    assert refused(path, NAMES[::-1]) == "data.other_columns"
    assert refused(path, ("age", "size", "rooms", "price")) == "data.other_columns"
    # A model of bare numbers knows no names.
    (tmp_path / "bare").mkdir()
    bare = named_file(kind, None, need_module, tmp_path / "bare")
    assert refused(bare, NAMES) is None


@pytest.mark.parametrize("start", ["f", "Column_", ""])
def test_names_that_are_places_are_no_names(need_module: Need, tmp_path: Path, start: str) -> None:
    places = tuple(f"{start}{place}" for place in range(4))
    path = named_file("xgboost", places, need_module, tmp_path)
    assert refused(path, NAMES) is None
    assert refused(path, places) is None
    assert refused(path, places[::-1]) == "data.other_columns"


def test_a_row_with_two_labels_is_refused() -> None:
    rows = Samples(np.repeat(X[:20], 2, axis=0), np.repeat(TWO[:20], 2), Digest.of(b"rows"), ())
    assert len(chosen(rows, 100, 0)) == 20
    rows.y[7] = 1 - rows.y[7]
    with pytest.raises(InputError, match="1 of 40 rows") as caught:
        chosen(rows, 100, 0)
    assert caught.value.code == "data.contradictory"
