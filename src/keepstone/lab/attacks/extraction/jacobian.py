"""Jacobian-based augmentation: a few rows, doubled again and again where the copy changes most.

Source: Papernot, McDaniel, Goodfellow, Jha, Celik and Swami, Practical Black-Box Attacks against
Machine Learning, Asia CCS 2017, section 4.
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
class JacobianAugmentation:
    """Promise: `seeds` are asked; then, round by round, each row that was asked is moved by `step`
    (a share of each feature's range) along the sign of the copy's gradient for its label, and
    asked again. The set doubles up to `most` new rows a round, drawn from all (the paper's
    reservoir); every `period` rounds the way turns round. Training is on labels alone.

    Cost: any number of queries, few seeds; a copy is trained in each round. Blind spots: made for
    transferring adversarial inputs, so it learns the borders near the seeds and little else; the
    rows of late rounds lie far from any data.
    """

    seeds: Array = field(repr=False)
    step: float = 0.1
    period: int = 3
    most: int = 400
    training: Training = TRAINING

    name: ClassVar[str] = "jacobian-augmentation"
    source: ClassVar[Source] = Source("Papernot et al. 2017, arXiv:1602.02697", "AML.T0005.001")
    needs: ClassVar[Capability] = Capability.LABEL

    def __post_init__(self) -> None:
        check_pool(self.seeds)

    def ask(self, meter: QueryMeter, rng: np.random.Generator) -> None:
        domain = meter.domain
        check_width(self.seeds, domain)
        meter.ask(self.seeds[rng.permutation(len(self.seeds))])
        turn = 0
        while len(known := replace(meter.transcript().usable, scores=None)):
            copy = trained(known, domain, self.training, rng)
            places = rng.permutation(len(known))[: self.most]
            wanted = np.zeros((len(places), known.classes))
            wanted[np.arange(len(places)), known.labels[places]] = 1
            slope = copy.network.gradient(known.rows[places], wanted)
            way = 1 if (turn // self.period) % 2 == 0 else -1
            length = way * self.step * (domain.high - domain.low)
            meter.ask(known.rows[places] + length * np.sign(slope))
            turn += 1

    def copy(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> StolenModel:
        return trained(replace(seen, scores=None), domain, self.training, rng)
