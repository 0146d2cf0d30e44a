"""A small network of one's own: what a transfer attack learns a target with. numpy alone."""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array

_DECAYS = (0.9, 0.999)


class Network:
    """One hidden layer, of rows in about [0, 1]; trained with Adam on chances `(n, k)`."""

    def __init__(
        self, rng: np.random.Generator, width: int, classes: int, hidden: int = 64
    ) -> None:
        self._weights = [
            rng.standard_normal((width, hidden)) * np.sqrt(2 / width),
            np.zeros(hidden),
            rng.standard_normal((hidden, classes)) * np.sqrt(1 / hidden),
            np.zeros(classes),
        ]
        self._moments = [(np.zeros_like(w), np.zeros_like(w)) for w in self._weights]
        self._count = 0

    def fit(
        self,
        rng: np.random.Generator,
        rows: Array,
        chances: Array,
        *,
        epochs: int = 30,
        batch: int = 64,
        rate: float = 0.005,
    ) -> None:
        """Go on training from where it stands."""
        rows = rows.astype(np.float64)
        for _ in range(epochs):
            order = rng.permutation(len(rows))
            for at in range(0, len(rows), batch):
                part = order[at : at + batch]
                self._update(self._slopes(rows[part], chances[part]), rate)

    def scores(self, rows: Array) -> Array:
        return self._forward(rows.astype(np.float64))[1]

    def gradient(self, rows: Array, labels: Array) -> Array:
        """Of the cross entropy with the right labels, by the rows."""
        hidden, scores = self._forward(rows.astype(np.float64))
        slope = _softmax(scores)
        slope[np.arange(len(rows)), labels] -= 1
        return np.asarray(((slope @ self._weights[2].T) * (hidden > 0)) @ self._weights[0].T)

    def _forward(self, rows: Array) -> tuple[Array, Array]:
        first, bias, second, last = self._weights
        hidden = np.maximum(rows @ first + bias, 0)
        return hidden, hidden @ second + last

    def _slopes(self, rows: Array, chances: Array) -> list[Array]:
        hidden, scores = self._forward(rows)
        slope = (_softmax(scores) - chances) / len(rows)
        back = (slope @ self._weights[2].T) * (hidden > 0)
        return [rows.T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]

    def _update(self, slopes: list[Array], rate: float) -> None:
        """One step of Adam (Kingma and Ba 2015)."""
        self._count += 1
        first, second = _DECAYS
        for weight, slope, (mean, square) in zip(self._weights, slopes, self._moments, strict=True):
            mean += (1 - first) * (slope - mean)
            square += (1 - second) * (slope**2 - square)
            unbiased = mean / (1 - first**self._count)
            weight -= rate * unbiased / (np.sqrt(square / (1 - second**self._count)) + 1e-8)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
