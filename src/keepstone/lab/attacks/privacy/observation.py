"""What is seen of rows through a model: how sure it is of the label that is right.

A target is asked for each row once. Where it serves scores, what is seen is the log-odds of the
right class, log(p / (1 - p)), computed stably from scores as in section V.A of Carlini et al.
2022. Where it serves labels only, all that is seen is whether the label is right (the gap attack
of Yeom et al. 2018); it is written as log-odds of +1 and -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.targets.port import UNANSWERED, Target

# A probability in 64 bits comes no nearer to 1 than this many nats. What lies beyond was served
# as certainty: how certain, the logarithm of nothing does not say.
_CERTAIN = 36.0
# Where a model serves certainty and nothing else.
_SURE = 5.0
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Observation:
    """`log_odds` (n,) is NaN where the target gave no label or no numbers; `labels` (n,) are those
    that it gave."""

    log_odds: Array
    labels: Array
    labels_only: bool
    queries: int


def observe(target: Target, rows: Array, y: Array, *, labels_only: bool = False) -> Observation:
    """Ask `target` for each of `rows` (n, d) once; `y` are their classes by their places.

    Raises OperationalError `target.*`, `runtime.*`.
    """
    found = [target.predict(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
    labels = np.concatenate([one.labels for one in found])
    scores = [one.scores for one in found if one.scores is not None]
    if labels_only or len(scores) < len(found):
        seen = np.where(labels == y, 1.0, -1.0)
        labels_only = True
    else:
        seen = log_odds(np.concatenate(scores), y)
    seen[labels == UNANSWERED] = np.nan
    return Observation(seen, labels, labels_only, len(rows))


def log_odds(scores: Array, y: Array) -> Array:
    """The log-odds (n,) of class `y` under the softmax of `scores` (n, k); NaN where one is."""
    found = np.asarray(scores, np.float64)
    rows = np.arange(len(found))
    right = found[rows, y]
    others = found.copy()
    others[rows, y] = -np.inf
    most = others.max(axis=1)
    # Scores may be infinite: a class is certain then, or impossible. Of two that are, nothing is
    # known (NaN).
    base = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        seen = right - (base + np.log(np.exp(others - base[:, None]).sum(axis=1)))
    return np.asarray(seen)


def certainty(seen: Array) -> float:
    """How sure a model can seem, by what models were seen to be (any shape, NaN left out).

    A little beyond the surest that was not certain: a forest of 100 trees that says 1 means
    "more than 99 of 100", not the logarithm of the least number there is.
    """
    size = np.abs(seen[np.isfinite(seen)])
    size = size[size < _CERTAIN]
    return float(size.max() + np.log(2)) if size.size and size.max() > 0 else _SURE


def probability(seen: Array) -> Array:
    """The probability of the right class, by its log-odds."""
    return np.asarray(1 / (1 + np.exp(-seen)))
