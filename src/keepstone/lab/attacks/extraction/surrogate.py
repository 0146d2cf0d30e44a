"""The copies: networks of rectified layers, trained in numpy on what a target served.

None has the layers of a convolution: for pictures beyond a few hundred pixels a copy by a deep
learning library learns more from the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.extraction.lbfgs import minimize
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Answers, Capability, Linearization

Layers = tuple[tuple[Array, Array], ...]


@dataclass(frozen=True, slots=True)
class Training:
    """How a copy is trained on the answers: `hidden` layers, and Adam with a falling rate.

    Kingma and Ba 2015. At least `steps` batches are seen, so that few answers are seen often.
    """

    hidden: tuple[int, ...] = (128,)
    epochs: int = 30
    steps: int = 1500
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.epochs, self.steps, self.batch, *self.hidden, 1) < 1 or not self.rate > 0:
            raise InputError("attack.bad_training", "A copy that is never trained copies nothing.")


TRAINING = Training()


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Rows are shifted and scaled, then go through `layers` of weights `(in, out)` and biases,
    with zero in place of what is negative between them."""

    shift: Array
    scale: Array
    layers: Layers

    def scores(self, rows: Array) -> Array:
        return self._through(rows)[-1]

    def gradient(self, rows: Array, weights: Array) -> Array:
        """The gradient `(n, d)` by the rows of the scores' sum, weighted by `weights` (n, k)."""
        seen = self._through(rows)
        back = np.asarray(weights, seen[0].dtype)
        for at in reversed(range(len(self.layers))):
            back = back @ self.layers[at][0].T
            if at:
                back *= seen[at] > 0
        return np.asarray(back / self.scale)

    def _through(self, rows: Array) -> list[Array]:
        kind = self.layers[0][0].dtype
        seen = [((rows - self.shift) / self.scale).astype(kind, copy=False)]
        for at, (weights, bias) in enumerate(self.layers):
            after = seen[-1] @ weights + bias
            seen.append(np.maximum(after, 0) if at < len(self.layers) - 1 else after)
        return seen


@dataclass(frozen=True, slots=True, eq=False)
class StolenModel:
    """A copy is a target itself: it can be attacked in place of the model it was taken from."""

    network: Network
    domain: Domain
    classes: int

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(Capability)

    def predict(self, rows: Array) -> Answers:
        scores = self.network.scores(rows)
        return Answers(scores.argmax(axis=1), scores)

    def linearize(self, rows: Array) -> Linearization:
        found = self.predict(rows)
        assert found.scores is not None
        return Linearization(
            found.labels, found.scores, lambda weights: self.network.gradient(rows, weights)
        )


def fresh(
    rows: Array,
    domain: Domain,
    hidden: Sequence[int],
    classes: int,
    rng: np.random.Generator,
    kind: str = "f4",
    gain: float = 1 / 3,
) -> Network:
    """An untrained network for inputs like `rows`: weights of variance `gain` / their count.

    A small start keeps what is learnt from few answers smooth; 2 is He et al. 2015's.
    """
    half = np.where(domain.high > domain.low, (domain.high - domain.low) / 2, 1.0)
    # One scale for all features, as parts of their ranges: pixels at the edge that hardly vary
    # would drown the others, scaled each by its own.
    middle = rows.mean(axis=0)
    common = float(np.sqrt((((rows - middle) / half) ** 2).mean()))
    scale = half * max(common, 1e-6)
    widths = [rows.shape[1], *hidden, classes]
    layers = tuple(
        (
            (rng.normal(size=(before, after)) * np.sqrt(gain / before)).astype(kind),
            np.zeros(after, kind),
        )
        for before, after in pairwise(widths)
    )
    return Network(middle, scale, layers)


