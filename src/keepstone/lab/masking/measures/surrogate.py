"""A smooth model trained on the target's answers, and what breaks it tried on the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.losses import Loss, cross_entropy, margin
from keepstone.lab.masking.measures.descent import standing
from keepstone.lab.masking.port import Meters
from keepstone.lab.masking.subject import Subject
from keepstone.lab.norms import Norm
from keepstone.lab.targets.port import Capability

_DECAY = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Network:
    """Scores of two layers with tanh between them, over inputs scaled to [-1, 1]."""

    first: Array
    second: Array
    middle: Array
    half: Array

    @classmethod
    def fit(
        cls, rows: Array, labels: Array, classes: int, ends: tuple[Array, Array], seed: int
    ) -> Network:
        """Train on labels by cross-entropy (Adam, Kingma and Ba 2015, over all rows at once)."""
        rng = np.random.default_rng(seed)
        low, high = ends
        middle, half = (low + high) / 2, np.where(high > low, (high - low) / 2, 1.0)
        inputs = np.c_[(rows - middle) / half, np.ones(len(rows))]
        weights = [
            rng.normal(size=(inputs.shape[1], _HIDDEN)) / np.sqrt(inputs.shape[1]),
            rng.normal(size=(_HIDDEN + 1, classes)) / np.sqrt(_HIDDEN),
        ]
        moments = [[np.zeros_like(one), np.zeros_like(one)] for one in weights]
        for turn in range(1, _ROUNDS + 1):
            hidden = np.tanh(inputs @ weights[0])
            _, error = cross_entropy(np.c_[hidden, np.ones(len(rows))] @ weights[1], labels)
            error /= len(rows)
            back = (error @ weights[1][:-1].T) * (1 - hidden**2)
            slopes = (inputs.T @ back, np.c_[hidden, np.ones(len(rows))].T @ error)
            for weight, slope, moment in zip(weights, slopes, moments, strict=True):
                for place, power in enumerate((slope, slope**2)):
                    moment[place] += (1 - _DECAY[place]) * (power - moment[place])
                mean, square = (m / (1 - d**turn) for m, d in zip(moment, _DECAY, strict=True))
                weight -= _RATE * (mean / (np.sqrt(square) + 1e-8) + _SHRINK * weight)
        return cls(weights[0], weights[1], middle, half)

    def climb(self, rows: Array, labels: Array, loss: Loss) -> Array:
        """The gradient of `loss` by `rows`."""
        inputs = np.c_[(rows - self.middle) / self.half, np.ones(len(rows))]
        hidden = np.tanh(inputs @ self.first)
        scores = np.c_[hidden, np.ones(len(rows))] @ self.second
        _, weights = loss(scores, labels)
        back = (weights @ self.second[:-1].T) * (1 - hidden**2)
        return np.asarray((back @ self.first[:-1].T) / self.half)


_HIDDEN = 64
_ROUNDS = 200
_RATE = 0.01
_SHRINK = 1e-3
_STEPS = 25


@dataclass(frozen=True, slots=True)
class Transfer:
    """Gives which of the samples that stand were broken by a surrogate's adversarial examples.

    The surrogate learns the labels of every sample and of `copies` of it, moved within epsilon;
    then `tries` are made on each sample that stands. Source: Papernot et al. 2017.
    """

    copies: int = 8
    tries: int = 4
    name: ClassVar[str] = "transfer"
    needs: ClassVar[Capability] = Capability.LABEL

    @property
    def cost(self) -> int:
        return self.copies + self.tries

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Array:
        at = np.flatnonzero(standing(subject))
        broken = np.zeros(len(subject.x), bool)
        if not at.size:
            return broken
        rows, labels = [subject.x], [subject.y]
        learning = meters(subject.eps, self.copies)
        every = np.arange(len(subject.x))
        for _ in range(self.copies):
            way = subject.norm.steepest(rng.standard_normal(subject.x.shape))
            moved = subject.domain.fit(
                subject.x + (subject.eps * way).astype(subject.x.dtype), subject.x
            )
            rows.append(moved)
            labels.append(learning.ask(every, moved).labels)
        known, answers = np.concatenate(rows), np.concatenate(labels)
        kept = answers >= 0
        ends = (subject.domain.low, subject.domain.high)
        meter = meters(subject.eps, self.tries, at)
        for turn in range(self.tries):
            left = meter.standing()
            if not left.size:
                break
            model = Network.fit(
                known[kept], answers[kept], subject.target.classes, ends, int(rng.integers(2**31))
            )
            loss = (margin, cross_entropy)[turn % 2]
            meter.ask(left, _adversarial(model, meter.x[left], meter.y[left], loss, subject))
        broken[at] = meter.broken
        return broken


def _adversarial(model: Network, x: Array, y: Array, loss: Loss, subject: Subject) -> Array:
    norm: Norm = subject.norm
    rows = x
    for size in subject.eps * np.geomspace(0.5, 0.05, _STEPS):
        step = (size * norm.steepest(model.climb(rows, y, loss))).astype(x.dtype)
        rows = subject.domain.fit(x + norm.project(rows - x + step, subject.eps), x)
    return rows


TRANSFER = Transfer()
