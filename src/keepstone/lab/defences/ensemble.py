"""Several models that answer as one: the mean of their probabilities, or most of their labels.

Promise: `SoftVote` has the gradient of its scores, exactly, where all its members have gradients,
which is how one attacks it who knows it. Members that are all too sure leave none: two votes to one
are as far apart wherever nobody changes his mind. One who knows such members asks them at a higher
temperature. `Majority` tells labels alone; one who knows it takes the mean's scores and their
gradient. What attacks on a member leave of the ensemble (`replayed`) is what one
is tempted to tell of it; what counts is what attacks on the ensemble itself leave.

Source: Tramer et al. 2018, arXiv 1705.07204, for attacks that transfer between members; He et al.
2017, arXiv 1706.04701, for ensembles of weak defences that are none. Cost: a question to each
member. Blind spots: members that were trained alike fall alike; an ensemble of trees is attacked
from outside, for the trees of several forests are not searched together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import checked, told
from keepstone.lab.defences.evaluate import Evaluation, evaluate
from keepstone.lab.domain import Domain
from keepstone.lab.meter import reach
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.suites.plan import Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.result import SuiteResult
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets.adaptive import Bpda, majority
from keepstone.lab.targets.port import (
    UNANSWERED,
    Answers,
    Capability,
    Linearization,
    Target,
    best_class,
    gradients_of,
)

_LEAST = np.log(np.finfo(np.float64).tiny)
# How far a member's best score may lie above its least before its softmax saturates, how far it
# lies once it is tempered, and how many rows from all over the domain say so.
_SURE = 50.0
_TEMPERED = 20.0
_PROBES = 64


class SoftVote:
    """The mean of the members' probabilities, told as its logarithm. Implements `Defended`: it is
    compared with its first member, where nobody names another.

    The scores of each member are divided by its temperature before. A row that a member does not
    answer is not answered. Raises InputError `defence.other_members`, `defence.unfit` for a member
    that tells no scores.
    """

    name: ClassVar[str] = "soft-vote"
    randomised = False

    def __init__(self, members: Sequence[Target], temperatures: Sequence[float] = ()) -> None:
        self.members = _alike(members)
        self.temperatures = tuple(temperatures) or (1.0,) * len(self.members)
        if any(Capability.SCORES not in one.capabilities for one in self.members):
            raise InputError(
                "defence.unfit",
                "soft-vote does not fit the models: one of them tells no scores to take the mean"
                " of.",
                "Let them vote by labels: majority.",
            )

    @property
    def domain(self) -> Domain:
        return self.members[0].domain

    @property
    def classes(self) -> int:
        return self.members[0].classes

    @property
    def capabilities(self) -> frozenset[Capability]:
        shared = reduce(frozenset.intersection, (one.capabilities for one in self.members))
        return shared - {Capability.TREES}

    def predict(self, rows: Array) -> Answers:
        found = [one.predict(rows).scores for one in self.members]
        mean = _mean(self._chances(found))
        return Answers(best_class(mean), mean)

    def linearize(self, rows: Array) -> Linearization:
        """Raises InputError `attack.unable` where a member has no gradient."""
        found = [gradients_of(one).linearize(rows) for one in self.members]
        chances = self._chances([one.scores for one in found])
        mean = _mean(chances)

        def vjp(weights: Array) -> Array:
            pulled = []
            for one, logs, heat in zip(found, chances, self.temperatures, strict=True):
                # The share that this member has in each class's mean, then through its softmax.
                parts = weights * np.exp(logs - mean) / len(found)
                back = parts - np.exp(logs) * parts.sum(axis=1, keepdims=True)
                pulled.append(one.vjp(back / heat))
            return np.asarray(np.sum(pulled, axis=0))

        return Linearization(best_class(mean), mean, vjp)

    @property
    def undefended(self) -> Target:
        return self.members[0]

    def adaptive(self) -> Target:
        """Where no member is too sure to have a slope, the vote itself."""
        if Capability.GRADIENT not in self.capabilities:
            return self
        tempered = self.tempered()
        return self if tempered is self else Bpda(self, tempered)

    def begun(self, seed: int) -> SoftVote:
        return self

    def tempered(self) -> SoftVote:
        """The vote of the same members, none of them so sure that its softmax saturates."""
        probes = self.domain.draw(_PROBES)
        heats = [_temperature(one.predict(probes).scores) for one in self.members]
        return self if max(heats) == 1 else SoftVote(self.members, heats)

    def _chances(self, scores: Sequence[Array | None]) -> list[Array]:
        """The logarithms of the members' probabilities."""
        return [
            _chances(np.asarray(one, np.float64) / heat)
            for one, heat in zip(scores, self.temperatures, strict=True)
        ]


