"""How far two inputs are apart, and the nearest input that is no further than epsilon.

Each function takes and gives flat rows `(n, d)` and one number a row `(n,)`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError


class Norm(Protocol):
    """One way to measure a perturbation."""

    @property
    def name(self) -> str: ...

    def distance(self, delta: Array) -> Array:
        """The length of each row."""
        ...

    def project(self, delta: Array, eps: Array | float) -> Array:
        """The nearest rows that are no longer than `eps`."""
        ...

    def steepest(self, gradient: Array) -> Array:
        """The direction of length 1 in which a function with this gradient grows most; zero
        where the gradient is."""
        ...

    def noise(self, rng: np.random.Generator, count: int, width: int) -> Array:
        """Rows drawn from the unit ball."""
        ...


class _Named:
    name: str

    def __repr__(self) -> str:
        return self.name


class _Linf(_Named):
    name = "linf"

    def distance(self, delta: Array) -> Array:
        return np.asarray(np.abs(delta).max(axis=1, initial=0.0))

    def project(self, delta: Array, eps: Array | float) -> Array:
        most = _column(eps, delta)
        return np.clip(delta, -most, most)

    def steepest(self, gradient: Array) -> Array:
        return np.asarray(np.sign(gradient))

    def noise(self, rng: np.random.Generator, count: int, width: int) -> Array:
        return rng.uniform(-1.0, 1.0, (count, width))


class _L2(_Named):
    name = "l2"

    def distance(self, delta: Array) -> Array:
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", delta, delta)))

    def project(self, delta: Array, eps: Array | float) -> Array:
        length = self.distance(delta)[:, None]
        most = _column(eps, delta)
        with np.errstate(divide="ignore", invalid="ignore"):
            shrunk = np.where(length > most, most / length, 1.0)
        return np.asarray(delta * shrunk.astype(delta.dtype))

    def steepest(self, gradient: Array) -> Array:
        # Scaled first: the square of a small gradient is zero long before it is.
        largest = np.abs(gradient).max(axis=1, initial=0.0)[:, None]
        scaled = gradient / np.where(largest > 0, largest, 1.0)
        length = self.distance(scaled)[:, None]
        return np.asarray(scaled / np.where(length > 0, length, 1.0))

    def noise(self, rng: np.random.Generator, count: int, width: int) -> Array:
        drawn = rng.standard_normal((count, width))
        radius = rng.uniform(0.0, 1.0, (count, 1)) ** (1.0 / width)
        return self.steepest(drawn) * radius


class _L1(_Named):
    name = "l1"

    def distance(self, delta: Array) -> Array:
        return np.asarray(np.abs(delta).sum(axis=1))

    def project(self, delta: Array, eps: Array | float) -> Array:
        """Source: Duchi et al. 2008, Efficient projections onto the l1-ball."""
        size = np.abs(delta)
        most = np.broadcast_to(_column(eps, delta), (len(delta), 1))
        ordered = -np.sort(-size, axis=1)
        excess = np.cumsum(ordered, axis=1) - most
        count = np.arange(1, delta.shape[1] + 1)
        last = np.maximum((ordered * count > excess).sum(axis=1) - 1, 0)
        cut = np.take_along_axis(excess, last[:, None], axis=1) / (last[:, None] + 1)
        inside = (size.sum(axis=1) <= most[:, 0])[:, None]
        kept = np.sign(delta) * np.maximum(size - np.maximum(cut, 0.0), 0.0)
        return np.where(inside, delta, kept).astype(delta.dtype)

    def steepest(self, gradient: Array) -> Array:
        size = np.abs(gradient)
        best = size.argmax(axis=1)[:, None]
        found = np.zeros_like(gradient)
        np.put_along_axis(found, best, np.sign(np.take_along_axis(gradient, best, 1)), axis=1)
        return found

    def noise(self, rng: np.random.Generator, count: int, width: int) -> Array:
        drawn = rng.exponential(size=(count, width))
        signs = rng.choice((-1.0, 1.0), (count, width))
        rest = rng.exponential(size=(count, 1))
        return np.asarray(signs * drawn / (drawn.sum(axis=1, keepdims=True) + rest))


class _L0(_Named):
    """How many features differ. Their values are bounded by the domain alone."""

    name = "l0"

    def distance(self, delta: Array) -> Array:
        return np.asarray((delta != 0).sum(axis=1), np.float64)

    def project(self, delta: Array, eps: Array | float) -> Array:
        most = np.broadcast_to(np.floor(_column(eps, delta)), (len(delta), 1))
        order = np.argsort(-np.abs(delta), axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(delta.shape[1])[None, :], axis=1)
        return np.where(rank < most, delta, 0).astype(delta.dtype)

    def steepest(self, gradient: Array) -> Array:
        return _L1().steepest(gradient)

    def noise(self, rng: np.random.Generator, count: int, width: int) -> Array:
        found = np.zeros((count, width))
        places = rng.integers(width, size=count)
        found[np.arange(count), places] = rng.uniform(-1.0, 1.0, count)
        return found


LINF: Norm = _Linf()
L2: Norm = _L2()
L1: Norm = _L1()
L0: Norm = _L0()
NORMS = {norm.name: norm for norm in (LINF, L2, L1, L0)}


def norm_called(name: str) -> Norm:
    """Raises InputError `attack.bad_norm`."""
    try:
        return NORMS[name]
    except KeyError as error:
        raise InputError(
            "attack.bad_norm",
            f"There is no norm {name[:32]!r}.",
            f"Use one of: {', '.join(NORMS)}.",
        ) from error


def _column(eps: Array | float, like: Array) -> Array:
    return np.asarray(eps, like.dtype).reshape(-1, 1)
