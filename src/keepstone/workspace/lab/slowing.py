"""Look for inputs that take a model longer than others, in its own time or over the network.

A file is timed by the processor time of this process, in which it runs; an address by the clock.
What an address holds back is no time of the model's: then nothing is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

from keepstone.contract.validate import Array
from keepstone.errors import OperationalError
from keepstone.lab.attacks.availability.cost import Timed
from keepstone.lab.attacks.availability.latency import Latency
from keepstone.lab.attacks.availability.measure import Availability, measure_availability
from keepstone.lab.attacks.availability.port import AvailabilityAttack
from keepstone.lab.attacks.availability.sponge import Sponge
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.around import Around
from keepstone.lab.targets.classifier import RemoteClassifier
from keepstone.lab.targets.port import Answers, Target
from keepstone.lab.targets.remote import Remote
from keepstone.workspace.lab.drilling import gravest

SCHEMA = "keepstone.availability/v1"
ATTACKS: dict[str, AvailabilityAttack] = {one.name: one for one in (Sponge(), Latency())}


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Which attacks, and within what: `budget` rows and `seconds` are for all of them together.

    `limit` is how many times longer than an ordinary input the costliest may take.
    """

    attacks: tuple[str, ...]
    limit: float | None
    budget: int
    seconds: float
    repeats: int = 3
    batch: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Slowest:
    """What each attack found; `clock` says whose time it is: `processor` or `wall`."""

    found: tuple[Availability, ...]
    clock: str
    asked: Slowdown

    @property
    def verdict(self) -> Verdict:
        return gravest([one.verdict for one in self.found])

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "at_most": self.asked.limit,
            "clock": self.clock,
            "batch": self.asked.batch,
            "budget": self.asked.budget,
            "asked": sum(one.asked for one in self.found),
            "seconds": sum(one.seconds for one in self.found),
            "attacks": [one.to_dict() for one in self.found],
        }


class Unhindered(Around):
    """A target behind an address, as long as it answers each request at once."""

    def __init__(self, target: Target, remote: Remote) -> None:
        super().__init__(target)
        self._remote = remote

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `target.throttled`, `target.*`."""
        before = self._remote.refusals
        found = super().predict(rows)
        if self._remote.exhausted or self._remote.refusals != before:
            raise OperationalError(
                "target.throttled",
                "The target held back an answer, or did not give it in time: what waiting for it"
                " takes is no time of the model's.",
                "Ask with a key that may ask more often, or later.",
            )
        return found


def slow_down(
    target: Target,
    x: Array,
    asked: Slowdown,
    ended: Callable[[Availability], None] = lambda found: None,
) -> Slowest:
    """Let each attack search among what can be made of the ordinary rows `x` (n, d).

    Raises InputError `attack.bad_budget`, `attack.bad_limit`, `attack.bad_parameter`, and as
    `measure_availability` does.
    """
    remote = isinstance(target, RemoteClassifier)
    if isinstance(target, RemoteClassifier):
        target = Unhindered(target, target.remote)
    cost = Timed(target, perf_counter if remote else process_time, asked.repeats, asked.batch)
    parts = len(asked.attacks)
    found = []
    for name in asked.attacks:
        found.append(
            measure_availability(
                ATTACKS[name],
                cost,
                target.domain,
                x,
                seed=asked.seed,
                budget=asked.budget // parts,
                seconds=asked.seconds / parts,
                limit=asked.limit,
                clock=perf_counter,
            )
        )
        ended(found[-1])
    return Slowest(tuple(found), "wall" if remote else "processor", asked)
