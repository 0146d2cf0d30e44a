"""The likelihood ratio attack: is the model as sure of a row as models that saw it are?"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.port import Source
from keepstone.lab.attacks.privacy.observation import certainty
from keepstone.lab.attacks.privacy.shadows import Shadows

# Log-odds say nothing finer than this, whatever a spread over few models does.
_LEAST_SPREAD = 0.01


@dataclass(frozen=True, slots=True)
class Lira:
    """Promise: for each row, two normal laws of the log-odds, of models that were trained on it
    and of models that were not; the score is the logarithm of their ratio at the target's.

    `online` False uses only the second law, and accuses where the target is too sure for it: what
    an attacker can do who gets to know the row after training the shadow models.
    A row's spread is that of its own models and of `prior` more which vary as those of all rows do
    on average (an empirical Bayes variance, as Smyth 2004 has it). The paper takes either all rows'
    spread, `prior` infinite, or with many models the row's own, 0.

    Of a target that serves labels only, how often the shadow models are right takes the place of
    the normal laws.

    Cost: the shadow models; one query a row. Blind spots: with few models the laws are rough and
    the number is too low, conditional-lira is the better choice; shadow models that are trained
    in another way than the target weaken it; only the rows as they are, no augmentations.
    """

    online: bool = True
    prior: float = 15.0

    name: ClassVar[str] = "lira"
    source: ClassVar[Source] = Source(
        "Carlini, Chien, Nasr, Song, Terzis, Tramer 2022: Membership Inference Attacks From"
        " First Principles",
        "AML.T0024.000",
    )
    needs: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not self.prior >= 0:
            raise InputError("attack.bad_parameter", "LiRA takes a prior from 0 on.")

    def scores(
        self, seen: Array, labels_only: bool, shadows: Shadows | None, x: Array, y: Array
    ) -> Array:
        if shadows is None:
            raise InputError("attack.bad_shadows", "LiRA needs shadow models.")
        if labels_only:
            return self._of_labels(seen, shadows)
        most = certainty(shadows.log_odds)
        at, models = seen.clip(-most, most), shadows.log_odds.clip(-most, most)
        mean_out, spread_out = law(models, ~shadows.inside, self.prior)
        if not self.online:
            # Increasing in the chance that a model without the row would be less sure.
            return np.asarray((at - mean_out) / spread_out)
        mean_in, spread_in = law(models, shadows.inside, self.prior)
        return log_density(at, mean_in, spread_in) - log_density(at, mean_out, spread_out)

    def _of_labels(self, seen: Array, shadows: Shadows) -> Array:
        right = seen > 0
        with_row = _rate(shadows.log_odds > 0, shadows.inside)
        without = _rate(shadows.log_odds > 0, ~shadows.inside)
        if not self.online:
            return np.where(right, -np.log(without), np.log1p(-without))
        return np.where(right, np.log(with_row / without), np.log((1 - with_row) / (1 - without)))


def law(models: Array, chosen: Array, prior: float) -> tuple[Array, Array]:
    """The mean and the spread (n,) of the chosen ones of `models` (m, n)."""
    count = chosen.sum(axis=0)
    mean = np.where(chosen, models, 0).sum(axis=0) / count
    squares = np.where(chosen, (models - mean) ** 2, 0).sum(axis=0)
    # Each row's mean takes one degree of freedom.
    free = count - 1
    shared = squares.sum() / max(1, free.sum())
    if isfinite(prior):
        variance = (squares + prior * shared) / np.maximum(free + prior, 1)
    else:
        variance = np.full(len(mean), shared)
    return mean, np.maximum(np.sqrt(variance), _LEAST_SPREAD)


def log_density(at: Array, mean: Array, spread: Array) -> Array:
    return np.asarray(-0.5 * ((at - mean) / spread) ** 2 - np.log(spread))


def _rate(right: Array, chosen: Array) -> Array:
    """How often the chosen models are right of each row, as if one more of each kind were seen."""
    return np.asarray(((right & chosen).sum(axis=0) + 1) / (chosen.sum(axis=0) + 2))
