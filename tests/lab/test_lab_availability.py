"""Availability: the costly input is found where one is planted, and noise is never a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.availability.cost import Cost, CostMeter, Counted, Timed
from keepstone.lab.attacks.availability.latency import Latency
from keepstone.lab.attacks.availability.measure import (
    Availability,
    judge,
    measure_availability,
    noise,
)
from keepstone.lab.attacks.availability.port import AvailabilityAttack
from keepstone.lab.attacks.availability.sponge import Sponge
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.meter import BudgetSpent
from keepstone.lab.metrics.median import MIN_VALUES, Median, median_of
from keepstone.lab.problem import Verdict, insufficient
from keepstone.lab.targets.port import Answers, Capability

WIDTH = 12
DOMAIN = Domain.of((WIDTH,), 0.0, 1.0, "float64")
BOTH: tuple[AvailabilityAttack, ...] = (Sponge(population=20), Latency())


def ordinary(count: int = 40) -> Array:
    return np.random.default_rng(0).uniform(0.3, 0.7, (count, WIDTH))


def flat(rows: Array) -> Array:
    return np.full(len(rows), 0.01)


def planted(rows: Array) -> Array:
    """Each feature beyond .9 or so costs: an ordinary row takes .01 s, the worst .13 s."""
    return np.asarray(0.01 + 0.01 * (rows > 0.9).sum(axis=1))


@dataclass
class Slow:
    """A target that takes as long as `seconds` says, on a clock of its own; `noise` multiplies."""

    seconds: Callable[[Array], Array] = planted
    noise: float = 0.0
    domain: Domain = DOMAIN
    now: float = 0.0
    asked: list[Array] = field(default_factory=list)
    classes: int = 2
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.LABEL})

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(0)

    def clock(self) -> float:
        return self.now

    def predict(self, rows: Array) -> Answers:
        self.asked.append(rows.copy())
        factor = float(np.exp(self._draw.normal(0, self.noise)))
        self.now += float(self.seconds(rows).sum()) * factor
        return Answers(np.zeros(len(rows), np.int64))

    @property
    def rows_asked(self) -> int:
        return sum(map(len, self.asked))


def run(attack: AvailabilityAttack, cost: Cost, **given: Any) -> Availability:
    asked = {"seed": 0, "budget": 20_000, "seconds": 1e6, "limit": 2.0, "x": ordinary()} | given
    return measure_availability(attack, cost, asked.pop("domain", DOMAIN), asked.pop("x"), **asked)


def timed(attack: AvailabilityAttack, target: Slow, repeats: int = 1, **given: Any) -> Availability:
    cost = Timed(target, target.clock, repeats, given.pop("batch", 1))
    return run(attack, cost, clock=target.clock, **given)


# What is found


@pytest.mark.parametrize("attack", BOTH, ids=repr)
def test_the_planted_input_is_found(attack: AvailabilityAttack) -> None:
    found = run(attack, Counted(planted))
    assert found.ratio.value == pytest.approx(13)
    assert (found.ratio.low, found.ratio.high) == (found.ratio.value, found.ratio.value)
    assert found.control.value == 1
    assert found.typical == pytest.approx(0.01)
    assert found.row is not None
    assert (found.row > 0.9).all()
    assert found.verdict is Verdict.FAIL
    assert found.problems == ()


@pytest.mark.parametrize("attack", BOTH, ids=repr)
def test_the_planted_input_is_found_by_a_noisy_clock(attack: AvailabilityAttack) -> None:
    target = Slow(noise=0.1)
    found = timed(attack, target)
    assert found.verdict is Verdict.FAIL
    assert found.ratio.low > 8
    assert found.ratio.low < 13 < found.ratio.high * 1.1
    assert found.control.low < 1.05
    assert found.control.high > 0.95
    assert found.unit == "seconds"


def test_breeding_finds_what_drawing_does_not() -> None:
    """Forty features at their very end: one in 3^40 of what is drawn."""
    wide = Domain.of((40,), 0.0, 1.0, "float64")
    x = np.random.default_rng(0).uniform(0.3, 0.7, (40, 40))

    def work(rows: Array) -> Array:
        return np.asarray(1 + (rows == 0).sum(axis=1))

    bred = run(Sponge(), Counted(work), x=x, domain=wide, budget=6000)
    drawn = run(Sponge(population=4000, generations=1), Counted(work), x=x, domain=wide)
    assert bred.ratio.value == 41
    assert drawn.ratio.value < 35


def test_an_honest_target_passes() -> None:
    for attack in BOTH:
        assert run(attack, Counted(flat)).verdict is Verdict.PASS
        found = timed(attack, Slow(flat, noise=0.1))
        assert found.verdict is Verdict.PASS
        assert found.ratio.low < 1.1
        assert found.ratio.high < 1.2
        assert found.problems == ()


def test_a_moment_of_slowness_is_no_finding() -> None:
    """One call in twenty takes fifty times as long, whatever the row."""
    target, draw = Slow(flat), np.random.default_rng(1)

    def seconds(rows: Array) -> Array:
        return flat(rows) * (50 if draw.random() < 0.05 else 1)

    target.seconds = seconds
    for attack in BOTH:
        found = timed(attack, target)
        assert found.verdict is Verdict.PASS
        assert found.ratio.value == pytest.approx(1)


@pytest.mark.parametrize("attack", BOTH, ids=repr)
def test_noise_that_drowns_the_ratio_is_insufficient(attack: AvailabilityAttack) -> None:
    found = timed(attack, Slow(flat, noise=2.0), limit=1.5)
    assert [one.code for one in found.problems] == ["attack.noisy"]
    assert found.verdict is Verdict.INSUFFICIENT
    assert found.ratio.low < 1.5 < found.ratio.high


def test_a_batch_costs_what_each_of_it_does() -> None:
    target = Slow()
    found = timed(Latency(), target, batch=4)
    assert {len(rows) for rows in target.asked} == {4}
    assert found.typical == pytest.approx(0.01)
    assert found.ratio.value == pytest.approx(13)


def test_what_cannot_be_changed_stays() -> None:
    held = Constraints.of(WIDTH, immutable=[0, 1, 2])
    domain = Domain.of((WIDTH,), 0.0, 1.0, "float64", held)
    x = ordinary()
    mine = {row[:3].tobytes() for row in x}
    for attack in BOTH:
        target = Slow(domain=domain)
        found = timed(attack, target, domain=domain, budget=3000)
        asked = np.concatenate(target.asked)
        assert domain.holds(asked).all()
        assert {row[:3].tobytes() for row in asked} <= mine
        assert found.ratio.value <= 10.01


@pytest.mark.parametrize("attack", BOTH, ids=repr)
def test_searches_repeat(attack: AvailabilityAttack) -> None:
    one, same = (timed(attack, Slow(noise=0.1), budget=3000).to_dict() for _ in range(2))
    other = timed(attack, Slow(noise=0.1), budget=3000, seed=1).to_dict()
    assert one == same
    assert one != other
    assert one["parameters"] == repr(attack)


# Bounds


@pytest.mark.parametrize("attack", BOTH, ids=repr)
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_budget_is_never_exceeded(attack: AvailabilityAttack, repeats: int) -> None:
    for budget in (2000, 2001, 5000):
        target = Slow(noise=0.1)
        found = timed(attack, target, repeats, budget=budget)
        assert found.asked == target.rows_asked <= budget


@pytest.mark.parametrize("attack", BOTH, ids=repr)
def test_the_time_is_never_exceeded_by_more_than_a_query(attack: AvailabilityAttack) -> None:
    for seconds in (1.0, 8.0, 20.0):
        target = Slow(noise=0.1)
        found = timed(attack, target, seconds=seconds)
        assert found.seconds == target.now
        assert target.now <= seconds + 0.2
    # The search leaves time to measure what it found.
    found = timed(attack, Slow(noise=0.1), seconds=60.0)
    assert found.verdict is Verdict.FAIL
    found = timed(attack, Slow(noise=0.1), seconds=0.2)
    # The time was over before it was known: no number.
    assert [one.code for one in found.problems] == ["attack.too_few"]
    assert found.verdict is Verdict.INSUFFICIENT
    told = found.to_dict()
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    assert (told["ratio"], told["control"], told["row"]) == (nothing, nothing, None)
    hurried = timed(attack, Slow(noise=0.1), seconds=0.02).to_dict()
    assert hurried["typical"] is None


@pytest.mark.parametrize("attack", BOTH, ids=repr)
@pytest.mark.parametrize("seconds", [2.0, 3.0, 5.0, 8.0])
def test_the_search_leaves_the_time_that_an_interval_takes(
    attack: AvailabilityAttack, seconds: float
) -> None:
    """A measurement takes .01 s and up to .13 s: all of them take longer than there is."""
    target = Slow(noise=0.1)
    found = timed(attack, target, seconds=seconds)
    assert found.ratio.n >= MIN_VALUES
    assert found.verdict is Verdict.FAIL
    assert target.now <= seconds + 0.2


def test_a_search_that_was_cut_off_at_once_does_not_pass() -> None:
    found = timed(Sponge(), Slow(flat), seconds=1.1)
    assert found.ratio.n >= MIN_VALUES
    assert [one.code for one in found.problems] == ["attack.too_few"]
    assert "rows were tried" in found.problems[0].message
    assert found.verdict is Verdict.INSUFFICIENT
    # What ended by itself was not cut off, and what fails fails.
    assert timed(Two(), Slow(flat), seconds=60.0).verdict is Verdict.PASS
    assert timed(Two(), Slow(), seconds=60.0).verdict is Verdict.FAIL


def test_a_meter_stops_in_the_middle() -> None:
    target = Slow(flat)
    cost = Timed(target, target.clock, 2)
    meter = CostMeter(cost, DOMAIN, ordinary(), budget=7, seconds=1e6, clock=target.clock)
    with pytest.raises(BudgetSpent):
        meter.ask(np.arange(5), ordinary()[:5])
    assert (meter.asked, meter.left, target.rows_asked) == (6, 0, 6)
    assert len(meter.finalists()) == 3
    counted = CostMeter(
        Counted(flat), DOMAIN, ordinary(), budget=7, seconds=1e6, clock=target.clock
    )
    with pytest.raises(BudgetSpent):
        counted.ask(np.arange(9), ordinary()[:9])
    assert counted.asked == 7


def test_a_meter_asks_nothing_outside_the_domain() -> None:
    seen: list[Array] = []

    def work(rows: Array) -> Array:
        seen.append(rows)
        return flat(rows)

    meter = CostMeter(Counted(work), DOMAIN, ordinary(), budget=9, seconds=1.0, clock=lambda: 0.0)
    meter.ask(np.arange(5), ordinary()[:5] + np.linspace(-2, 2, 5)[:, None])
    assert DOMAIN.holds(seen[0]).all()
    assert DOMAIN.holds(meter.finalists()).all()


def test_what_was_slow_again_and_again_is_kept() -> None:
    """Of sixteen rows the first is slowest at the first asking, and quickest at the second."""
    values = np.tile(2 + np.arange(16.0) / 10, (2, 1))
    values[:, 0] = 9, 1
    told = iter(values)

    class Told:
        def ask(self, places: Array, rows: Array) -> Array:
            return np.asarray(next(told)[rows[:, 0].astype(int)])

    x = np.tile(np.arange(16.0)[:, None], (1, WIDTH))
    draw = np.random.default_rng(0)
    found = Latency()._halve(Told(), np.arange(16), x, draw)  # type: ignore[arg-type]
    assert set(found[:, 0]) == {0, 13, 14, 15}


def test_a_long_search_forgets_the_cheapest_first() -> None:
    meter = CostMeter(
        Counted(lambda rows: rows[:, 0]),
        DOMAIN,
        ordinary(),
        budget=10_000,
        seconds=1.0,
        clock=lambda: 0.0,
    )
    # The costliest comes in the middle.
    x = np.tile(np.roll(np.linspace(0, 1, 3000), 1000)[:, None], (1, WIDTH))
    for part in np.array_split(x, 30):
        meter.ask(np.zeros(len(part), int), part)
    assert meter.finalists()[0, 0] == 1
    assert len(meter._seen) < 2500


def test_later_brackets_start_from_what_was_slow() -> None:
    wide = Domain.of((60,), 0.0, 1.0, "float64")
    draw = np.random.default_rng(0)
    wanted = draw.random(60) < 0.5
    x = np.full((40, 60), 0.4)
    cost = Counted(lambda rows: 1.0 + ((rows > 0.5) == wanted).sum(axis=1))
    many, one = (
        run(Latency(candidates=count, brackets=brackets), cost, domain=wide, x=x).ratio.value
        for count, brackets in ((64, 20), (1280, 1))
    )
    assert many > one


def test_the_slowest_are_asked_most() -> None:
    meter = CostMeter(
        Counted(planted), DOMAIN, ordinary(), budget=10_000, seconds=1.0, clock=lambda: 0.0
    )
    Latency(brackets=1).run(meter, np.random.default_rng(0))
    asked = {row: len(costs) for row, costs in meter._seen.items()}
    assert asked[np.ones(WIDTH).tobytes()] == 4
    assert max(asked[row.tobytes()] for row in ordinary() if row.tobytes() in asked) < 4


@dataclass(frozen=True, slots=True)
class Two:
    """Asks for two rows, once each."""

    name: ClassVar[str] = "two"
    source: ClassVar[Source] = Source("none", "AML.T0029")

    def run(self, meter: CostMeter, rng: np.random.Generator) -> None:
        meter.ask(np.arange(2), np.stack([np.zeros(WIDTH), np.ones(WIDTH)]))


def test_what_was_found_is_chosen_by_new_measurements() -> None:
    """Zeros cost 90 the first time and 1 ever after, ones always 5."""
    target, met = Slow(flat), []

    def seconds(rows: Array) -> Array:
        if rows.sum() == WIDTH:
            return 5 * flat(rows)
        met.append(rows.sum() == 0)
        return flat(rows) * (90 if met[-1] and sum(met) == 1 else 1)

    target.seconds = seconds
    found = timed(Two(), target)
    assert found.ratio.value == pytest.approx(5)
    assert found.verdict is Verdict.FAIL


def test_rows_that_were_slow_once_do_not_hide_the_one_that_always_is() -> None:
    values = iter([9.0] * 20 + [5.0] * 3)
    cost = Counted(lambda rows: np.array([next(values) for _ in rows]))
    meter = CostMeter(cost, DOMAIN, ordinary(), budget=99, seconds=1e6, clock=lambda: 0.0)
    x = ordinary()
    meter.ask(np.arange(20), x[:20])
    for _ in range(3):
        meter.ask(np.array([30]), x[30:31])
    assert x[30].tobytes() in {row.tobytes() for row in meter.finalists()}


# Bad input: never a number that looks good


@pytest.mark.parametrize(
    "work",
    [
        lambda rows: np.full(len(rows), np.nan),
        lambda rows: np.full(len(rows), -1.0),
        lambda rows: np.zeros(len(rows)),
        lambda rows: np.zeros(3),
    ],
)
@pytest.mark.parametrize("attack", BOTH, ids=repr)
def test_what_is_no_cost_is_a_problem(
    attack: AvailabilityAttack, work: Callable[[Array], Array]
) -> None:
    found = run(attack, Counted(work))
    assert [one.code for one in found.problems] == ["attack.no_cost"]
    assert found.verdict is Verdict.INSUFFICIENT


def test_a_clock_that_stands_is_a_problem() -> None:
    found = run(Latency(), Timed(Slow(), lambda: 0.0), clock=lambda: 0.0)
    assert [one.code for one in found.problems] == ["attack.no_cost"]
    assert found.verdict is Verdict.INSUFFICIENT


def test_a_target_that_fails_is_a_problem() -> None:
    def broken(rows: Array) -> Array:
        raise OperationalError("target.timeout", "The target took too long.")

    found = run(Sponge(), Counted(broken))
    assert [one.code for one in found.problems] == ["target.timeout"]
    assert found.verdict is Verdict.INSUFFICIENT
    assert found.to_dict()["ratio"]["high"] is None


@dataclass(frozen=True, slots=True)
class Idle:
    name: ClassVar[str] = "idle"
    source: ClassVar[Source] = Source("none", "AML.T0029")

    def run(self, meter: CostMeter, rng: np.random.Generator) -> None:
        return


def test_an_attack_that_tried_nothing_does_not_pass() -> None:
    found = run(Idle(), Counted(flat))
    assert [one.code for one in found.problems] == ["attack.too_few"]
    assert "before anything was tried" in found.problems[0].message
    assert found.verdict is Verdict.INSUFFICIENT


def test_without_a_limit_nothing_passes() -> None:
    assert run(Latency(), Counted(flat), limit=None).verdict is Verdict.INSUFFICIENT


@pytest.mark.parametrize(
    ("ratio", "control", "verdict"),
    [
        ((1.0, 1.9), (0.9, 1.1), Verdict.PASS),
        ((1.0, 2.1), (0.9, 1.1), Verdict.INSUFFICIENT),
        ((2.1, 9.0), (0.9, 1.1), Verdict.FAIL),
        ((2.1, 9.0), (0.5, 2.2), Verdict.INSUFFICIENT),
    ],
)
def test_the_verdict_reads_the_unfavourable_end(
    ratio: tuple[float, float], control: tuple[float, float], verdict: Verdict
) -> None:
    one, other = (Median(sum(ends) / 2, 25, *ends) for ends in (ratio, control))
    assert judge(one, other, 2.0, ()) is verdict
    assert judge(one, other, 2.0, [insufficient("attack.any", "A problem.")]) is not Verdict.PASS


@pytest.mark.parametrize(
    ("ratio", "control", "noisy"),
    [
        ((1.0, 1.9), (0.9, 1.1), False),
        ((1.0, 1.9), (0.9, 2.1), True),
        ((1.0, 2.1), (0.9, 1.1), True),
        ((2.1, 9.0), (0.9, 1.1), False),
    ],
)
def test_noise_is_told_by_an_ordinary_row_too(
    ratio: tuple[float, float], control: tuple[float, float], noisy: bool
) -> None:
    one, other = (Median(sum(ends) / 2, 25, *ends) for ends in (ratio, control))
    assert [problem.code for problem in noise(one, other, 2.0)] == ["attack.noisy"] * noisy
    assert noise(one, other, None) == []


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: Sponge(population=3), "attack.bad_parameter"),
        (lambda: Sponge(elite=0), "attack.bad_parameter"),
        (lambda: Latency(candidates=4), "attack.bad_parameter"),
        (lambda: Timed(Slow(), repeats=0), "attack.bad_parameter"),
        (lambda: run(Idle(), Timed(Slow()), budget=100), "attack.bad_budget"),
        (lambda: run(Idle(), Counted(flat), seconds=float("nan")), "attack.bad_budget"),
        (lambda: run(Idle(), Counted(flat), limit=0.5), "attack.bad_limit"),
        (lambda: run(Idle(), Counted(flat), seed=-1), "attack.bad_seed"),
        (lambda: run(Idle(), Counted(flat), x=ordinary()[:0]), "attack.bad_data"),
        (lambda: run(Idle(), Counted(flat), x=ordinary()[:, :3]), "attack.bad_data"),
        (lambda: run(Idle(), Counted(flat), x=ordinary() + 1), "attack.outside_domain"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], code: str) -> None:
    with pytest.raises(InputError) as raised:
        call()
    assert raised.value.code == code


# The median's interval


@given(st.lists(st.floats(0.01, 100), min_size=0, max_size=40))
def test_a_median_lies_in_its_interval(values: list[float]) -> None:
    found = median_of(values)
    assert found.low <= found.value <= found.high
    assert found.n == len(values)
    assert np.isfinite(found.high) == (len(values) >= MIN_VALUES)


@pytest.mark.parametrize("count", range(6, 40))
def test_the_interval_is_the_narrowest_that_holds(count: int) -> None:
    found = median_of(range(1, count + 1))
    rank = int(found.low)
    assert found.high == count + 1 - rank

    def coverage(rank: int) -> float:
        return 1 - 2 * sum(comb(count, k) for k in range(rank)) / 2**count

    assert coverage(rank) >= 0.95 > coverage(rank + 1)


def test_more_measurements_narrow_it() -> None:
    draw = np.random.default_rng(0)
    widths = [
        (found := median_of(draw.lognormal(0, 1, count).tolist())).high - found.low
        for count in (10, 100, 1000)
    ]
    assert all(one > other for one, other in pairwise(widths))
