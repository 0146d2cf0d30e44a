"""A classifier that is an object in the caller's own process, as scikit-learn's are.

What the caller has imported and made is the caller's own: nothing is loaded here. The label is
what `predict` says; scores are those of `predict_proba`, else of `decision_function`, if it has
either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.classes import Classes, name_of
from keepstone.lab.targets.port import Answers, Capability, as_scores


class PythonTarget:
    """`model.predict` gives labels; class `i` is the i-th of `model.classes_` (or of `labels`).

    Raises InputError `target.bad_object`.
    """

    def __init__(
        self,
        model: Any,
        domain: Domain,
        labels: Sequence[object] | None = None,
        *,
        scores: bool = True,
    ) -> None:
        known = getattr(model, "classes_", None) if labels is None else labels
        if known is None or not callable(getattr(model, "predict", None)):
            raise InputError(
                "target.bad_object",
                "The object has no `predict`, or no `classes_` that say what its labels are.",
                "Give an object with both, or name the labels.",
            )
        self.model = model
        self.domain = domain
        self.labels = np.asarray(known)
        self.names = Classes(tuple(map(name_of, self.labels.tolist())))
        found: tuple[Any, bool] = _scorer(model) if scores else (None, False)
        self._scorer, self._probable = found

    @property
    def classes(self) -> int:
        return len(self.labels)

    @property
    def capabilities(self) -> frozenset[Capability]:
        scores = {Capability.SCORES} if self._scorer is not None else set()
        return frozenset({Capability.LABEL} | scores)

    def encode(self, labels: Array) -> Array:
        """Classes by their places. Raises InputError `target.bad_labels` for an unknown one."""
        return self.names.encode(labels)

    def predict(self, rows: Array) -> Answers:
        inputs = self.domain.as_inputs(rows)
        labels = self.encode(self.model.predict(inputs))
        if self._scorer is None:
            return Answers(labels)
        outputs = np.asarray(self._scorer(inputs))
        return Answers(labels, as_scores(outputs, probable=self._probable))


def _scorer(model: Any) -> tuple[Any, bool]:
    for name in ("predict_proba", "decision_function"):
        # An SVC without `probability` has the first one by name, and raises when it is looked up.
        found = getattr(model, name, None)
        if callable(found):
            return found, name == "predict_proba"
    return None, False
