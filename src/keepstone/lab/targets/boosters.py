"""Boosters of XGBoost and LightGBM, which have no `classes_`: in the caller's own process, and
what is served of those that serve the places of classes.

The wrappers of both libraries that look like scikit-learn's classifiers need none of this:
`python.PythonTarget` takes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.classes import Classes, require_count
from keepstone.lab.targets.objectives import objective_of
from keepstone.lab.targets.outputs import Tensors
from keepstone.lab.targets.port import (
    Answers,
    Capability,
    are_probabilities,
    as_scores,
    in_pieces,
)
from keepstone.lab.targets.runtime import Predicts

_PROBES = 256
_BATCH = 4096


class BoosterTarget:
    """A fitted `Booster` for classes: its label is the best of its scores.

    One score a row is that of the second of two classes. An objective that serves labels alone
    (`multi:softmax`, `binary:hinge`) is asked for its margins. Raises InputError
    `target.bad_object`, `target.no_classifier`.
    """

    def __init__(self, booster: Any, domain: Domain) -> None:
        if not callable(getattr(booster, "predict", None)):
            raise InputError("target.bad_object", "The object is no booster.")
        self._booster = booster
        self._inplace = callable(getattr(booster, "inplace_predict", None))
        objective = objective_of(booster)
        labels = objective is not None and objective.labels
        self._kind = "margin" if labels else "value"
        self.domain = domain
        rows = domain.draw(_PROBES)
        outputs = self._outputs(rows)
        self._probable = not labels and are_probabilities(outputs)
        self.classes = 2 if outputs.ndim == 1 else max(2, outputs.shape[1])

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL, Capability.SCORES})

    def predict(self, rows: Array) -> Answers:
        scores = as_scores(self._outputs(rows), probable=self._probable)
        return Answers(scores.argmax(axis=1), scores)

    def _outputs(self, rows: Array) -> Array:
        inputs = self.domain.as_inputs(rows).reshape(len(rows), -1)
        if self._inplace:
            found = self._booster.inplace_predict(
                inputs, predict_type=self._kind, validate_features=False
            )
        else:
            found = self._booster.predict(inputs, raw_score=self._kind == "margin")
        return np.asarray(found)


class ServedPlaces:
    """A loaded model whose one output is, as a number, the place of a class: labels, no scores.

    Raises InputError `target.bad_labels` where other classes are named than it has.
    """

    def __init__(
        self, runtime: Predicts, tensors: Tensors, domain: Domain, classes: Classes, count: int
    ) -> None:
        require_count(classes, count)
        assert tensors.scores is not None
        self._runtime = runtime
        self._input, self._output = tensors.input.name, tensors.scores.name
        self.domain = domain
        self.names = classes
        # As `RuntimeTarget` says of itself.
        self.without_gradient = ""
        self.hides_gradient = False

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `runtime.failed`, `target.broken`."""
        return in_pieces(rows, _BATCH, self._answers)

    def _answers(self, rows: Array) -> Answers:
        found = self._runtime.predict({self._input: self.domain.as_inputs(rows)})[self._output]
        flat = np.asarray(found, np.float64).reshape(-1)
        places = np.rint(flat)
        if flat.shape != (len(rows),) or not ((places >= 0) & (places < self.classes)).all():
            raise OperationalError(
                "target.broken", "The model does not answer each row with one of its classes."
            )
        return Answers(places.astype(np.int64))
