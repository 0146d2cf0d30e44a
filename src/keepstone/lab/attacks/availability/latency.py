"""Worst-case latency: many kinds of rows are timed, and the slowest again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.availability.cost import CostMeter
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain

# How many rows a bracket ends with.
_LAST = 4


@dataclass(frozen=True, slots=True)
class Latency:
    """Promise: each of `brackets` takes `candidates` rows: the ends and the middle of the domain,
    zeros, numbers too small for a processor's fast path, rows of ends alone, rows from anywhere,
    ordinary ones, and changed copies of the slowest so far. All are timed, the slower half again,
    and so on, so that what was slow by accident falls out.

    Nothing leaves the model's contract: the shape is the model's, and the batch that of the cost.

    Cost: `brackets` times 2 * `candidates` rows, within the meter's budget and time. Blind spots:
    what is slow only after other requests (caches, collection, throttling), or in company; a
    remote target's time has the network's in it; slow rows that are none of these kinds nor
    near them (see sponge for a longer search).
    """

    candidates: int = 64
    brackets: int = 4

    name: ClassVar[str] = "worst-latency"
    source: ClassVar[Source] = Source(
        "Hong et al. 2021, arXiv:2010.02432, for the threat; Jamieson, Talwalkar 2016,"
        " arXiv:1502.07943, for the choosing",
        "AML.T0029",
    )

    def __post_init__(self) -> None:
        if self.candidates < 2 * _LAST or self.brackets < 1:
            raise InputError(
                "attack.bad_parameter",
                f"Worst-case latency takes a bracket and {2 * _LAST} candidates at least.",
            )

    def run(self, meter: CostMeter, rng: np.random.Generator) -> None:
        slowest = np.zeros((0, meter.domain.width), meter.x.dtype)
        for number in range(self.brackets):
            rows = self._candidates(meter, slowest, number == 0, rng)
            places = rng.integers(0, len(meter.x), len(rows))
            rows = meter.fit(places, rows.astype(meter.x.dtype))
            slowest = self._halve(meter, places, rows, rng)

    def _halve(
        self, meter: CostMeter, places: Array, rows: Array, rng: np.random.Generator
    ) -> Array:
        times = np.zeros((len(rows), 0))
        while len(rows) > _LAST:
            # In a new order each time: what slows the machine for a while slows all alike.
            order = rng.permutation(len(rows))
            found = np.empty((len(rows), 1))
            found[order, 0] = meter.ask(places[order], rows[order])
            times = np.hstack([times, found])
            kept = np.argsort(-np.median(times, axis=1), kind="stable")[: -(-len(rows) // 2)]
            places, rows, times = places[kept], rows[kept], times[kept]
        return rows

    def _candidates(
        self, meter: CostMeter, slowest: Array, first: bool, rng: np.random.Generator
    ) -> Array:
        domain, parts = meter.domain, []
        if first:
            parts.append(_corners(domain))
        if len(slowest):
            copies = slowest[rng.integers(0, len(slowest), self.candidates // 2)]
            changed = rng.random(copies.shape) < 0.1
            parts.append(np.where(changed, _between(domain, len(copies), rng), copies))
        left = max(0, self.candidates - sum(map(len, parts)))
        third = left // 3
        ends = rng.random((third, domain.width)) < 0.5
        parts += [
            np.where(ends, domain.high, domain.low),
            _between(domain, third, rng),
            meter.x[rng.integers(0, len(meter.x), left - 2 * third)],
        ]
        return np.concatenate(parts)[: self.candidates]


def _corners(domain: Domain) -> Array:
    low, high, width = domain.low, domain.high, domain.width
    parts = [low, high, (low + high) / 2, np.zeros(width)]
    parts.append(np.where(np.arange(width) % 2, low, high))
    if domain.dtype.kind == "f":
        # Below the least normal number many processors leave their fast path.
        kind = np.float32 if domain.work_dtype.itemsize == 4 else np.float64
        parts.append(np.full(width, float(np.finfo(kind).tiny) / 8))
    return np.stack(parts)


def _between(domain: Domain, count: int, rng: np.random.Generator) -> Array:
    drawn = rng.random((count, domain.width))
    return np.asarray(domain.low + drawn * (domain.high - domain.low))
