"""What a training function of the caller's own made, as a target.

Classes are numbers from 0 on, as the function was given them. A model that was trained on rows
without some class serves no scores for it: there they are minus infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Answers, Capability, Target
from keepstone.lab.targets.python import PythonTarget
from keepstone.lab.targets.torch import TorchTarget


class TrainedTarget:
    """An object with `predict` and `classes_`, among `classes` classes."""

    def __init__(self, model: Any, domain: Domain, classes: int) -> None:
        self._seen = PythonTarget(model, domain)
        places = self._seen.labels
        if places.dtype.kind not in "iu" or places.min() < 0 or places.max() >= classes:
            raise InputError(
                "target.bad_object",
                "The model that was trained has other classes than it was given.",
                "Train on y as it comes: numbers from 0 on.",
            )
        self._places = places.astype(np.int64)
        self.classes = classes

    @property
    def domain(self) -> Domain:
        return self._seen.domain

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._seen.capabilities

    @property
    def model(self) -> Any:
        """What the training function returned."""
        return self._seen.model

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `runtime.failed`."""
        try:
            found = self._seen.predict(rows)
        except KeepstoneError:
            raise
        # The estimator is the caller's own, and raises whatever it stumbles over.
        except Exception as error:
            raise OperationalError(
                "runtime.failed",
                f"The trained model failed on these rows: {type(error).__name__}:"
                f" {str(error)[:200]}",
                "It is asked for rows (n, d) as it was trained on.",
            ) from error
        scores = None
        if found.scores is not None:
            scores = np.full((len(rows), self.classes), -np.inf)
            scores[:, self._places] = found.scores
        return Answers(self._places[found.labels], scores)


def as_target(model: Any, domain: Domain, classes: int) -> Target:
    """A torch module, or an estimator. Raises InputError `target.bad_object`."""
    if callable(getattr(model, "state_dict", None)):
        made = TorchTarget(model, domain)
        if made.classes != classes:
            raise InputError(
                "target.bad_object",
                f"The module that was trained scores {made.classes} classes, not {classes}.",
            )
        return made
    return TrainedTarget(model, domain, classes)
