"""A target and the samples it is right about, as the signs of masking see them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.masking.port import Measure, NotEvaluated
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import L2, LINF, Norm
from keepstone.lab.targets.port import UNANSWERED, Capability, Target

# Each sample is asked once for its label before anything is measured.
CLEAN_COST = 1
# Fewer samples say nothing of a model.
FEWEST = 10
_ATTACKED = frozenset({LINF.name, L2.name})


@dataclass(frozen=True, slots=True)
class Clean:
    """What the target serves for the samples as they are: `n` labels, `(n, k)` scores or None."""

    labels: Array
    scores: Array | None


class Subject:
    """`x` (n, d) and `y` (n,), of which only those are looked at that the target gets right.

    `standing` (n,) are the samples that an attack by gradient left unbroken within `eps`, where
    such an attack ran already; else a small one of our own decides that. Measures are taken
    once, each with a generator of its own: whether another one is taken changes nothing.
    Raises InputError `masking.bad_samples`, `attack.bad_eps`; OperationalError of the target.
    """

    def __init__(
        self,
        target: Target,
        x: Array,
        y: Array,
        norm: Norm,
        eps: float,
        *,
        seed: int = 0,
        standing: Array | None = None,
    ) -> None:
        Goal(norm, eps, 1)
        count = len(x)
        fits = x.ndim == 2 and x.shape[1] == target.domain.width and len(y) == count and count > 0
        if not fits or eps == 0 or (standing is not None and len(standing) != count):
            raise InputError(
                "masking.bad_samples",
                "The samples, their labels and which of them stand do not belong together,"
                " or epsilon is 0.",
                "Give rows as wide as the model's inputs, and one label for each.",
            )
        self.target = target
        self.norm = norm
        self.eps = eps
        self._seed = seed
        rows = target.domain.fit(x, x)
        answers = target.predict(rows)
        self.clean = Clean(answers.labels, answers.scores)
        right = np.flatnonzero(answers.labels == np.asarray(y))
        self.given = count
        self.x = rows[right]
        self.y = np.asarray(y, np.int64)[right]
        self._standing = None if standing is None else np.asarray(standing, bool)[right]
        self._right = right
        self._queries = np.full(count, CLEAN_COST, np.int64)
        self._taken: dict[Measure, Any] = {}

    @property
    def domain(self) -> Domain:
        return self.target.domain

    @property
    def scores(self) -> Array | None:
        """What was served for the samples as they are `(n, k)`."""
        return None if self.clean.scores is None else self.clean.scores[self._right]

    @property
    def queries(self) -> int:
        """The most that any one sample has been asked so far."""
        return int(self._queries.max())

    @property
    def asked(self) -> int:
        """What all samples have been asked so far."""
        return int(self._queries.sum())

    @property
    def handed(self) -> Array | None:
        """Which of the samples an attack from outside left standing, if one was told of."""
        return self._standing

    def radius(self) -> float:
        """How far the two most distant inputs of the domain lie apart."""
        span = (self.domain.high - self.domain.low)[None]
        return float(self.norm.distance(span)[0])

    def of(self, measure: Measure) -> Any:
        """What `measure` gives; taken now if it was not before. Raises NotEvaluated."""
        if measure not in self._taken:
            try:
                self._taken[measure] = self._take(measure)
            except NotEvaluated as reason:
                self._taken[measure] = reason
        found = self._taken[measure]
        if isinstance(found, NotEvaluated):
            raise NotEvaluated(str(found))
        return found

    def _take(self, measure: Measure) -> Any:
        if measure.needs not in self.target.capabilities:
            raise NotEvaluated(f"the target gives no {_GIVES[measure.needs]}")
        meters: list[tuple[Meter, Array]] = []
        left = measure.cost

        def meter(eps: float, budget: int, places: Array | None = None) -> Meter:
            nonlocal left
            if self.norm.name not in _ATTACKED:
                raise NotEvaluated(f"nothing here searches within the norm {self.norm.name}")
            if budget > left:
                raise NotEvaluated(f"it would cost more than the {measure.cost} queries it states")
            left -= budget
            at = np.arange(len(self.x)) if places is None else places
            found = Meter(self.target, self.x[at], self.y[at], Goal(self.norm, eps, budget))
            meters.append((found, at))
            return found

        drawn = [self._seed, zlib.crc32(repr(measure).encode())]
        try:
            return measure.take(self, meter, np.random.default_rng(drawn))
        finally:
            for found, at in meters:
                self._queries[self._right[at]] += found.tally().queries


_GIVES = {
    Capability.LABEL: "labels",
    Capability.SCORES: "scores",
    Capability.GRADIENT: "gradients",
}


def unusable(subject: Subject) -> str | None:
    """Why nothing can be read from this subject, or None."""
    clean = subject.clean
    if clean.scores is not None and not np.isfinite(clean.scores).all(axis=1).any():
        return "no sample has finite scores"
    if len(np.unique(clean.labels[clean.labels != UNANSWERED])) < 2:
        return "the target gives every sample the same label"
    if len(subject.x) < FEWEST:
        return f"the target is right about {len(subject.x)} samples, of which it takes {FEWEST}"
    return None
