"""The child of a rehearsal: opens one model of trees from stdin and says what it saw.

Run as a script, isolated, by `vault.load.rehearsal`; it imports nothing of this package.

    rehearsal_child.py (xgboost | lightgbm)

It writes one JSON object to stdout: {"features", "names", "shape", "contract"}.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

_CPU_S = 60


def xgboost_model(data: bytes) -> dict[str, Any]:
    import numpy
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(data))
    width = booster.num_features()
    row = numpy.zeros((1, width), numpy.float32)
    return {
        "features": width,
        "names": booster.feature_names or [],
        "shape": list(booster.inplace_predict(row, validate_features=False).shape),
        "contract": booster.attr("keepstone.contract"),
    }


def lightgbm_model(data: bytes) -> dict[str, Any]:
    import lightgbm
    import numpy

    booster = lightgbm.Booster(model_str=data.decode("utf-8"))
    width = booster.num_feature()
    if not booster.num_trees():
        raise ValueError("a model without a tree")
    return {
        "features": width,
        "names": booster.feature_name(),
        "shape": list(booster.predict(numpy.zeros((1, width)), num_threads=1).shape),
        "contract": None,
    }


def main(library: str) -> None:
    for kind, most in (
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    # The libraries print to stdout as they like; the answer gets a descriptor of its own.
    answer = os.dup(1)
    os.dup2(2, 1)
    data = sys.stdin.buffer.read()
    seen = {"xgboost": xgboost_model, "lightgbm": lightgbm_model}[library](data)
    with os.fdopen(answer, "wb") as file:
        file.write(json.dumps(seen).encode())


if __name__ == "__main__":
    main(sys.argv[1])
