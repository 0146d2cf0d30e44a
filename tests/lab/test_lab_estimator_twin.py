"""The gradient of scikit-learn's classifiers: what the file serves, computed once more, or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.core.digest import Digest
from keepstone.lab.norms import LINF
from keepstone.lab.problem import Verdict
from keepstone.lab.samples import Samples
from keepstone.lab.suites.catalogue import suite_called
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.result import SuiteResult
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets import estimator_twin
from keepstone.lab.targets.estimator_scores import Scored, scored
from keepstone.lab.targets.port import Capability, GradientTarget
from keepstone.workspace.lab.attacking import Opened, Wanted, open_model

# A network that is not quite trained serves as well.
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
Need = Callable[[str], ModuleType]
WIDTH = 6
DRAW = np.random.default_rng(3)
X = DRAW.uniform(0, 1, (300, WIDTH))
Y = np.argmax(X @ DRAW.normal(size=(WIDTH, 3)) + DRAW.normal(size=3) * 0.1, axis=1)
SAMPLES = Samples(X[:150], Y[:150], Digest.of(b"rows"), ())

LINEAR = (
    *("linear_model.LogisticRegression", "linear_model.SGDClassifier", "svm.LinearSVC"),
    *("linear_model.RidgeClassifier", "linear_model.Perceptron"),
    "discriminant_analysis.LinearDiscriminantAnalysis",
)
BENT: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"network of {name}": (
            "neural_network.MLPClassifier",
            {"activation": name, "hidden_layer_sizes": (9, 7), "max_iter": 20, "random_state": 0},
        )
        for name in ("identity", "relu", "tanh", "logistic")
    },
    **{
        f"SVC of {name}": ("svm.SVC", {"kernel": name, "coef0": 0.3, "gamma": 0.4})
        for name in ("linear", "poly", "rbf", "sigmoid")
    },
    "SVC of pairs": ("svm.SVC", {"decision_function_shape": "ovo"}),
    "SVC without ties": ("svm.SVC", {"break_ties": True}),
    "NuSVC": ("svm.NuSVC", {"nu": 0.2}),
    "GaussianNB": ("naive_bayes.GaussianNB", {}),
    "MultinomialNB": ("naive_bayes.MultinomialNB", {}),
    "quadratic": ("discriminant_analysis.QuadraticDiscriminantAnalysis", {}),
}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("preprocessing.StandardScaler", {}),
    "only centred": ("preprocessing.StandardScaler", {"with_std": False}),
    "only scaled": ("preprocessing.StandardScaler", {"with_mean": False}),
    "range": ("preprocessing.MinMaxScaler", {"feature_range": (-1, 2)}),
    "held in a range": ("preprocessing.MinMaxScaler", {"clip": True}),
    "largest": ("preprocessing.MaxAbsScaler", {}),
    "robust": ("preprocessing.RobustScaler", {}),
    "robust, not centred": ("preprocessing.RobustScaler", {"with_centering": False}),
    "principal": ("decomposition.PCA", {"n_components": 4}),
    "whitened": ("decomposition.PCA", {"n_components": 4, "whiten": True}),
    **{name: ("preprocessing.Normalizer", {"norm": name}) for name in ("l1", "l2", "max")},
}


@pytest.fixture(autouse=True)
def skops(need_module: Need) -> Any:
    need_module("sklearn")
    return need_module("skops.io")


def made(name: str, **given: Any) -> Any:
    from importlib import import_module

    module, kind = name.rsplit(".", 1)
    return getattr(import_module(f"sklearn.{module}"), kind)(**given)


def fitted(name: str, given: dict[str, Any], y: Any = Y) -> Any:
    return made(name, **given).fit(X, y)


def piped(step: Any, last: Any, y: Any = Y) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(step, last).fit(X, y)


@contextmanager
def opened(
    folder: Path, model: Any, method: str = "predict", y: Any = Y, **wanted: Any
) -> Iterator[Opened]:
    """As the vault opens it, 64-bit floats from 0 to 1, with one output."""
    import skops.io

    (folder / "m.skops").write_bytes(skops.io.dumps(model))
    count = len(np.unique(y))
    label = {"datatype": "INT64", "shape": [-1]}
    scores = {"datatype": "FP64", "shape": [-1, count]}
    said = {
        "schema": "keepstone.contract/v1",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, WIDTH], "low": 0, "high": 1}],
        "outputs": [{"name": method, **(label if method == "predict" else scores)}],
    }
    (folder / "keepstone.contract.json").write_text(json.dumps(said))
    samples = replace(SAMPLES, y=y[: len(SAMPLES)])
    with open_model(folder, samples, Wanted(**{"gradient": True} | wanted)) as found:
        yield found


def require_slope(opened: Opened, model: Any) -> None:
    """Finite differences of its scores, and the labels that are served."""
    target = opened.target
    assert isinstance(target, GradientTarget), getattr(target, "without_gradient", "")
    assert {Capability.GRADIENT, Capability.SCORES} <= target.capabilities
    rows = X[150:190] * 0.9 + 0.05
    found = target.linearize(rows)
    assert (found.labels == model.predict(rows)).all()
    weights = np.random.default_rng(0).normal(size=found.scores.shape)
    slope, step = found.vjp(weights), 1e-6
    for at in range(WIDTH):
        push = np.eye(WIDTH)[at] * step
        ends = [target.linearize(rows + side * push).scores for side in (1, -1)]
        differences = ((ends[0] - ends[1]) * weights).sum(axis=1) / (2 * step)
        size = np.abs(slope).max(axis=1) + 1e-9
        # One row in forty may lie at a kink.
        assert np.sort(np.abs(differences - slope[:, at]) / size)[-2] < 1e-3


def why(folder: Path, model: Any, **given: Any) -> str:
    """Why there is no gradient; empty where there is."""
    with opened(folder, model, **given) as found:
        told = str(getattr(found.target, "without_gradient", ""))
        assert (Capability.GRADIENT in found.target.capabilities) == (not told)
        assert not told or found.target.hides_gradient  # type: ignore[attr-defined]
        return told


def attacked(opened: Opened, eps: float, budget: int | None = None) -> SuiteResult:
    y = opened.classes.encode(SAMPLES.y)
    question = Question(LINF, (eps,), len(y), budget=budget)
    return run_suite(opened.target, SAMPLES.x, y, suite_called("quick"), question)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_have_the_slope_of_their_margins(
    tmp_path: Path, name: str, classes: int
) -> None:
    y = np.minimum(Y, classes - 1)
    model = fitted(name, {}, y)
    with opened(tmp_path, model, y=y) as found:
        require_slope(found, model)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", BENT)
def test_bent_models_have_their_slope(tmp_path: Path, name: str, classes: int) -> None:
    y = np.minimum(Y, classes - 1)
    model = fitted(*BENT[name], y)
    with opened(tmp_path, model, y=y) as found:
        require_slope(found, model)


@pytest.mark.parametrize("name", STEPS)
def test_a_pipeline_is_gone_back_through(tmp_path: Path, name: str) -> None:
    model = piped(made(STEPS[name][0], **STEPS[name][1]), made("svm.SVC"))
    with opened(tmp_path, model) as found:
        require_slope(found, model)


def test_what_does_nothing_is_passed(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline

    inner = make_pipeline("passthrough", made("linear_model.LogisticRegression"))
    model = piped(made("preprocessing.StandardScaler"), inner)
    with opened(tmp_path, model) as found:
        require_slope(found, model)


def test_torch_says_the_same_of_a_network(need_module: Need, tmp_path: Path) -> None:
    torch = need_module("torch")
    model = fitted("neural_network.MLPClassifier", {"max_iter": 400, "random_state": 0})
    rows = torch.tensor(X[150:200], requires_grad=True)
    scores = rows
    for at, (matrix, offset) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        scores = (torch.relu(scores) if at else scores) @ torch.tensor(matrix)
        scores = scores + torch.tensor(offset)
    weights = np.random.default_rng(0).normal(size=scores.shape)
    (wanted,) = torch.autograd.grad(scores, rows, torch.tensor(weights))
    with opened(tmp_path, model) as found:
        assert isinstance(found.target, GradientTarget)
        line = found.target.linearize(X[150:200])
    assert np.allclose(line.scores, scores.detach().numpy())
    assert np.allclose(line.vjp(weights), wanted.numpy())


def robust_of_a_linear(model: Any, eps: float) -> float:
    """The share of samples that no step within eps gets another label for, exactly."""
    x, y, weights = SAMPLES.x, SAMPLES.y, model.coef_
    stands = model.predict(x) == y
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    for other in range(len(weights)):
        way = weights[other] - weights[y]
        worst = np.where(way > 0, high, low)
        margin = model.decision_function(worst)
        rows = np.arange(len(y))
        stands &= (margin[rows, other] <= margin[rows, y]) | (other == y)
    return float(stands.mean())


@pytest.mark.parametrize("factor", [1.0, 3000.0])
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_scaled_linear_model_is_as_robust_as_it_was(
    tmp_path: Path, factor: float, method: str
) -> None:
    model = fitted("linear_model.LogisticRegression", {})
    model.coef_, model.intercept_ = model.coef_ * factor, model.intercept_ * factor
    with opened(tmp_path, model, method) as found:
        outcome = attacked(found, 0.05)
    exact = robust_of_a_linear(model, 0.05)
    assert 0.3 < exact < 0.9
    assert outcome.robust[0].robust.value == pytest.approx(exact, abs=0.01)
    assert outcome.verdict in (Verdict.PASS, Verdict.FAIL)


def test_a_saturated_network_hides_nothing(tmp_path: Path) -> None:
    model = fitted("neural_network.MLPClassifier", {"max_iter": 600, "random_state": 0})
    found = []
    for factor in (1.0, 3000.0):
        model.coefs_[-1] = model.coefs_[-1] * factor
        model.intercepts_[-1] = model.intercepts_[-1] * factor
        with opened(tmp_path, model, "predict_proba") as network:
            found.append(attacked(network, 0.08))
    plain, saturated = (one.robust[0].robust.value for one in found)
    assert 0.1 < plain < 0.8
    assert saturated == pytest.approx(plain, abs=0.01)
    assert found[1].verdict is found[0].verdict


OUTSIDE = ("neighbors", "binned", "calibrated", "voting", "one of many", "bagged", "boosted")


def outside(name: str) -> Any:
    """Models of which nothing is laid open: neighbours, unknown steps, wrappers around trees."""
    forest = made("ensemble.RandomForestClassifier", n_estimators=4, random_state=0)
    logistic = made("linear_model.LogisticRegression")
    binned = made("preprocessing.KBinsDiscretizer", encode="ordinal", quantile_method="linear")
    models = {
        "neighbors": made("neighbors.KNeighborsClassifier", algorithm="brute"),
        "binned": made("pipeline.Pipeline", steps=[("bin", binned), ("last", logistic)]),
        "calibrated": made("calibration.CalibratedClassifierCV", estimator=forest, cv=2),
        "voting": made("ensemble.VotingClassifier", estimators=[("a", forest), ("b", logistic)]),
        "one of many": made("multiclass.OneVsRestClassifier", estimator=forest),
        "bagged": made("ensemble.BaggingClassifier", estimator=logistic, n_estimators=3),
        "boosted": made("ensemble.AdaBoostClassifier", n_estimators=3, random_state=0),
    }
    model = models[name].fit(X, Y)
    if name == "voting":
        # A file with it is not loaded.
        del model.named_estimators_
    return model


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_not_laid_open_is_attacked_from_outside_and_insufficient(
    tmp_path: Path, name: str
) -> None:
    with opened(tmp_path, outside(name)) as found:
        outcome = attacked(found, 0.001, None if name == "neighbors" else 5)
    assert outcome.verdict is Verdict.INSUFFICIENT
    assert "attack.from_outside" in [one.code for one in outcome.problems]
    if name == "neighbors":
        # Nothing else stands against it.
        assert [one.code for one in outcome.problems] == ["attack.from_outside"]


def test_a_forest_has_its_trees_and_needs_no_gradient(tmp_path: Path) -> None:
    model = fitted("ensemble.RandomForestClassifier", {"n_estimators": 4, "random_state": 0})
    with opened(tmp_path, model) as found:
        assert found.target.capabilities == {Capability.LABEL, Capability.TREES}
        outcome = attacked(found, 0.001, 5)
    assert "attack.from_outside" not in [one.code for one in outcome.problems]


def test_who_asks_for_no_gradient_gets_what_is_served(tmp_path: Path) -> None:
    model = fitted("linear_model.LogisticRegression", {})
    with opened(tmp_path, model, gradient=False) as found:
        assert found.target is found.served
        assert found.target.capabilities == {Capability.LABEL}
    with opened(tmp_path, model) as found:
        # What is served tells labels alone, whatever is in the file.
        assert found.served.capabilities == {Capability.LABEL}
        assert found.served.predict(X).scores is None


def test_probabilities_of_another_kind_stay_what_is_served(tmp_path: Path) -> None:
    """One class against the rest each, then made to add up to one: no softmax of the margins."""
    other = fitted("linear_model.SGDClassifier", {"loss": "log_loss", "random_state": 0})
    same = fitted("linear_model.LogisticRegression", {})
    for model, own in ((other, False), (same, True)):
        with opened(tmp_path, model, "predict_proba") as found:
            scores = found.target.predict(X).scores
            assert scores is not None
            margins = model.decision_function(X)
            logarithms = np.log(model.predict_proba(X))
            assert np.allclose(scores, margins if own else logarithms, atol=1e-6)
            assert isinstance(found.target, GradientTarget)
            assert np.allclose(found.target.linearize(X).scores, margins)


# What is not believed


def twisted(change: Callable[[Any], Any], where: str) -> Callable[[Any], Scored]:
    """`scored`, of whose result one part says something else."""

    def found(model: Any) -> Scored:
        true = scored(model)
        if where == "scores":
            return replace(true, scores=lambda rows: (change(true.scores(rows)[0]), lambda _: rows))
        return replace(true, said=lambda rows: change(true.said(rows)))

    return found


@pytest.mark.parametrize(
    ("where", "change", "told"),
    [
        ("said", lambda scores: scores * 1.01, "differs from what is served"),
        ("said", lambda scores: scores + 0.1, "differs from what is served"),
        ("said", lambda scores: scores * np.nan, "differs from what is served"),
        ("said", lambda scores: scores[:, :2], "other scores than are served"),
        ("scores", lambda scores: -scores, "other labels than are served"),
        ("scores", lambda scores: scores[:, ::-1], "other labels than are served"),
        ("scores", lambda scores: scores * 0, "other labels than are served"),
        ("scores", lambda scores: scores[:, :2], "other scores than are served"),
    ],
)
@pytest.mark.parametrize("size", [1.0, 1e-9])
def test_a_twin_that_is_another_model_is_not_believed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    change: Callable[[Any], Any],
    told: str,
    size: float,
) -> None:
    model = fitted("linear_model.LogisticRegression", {})
    model.coef_, model.intercept_ = model.coef_ * size, model.intercept_ * size
    assert why(tmp_path, model) == ""
    # What is added is little beside scores of this size, so that it is made as small.
    twist = twisted(lambda scores: change(scores / size) * size, where)
    monkeypatch.setattr(estimator_twin, "scored", twist)
    assert told in why(tmp_path, model)


def test_an_svc_is_believed_by_its_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted("svm.SVC", {})
    true = scored(model)
    assert true.labels is not None
    labels = true.labels
    other = replace(true, labels=lambda rows: (labels(rows) + 1) % 3)
    monkeypatch.setattr(estimator_twin, "scored", lambda _: other)
    assert "other labels than are served" in why(tmp_path, model)
    # Its votes may be right, and its scores lead elsewhere.
    led = twisted(lambda scores: -scores, "scores")(model)
    monkeypatch.setattr(estimator_twin, "scored", lambda _: led)
    assert "other labels than are served" in why(tmp_path, model)


def test_an_object_whose_state_lies_has_no_gradient(tmp_path: Path) -> None:
    model = fitted("linear_model.LogisticRegression", {})
    # Labels are then served of classes that have other places.
    model.classes_ = model.classes_[::-1].copy()
    assert "in another order" in why(tmp_path, model)
    # Nothing that serves asks for them.
    network = fitted("neural_network.MLPClassifier", {"max_iter": 2}, Y)
    del network.n_outputs_
    assert "has not what its kind has" in why(tmp_path, network)


def test_a_step_or_kernel_that_is_not_known_is_named(tmp_path: Path) -> None:
    logistic = made("linear_model.LogisticRegression")
    step = made("preprocessing.PolynomialFeatures")
    assert "the step PolynomialFeatures" in why(tmp_path, piped(step, logistic))
    assert "the estimator KNeighborsClassifier" in why(tmp_path, outside("neighbors"))
