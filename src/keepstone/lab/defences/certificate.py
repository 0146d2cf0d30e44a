"""What a certificate says of each prediction, and the share of predictions that it covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, lgamma, log, log1p
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, insufficient, worst_of
from keepstone.lab.suites.question import MIN_SAMPLES

SCHEMA = "keepstone.certificate/v1"
# The label of a sample for which no class was certain enough.
ABSTAINED = -1
# Of the lower end's 5 %, Wilson's interval spends the one half and wrong certificates the other.
_SURE = 0.975


@dataclass(frozen=True, slots=True)
class Certificates:
    """For each of `n` samples the class predicted, and what that prediction withstands.

    No change of size `radii` or less, in `unit`, changes `labels`; `y` are the classes that are
    right. `failure` is the chance that this is wrong of one sample: 0 for a certificate that is
    counted, above it for one that is drawn.
    """

    method: str
    source: str
    unit: str
    labels: Array
    radii: Array
    y: Array
    failure: float
    parameters: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """`pass`: the numbers count; how large they have to be is for a policy to say."""
        return worst_of(self.problems)

    def holds(self, size: float) -> Array:
        """Which samples are predicted rightly whatever a change of `size` or less does."""
        return np.asarray((self.labels == self.y) & (self.radii >= size))

    def accuracy_at(self, size: float) -> Share:
        """The certified accuracy, with Wilson's interval.

        Its lower end is that of fewer: of so many as `failure` lets be wrong at most, with a
        confidence of 97.5 %. Raises InputError `defence.bad_size`.
        """
        if not (np.isfinite(size) and size >= 0):
            raise InputError("defence.bad_size", f"A change of {size} measures nothing.")
        hits, n = int(self.holds(size).sum()), len(self.y)
        # Those that abstain may be among the wrong ones: of them nothing is claimed, but the chance
        # is that of a sample, not of a certificate.
        sure = max(0, hits - _wrong_at_most(n, self.failure))
        return replace(share(hits, n), low=share(sure, n).low)

    def to_dict(self, sizes: Sequence[float]) -> dict[str, Any]:
        """JSON, with the certified accuracy at each of `sizes`."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "method": self.method,
            "source": self.source,
            "unit": self.unit,
            "certified_accuracy": [{"size": one, **told(self.accuracy_at(one))} for one in sizes],
            "abstained": told(share(int((self.labels == ABSTAINED).sum()), len(self.y))),
            "failure": self.failure,
            "parameters": dict(self.parameters),
            "problems": [one.to_dict() for one in self.problems],
        }


@lru_cache(maxsize=256)
def _wrong_at_most(n: int, failure: float) -> int:
    """The least count that a binomial one of `n` exceeds with a chance of 2.5 % or less.

    Its mean alone would be no bound: of 150 certificates at .001, one is wrong by a chance of 14 %.
    """
    if failure <= 0:
        return 0
    ways = lgamma(n + 1)
    below = 0.0
    for count in range(n):
        below += exp(
            ways
            - lgamma(count + 1)
            - lgamma(n - count + 1)
            + count * log(failure)
            + (n - count) * log1p(-failure)
        )
        if below >= _SURE:
            return count
    return n


def told(found: Share) -> dict[str, Any]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
    }


def too_few(count: int) -> tuple[Problem, ...]:
    """A problem, where so many samples are too few to say anything."""
    if count >= MIN_SAMPLES:
        return ()
    return (
        insufficient(
            "defence.too_few",
            f"{count} samples are too few: at least {MIN_SAMPLES} make an interval of +-10 points.",
        ),
    )


def checked(x: Array, y: Array, width: int, classes: int) -> tuple[Array, Array]:
    """Samples `(n, width)` and their classes, by their places, `(n,)`.

    Raises InputError `defence.bad_data`.
    """
    rows, labels = np.asarray(x), np.asarray(y)
    fits = rows.ndim == 2 and rows.shape[1] == width and labels.shape == (len(rows),)
    whole = fits and labels.dtype.kind in "iu" and np.isfinite(rows).all()
    if not whole or (labels.size and not 0 <= labels.min() <= labels.max() < classes):
        raise InputError(
            "defence.bad_data",
            "The samples and their labels do not belong together, or not to the model.",
            "Give finite rows as wide as the model's inputs, and one class for each, by its place.",
        )
    return rows, labels.astype(np.int64)
