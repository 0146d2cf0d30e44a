"""Telling less of what a model thinks: rounded scores, the best few, or labels alone.

Promise: the label stays the one that the model served; only what is told beside it changes, so no
input that breaks the model stops breaking it. What is told has no gradient, and none is declared;
who attacks with the model at hand takes the model's own (`adaptive`), who attacks from outside
goes by labels.

Source: Tramer et al. 2016, arXiv 1609.02943 (rounding against extraction, and that it does not
hold); Athalye et al. 2018 for why scores that are hidden protect no label. Cost: none. Blind spots:
all that a label tells, extraction by labels included; it is no defence against evasion, and
`evaluate` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.targets.adaptive import Bpda
from keepstone.lab.targets.around import Around
from keepstone.lab.targets.port import Answers, Capability, Target, as_scores


class Hardening(Protocol):
    """A frozen dataclass of its parameters."""

    name: ClassVar[str]

    def apply(self, probabilities: Array) -> Array | None:
        """What is told of probabilities `(n, k)`; None: nothing."""
        ...


@dataclass(frozen=True, slots=True)
class RoundedScores:
    """Probabilities with `digits` decimals."""

    digits: int = 2
    name: ClassVar[str] = "rounded-scores"

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= 15:
            raise InputError("defence.bad_parameters", "Scores are rounded to 0 to 15 decimals.")

    def apply(self, probabilities: Array) -> Array | None:
        return np.asarray(np.round(probabilities, self.digits))


@dataclass(frozen=True, slots=True)
class TopScores:
    """The probabilities of the `count` likeliest classes; the others are told as zero."""

    count: int = 1
    name: ClassVar[str] = "top-scores"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError("defence.bad_parameters", "At least one class's score is told.")

    def apply(self, probabilities: Array) -> Array | None:
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.count]
        found = np.zeros_like(probabilities)
        np.put_along_axis(found, order, np.take_along_axis(probabilities, order, 1), axis=1)
        return found


@dataclass(frozen=True, slots=True)
class LabelsOnly:
    """No scores."""

    name: ClassVar[str] = "labels-only"

    def apply(self, probabilities: Array) -> Array | None:
        return None


class Hardened(Around):
    """`target`, of whose scores only so much is told. Implements `Defended`.

    Raises InputError `defence.unfit` for a target that tells none.
    """

    randomised = False

    def __init__(self, target: Target, hardening: Hardening) -> None:
        if Capability.SCORES not in target.capabilities:
            raise InputError(
                "defence.unfit",
                f"{hardening.name} does not fit the model: it tells no scores, so nothing of them"
                " can be kept back.",
            )
        super().__init__(target)
        self.hardening = hardening
        self.name = hardening.name

    @property
    def undefended(self) -> Target:
        return self._served

    @property
    def capabilities(self) -> frozenset[Capability]:
        gone = {Capability.GRADIENT, Capability.TREES}
        if isinstance(self.hardening, LabelsOnly):
            gone.add(Capability.SCORES)
        return super().capabilities - gone

    def predict(self, rows: Array) -> Answers:
        found = super().predict(rows)
        if found.scores is None:
            return Answers(found.labels)
        told = self.hardening.apply(_probabilities(found.scores))
        return Answers(found.labels, None if told is None else as_scores(told, probable=True))

    def adaptive(self) -> Target:
        if Capability.GRADIENT in self.undefended.capabilities:
            return Bpda(self, self.undefended)
        return self

    def begun(self, seed: int) -> Hardened:
        return self


def _probabilities(scores: Array) -> Array:
    """Rows that were not answered stay NaN."""
    given = np.asarray(scores, np.float64)
    shifted = np.exp(given - given.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
