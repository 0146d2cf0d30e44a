"""A smooth model trained on the target's answers, and what breaks it tried on the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.domain import Domain
from keepstone.lab.losses import Loss, cross_entropy, margin
from keepstone.lab.masking.measures.descent import standing, within
from keepstone.lab.masking.port import Meters
from keepstone.lab.masking.subject import Subject
from keepstone.lab.norms import Norm
from keepstone.lab.targets.port import Capability

_HIDDEN = 64
_ROUNDS = 150
_RATE = 0.01
_SHRINK = 1e-3
_DECAY = (0.9, 0.999)
_STEPS = 25


@dataclass(frozen=True, slots=True)
class Network:
    """Scores of two layers with tanh between them, over inputs scaled to [-1, 1]."""

    first: Array
    first_bias: Array
    second: Array
    second_bias: Array
    middle: Array
    half: Array

    @classmethod
    def fit(
        cls, rows: Array, labels: Array, classes: int, domain: Domain, rng: np.random.Generator
    ) -> Network:
        """Train on labels by cross-entropy (Adam, Kingma and Ba 2015, over all rows at once)."""
        low, high = domain.low, domain.high
        middle, half = (low + high) / 2, np.where(high > low, (high - low) / 2, 1.0)
        width = rows.shape[1]
        drawn = (
            rng.normal(size=(width, _HIDDEN)) / np.sqrt(width),
            np.zeros(_HIDDEN),
            rng.normal(size=(_HIDDEN, classes)) / np.sqrt(_HIDDEN),
            np.zeros(classes),
        )
        single = [array.astype(np.float32) for array in (*drawn, middle, half)]
        model = cls(*single)
        weights = single[:4]
        moments = [(np.zeros_like(one), np.zeros_like(one)) for one in weights]
        for turn in range(1, _ROUNDS + 1):
            for weight, slope, (mean, square) in zip(
                weights, model._slopes(rows, labels), moments, strict=True
            ):
                mean += (1 - _DECAY[0]) * (slope - mean)
                square += (1 - _DECAY[1]) * (slope**2 - square)
                size = _RATE * np.sqrt(1 - _DECAY[1] ** turn) / (1 - _DECAY[0] ** turn)
                weight -= size * mean / (np.sqrt(square) + 1e-8) + _RATE * _SHRINK * weight
        return model

    def scores(self, rows: Array) -> Array:
        return np.asarray(self._hidden(rows)[1] @ self.second + self.second_bias)

    def climb(self, rows: Array, labels: Array, loss: Loss) -> Array:
        """The gradient of `loss` by `rows`."""
        _, hidden = self._hidden(rows)
        _, weights = loss(hidden @ self.second + self.second_bias, labels)
        back = (weights @ self.second.T) * (1 - hidden**2)
        return np.asarray((back @ self.first.T) / self.half)

    def _hidden(self, rows: Array) -> tuple[Array, Array]:
        inputs = ((rows - self.middle) / self.half).astype(self.first.dtype, copy=False)
        return inputs, np.tanh(inputs @ self.first + self.first_bias)

    def _slopes(self, rows: Array, labels: Array) -> tuple[Array, Array, Array, Array]:
        """Of the mean cross-entropy, by each of the weights."""
        inputs, hidden = self._hidden(rows)
        _, error = cross_entropy(hidden @ self.second + self.second_bias, labels)
        error /= len(rows)
        back = (error @ self.second.T) * (1 - hidden**2)
        return inputs.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)


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
        classes = subject.target.classes
        meter = meters(subject.eps, self.tries, at)
        for turn in range(self.tries):
            left = meter.standing()
            if not left.size:
                break
            # Each network is tried by both losses.
            if turn % 2 == 0:
                model = Network.fit(known[kept], answers[kept], classes, subject.domain, rng)
            loss = (margin, cross_entropy)[turn % 2]
            meter.ask(left, _adversarial(model, meter.x[left], meter.y[left], loss, subject))
        broken[at] = meter.broken
        return broken


def _adversarial(model: Network, x: Array, y: Array, loss: Loss, subject: Subject) -> Array:
    norm: Norm = subject.norm
    rows = x
    for size in subject.eps * np.geomspace(0.5, 0.05, _STEPS):
        way = within(subject.domain, rows, x, model.climb(rows, y, loss))
        step = (size * norm.steepest(way)).astype(x.dtype)
        rows = subject.domain.fit(x + norm.project(rows - x + step, subject.eps), x)
    return rows


TRANSFER = Transfer()
