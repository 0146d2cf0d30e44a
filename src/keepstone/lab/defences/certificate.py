"""What a certificate says of each prediction, and the share of predictions that it covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

        Its lower end is brought down by `failure`: that share of all certificates may be wrong.
        Raises InputError `defence.bad_size`.
        """
        if not (np.isfinite(size) and size >= 0):
            raise InputError("defence.bad_size", f"A change of {size} measures nothing.")
        found = share(int(self.holds(size).sum()), len(self.y))
        return replace(found, low=max(0.0, found.low - self.failure))

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


def told(found: Share) -> dict[str, Any]:
    return {
        "value": round(found.value, 6),
        "low": round(found.low, 6),
        "high": round(found.high, 6),
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
