"""The same model, serving less: what an owner may try against those who copy it."""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Answers, Capability, Target, as_scores


class LabelsOnly:
    """Serves labels and no scores."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    def domain(self) -> Domain:
        return self._target.domain

    @property
    def classes(self) -> int:
        return self._target.classes

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        return Answers(self._target.predict(rows).labels)


class RoundedScores:
    """Serves probabilities rounded to `digits`; the label is the one before rounding.

    Raises InputError `target.bad_rounding`.
    """

    def __init__(self, target: Target, digits: int) -> None:
        if digits < 0 or Capability.SCORES not in target.capabilities:
            raise InputError(
                "target.bad_rounding",
                "There are no scores to round, or they are to be rounded to fewer than no digits.",
            )
        self._target = target
        self._digits = digits

    @property
    def domain(self) -> Domain:
        return self._target.domain

    @property
    def classes(self) -> int:
        return self._target.classes

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL, Capability.SCORES})

    def predict(self, rows: Array) -> Answers:
        found = self._target.predict(rows)
        assert found.scores is not None
        scores = np.asarray(found.scores, np.float64)
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        return Answers(found.labels, as_scores(np.round(chances, self._digits), probable=True))