class Majority:
    """The label that most members serve, the first of those that as many do. Implements
    `Defended`: it is compared with its first member, where nobody names another.

    Raises InputError `defence.other_members`.
    """

    name: ClassVar[str] = "majority"
    randomised = False

    def __init__(self, members: Sequence[Target]) -> None:
        self.members = _alike(members)

    @property
    def undefended(self) -> Target:
        return self.members[0]

    @property
    def domain(self) -> Domain:
        return self.members[0].domain

    @property
    def classes(self) -> int:
        return self.members[0].classes

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        labels = np.stack([one.predict(rows).labels for one in self.members])
        found = majority(labels, self.classes)
        return Answers(np.where((labels == UNANSWERED).any(axis=0), UNANSWERED, found))

    def adaptive(self) -> Target:
        if all(Capability.GRADIENT in one.capabilities for one in self.members):
            return Bpda(self, SoftVote(self.members).tempered())
        return self

    def begun(self, seed: int) -> Majority:
        return self


Ensemble = SoftVote | Majority


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """An ensemble beside its best member, and what attacks on each member leave of it.

    `best` is the member that stands most often at the largest epsilon, attacked itself; at each
    smaller one the ensemble is compared with the member that stands most often there. `replayed`
    has the share at each epsilon that still stands where the finds of the attacks on all members
    are given to the ensemble: the number that is not to be told.
    """

    evaluation: Evaluation
    members: tuple[SuiteResult, ...]
    best: int
    replayed: tuple[Share, ...]

    def to_dict(self) -> dict[str, Any]:
        epsilons = self.evaluation.question.epsilons
        return self.evaluation.to_dict() | {
            "best_member": self.best,
            "members": [
                {
                    "clean_accuracy": one.clean.value,
                    "robust_accuracy": [at.to_dict(one.question.norm.name) for at in one.robust],
                }
                for one in self.members
            ],
            "replayed": [
                {"eps": eps, **told(one)} for eps, one in zip(epsilons, self.replayed, strict=True)
            ],
        }


def against_best(
    ensemble: Ensemble, x: Array, y: Array, suite: Suite, question: Question
) -> Compared:
    """Attack each member and then the ensemble, on samples `x` (n, d) of classes `y` (n,).

    That the best member is chosen by these very samples is in its favour, never the ensemble's.
    Raises as `evaluate`.
    """
    x, y = checked(x, y, ensemble.domain.width, ensemble.classes)
    alone = tuple(run_suite(one, x, y, suite, question) for one in ensemble.members)
    best = max(range(len(alone)), key=lambda at: _standing(alone[at]))
    found = evaluate(
        ensemble,
        x,
        y,
        suite,
        question,
        name=ensemble.name,
        undefended=ensemble.members[best],
        rivals=[one for at, one in enumerate(alone) if at != best],
    )
    return Compared(found, alone, best, _replayed(ensemble, alone, x, y, question))


def _standing(found: SuiteResult) -> tuple[float, float]:
    return found.robust[-1].robust.value, found.clean.value


def _replayed(
    ensemble: Ensemble, alone: Sequence[SuiteResult], x: Array, y: Array, question: Question
) -> tuple[Share, ...]:
    rows = ensemble.domain.fit(x, x)
    clean = ensemble.predict(rows).labels == y
    nearest = np.full(len(x), np.inf)
    for found in alone:
        worst = found.worst
        if len(worst.y) != len(x):
            # Some samples were not answered: these runs are of others.
            continue
        fell = np.isfinite(worst.distance)
        labels = ensemble.predict(ensemble.domain.fit(worst.rows, rows)).labels
        fell &= (labels != y) & (labels != UNANSWERED)
        nearest = np.where(fell, np.minimum(nearest, worst.distance), nearest)
    return tuple(
        share(int((clean & (nearest > reach(eps))).sum()), len(x)) for eps in question.epsilons
    )


def _alike(members: Sequence[Target]) -> tuple[Target, ...]:
    """Raises InputError `defence.other_members` for members of different questions."""
    found = tuple(members)
    if len(found) < 2:
        raise InputError(
            "defence.other_members", "An ensemble has two members at least.", "Name another model."
        )
    first = found[0].domain
    same = all(
        one.classes == found[0].classes
        and one.domain.shape == first.shape
        and one.domain.digest == first.digest
        for one in found
    )
    if not same:
        raise InputError(
            "defence.other_members",
            "The members take other inputs, within other ranges, or tell other classes.",
            "Name models of one shape, range and number of classes; --low and --high give a range.",
        )
    return found


def _temperature(scores: Array | None) -> float:
    """What these scores of rows `(n, k)` are divided by; 1 where they are near enough."""
    given = np.asarray(scores, np.float64)
    apart = np.ptp(given[np.isfinite(given).all(axis=1)], axis=1)
    found = float(np.median(apart)) if apart.size else 0.0
    return found / _TEMPERED if found > _SURE else 1.0


def _chances(given: Array) -> Array:
    """The logarithms of the probabilities that scores mean; NaN where a row was not answered."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = given - given.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _mean(logs: Sequence[Array]) -> Array:
    with np.errstate(invalid="ignore"):
        found = np.logaddexp.reduce(np.stack(logs), axis=0) - np.log(len(logs))
    # A class that no member ever serves has no logarithm of its chance, and shares that of the
    # least likely. One however small is left as it is: on a floor there is no slope.
    never = np.isneginf(found)
    least = np.where(never, _LEAST, found).min(axis=1, keepdims=True)
    return np.asarray(np.where(never, least, found))
