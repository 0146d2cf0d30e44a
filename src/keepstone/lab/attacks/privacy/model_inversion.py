"""Draw what a model takes for a typical member of each class, from the model alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import cross_entropy
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, insufficient
from keepstone.lab.targets.port import Capability, GradientTarget, Target


@dataclass(frozen=True, slots=True)
class Inverted:
    """A row (k, d) for each class, and what it cost for each. `problems` where nothing was seen."""

    rows: Array
    queries: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class ModelInversion:
    """Promise: from the middle of the domain, each class's row climbs the logarithm of that
    class's probability, by the target's gradient where it gives one, else by differences along
    `directions` random directions. No class costs more than `budget` queries.

    `step` is the length of one, as a part of the domain's diagonal; it shrinks to nothing over
    the steps that the budget allows, at most `steps`.

    Cost: `steps` queries a class with gradients, 2 * `directions` * `steps` without. Blind
    spots: a class is inverted, not a person: where a class is not one person (as in face
    recognition), what is found is an average, and no breach by itself. Deep networks give rows
    that look like nothing. Labels alone give no slope, and are not enough.
    """

    steps: int = 60
    step: float = 0.05
    directions: int = 16
    budget: int = 4000

    name: ClassVar[str] = "model-inversion"
    source: ClassVar[Source] = Source(
        "Fredrikson, Jha, Ristenpart 2015: Model Inversion Attacks that Exploit Confidence"
        " Information",
        "AML.T0024.001",
    )
    needs: ClassVar[Capability] = Capability.SCORES

    def __post_init__(self) -> None:
        if min(self.steps, self.directions, self.budget) < 1 or not self.step > 0:
            raise InputError(
                "attack.bad_parameter", "Model inversion takes steps, directions and a budget."
            )

    def run(self, target: Target, rng: np.random.Generator) -> Inverted:
        """Raises InputError `attack.unable`; OperationalError `target.*`, `runtime.*`."""
        if self.needs not in target.capabilities:
            raise InputError(
                "attack.unable",
                "Model inversion needs scores, and the target serves labels only.",
                "Choose attacks by what the target declares.",
            )
        domain, classes = target.domain, np.arange(target.classes)
        middle = ((domain.low + domain.high) / 2).astype(domain.work_dtype)
        start = np.tile(middle, (len(classes), 1))
        rows = domain.fit(start, start)
        span = domain.high - domain.low
        cost = 1 if isinstance(target, GradientTarget) else 2 * self.directions
        steps = min(self.steps, self.budget // cost)
        if not steps:
            raise InputError("attack.bad_budget", f"One step costs {cost} queries a class.")
        best, queries = rows, 0
        for number in range(steps):
            slope = self._slope(target, rows, classes, rng)
            queries += cost * len(classes)
            if not np.isfinite(slope).all():
                text = "The target's scores, or their gradients, are no numbers."
                return Inverted(best, queries, (insufficient("attack.no_answers", text),))
            # In units of each feature's range, so that a wide one does not drown the others.
            uphill = slope * span
            size = np.linalg.norm(uphill, axis=1, keepdims=True)
            length = self.step * np.sqrt(len(span)) * (1 - number / steps)
            moved = rows + span * uphill / np.maximum(size, 1e-30) * length
            rows = best = domain.fit(moved, start)
        return Inverted(best, queries, ())

    def _slope(
        self, target: Target, rows: Array, classes: Array, rng: np.random.Generator
    ) -> Array:
        """The gradient (k, d) of each class's log-probability at its row, or a guess at it."""
        if isinstance(target, GradientTarget):
            found = target.linearize(rows)
            return np.asarray(-found.vjp(cross_entropy(found.scores, classes)[1]), np.float64)
        domain = target.domain
        span = domain.high - domain.low
        count, width = len(rows), domain.width
        drawn = rng.choice([-1.0, 1.0], (count, self.directions, width)) * span * self.step
        ahead = domain.fit((rows[:, None] + drawn).reshape(-1, width), _repeated(rows, drawn))
        behind = domain.fit((rows[:, None] - drawn).reshape(-1, width), _repeated(rows, drawn))
        scores = target.predict(np.concatenate([ahead, behind])).scores
        if scores is None:
            return np.full((count, width), np.nan)
        wanted = np.tile(np.repeat(classes, self.directions), 2)
        loss = cross_entropy(np.asarray(scores, np.float64), wanted)[0]
        rise = (loss[len(ahead) :] - loss[: len(ahead)]).reshape(count, self.directions, 1)
        moved = (ahead - behind).reshape(count, self.directions, width)
        return np.asarray((rise * moved / np.maximum(span, 1e-30) ** 2).mean(axis=1))


@dataclass(frozen=True, slots=True)
class Inversion:
    """How like the classes' true means the rows are.

    `similarity` (k,) is the correlation of each row with its class's mean, both less the mean of
    all; `recovered` counts the classes whose own mean is the one most like their row. `chance`
    is the share of those that blind rows would get.
    """

    similarity: Array
    recovered: Share
    chance: float
    queries: int
    problems: tuple[Problem, ...]


def compare_inversion(found: Inverted, x: Array, y: Array) -> Inversion:
    """Hold `found` against the private rows `x` (n, d) of classes `y` (n,).

    Raises InputError `attack.bad_labels` where a class has no row.
    """
    count = len(found.rows)
    if len(x) != len(y) or set(np.unique(y).tolist()) != set(range(count)):
        raise InputError("attack.bad_labels", "There is not at least one row of each class.")
    means = np.stack([x[y == label].mean(axis=0) for label in range(count)])
    table = _correlations(found.rows - found.rows.mean(axis=0), means - means.mean(axis=0))
    own = np.diag(table)
    # A tie with another class is no recovery.
    others = np.where(np.eye(count, dtype=bool), -np.inf, table)
    hits = 0 if found.problems else int((own > others.max(axis=1)).sum())
    return Inversion(own, share(hits, count), 1 / count, found.queries, found.problems)


def _correlations(rows: Array, means: Array) -> Array:
    one = rows - rows.mean(axis=1, keepdims=True)
    other = means - means.mean(axis=1, keepdims=True)
    sizes = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    return np.asarray(one @ other.T / np.maximum(sizes, 1e-30))


def _repeated(rows: Array, drawn: Array) -> Array:
    return np.repeat(rows, drawn.shape[1], axis=0)
