"""Boosters of XGBoost and LightGBM in the caller's own process, which have no `classes_`.

The wrappers of both libraries that look like scikit-learn's classifiers need none of this:
`python.PythonTarget` takes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Answers, Capability, are_probabilities, as_scores

_PROBES = 256


class BoosterTarget:
    """A fitted `Booster` for classes: its label is the best of its scores.

    One score a row is that of the second of two classes. An objective that serves labels alone
    (`multi:softmax`) is asked for its margins. Raises InputError `target.bad_object`.
    """

    def __init__(self, booster: Any, domain: Domain) -> None:
        if not callable(getattr(booster, "predict", None)):
            raise InputError("target.bad_object", "The object is no booster.")
        self._booster = booster
        self._inplace = callable(getattr(booster, "inplace_predict", None))
        self._kind = "value"
        self.domain = domain
        rows = domain.draw(_PROBES)
        outputs = self._outputs(rows)
        self._probable = are_probabilities(outputs)
        if outputs.ndim == 1 and not self._probable:
            self._kind, outputs = "margin", self._outputs_of(rows, "margin")
        self.classes = 2 if outputs.ndim == 1 else max(2, outputs.shape[1])

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL, Capability.SCORES})

    def predict(self, rows: Array) -> Answers:
        scores = as_scores(self._outputs(rows), probable=self._probable)
        return Answers(scores.argmax(axis=1), scores)

    def _outputs(self, rows: Array) -> Array:
        return self._outputs_of(rows, self._kind)

    def _outputs_of(self, rows: Array, kind: str) -> Array:
        inputs = self.domain.as_inputs(rows).reshape(len(rows), -1)
        raw = kind == "margin"
        if self._inplace:
            predict_type = "margin" if raw else "value"
            found = self._booster.inplace_predict(
                inputs, predict_type=predict_type, validate_features=False
            )
        else:
            found = self._booster.predict(inputs, raw_score=raw)
        return np.asarray(found)
