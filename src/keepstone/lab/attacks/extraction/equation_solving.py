"""Linear models from equations: each row's scores are linear in the weights, so d + 1 rows do.

Source: Tramèr, Zhang, Juels, Reiter and Ristenpart, Stealing Machine Learning Models via
Prediction APIs, USENIX Security 2016, sections 4.1 and 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.surrogate import (
    Network,
    StolenModel,
    Training,
    fresh,
    solve,
    train,
)
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Capability

# Halvings of a chord: where it crosses the copy's border, to a millionth.
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class EquationSolving:
    """Promise: a linear, logistic or softmax model is copied exactly from the scores of d + 1 rows.

    Those rows are the corners of a regular simplex, so that solving magnifies no rounding. Where
    scores are rounded or not served, the nearest softmax regression is fitted instead, and further
    rows are asked on the border between two classes of the copy so far (the paper's adaptive
    retraining). With `hidden` layers the copy is a network of them, fitted to rows drawn evenly.

    Cost: d + 1 queries with scores, whatever the number of classes; with labels alone some tens of
    (d + 1). Blind spots: a model that is not of this form is copied as its nearest one; the widths
    of a network must be known; one-against-rest probabilities are no softmax of linear scores.
    """

    hidden: tuple[int, ...] = ()
    decay: float = 1e-6
    steps: int = 500

    name: ClassVar[str] = "equation-solving"
    source: ClassVar[Source] = Source("Tramèr et al. 2016, arXiv:1609.02943", "AML.T0024.002")
    needs: ClassVar[Capability] = Capability.LABEL

    def ask(self, meter: QueryMeter, rng: np.random.Generator) -> None:
        domain = meter.domain
        meter.ask(simplex(domain, rng))
        while True:
            usable = meter.transcript().usable
            size = max(domain.width + 1, len(usable) // 4)
            rows = rng.uniform(domain.low, domain.high, (size, domain.width))
            if len(usable) and not self.hidden and _exact(usable) is None:
                rows = _on_border(self._fitted(usable, domain, rng), rows, rng)
            meter.ask(rows)

    def copy(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> StolenModel:
        network = None if self.hidden else _exact(seen)
        if network is None:
            network = self._fitted(seen, domain, rng)
        return StolenModel(network, domain, seen.classes)

    def _fitted(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> Network:
        wanted = seen.probabilities()
        start = fresh(seen.rows, self.hidden, seen.classes, rng, "f8")
        if self.hidden:
            start = train(start, seen.rows, wanted, Training(self.hidden), rng)
        return solve(
            start, seen.rows, wanted, steps=self.steps, decay=self.decay, tolerance=1e-10
        )


def simplex(domain: Domain, rng: np.random.Generator) -> Array:
    """The d + 1 corners `(d + 1, d)` of a regular simplex around the domain's middle, turned at
    random and as large as the domain allows."""
    count = domain.width + 1
    square = rng.normal(size=(count, count))
    square[:, 0] = 1
    corners = np.linalg.qr(square)[0][:, 1:]
    corners /= np.abs(corners).max()
    return np.asarray((domain.low + domain.high) / 2 + (domain.high - domain.low) / 2 * corners)


def _exact(seen: Transcript) -> Network | None:
    """The linear model whose scores these are; None if there are none, or they are no such."""
    if seen.scores is None or seen.digits() is not None:
        return None
    scores = seen.scores.astype(np.float64)
    # What a softmax does not change, and probabilities do not tell: the same for every class.
    scores -= scores.mean(axis=1, keepdims=True)
    shift, scale = seen.rows.mean(axis=0), np.maximum(seen.rows.std(axis=0), 1e-12)
    inputs = np.column_stack([(seen.rows - shift) / scale, np.ones(len(seen))])
    weights, _, rank, _ = np.linalg.lstsq(inputs, scores, rcond=None)
    if np.abs(inputs @ weights - scores).max() > 1e-3 * max(1.0, float(np.abs(scores).max())):
        return None
    return Network(shift, scale, ((weights[:-1], weights[-1]),))


def _on_border(network: Network, rows: Array, rng: np.random.Generator) -> Array:
    """Where the chords from `rows` to others cross a border between two of the copy's classes.

    A chord that crosses none keeps its row.
    """
    labels = network.scores(rows).argmax(axis=1)
    low, high = rows, rows[rng.permutation(len(rows))]
    crossing = labels != network.scores(high).argmax(axis=1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        same = network.scores(middle).argmax(axis=1) == labels
        low = np.where(same[:, None], middle, low)
        high = np.where(same[:, None], high, middle)
    return np.where(crossing[:, None], low, rows)
