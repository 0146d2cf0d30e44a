"""Copycat: a copy trained on the labels alone of whatever pictures are at hand.

Source: Correia-Silva, Berriel, Badue, de Souza and Oliveira-Santos, Copycat CNN: Stealing
Knowledge by Persuading Confession with Random Non-Labeled Data, IJCNN 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.extraction.knockoff import check_pool, check_width, trained
from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.surrogate import TRAINING, StolenModel, Training
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True, eq=False)
class Copycat:
    """Promise: the rows of `pool` are asked in a drawn order, none of them twice, and a network is
    trained on their labels; scores are not looked at. With `balance` each label that was served
    is seen equally often in training, as in the paper: pictures of no class are served a few
    labels most of the time.

    Cost: as many queries as the pool has rows. Blind spots: a label tells less than a score, so
    it takes several times the queries; a class that the pool never gets is never copied.
    """

    pool: Array = field(repr=False)
    balance: bool = True
    training: Training = TRAINING

    name: ClassVar[str] = "copycat"
    source: ClassVar[Source] = Source(
        "Correia-Silva et al. 2018, arXiv:1806.05476", "AML.T0024.002"
    )
    needs: ClassVar[Capability] = Capability.LABEL

    def __post_init__(self) -> None:
        check_pool(self.pool)

    def ask(self, meter: QueryMeter, rng: np.random.Generator) -> None:
        check_width(self.pool, meter.domain)
        meter.ask(self.pool[rng.permutation(len(self.pool))])

    def copy(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> StolenModel:
        labels_alone = replace(seen, scores=None)
        if self.balance:
            labels_alone = _balanced(labels_alone, rng)
        return trained(labels_alone, domain, self.training, rng)


def _balanced(seen: Transcript, rng: np.random.Generator) -> Transcript:
    """Rows of the rarer labels again, until each label is as frequent as the most frequent."""
    counts = np.bincount(seen.labels, minlength=seen.classes)
    more = [
        rng.choice(np.flatnonzero(seen.labels == label), counts.max() - counts[label])
        for label in np.flatnonzero(counts)
    ]
    places = np.concatenate([np.arange(len(seen)), *more])
    return Transcript(seen.rows[places], seen.labels[places], None, seen.classes)
