"""Accuse the rows of which the model is surest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keepstone.contract.validate import Array
from keepstone.lab.attacks.port import Source
from keepstone.lab.attacks.privacy.shadows import Shadows


@dataclass(frozen=True, slots=True)
class LossThreshold:
    """Promise: one query a row, nothing else. A low loss is taken for a sign of membership.

    Of a target that serves labels only it sees whether they are right: the gap attack.

    Cost: one query a row. Blind spots: a row that is easy for every model is accused as well, so
    next to no member is found at a low false-positive rate, even where many are exposed. A low
    number here is no evidence of privacy.
    """

    name: ClassVar[str] = "loss-threshold"
    source: ClassVar[Source] = Source(
        "Yeom, Giacomelli, Fredrikson, Jha 2018: Privacy Risk in Machine Learning", "AML.T0024.000"
    )
    needs: ClassVar[int] = 0

    def scores(
        self, seen: Array, labels_only: bool, shadows: Shadows | None, x: Array, y: Array
    ) -> Array:
        return seen
