"""How much more the costliest row costs than an ordinary one, and whether that is known.

What an attack found is measured afresh: the best of what it found are chosen by new measurements,
and the chosen one is measured once more, in rounds, each together with ordinary rows in a random
order. The ratio within a round is free of what slows the machine for a while, and the median of
the rounds of what slows it for a moment. One ordinary row is treated as the chosen one is: how
far its ratio strays from 1 is what noise does here.

Cost: the attack's, and about 500 measurements of its own, all within one budget and one time. The
search leaves half of the time to measure what it finds, and where that is too little for an
interval as much as one takes; less time makes fewer measurements, and a wider interval.
Blind spots: what the attack did not find; load, and what requests do to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.availability.cost import Clock, Cost, CostMeter, measured
from keepstone.lab.attacks.availability.port import AvailabilityAttack, run_within
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.draws import draws
from keepstone.lab.metrics.median import MIN_VALUES, Median, median_of
from keepstone.lab.problem import Problem, Verdict, insufficient

# The share of the time after which the search ends.
_SEARCH = 0.5
# How many times an ordinary row is measured first, to see how long that takes.
_FIRST = 3
# What is measured may take longer than it did.
_MARGIN = 1.75
# A search that was cut off before so many rows says nothing of what it did not try.
_FEWEST = 64
_UNKNOWN = median_of(())


@dataclass(frozen=True, slots=True, eq=False)
class Availability:
    """What an attack found. `typical` is what an ordinary row costs, in `unit`, if that is known.

    `ratio` is the chosen `row`'s cost to that, `control` an ordinary row's, measured alike.
    `asked` is how many rows the target got, `seconds` how long it all took.
    """

    attack: str
    parameters: str
    source: Source
    seed: int
    unit: str
    typical: float | None
    ratio: Median
    control: Median
    row: Array | None
    limit: float | None
    verdict: Verdict
    problems: tuple[Problem, ...]
    asked: int
    budget: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "attack": self.attack,
            "parameters": self.parameters,
            "paper": self.source.paper,
            "atlas": self.source.atlas,
            "seed": self.seed,
            "unit": self.unit,
            "typical": self.typical,
            "ratio": _shown(self.ratio),
            "control": _shown(self.control),
            "row": None if self.row is None else str(Digest.of(self.row.tobytes())),
            "limit": self.limit,
            "verdict": self.verdict.value,
            "problems": [one.to_dict() for one in self.problems],
            "asked": self.asked,
            "budget": self.budget,
            "seconds": self.seconds,
        }


def measure_availability(
    attack: AvailabilityAttack,
    cost: Cost,
    domain: Domain,
    x: Array,
    *,
    seed: int,
    budget: int,
    seconds: float,
    limit: float | None = None,
    clock: Clock = perf_counter,
) -> Availability:
    """Let `attack` search among the rows that can be made of the ordinary ones `x` (n, d), and
    measure the costliest. `limit` is the greatest ratio that is allowed.

    At most `budget` rows are asked, repeats included, and nothing after `seconds` on `clock`,
    but what is under way.

    Raises InputError `attack.bad_data`, `attack.bad_budget`, `attack.bad_limit`; a target that
    fails (OperationalError) is a problem.
    """
    room = _Room(cost, domain, _ordinary(domain, x), seed, budget, seconds, limit, clock)
    found, problems = _Found(), []
    try:
        found = room.measure(attack)
    except OperationalError as error:
        # A number that was broken off is none.
        problems.append(insufficient(error.code, error.cause))
    problems += _problems(found, limit) if not problems else []
    return Availability(
        attack.name,
        repr(attack),
        attack.source,
        seed,
        cost.unit,
        found.typical,
        found.ratio,
        found.control,
        found.row,
        limit,
        judge(found.ratio, found.control, limit, problems),
        tuple(problems),
        room.asked,
        budget,
        clock() - room.began,
    )


def judge(
    ratio: Median, control: Median, limit: float | None, problems: Sequence[Problem]
) -> Verdict:
    """(1) Even the lower end is above the limit, and above what an ordinary row may seem to
    cost: fail. (2) A problem, noise among them, or no limit: insufficient. (3) Else pass, for
    what reaches beyond the limit is noise, and was a problem.
    """
    if limit is not None and ratio.low > max(limit, control.high):
        return Verdict.FAIL
    if limit is None or problems or ratio.high > limit:
        return Verdict.INSUFFICIENT
    return Verdict.PASS


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    typical: float | None = None
    ratio: Median = _UNKNOWN
    control: Median = _UNKNOWN
    row: Array | None = None
    searched: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """How many ordinary rows and finalists are measured how often, to choose among them; how many
    ordinary rows one round has, and for how many rounds there has to be time."""

    baseline: int
    finalists: int
    choosing: int
    ordinary: int
    confirming: int

    @property
    def measurements(self) -> int:
        chosen = (self.baseline + self.finalists) * self.choosing
        return chosen + (self.ordinary + 2) * self.confirming

    def seconds(self, ordinary: float, found: float) -> float:
        """How long it takes, at so many seconds for one ordinary row and for one of the found."""
        rows = self.baseline * self.choosing + (self.ordinary + 1) * self.confirming
        costly = self.finalists * self.choosing + self.confirming
        return _MARGIN * (rows * ordinary + costly * found)


_EXACT = (_Plan(32, 16, 1, 9, 1),)
# The first that there is time for.
_NOISY = (_Plan(32, 16, 5, 9, 25), _Plan(16, 8, 3, 9, 12), _Plan(7, 4, 1, 5, MIN_VALUES))


class _Room:
    """Where one measurement happens: search first, then choose, then confirm."""

    def __init__(
        self,
        cost: Cost,
        domain: Domain,
        x: Array,
        seed: int,
        budget: int,
        seconds: float,
        limit: float | None,
        clock: Clock,
    ) -> None:
        if seed < 0:
            raise InputError("attack.bad_seed", "A seed is a whole number from 0 on.")
        if limit is not None and not limit >= 1:
            raise InputError("attack.bad_limit", f"No row costs less than 1: {limit} is no limit.")
        self._plans = _EXACT if cost.exact else _NOISY
        own = 1 + _FIRST + self._plans[0].measurements
        if budget < (own + 1) * cost.asks or not seconds > 0:
            raise InputError(
                "attack.bad_budget",
                f"To measure what is found takes {own * cost.asks} rows, and some time, by itself.",
            )
        self._cost, self._domain, self._x, self._clock = cost, domain, x, clock
        self._draws = [draws(seed, part) for part in (1, 2)]
        self.began, self._seconds, self.asked = clock(), seconds, 0
        self._search = budget - own * cost.asks

    def measure(self, attack: AvailabilityAttack) -> _Found:
        """Raises OperationalError `attack.no_cost`, `target.*`."""
        # The first row that a target is ever asked pays for what is made once.
        self._ask(self._x[:1])
        ordinary = self._pace()
        least = self._plans[-1]
        meter = CostMeter(
            self._cost,
            self._domain,
            self._x,
            budget=self._search,
            seconds=self._left,
            clock=self._clock,
            reserve=lambda each: max(
                self._seconds * (1 - _SEARCH), least.seconds(ordinary, max(each, ordinary))
            ),
        )
        try:
            run_within(attack, meter, self._draws[0])
        finally:
            self.asked += meter.asked
        found = self._measured(meter, self._plan(ordinary, max(meter.each, ordinary)))
        return replace(found, searched=meter.asked // self._cost.asks, cut=meter.cut)

    def _pace(self) -> float:
        """How long it takes to measure an ordinary row."""
        took = []
        for _ in range(_FIRST):
            began = self._clock()
            if self._left > 0:
                self._ask(self._x[:1])
                took.append(self._clock() - began)
        return float(np.median(took)) if took else 0.0

    def _plan(self, ordinary: float, found: float) -> _Plan:
        fits = [one for one in self._plans if one.seconds(ordinary, found) <= self._left]
        return fits[0] if fits else self._plans[-1]

    def _measured(self, meter: CostMeter, plan: _Plan) -> _Found:
        """The best of what was found, measured anew."""
        drawn = self._draws[1].permutation(len(self._x))[: plan.baseline]
        ordinary = self._x[drawn]
        costs = self._medians(ordinary, plan.choosing)
        finalists = meter.finalists()[: plan.finalists]
        if costs is None:
            return _Found()
        typical = float(np.median(costs))
        chosen = self._medians(finalists, plan.choosing) if len(finalists) else None
        if chosen is None:
            return _Found(typical)
        row = finalists[int(chosen.argmax())]
        order = np.argsort(costs, kind="stable")
        control = ordinary[order[len(order) // 2]]
        # Those around the middle are what an ordinary row is; the others may be costly too.
        around = np.argsort(np.abs(np.arange(len(order)) - len(order) // 2), kind="stable")
        middle = ordinary[order[around[1 : plan.ordinary + 1]]] if len(order) > 1 else ordinary
        # As many as there is time for.
        ratios = self._confirm(row, control, middle, self._plans[0].confirming)
        return _Found(typical, *self._medians_of(ratios), row)

    def _confirm(self, row: Array, control: Array, others: Array, rounds: int) -> Array:
        """The ratios of `row` and of `control` to the others in each round (rounds, 2)."""
        rows = np.concatenate([row[None], control[None], others])
        found = []
        for _ in range(rounds):
            costs = self._round(rows)
            if costs is None:
                break
            base = float(np.median(costs[2:]))
            if base > 0:
                found.append(costs[:2] / base)
        return np.asarray(found).reshape(-1, 2)

    def _medians_of(self, ratios: Array) -> tuple[Median, Median]:
        if self._cost.exact and len(ratios):
            row, control = (float(one) for one in ratios[0])
            return Median(row, 1, row, row), Median(control, 1, control, control)
        return median_of(ratios[:, 0].tolist()), median_of(ratios[:, 1].tolist())

    def _medians(self, rows: Array, rounds: int) -> Array | None:
        found = [costs for _ in range(rounds) if (costs := self._round(rows)) is not None]
        return np.median(np.stack(found), axis=0) if found else None

    def _round(self, rows: Array) -> Array | None:
        """What each costs, measured in a random order; None where the time is over."""
        found = np.empty(len(rows))
        for place in self._draws[1].permutation(len(rows)):
            if self._left <= 0:
                return None
            found[place] = self._ask(rows[place : place + 1])[0]
        return found

    @property
    def _left(self) -> float:
        return self.began + self._seconds - self._clock()

    def _ask(self, rows: Array) -> Array:
        self.asked += len(rows) * self._cost.asks
        return measured(self._cost, rows)


def _ordinary(domain: Domain, x: Array) -> Array:
    rows = np.asarray(x)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != domain.width:
        raise InputError(
            "attack.bad_data", f"The ordinary rows are none of {domain.width} numbers."
        )
    if not domain.holds(rows).all():
        raise InputError(
            "attack.outside_domain", "Some ordinary rows lie outside the range of the model."
        )
    return domain.fit(rows, rows)


def _problems(found: _Found, limit: float | None) -> list[Problem]:
    if not found.searched:
        return [insufficient("attack.too_few", "The means were spent before anything was tried.")]
    if found.row is not None and found.typical == 0:
        text = "An ordinary row costs nothing: the clock, or the count, is too coarse."
        return [insufficient("attack.no_cost", text)]
    if not np.isfinite(found.ratio.high):
        text = (
            f"The time was over after {found.ratio.n} rounds; an interval takes {MIN_VALUES}: give"
            " it more."
        )
        return [insufficient("attack.too_few", text)]
    if found.cut and found.searched < _FEWEST:
        text = f"The means were spent after {found.searched} rows were tried: it takes {_FEWEST}."
        return [insufficient("attack.too_few", text)]
    return noise(found.ratio, found.control, limit)


def noise(ratio: Median, control: Median, limit: float | None) -> list[Problem]:
    """A problem where an ordinary row would not be within the limit, or the limit is within what
    the ratio may be."""
    if limit is None or not (control.high > limit or ratio.low <= limit < ratio.high):
        return []
    text = (
        f"The noise drowns it: the ratio is {ratio.low:.2f} to {ratio.high:.2f}, an ordinary"
        f" row's {control.low:.2f} to {control.high:.2f}."
    )
    return [insufficient("attack.noisy", text)]


def _shown(found: Median) -> dict[str, float | int | None]:
    """JSON has no infinity, and what was not measured has no number."""
    if not found.n:
        return {"value": None, "low": None, "high": None, "n": 0}
    high = found.high if np.isfinite(found.high) else None
    return {"value": found.value, "low": found.low, "high": high, "n": found.n}
