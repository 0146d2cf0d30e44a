"""Transforms of the input before a model sees it, as a target that says what gradient is left.

Promise: the target that they make declares a gradient only where the transform has one that is
worth its name. Rounding has none (it is zero wherever it exists), so `BitDepth` declares none; a
median hands its one element's gradient on; noise hands on that of the draw.

Source: Xu, Evans and Qi 2018, arXiv 1704.01155 (feature squeezing), for the first two. Athalye et
al. 2018 and He et al. 2017 broke them. Cost: none but the transform. Blind spots: an attacker who
knows of them goes around them, which is why nothing is said of them before `evaluate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.adaptive import Bpda, Eot
from keepstone.lab.targets.around import Around
from keepstone.lab.targets.port import Answers, Capability, Linearization, Target, gradients_of


class Transform(Protocol):
    """A frozen dataclass of its parameters. Rows are flat `(n, d)`."""

    name: ClassVar[str]
    # Whether `pull_back` gives a gradient that says something.
    differentiable: ClassVar[bool]
    randomised: ClassVar[bool]

    def fits(self, domain: Domain) -> str | None:
        """Why it cannot transform the inputs of this domain, or None if it can."""
        ...

    def apply(self, rows: Array, domain: Domain, rng: np.random.Generator) -> Array: ...

    def pull_back(self, rows: Array, gradient: Array, domain: Domain) -> Array:
        """The gradient by `rows`, of the one by what they were transformed to."""
        ...


@dataclass(frozen=True, slots=True)
class BitDepth:
    """Each feature takes one of 2^`bits` values, evenly over its range."""

    bits: int = 3
    name: ClassVar[str] = "bit-depth"
    differentiable: ClassVar[bool] = False
    randomised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise InputError("defence.bad_parameters", "Bit depth is reduced to 1 to 16 bits.")

    def fits(self, domain: Domain) -> str | None:
        return None

    def apply(self, rows: Array, domain: Domain, rng: np.random.Generator) -> Array:
        steps = 2**self.bits - 1
        span = np.where(domain.high > domain.low, domain.high - domain.low, 1.0)
        level = np.rint((rows - domain.low) / span * steps)
        return np.asarray(domain.low + level * span / steps)

    def pull_back(self, rows: Array, gradient: Array, domain: Domain) -> Array:
        return np.zeros_like(gradient)


@dataclass(frozen=True, slots=True)
class MedianSmoothing:
    """Each pixel becomes the median of the `size` x `size` ones around it; edges are repeated.

    `size` is odd, so that a median is one of the pixels. Takes pictures: shapes whose last two
    axes are rows and columns.
    """

    size: int = 3
    name: ClassVar[str] = "median-smoothing"
    differentiable: ClassVar[bool] = True
    randomised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.size < 3 or self.size % 2 == 0:
            raise InputError("defence.bad_parameters", "A window is odd, and 3 wide at least.")

    def fits(self, domain: Domain) -> str | None:
        return None if len(domain.shape) >= 2 else "its inputs are no pictures"

    def apply(self, rows: Array, domain: Domain, rng: np.random.Generator) -> Array:
        return np.asarray(np.take_along_axis(rows, self._medians(rows, domain), axis=1))

    def pull_back(self, rows: Array, gradient: Array, domain: Domain) -> Array:
        found = np.zeros_like(gradient)
        at = np.arange(len(rows))[:, None]
        np.add.at(found, (at, self._medians(rows, domain)), gradient)
        return found

    def _medians(self, rows: Array, domain: Domain) -> Array:
        """The place of the median around each feature `(n, d)`."""
        windows = self._windows(domain)
        middle = windows.shape[1] // 2
        rank = np.argpartition(rows[:, windows], middle, axis=2)[:, :, middle]
        return np.asarray(windows[np.arange(len(windows)), rank])

    def _windows(self, domain: Domain) -> Array:
        """The places around each feature `(d, size * size)`."""
        places = np.arange(domain.width).reshape(-1, *domain.shape[-2:])
        side = self.size // 2
        padded = np.pad(places, ((0, 0), (side, side), (side, side)), mode="edge")
        seen = np.lib.stride_tricks.sliding_window_view(padded, (self.size, self.size), (1, 2))
        return np.asarray(seen.reshape(domain.width, -1))


@dataclass(frozen=True, slots=True)
class GaussianNoise:
    """Noise of deviation `sigma`, in parts of each feature's range, anew for each question."""

    sigma: float = 0.1
    name: ClassVar[str] = "gaussian-noise"
    differentiable: ClassVar[bool] = True
    randomised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sigma) and self.sigma > 0):
            raise InputError("defence.bad_parameters", "Noise has a deviation above zero.")

    def fits(self, domain: Domain) -> str | None:
        return None

    def apply(self, rows: Array, domain: Domain, rng: np.random.Generator) -> Array:
        drawn = rng.standard_normal(rows.shape)
        return np.asarray(rows + self.sigma * (domain.high - domain.low) * drawn)

    def pull_back(self, rows: Array, gradient: Array, domain: Domain) -> Array:
        return gradient


class Transformed(Around):
    """`target` behind `transform`, fitted into its domain. Implements `Defended`.

    Deterministic by `seed` and by what was asked before. Raises InputError `defence.unfit`.
    """

    def __init__(self, target: Target, transform: Transform, seed: int = 0) -> None:
        why = transform.fits(target.domain)
        if why is not None:
            raise InputError("defence.unfit", f"{transform.name} does not fit the model: {why}.")
        super().__init__(target)
        self.transform = transform
        self.name = transform.name
        self._rng = np.random.default_rng(seed)

    @property
    def undefended(self) -> Target:
        return self._served

    @property
    def randomised(self) -> bool:
        return self.transform.randomised

    @property
    def capabilities(self) -> frozenset[Capability]:
        # Whoever has the trees of the model does not have those of the model behind a transform.
        gone = {Capability.TREES}
        if not self.transform.differentiable:
            gone.add(Capability.GRADIENT)
        return super().capabilities - gone

    def predict(self, rows: Array) -> Answers:
        return super().predict(self._applied(rows))

    def linearize(self, rows: Array) -> Linearization:
        """Raises InputError `attack.unable` where no gradient is declared."""
        gradients_of(self)
        found = gradients_of(self.undefended).linearize(self._applied(rows))

        def vjp(weights: Array) -> Array:
            return self.transform.pull_back(rows, found.vjp(weights), self.domain)

        return Linearization(found.labels, found.scores, vjp)

    def adaptive(self) -> Target:
        seen: Target = self
        able = Capability.GRADIENT in self.undefended.capabilities
        if able and not self.transform.differentiable:
            seen = Bpda(self, self.undefended, self._applied)
        return Eot(seen) if self.randomised else seen

    def begun(self, seed: int) -> Transformed:
        return Transformed(self.undefended, self.transform, seed)

    def _applied(self, rows: Array) -> Array:
        found = self.transform.apply(rows, self.domain, self._rng)
        return self.domain.fit(found, found)