def train(
    network: Network,
    rows: Array,
    wanted: Array,
    training: Training,
    rng: np.random.Generator,
    part: float = 1.0,
) -> Network:
    """The network after training towards the probabilities `wanted` (n, k).

    `part` is how much of the training is done, for a network that is trained on and on.
    """
    kind = network.layers[0][0].dtype
    inputs = ((rows - network.shift) / network.scale).astype(kind)
    goals = wanted.astype(kind)
    count, size = len(inputs), min(training.batch, len(inputs))
    each = -(-count // size)
    total = max(round(part * max(training.epochs * each, training.steps)), 1)
    values = [part.copy() for layer in network.layers for part in layer]
    means = [np.zeros_like(value) for value in values]
    squares = [np.zeros_like(value) for value in values]
    order = np.zeros(0, np.int64)
    for step in range(total):
        if len(order) < size:
            order = np.concatenate([order, rng.permutation(count)])
        places, order = order[:size], order[size:]
        slopes = _slopes(values, inputs[places], goals[places])
        _adam(values, slopes, means, squares, step, total, training)
    return replace(network, layers=_layers(values))


# Of all rows' scores `(n, k)`: the loss, and its gradient by the scores.
ScoreLoss = Callable[[Array], tuple[float, Array]]


def towards_probabilities(wanted: Array) -> ScoreLoss:
    """Mean cross-entropy of the scores' softmax and `wanted` (n, k)."""

    def loss(scores: Array) -> tuple[float, Array]:
        shifted = scores - scores.max(axis=1, keepdims=True)
        chances = np.exp(shifted)
        total = chances.sum(axis=1, keepdims=True)
        value = float((wanted * (np.log(total) - shifted)).sum()) / len(scores)
        return value, (chances / total - wanted) / len(scores)

    return loss


def towards_scores(wanted: Array) -> ScoreLoss:
    """Mean squared difference from scores `wanted` (n, k), but for what a softmax ignores."""
    centred = wanted - wanted.mean(axis=1, keepdims=True)

    def loss(scores: Array) -> tuple[float, Array]:
        apart = scores - scores.mean(axis=1, keepdims=True) - centred
        return float((apart**2).sum()) / len(scores), 2 * apart / len(scores)

    return loss


def solve(
    network: Network, rows: Array, loss: ScoreLoss, *, steps: int, decay: float, tolerance: float
) -> Network:
    """The network with the least `loss` over all rows at once, in 64 bits.

    `decay` times half the squares of the weights is added to it.
    """
    inputs = ((rows - network.shift) / network.scale).astype(np.float64)
    shapes = [part.shape for layer in network.layers for part in layer]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])

    def apart(point: Array) -> list[Array]:
        pieces = np.split(point, ends[:-1])
        return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def objective(point: Array) -> tuple[float, Array]:
        values = apart(point)
        seen, scores = _forward(values, inputs)
        value, back = loss(scores)
        slopes = _backward(values, seen, back)
        for at in range(0, len(values), 2):
            value += decay / 2 * float((values[at] ** 2).sum())
            slopes[at] += decay * values[at]
        return value, np.concatenate([slope.ravel() for slope in slopes])

    start = np.concatenate([part.ravel() for layer in network.layers for part in layer])
    best = minimize(objective, start.astype(np.float64), steps=steps, tolerance=tolerance)
    return replace(network, layers=_layers(apart(best)))


def softmax(scores: Array) -> Array:
    """Scores `(n, k)` as probabilities."""
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _layers(values: list[Array]) -> Layers:
    return tuple(zip(values[::2], values[1::2], strict=True))


def _forward(values: list[Array], inputs: Array) -> tuple[list[Array], Array]:
    """The inputs of each layer, and the last one's scores."""
    seen = [inputs]
    for at in range(0, len(values) - 2, 2):
        seen.append(np.maximum(seen[-1] @ values[at] + values[at + 1], 0))
    return seen, seen[-1] @ values[-2] + values[-1]


def _backward(values: list[Array], seen: list[Array], back: Array) -> list[Array]:
    slopes: list[Array] = []
    for at in reversed(range(len(seen))):
        slopes[:0] = [seen[at].T @ back, back.sum(axis=0)]
        if at:
            back = (back @ values[2 * at].T) * (seen[at] > 0)
    return slopes


def _slopes(values: list[Array], inputs: Array, goals: Array) -> list[Array]:
    seen, scores = _forward(values, inputs)
    return _backward(values, seen, (softmax(scores) - goals) / np.float32(len(inputs)))


def _adam(
    values: list[Array],
    slopes: list[Array],
    means: list[Array],
    squares: list[Array],
    step: int,
    total: int,
    training: Training,
) -> None:
    rate = training.rate * 0.5 * (1 + np.cos(np.pi * step / total))
    rate *= np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
    for at, slope in enumerate(slopes):
        if at % 2 == 0:
            slope += training.decay * values[at]
        means[at] += 0.1 * (slope - means[at])
        squares[at] += 0.001 * (slope * slope - squares[at])
        values[at] -= (rate * means[at] / (np.sqrt(squares[at]) + 1e-8)).astype(slope.dtype)
