"""Copies from noise: what a model says of rows that show nothing at all.

Source: Roberts, Prabhu and McAteer, Model Weight Theft With Just Noise Inputs: The Curious Case of
the Petulant Attacker, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.extraction.knockoff import trained
from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.surrogate import TRAINING, StolenModel, Training
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Capability


class Noise(StrEnum):
    """How rows are drawn. `natural` is smooth, as pictures are: power falls with the frequency."""

    UNIFORM = "uniform"
    NORMAL = "normal"
    NATURAL = "natural"


@dataclass(frozen=True, slots=True)
class NoisePool:
    """Promise: rows of noise are asked until the budget ends, and a network is trained on what is
    served for them, on scores where there are any. The attacker needs no data.

    `shape` is that of the picture that a row shows; by default what the domain says.

    Cost: any number of queries; many for few classes, since a model may serve most noise one
    label. Blind spots: a model that calls all noise the same tells a thief nothing here, and
    everything by other rows.
    """

    noise: Noise = Noise.UNIFORM
    shape: tuple[int, ...] | None = None
    batch: int = 256
    training: Training = TRAINING

    name: ClassVar[str] = "noise-pool"
    source: ClassVar[Source] = Source("Roberts et al. 2019, arXiv:1912.08987", "AML.T0024.002")
    needs: ClassVar[Capability] = Capability.LABEL

    def ask(self, meter: QueryMeter, rng: np.random.Generator) -> None:
        while True:
            meter.ask(draw(self.noise, meter.domain, self.batch, rng, self.shape))

    def copy(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> StolenModel:
        return trained(seen, domain, self.training, rng)


def draw(
    noise: Noise,
    domain: Domain,
    count: int,
    rng: np.random.Generator,
    shape: tuple[int, ...] | None = None,
) -> Array:
    """`count` rows of noise `(count, d)` in the domain. Raises InputError `attack.bad_noise`."""
    middle, half = (domain.low + domain.high) / 2, (domain.high - domain.low) / 2
    if noise is Noise.UNIFORM:
        return rng.uniform(domain.low, domain.high, (count, domain.width))
    if noise is Noise.NORMAL:
        return np.clip(
            middle + half / 2 * rng.normal(size=(count, domain.width)), domain.low, domain.high
        )
    sides = domain.shape if shape is None else shape
    if prod(sides) != domain.width:
        raise InputError(
            "attack.bad_noise", f"A picture of {sides} has not the {domain.width} numbers of a row."
        )
    # Short first or last sides are channels; each is a picture of its own.
    axes = tuple(at + 1 for at, side in enumerate(sides) if side > 4) or (len(sides),)
    white = np.fft.fftn(rng.normal(size=(count, *sides)), axes=axes)
    square = sum(
        (np.fft.fftfreq(white.shape[axis]) ** 2).reshape(
            [-1 if at == axis else 1 for at in range(white.ndim)]
        )
        for axis in axes
    )
    # Amplitude falls as 1/f: Field 1987.
    white /= np.sqrt(np.maximum(square, 1e-4))
    smooth = np.fft.ifftn(white, axes=axes).real.reshape(count, -1)
    smooth -= smooth.mean(axis=1, keepdims=True)
    smooth /= np.maximum(np.abs(smooth).max(axis=1, keepdims=True), 1e-12)
    # Pictures differ in their brightness and contrast too.
    contrast, brightness = rng.uniform(0.3, 1, (count, 1)), rng.uniform(-0.5, 0.5, (count, 1))
    return np.clip(middle + half * (contrast * smooth + brightness), domain.low, domain.high)
