"""Between every attack and its target: counts what is asked, keeps the budget, judges success.

Promise: a target is never asked more than the budget for a sample, whoever attacks; every row it
is asked lies in its domain; an attack has succeeded on a sample when the target served another
label for a row that is no further than epsilon from the sample. What an attack says of itself
counts for nothing, so an attack gives nothing back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.norms import Norm
from keepstone.lab.targets.port import (
    UNANSWERED,
    Answers,
    Capability,
    GradientTarget,
    Linearization,
    Target,
    gradients_of,
)
from keepstone.lab.targets.trees import Trees, TreesTarget

# How much beyond epsilon the rounding of 32-bit inputs may lie.
_SLACK = 1e-6


class BudgetSpent(Exception):  # noqa: N818  # no error: how an attack is stopped from outside
    """Asking this would take a sample beyond its budget; nothing of it was asked."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What counts as success, and what it may cost.

    `eps` None seeks the smallest perturbation. `budget` is the most queries for each sample: a
    row that is asked is one, with its gradient or without.
    """

    norm: Norm
    eps: float | None
    budget: int

    def __post_init__(self) -> None:
        if self.eps is not None and not (np.isfinite(self.eps) and self.eps >= 0):
            raise InputError("attack.bad_eps", f"An epsilon of {self.eps} measures nothing.")
        if self.budget < 1:
            raise InputError("attack.bad_budget", "A budget below one query asks nothing.")


def reach(eps: float) -> float:
    """How far a perturbation may measure that is within `eps`."""
    return eps + _SLACK * max(1.0, eps)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of `n` samples: all arrays have one element for each.

    `distance` is infinite where nothing was found; `rows` is the nearest row that was served
    another label. `first` counts the queries up to the first success (0: none), `unanswered`
    those that got no label.
    """

    rows: Array
    distance: Array
    queries: Array
    gradients: Array
    first: Array
    unanswered: Array

    def within(self, eps: float) -> Array:
        """Which samples were broken by a perturbation of at most `eps`."""
        return np.asarray(self.distance <= reach(eps))


class Meter:
    """One attack's view of a target and of the `n` samples it is to break.

    `x` (n, d) and `y` (n,) are the samples and the labels that are right; the target gave those.
    """

    def __init__(self, target: Target, x: Array, y: Array, goal: Goal) -> None:
        self._target = target
        # Looked up once: asking a protocol for its members at each call is slow.
        self._differentiated: GradientTarget | None = None
        self.goal = goal
        self.x = target.domain.fit(x, x)
        self.y = np.asarray(y, np.int64)
        count = len(self.x)
        self._queries = np.zeros(count, np.int64)
        self._gradients = np.zeros(count, np.int64)
        self._first = np.zeros(count, np.int64)
        self._unanswered = np.zeros(count, np.int64)
        self._distance = np.full(count, np.inf)
        self._rows = self.x.copy()

    @property
    def domain(self) -> Domain:
        return self._target.domain

    @property
    def classes(self) -> int:
        return self._target.classes

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._target.capabilities

    @property
    def left(self) -> Array:
        """How often each sample may still be asked."""
        return self.goal.budget - self._queries

    @property
    def broken(self) -> Array:
        """Which samples are done: for them a perturbation within epsilon was found.

        Without an epsilon none ever is, for a smaller one may be found yet.
        """
        if self.goal.eps is None:
            return np.zeros(len(self.x), bool)
        return self._distance <= reach(self.goal.eps)

    def standing(self, cost: int = 1) -> Array:
        """The places of the samples that are not broken and can be asked `cost` times more."""
        return np.flatnonzero(~self.broken & (self.left >= cost))

    @property
    def distance(self) -> Array:
        """How far the nearest success on each sample lies; infinite without one."""
        return self._distance.copy()

    @property
    def best(self) -> Array:
        """The nearest success on each sample; the sample itself without one."""
        return self._rows.copy()

    def measure(self, places: Array, rows: Array) -> Array:
        """How far `rows` are from their samples, by the goal's norm and the features' costs."""
        delta = rows - self.x[places]
        constraints = self.domain.constraints
        if constraints is not None and constraints.cost is not None:
            delta = delta * constraints.cost.astype(delta.dtype)
        return self.goal.norm.distance(delta)

    def ask(self, places: Array, rows: Array) -> Answers:
        """What the target serves for `rows`, each a try at the sample of its place.

        A place may come several times. Raises BudgetSpent.
        """
        fitted = self._spend(places, rows)
        found = self._target.predict(fitted)
        self._judge(places, fitted, found.labels)
        return found

    def linearize(self, places: Array, rows: Array) -> Linearization:
        """The same, with the way to a gradient. The gradient is counted when it is taken.

        Raises InputError `attack.unable` for a target that declares none.
        """
        if self._differentiated is None:
            self._differentiated = gradients_of(self._target)
        fitted = self._spend(places, rows)
        found = self._differentiated.linearize(fitted)
        self._judge(places, fitted, found.labels)
        return Linearization(found.labels, found.scores, self._counted(places, found.vjp))

    @property
    def trees(self) -> Trees:
        """The target's own trees, which cost no query: who has the model reads them."""
        if not isinstance(self._target, TreesTarget):
            raise InputError(
                "attack.unable",
                "The attack needs the model's decision trees, and the target shows none.",
                "Choose attacks by what the target declares.",
            )
        return self._target.trees

    def tally(self) -> Tally:
        return Tally(
            self._rows.copy(),
            self._distance.copy(),
            self._queries.copy(),
            self._gradients.copy(),
            self._first.copy(),
            self._unanswered.copy(),
        )

    def _spend(self, places: Array, rows: Array) -> Array:
        wanted = np.bincount(places, minlength=len(self.x))
        if (wanted > self.left).any():
            raise BudgetSpent
        fitted = self.domain.fit(rows, self.x[places])
        # An attack's own NaN is its fault, and no input that the domain holds.
        if not np.isfinite(fitted).all():
            bad = ~np.isfinite(fitted).all(axis=1)
            fitted[bad] = self.x[places[bad]]
        self._queries += wanted
        return fitted

    def _judge(self, places: Array, rows: Array, labels: Array) -> None:
        silent = labels == UNANSWERED
        if silent.any():
            np.add.at(self._unanswered, places[silent], 1)
        wrong = np.flatnonzero((labels != self.y[places]) & ~silent)
        if not wrong.size:
            return
        at = places[wrong]
        distance = self.measure(at, rows[wrong])
        reached = distance <= (np.inf if self.goal.eps is None else reach(self.goal.eps))
        # All rows of one call count as asked when it is answered.
        new = at[reached & (self._first[at] == 0)]
        self._first[new] = self._queries[new]
        # Of several successes on one sample the nearest is written last.
        order = np.argsort(-distance, kind="stable")
        order = order[distance[order] < self._distance[at[order]]]
        self._distance[at[order]] = distance[order]
        self._rows[at[order]] = rows[wrong[order]]

    def _counted(self, places: Array, vjp: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def take(weights: Array) -> Array:
            np.add.at(self._gradients, places, 1)
            return vjp(weights)

        return take
