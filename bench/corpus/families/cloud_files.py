"""cloudpickle and dill: code by value, which loads as easily as it was written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import CODE, EXPRESSION, Case, fail, good, need

_FIRES = "Brings a function's code along; it runs when called"


def _functions(library: str) -> Iterator[tuple[str, Any]]:
    """Made from source, so that they are pickled by value and no path of a file comes along."""
    space: dict[str, Any] = {"__name__": "__main__"}
    source = f"""
import os
def function(x=1):
    open(os.environ.get('CORPUS_MARK', os.devnull), 'w').close()
    return x
def outer(y):
    return lambda: (y, function())
closure = outer(3)
short = lambda x: x + 1
class Model:
    def predict(self, rows):
        function()
        return rows
class Reduces:
    def __reduce__(self):
        return (eval, ({EXPRESSION!r},))
class Restores:
    def __setstate__(self, state):
        function()
    def __getstate__(self):
        return {{'a': 1}}
"""
    exec(compile(source, "<corpus>", "exec"), space)
    yield "function", space["function"]
    yield "closure", space["closure"]
    yield "lambda", space["short"]
    yield "instance", space["Model"]()
    yield "method", space["Model"]().predict
    yield "reduces", space["Reduces"]()
    if library == "cloudpickle":
        yield "class", space["Model"]
        yield "restores", space["Restores"]()
        yield "in_dict", {"model": [1.0], "postprocess": space["function"]}


def _bad(seed: int) -> Iterator[Case]:
    cloudpickle, dill = need("cloudpickle"), need("dill")
    for slug, value in _functions("cloudpickle"):
        loader = "cloudpickle.load"
        yield fail(f"cloudpickle_{slug}.pkl", cloudpickle.dumps(value, 4), f"{_FIRES}.", loader)
    for slug, value in _functions("dill"):
        yield fail(
            f"dill_{slug}.pkl", dill.dumps(value, 4, recurse=True), f"{_FIRES}.", "dill.load"
        )
    yield fail(
        "dill_code.pkl", dill.dumps(compile(CODE, "<corpus>", "exec"), 4), f"{_FIRES}.", "dill.load"
    )
    yield fail(
        "dill_module.pkl",
        dill.dumps(need("wave"), 4),
        "Imports a module by its name when loaded.",
        "dill.load",
    )
    model = need("sklearn.preprocessing").FunctionTransformer(next(_functions("x"))[1])
    yield fail(
        "cloudpickle_transformer.pkl",
        cloudpickle.dumps(model, 4),
        f"{_FIRES}: a transformer of scikit-learn.",
        "sklearn.transform",
    )


def _honest(seed: int) -> Iterator[Case]:
    cloudpickle, dill = need("cloudpickle"), need("dill")
    model = need("sklearn.linear_model").Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    plain = {"a": [1, 2.5, "x"], "b": {"c": (None, True)}}
    yield good("cloudpickle_model.pkl", cloudpickle.dumps(model, 4), "cloudpickle.load")
    yield good("cloudpickle_plain.pkl", cloudpickle.dumps(plain, 4), "cloudpickle.load")
    yield good("dill_model.pkl", dill.dumps(model, 4), "dill.load")
    out = io.BytesIO()
    dill.dump(plain, out, 4)
    yield good("dill_plain.dill", out.getvalue(), "dill.load")


PARTS = (_honest, _bad)
