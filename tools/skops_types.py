"""Write src/keepstone/vault/load/skops_types.txt: what a skops file may build, by exact name.

Made by looking at the classes of the installed scikit-learn, then cut by hand-written reasons
below. The result is data that is read in review; nothing is added to it at run time.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "src" / "keepstone" / "vault" / "load" / "skops_types.txt"

# Estimators that do more at a prediction than compute, or trust indices in their own state.
WITHHELD = {
    "CountVectorizer": "input='filename' opens the files that a request names",
    "TfidfVectorizer": "input='filename' opens the files that a request names",
    "HashingVectorizer": "input='filename' opens the files that a request names",
    "HistGradientBoostingClassifier": "its predictors follow indices without a bounds check",
    "HistGradientBoostingRegressor": "its predictors follow indices without a bounds check",
}
SCALARS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "str_"),
)
FUNCTIONS = (
    *("abs", "absolute", "cos", "exp", "expm1", "log", "log10", "log1p", "log2", "sign", "sin"),
    *("sqrt", "square", "tan", "tanh"),
)


def _name(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _classes(module: Any, base: type) -> Iterator[str]:
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, base) and found.__module__ == module.__name__:
            yield _name(found)


def lines() -> list[str]:
    """Every line of the list, sorted: what kind of node, and the name that it may have."""
    import sklearn._loss.link as link
    import sklearn._loss.loss as loss
    import sklearn.calibration as calibration
    import sklearn.feature_selection as selection
    import sklearn.gaussian_process.kernels as kernels
    import sklearn.neural_network._stochastic_optimizers as optimizers
    from sklearn._loss import _loss
    from sklearn.linear_model import _sgd_fast
    from sklearn.utils import all_estimators

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimators = [found for name, found in all_estimators() if name not in WITHHELD]
    objects = {
        *(_name(found) for found in estimators),
        *_classes(link, link.BaseLink),
        _name(link.Interval),
        *_classes(loss, loss.BaseLoss),
        *_classes(kernels, kernels.Kernel),
        *_classes(optimizers, optimizers.BaseOptimizer),
        _name(calibration._CalibratedClassifier),
        _name(calibration._SigmoidCalibration),
    }
    losses = {_name(found) for found in vars(_loss).values() if inspect.isclass(found)}
    losses |= {_name(found) for found in vars(_sgd_fast).values() if inspect.isclass(found)}
    scores = [selection.f_classif, selection.f_regression, selection.chi2]
    found = {
        **dict.fromkeys(f"ObjectNode {name}" for name in objects),
        **dict.fromkeys(f"LossNode {n}" for n in losses if ".Cy" in n or "_sgd_fast." in n),
        **dict.fromkeys(f"FunctionNode numpy.{name}" for name in FUNCTIONS),
        **dict.fromkeys(f"FunctionNode {_name(score)}" for score in scores),
        **dict.fromkeys(f"TypeNode builtins.{name}" for name in ("bool", "float", "int", "str")),
        **dict.fromkeys(f"TypeNode numpy.{name}" for name in SCALARS),
        **dict.fromkeys(f"NdArrayNode numpy.{name}" for name in (*SCALARS, "ndarray")),
    }
    fixed = (
        "DTypeNode numpy.dtype",
        "DictNode builtins.dict",
        "JsonNode builtins.str",
        "ListNode builtins.list",
        "RandomStateNode numpy.random.mtrand.RandomState",
        "SetNode builtins.set",
        "SliceNode builtins.slice",
        "SparseMatrixNode scipy.sparse._csc.csc_matrix",
        "SparseMatrixNode scipy.sparse._csr.csr_matrix",
        "TreeNode sklearn.tree._tree.Tree",
        "TupleNode builtins.tuple",
    )
    return sorted({*found, *fixed})


def main() -> int:
    head = [
        "# What a skops file may build: a kind of node and an exact name, one a line.",
        "# Made by `python -m tools.skops_types`, which says what is left out and why.",
    ]
    PAGE.write_text("\n".join([*head, *lines()]) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
