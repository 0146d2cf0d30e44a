"""Randomised smoothing: a certificate against every perturbation of a length, for any classifier.

Promise: the smoothed classifier answers with the class that the target serves most often for a
sample with Gaussian noise of deviation `sigma` on it. Where that class's chance is at least
p > 1/2, no perturbation shorter (L2) than `sigma` times the p-quantile of the normal distribution
changes the answer. p is bounded from draws, so a certificate is wrong with a chance of at most
`alpha`; where the bound is not above 1/2 the smoothed classifier abstains.

The noisy row is fitted into the target's domain before it is asked: the classifier that is
smoothed is the target with that fitting, which the theorem covers, for it holds for any function.

Source: Cohen, Rosenfeld and Kolter 2019, arXiv 1902.02918, theorem 1 and CERTIFY; the binomial
bound is Clopper and Pearson's. Cost: `guesses` + `draws` queries a sample, labels only. Blind
spots: it certifies the smoothed classifier, which has to be what is served; L2 alone; a target
that was not trained with noise abstains often; and it reckons with real numbers where a machine
has floats (Jin et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import ABSTAINED, Certificates, checked, too_few
from keepstone.lab.metrics.clopper_pearson import at_least
from keepstone.lab.targets.port import UNANSWERED, Target

# How many numbers are asked at once at most, and how many samples.
_BLOCK = 1 << 21
_SAMPLES = 256


@dataclass(frozen=True, slots=True)
class Smoothing:
    """`guesses` draws choose the class; `draws` others bound its chance, at 1 - `alpha`."""

    sigma: float
    guesses: int = 100
    draws: int = 1_000
    alpha: float = 0.001
    name: ClassVar[str] = "randomised-smoothing"
    source: ClassVar[str] = "Cohen et al. 2019, arXiv 1902.02918"

    def __post_init__(self) -> None:
        sound = np.isfinite(self.sigma) and self.sigma > 0 and 0 < self.alpha < 0.5
        if not sound or self.guesses < 1 or self.draws < 1:
            raise InputError(
                "defence.bad_parameters",
                "Smoothing takes noise above zero, a draw at least, and an alpha below a half.",
            )

    def certify(self, target: Target, x: Array, y: Array, seed: int = 0) -> Certificates:
        """Of samples `x` (n, d) with the right classes `y` (n,), the L2 radius of each.

        Deterministic by `seed`, as far as the target is. Raises InputError `defence.bad_data`, and
        what the target raises.
        """
        x, y = checked(x, y, target.domain.width, target.classes)
        rng = np.random.default_rng(seed)
        labels, radii = np.full(len(x), ABSTAINED, np.int64), np.zeros(len(x))
        for at in range(0, len(x), _SAMPLES):
            part = x[at : at + _SAMPLES].astype(np.float64)
            # Draws of their own for each: a class chosen by the draws that bound it is no guess.
            guess = self.votes(target, part, self.guesses, rng).argmax(axis=1)
            votes = self.votes(target, part, self.draws, rng)
            hits = votes[np.arange(len(part)), guess]
            found = np.array([self._radius(int(count)) for count in hits])
            labels[at : at + len(part)] = np.where(found > 0, guess, ABSTAINED)
            radii[at : at + len(part)] = found
        return Certificates(
            self.name,
            self.source,
            "l2",
            labels,
            radii,
            y,
            self.alpha,
            {**asdict(self), "seed": seed},
            too_few(len(x)),
        )

    def _radius(self, hits: int) -> float:
        """Rounded down, so that a perturbation of just this length is covered too; 0: abstain."""
        chance = at_least(hits, self.draws, self.alpha)
        if chance <= 0.5:
            return 0.0
        return max(0.0, float(np.nextafter(self.sigma * NormalDist().inv_cdf(chance), 0.0)))

    def votes(self, target: Target, x: Array, count: int, rng: np.random.Generator) -> Array:
        """How often each class is served for each row `(n, k)`; no answer is no vote."""
        votes = np.zeros((len(x), target.classes), np.int64)
        for some in _parts(count, x.size):
            rows = np.repeat(x, some, axis=0)
            rows += self.sigma * rng.standard_normal(rows.shape)
            labels = target.predict(target.domain.fit(rows, rows)).labels
            places = np.repeat(np.arange(len(x)), some)
            told = labels != UNANSWERED
            np.add.at(votes, (places[told], labels[told]), 1)
        return votes


def _parts(count: int, size: int) -> Iterator[int]:
    """`count` in parts, such that each part of `size` numbers' copies is small enough."""
    most = max(1, _BLOCK // max(1, size))
    for at in range(0, count, most):
        yield min(most, count - at)
