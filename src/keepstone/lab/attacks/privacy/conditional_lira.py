"""The likelihood ratio attack, given what the target says of the rows around each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.port import Source
from keepstone.lab.attacks.privacy.lira import law, log_density
from keepstone.lab.attacks.privacy.observation import certainty, probability
from keepstone.lab.attacks.privacy.shadows import Shadows
from keepstone.lab.attacks.privacy.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class ConditionalLira:
    """Promise: LiRA's ratio for each row, with three changes which few shadow models allow.

    (1) What the rows around a row tell of the target's answer is taken off, of the target's as of
    the shadow models'. (2) The laws are of arcsine(sqrt(p)), p the probability of the right
    class: a share of votes varies about alike on this scale, whatever it is. (3) A row's two means
    are drawn towards what all rows' means make likely, the more the fewer the models (empirical
    Bayes). `prior` is as LiRA has it. (2) is of Anscombe 1948, (3) of Efron and Morris 1973.

    Cost: the shadow models, of which 4 do for CI and 64 for a review; one query a row; distances
    between all rows. Blind spots: a row's answer alone is not enough to judge it, so all rows have
    to be asked; of a small network it told no more than LiRA and RMIA do, and where probabilities
    differ only beyond .9999, LiRA's log-odds may see more; distances that mean nothing (see
    surroundings) leave (2) and (3). Only the rows as they are.
    """

    prior: float = 15.0

    name: ClassVar[str] = "conditional-lira"
    source: ClassVar[Source] = Source(
        "Carlini, Chien, Nasr, Song, Terzis, Tramer 2022: Membership Inference Attacks From"
        " First Principles; given the rows around, our own",
        "AML.T0024.000",
    )
    # With fewer nothing tells how models vary.
    needs: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if not self.prior >= 0:
            raise InputError("attack.bad_parameter", "Conditional LiRA takes a prior from 0 on.")

    def scores(
        self, seen: Array, labels_only: bool, shadows: Shadows | None, x: Array, y: Array
    ) -> Array:
        if shadows is None:
            raise InputError("attack.bad_shadows", "Conditional LiRA needs shadow models.")
        most = certainty(shadows.log_odds)
        at, models = _steadied(seen, most), _steadied(shadows.log_odds, most)
        around = Surroundings.of(x, y)
        weights = around.weights(models, shadows.inside)
        at = at - around.rings(at) @ weights
        models = np.stack([one - around.rings(one) @ weights for one in models])
        laws = [law(models, kind, self.prior) for kind in (shadows.inside, ~shadows.inside)]
        errors = [
            (spread**2 / kind.sum(axis=0)).mean()
            for (_, spread), kind in zip(laws, (shadows.inside, ~shadows.inside), strict=True)
        ]
        means = _drawn_together(np.stack([mean for mean, _ in laws]), np.diag(errors))
        with_row, without = (
            log_density(at, mean, spread) for mean, (_, spread) in zip(means, laws, strict=True)
        )
        return with_row - without


def _steadied(seen: Array, most: float) -> Array:
    return np.asarray(np.arcsin(np.sqrt(probability(seen.clip(-most, most)))))


def _drawn_together(means: Array, errors: Array) -> Array:
    """Each row's means (2, n), drawn to all rows' as far as `errors` (2, 2) make them vary."""
    middle = means.mean(axis=1, keepdims=True)
    seen = np.cov(means)
    size, way = np.linalg.eigh(seen - errors)
    true = (way * size.clip(0)) @ way.T
    return np.asarray(middle + true @ np.linalg.pinv(seen, hermitian=True) @ (means - middle))
