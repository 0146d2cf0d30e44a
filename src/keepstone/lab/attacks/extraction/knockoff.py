"""Knockoff Nets: a copy trained on what the model says of somebody else's pictures.

Source: Orekondy, Schiele and Fritz, Knockoff Nets: Stealing Functionality of Black-Box Models,
CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.surrogate import (
    TRAINING,
    Network,
    StolenModel,
    Training,
    fresh,
    train,
)
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Capability


class Policy(StrEnum):
    """Which row of the pool is asked next."""

    RANDOM = "random"
    ADAPTIVE = "adaptive"


@dataclass(frozen=True, slots=True, eq=False)
class Knockoff:
    """Promise: the rows of `pool` are asked, none of them twice, and a network is trained on the
    probabilities served for them; on labels where there are no scores.

    At random; or by the adaptive policy, where `kinds` (n,) says of which kind each row of the
    pool is: a gradient bandit that prefers the kinds of which the model is certain, that it labels
    variously, and on which the copy is wrong. The policy learns after each `batch` of queries.

    Cost: as many queries as the pool has rows. Blind spots: what the pool never shows is never
    learnt; a pool of another domain costs several times the queries. Of the paper's policies the
    adaptive one gains where the pool's kinds differ much in use, and little elsewhere.
    """

    pool: Array = field(repr=False)
    policy: Policy = Policy.RANDOM
    kinds: Array | None = field(default=None, repr=False)
    batch: int = 32
    rate: float = 1.0
    training: Training = TRAINING

    name: ClassVar[str] = "knockoff"
    source: ClassVar[Source] = Source("Orekondy et al. 2019, arXiv:1812.02766", "AML.T0024.002")
    needs: ClassVar[Capability] = Capability.LABEL

    def __post_init__(self) -> None:
        check_pool(self.pool)
        if self.policy is Policy.ADAPTIVE and (
            self.kinds is None or self.kinds.shape != (len(self.pool),)
        ):
            raise InputError("attack.bad_pool", "There is not one kind for each row of the pool.")

    def ask(self, meter: QueryMeter, rng: np.random.Generator) -> None:
        check_width(self.pool, meter.domain)
        if self.policy is Policy.RANDOM or self.kinds is None:
            meter.ask(self.pool[rng.permutation(len(self.pool))])
            return
        policy = _Bandit(self.kinds, self.rate, rng)
        network: Network | None = None
        while (places := policy.choose(self.batch)).size:
            before = meter.asked
            meter.ask(self.pool[places])
            told = meter.transcript()
            new = Transcript(
                told.rows[before:],
                told.labels[before:],
                None if told.scores is None else told.scores[before:],
                told.classes,
            )
            network = self._learn(policy, places, new, told.usable, network, meter.domain, rng)

    def copy(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> StolenModel:
        return trained(seen, domain, self.training, rng)

    def _learn(
        self,
        policy: _Bandit,
        places: Array,
        new: Transcript,
        told: Transcript,
        network: Network | None,
        domain: Domain,
        rng: np.random.Generator,
    ) -> Network | None:
        """Reward the kinds that were asked, and train the copy that judges them a little more."""
        if not len(told):
            return network
        if len(new.usable) == len(new):
            policy.reward(places, new, network)
        if network is None:
            network = fresh(told.rows, domain, self.training.hidden, told.classes, rng)
        part = 0.02
        return train(network, told.rows, told.probabilities(), self.training, rng, part)


class _Bandit:
    """The paper's section 4.1.2: a preference for each kind, changed by its rewards."""

    def __init__(self, kinds: Array, rate: float, rng: np.random.Generator) -> None:
        self._names, self._kinds = np.unique(kinds, return_inverse=True)
        self._left = [rng.permutation(np.flatnonzero(self._kinds == at)) for at in self._all]
        self._preference = np.zeros(len(self._names))
        self._rate = rate
        self._rng = rng
        self._asked = np.zeros(len(self._names))
        self._sums: Array | None = None
        self._answers = 0
        self._mean = 0.0
        self._rounds = 0
        self._most = np.full(3, 1e-12)

    @property
    def _all(self) -> range:
        return range(len(self._names))

    def choose(self, count: int) -> Array:
        """The places of the rows to ask next; empty when the pool is."""
        chosen: list[int] = []
        for _ in range(count):
            open_kinds = np.array([len(rows) > 0 for rows in self._left])
            if not open_kinds.any():
                break
            chances = np.exp(self._preference - self._preference.max()) * open_kinds
            kind = int(self._rng.choice(len(chances), p=chances / chances.sum()))
            chosen.append(int(self._left[kind][-1]))
            self._left[kind] = self._left[kind][:-1]
        return np.array(chosen, np.int64)

    def reward(self, places: Array, told: Transcript, network: Network | None) -> None:
        """The preferences after what was served for the rows at the first of `places`."""
        said = told.probabilities()
        kinds = self._kinds[places[: len(said)]]
        ranked = np.sort(said, axis=1)
        certain = ranked[:, -1] - ranked[:, -2]
        mean = np.zeros(said.shape[1]) if self._sums is None else self._sums / self._answers
        various = np.maximum(said - mean, 0).sum(axis=1)
        wrong = np.zeros(len(said))
        if network is not None:
            scores = network.scores(told.rows).astype(np.float64)
            scores -= scores.max(axis=1, keepdims=True)
            wrong = -(said * (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))).sum(1)
        parts = np.column_stack([certain, various, wrong])
        self._most = np.maximum(self._most, parts.max(axis=0))
        rewards = (parts / self._most).mean(axis=1)
        total = said.sum(axis=0)
        self._sums = total if self._sums is None else self._sums + total
        self._answers += len(said)
        self._rounds += len(said)
        self._mean += (rewards.sum() - len(said) * self._mean) / self._rounds
        chances = np.exp(self._preference - self._preference.max())
        chances /= chances.sum()
        np.add.at(self._asked, kinds, 1)
        for kind, gain in zip(kinds.tolist(), rewards - self._mean, strict=True):
            step = self._rate / max(self._asked[kind], 1.0) * gain
            self._preference -= step * chances
            self._preference[kind] += step


def trained(
    seen: Transcript, domain: Domain, training: Training, rng: np.random.Generator
) -> StolenModel:
    """A network trained from nothing on all the answers."""
    network = fresh(seen.rows, domain, training.hidden, seen.classes, rng)
    network = train(network, seen.rows, seen.probabilities(), training, rng)
    return StolenModel(network, domain, seen.classes)


def check_pool(pool: Array) -> None:
    """Raises InputError `attack.bad_pool` unless it has rows of finite numbers."""
    if pool.ndim != 2 or not len(pool) or not np.isfinite(pool).all():
        raise InputError("attack.bad_pool", "The pool has no rows, or numbers that are not finite.")


def check_width(pool: Array, domain: Domain) -> None:
    """Raises InputError `attack.bad_pool` unless its rows are inputs of the model."""
    if pool.shape[1] != domain.width:
        raise InputError(
            "attack.bad_pool",
            f"The pool has rows of {pool.shape[1]} numbers; the model takes {domain.width}.",
        )
