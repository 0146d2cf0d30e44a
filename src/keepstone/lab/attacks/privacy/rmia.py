"""The relative attack: is the target surer of a row, for how sure models are, than of others?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.port import Source
from keepstone.lab.attacks.privacy.observation import certainty, probability
from keepstone.lab.attacks.privacy.shadows import Shadows


@dataclass(frozen=True, slots=True)
class Rmia:
    """Promise: the score of a row is the share of other rows z that it beats, in
    (p(x | target) / p(x)) / (p(z | target) / p(z)) >= `gamma`.

    p(x) is how sure models are of the row on average: over those with it and those without.
    `online` False knows only the latter, and takes ((1 + a) p_out + 1 - a) / 2 with `a` = `offline`
    (equation 10 of the paper). The other rows are those of the audit, members or not: the attack
    does not know which are.

    Cost: the shadow models, of which 4 do for CI and 64 for a review; one query a row.
    Blind spots: p(x) hides that some rows vary more between models than others, which LiRA sees
    with many models: beyond some 16 more hardly help here. It sees each row alone; with 4 models
    or more conditional-lira tells more. With gamma up to 1 rows are ordered by p(x | target) / p(x)
    alone, whatever z is; above 1 there are ties at the very top. Only the rows as they are.
    """

    online: bool = True
    gamma: float = 1.0
    offline: float = 0.3

    name: ClassVar[str] = "rmia"
    source: ClassVar[Source] = Source(
        "Zarifzadeh, Liu, Shokri 2024: Low-Cost High-Power Membership Inference Attacks",
        "AML.T0024.000",
    )
    needs: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not self.gamma > 0 or not 0 <= self.offline <= 1:
            raise InputError("attack.bad_parameter", "RMIA takes gamma > 0 and 0 <= offline <= 1.")

    def scores(
        self, seen: Array, labels_only: bool, shadows: Shadows | None, x: Array, y: Array
    ) -> Array:
        if shadows is None:
            raise InputError("attack.bad_shadows", "RMIA needs shadow models.")
        most = certainty(shadows.log_odds)
        models = probability(shadows.log_odds.clip(-most, most))
        ratio = probability(seen.clip(-most, most)) / self._average(models, shadows.inside)
        order = np.sort(ratio)
        beaten = np.searchsorted(order, ratio / self.gamma, side="right")
        # No row beats itself.
        return np.asarray((beaten - (self.gamma <= 1)) / max(1, len(ratio) - 1))

    def _average(self, models: Array, inside: Array) -> Array:
        out = _mean(models, ~inside)
        if self.online:
            return (_mean(models, inside) + out) / 2
        return ((1 + self.offline) * out + 1 - self.offline) / 2


def _mean(models: Array, chosen: Array) -> Array:
    return np.asarray(np.where(chosen, models, 0).sum(axis=0) / chosen.sum(axis=0))
