"""What a row costs the target, and the meter that keeps an attack within its means.

Promise: no more rows are asked than the budget allows, and none after the time is over (one query
may be under way then); every row that is asked lies in the domain. The clock is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.meter import BudgetSpent
from keepstone.lab.targets.port import Target

# Seconds since any moment; never goes back.
Clock = Callable[[], float]

_KEPT, _PRUNED_AT, _FINALISTS = 64, 2048, 8
# A row that was slow once may have met a pause; one that was slow as often as this did not.
_OFTEN = 3


class Cost(Protocol):
    """Measures rows. `exact` costs are the same each time; `asks` is how many rows the target
    gets for one that is measured, `step` how many rows can be measured at once.
    """

    @property
    def unit(self) -> str: ...

    @property
    def exact(self) -> bool: ...

    @property
    def asks(self) -> int: ...

    @property
    def step(self) -> int: ...

    def of(self, rows: Array) -> Array:
        """What each of `rows` (n, d) costs (n,). Raises OperationalError `target.*`."""
        ...


@dataclass(frozen=True, slots=True)
class Counted:
    """Work that the target shows for each row: tokens, nodes, iterations. Believed as it is."""

    work: Callable[[Array], Array]
    unit: str = "units of work"
    exact: bool = True
    asks: int = 1
    step: int = 4096

    def of(self, rows: Array) -> Array:
        return np.asarray(self.work(rows), np.float64)


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds for each row: the median of `repeats` predictions of `batch` copies of it.

    A model's contract leaves nothing of an input open but the size of the batch: give the largest
    one that it allows to see what that does.
    """

    target: Target
    clock: Clock = perf_counter
    repeats: int = 3
    batch: int = 1

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.batch < 1:
            raise InputError("attack.bad_parameter", "A row is timed once at least, and alone.")

    @property
    def unit(self) -> str:
        return "seconds"

    @property
    def exact(self) -> bool:
        return False

    @property
    def asks(self) -> int:
        return self.repeats * self.batch

    @property
    def step(self) -> int:
        return 1

    def of(self, rows: Array) -> Array:
        return np.array([self._time(np.repeat(row[None], self.batch, axis=0)) for row in rows])

    def _time(self, rows: Array) -> float:
        taken = []
        for _ in range(self.repeats):
            begin = self.clock()
            self.target.predict(rows)
            taken.append(self.clock() - begin)
        return float(np.median(taken)) / self.batch


def nothing(each: float) -> float:
    return 0.0


class CostMeter:
    """One attack's view of what rows cost.

    `x` (n, d) are ordinary rows, from which the attacker starts: what may be changed is judged
    against them. `budget` is the most rows that the target gets, `seconds` the time on `clock`, of
    which `reserve` is left: so many, where a measurement may take `each`. That is as long as two in
    a row ever took: one alone may have met a pause.
    """

    def __init__(
        self,
        cost: Cost,
        domain: Domain,
        x: Array,
        *,
        budget: int,
        seconds: float,
        clock: Clock,
        reserve: Callable[[float], float] = nothing,
    ) -> None:
        self.cost, self.domain = cost, domain
        self.x = domain.fit(x, x)
        self.budget, self.asked = budget, 0
        self._clock, self._ends = clock, clock() + seconds
        self._reserve, self.each, self._took = reserve, 0.0, 0.0
        # Whether it would have gone on.
        self.cut = False
        self._seen: dict[bytes, list[float]] = {}

    @property
    def left(self) -> int:
        """How many rows can still be measured."""
        return (self.budget - self.asked) // self.cost.asks

    def fit(self, places: Array, rows: Array) -> Array:
        """The rows that are asked for `rows`, each made from the row of `x` at its place."""
        return self.domain.fit(rows, self.x[places])

    def ask(self, places: Array, rows: Array) -> Array:
        """What each of `rows` (m, d) costs (m,).

        Raises BudgetSpent before the first row that is beyond the means; OperationalError
        `attack.no_cost` for what is no cost, `target.*`.
        """
        fitted = self.fit(places, rows)
        found = []
        for start in range(0, len(fitted), self.cost.step):
            part = fitted[start : start + self.cost.step]
            began = self._clock()
            if began + self._reserve(self.each) >= self._ends or self.left < 1:
                self.cut = True
                raise BudgetSpent
            kept = part[: self.left]
            costs = measured(self.cost, kept)
            took = (self._clock() - began) / len(kept)
            self.each, self._took = max(self.each, min(took, self._took)), took
            self.asked += len(kept) * self.cost.asks
            self._remember(kept, costs)
            if len(kept) < len(part):
                self.cut = True
                raise BudgetSpent
            found.append(costs)
        return np.concatenate(found) if found else np.zeros(0)

    def finalists(self) -> Array:
        """The rows that cost most so far (k, d): by their median, of all rows and of those that
        were measured often."""
        best = self._best(self._seen)[:_FINALISTS]
        often = {row: costs for row, costs in self._seen.items() if len(costs) >= _OFTEN}
        chosen = dict.fromkeys([*best, *self._best(often)[:_FINALISTS]])
        rows = [np.frombuffer(row, self.x.dtype) for row in chosen]
        return np.stack(rows) if rows else np.zeros((0, self.domain.width), self.x.dtype)

    def _remember(self, rows: Array, costs: Array) -> None:
        for row, cost in zip(rows, costs.tolist(), strict=True):
            self._seen.setdefault(row.tobytes(), []).append(cost)
        if len(self._seen) > _PRUNED_AT:
            kept = self._best(self._seen)[:_KEPT]
            self._seen = {row: self._seen[row] for row in kept}

    def _best(self, seen: dict[bytes, list[float]]) -> list[bytes]:
        return sorted(seen, key=lambda row: -float(np.median(seen[row])))


def measured(cost: Cost, rows: Array) -> Array:
    """What `rows` cost. Raises OperationalError `attack.no_cost` for what is no cost."""
    found = cost.of(rows)
    if found.shape != (len(rows),) or not np.isfinite(found).all() or (found < 0).any():
        raise OperationalError(
            "attack.no_cost",
            "What rows cost is not told by one number from 0 on for each.",
            "Give a cost that counts, or a clock that does not go back.",
        )
    return found
