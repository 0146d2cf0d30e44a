"""Run one extraction attack: ask once, then see what each smaller budget would have bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.extraction.fidelity import (
    Fidelity,
    HeldOut,
    measure,
)
from keepstone.lab.attacks.extraction.port import ExtractionAttack
from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.surrogate import StolenModel
from keepstone.lab.attacks.port import Source
from keepstone.lab.draws import draws
from keepstone.lab.meter import BudgetSpent
from keepstone.lab.problem import Verdict, insufficient, worst_of
from keepstone.lab.targets.port import Target

NO_BAR = insufficient(
    "attack.no_bar", "No agreement was set that a copy may not reach, so none can be too alike."
)


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """What an attack made of `asked` queries out of `budget`.

    `curve` has a point for each budget that was named, by the number of queries. `stolen` is the
    copy that all answers make, None where none could be made; `seen` is what was asked and served.
    """

    name: str
    attack: str
    source: Source
    seed: int
    budget: int
    asked: int
    curve: tuple[Fidelity, ...]
    seen: Transcript
    stolen: StolenModel | None

    @property
    def final(self) -> Fidelity:
        """What all the queries made."""
        return self.curve[-1]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "attack": self.attack,
            "paper": self.source.paper,
            "atlas": self.source.atlas,
            "seed": self.seed,
            "budget": self.budget,
            "asked": self.asked,
            "curve": [point.to_dict() for point in self.curve],
        }


def extract(
    target: Target,
    attack: ExtractionAttack,
    held_out: HeldOut,
    budgets: Sequence[int],
    seed: int,
) -> Extraction:
    """Attack with the largest of `budgets`, and measure the copy that each of them makes.

    The target is asked once: a smaller budget's copy is made of the first answers. Raises
    InputError `attack.bad_budget`, `attack.unable`.
    """
    wanted = sorted(set(budgets))
    if not wanted:
        raise InputError("attack.bad_budget", "Without a budget nothing is asked.")
    if attack.needs not in target.capabilities:
        raise InputError(
            "attack.unable",
            f"The attack needs the target's {attack.needs}, which it does not serve.",
            "Choose attacks by what the target declares.",
        )
    meter = QueryMeter(target, wanted[-1])
    others = []
    try:
        attack.ask(meter, draws(seed, 0))
    except BudgetSpent:
        pass
    except OperationalError as error:
        others.append(insufficient(error.code, error.cause))
    seen = meter.transcript()
    # Where the attack ran out of questions, its last point is at what it asked.
    ends = sorted({min(one, len(seen)) for one in wanted})
    curve, stolen = [], None
    for end in ends:
        part = seen.first(end)
        stolen = _copy(attack, part, target, seed)
        curve.append(measure(stolen, held_out, part, others if end == ends[-1] else ()))
    return Extraction(
        attack.name,
        repr(attack),
        attack.source,
        seed,
        meter.budget,
        meter.asked,
        tuple(curve),
        seen,
        stolen,
    )


def judge(found: Sequence[Extraction], at_most: float | None) -> Verdict:
    """The verdict over every copy.

    (1) One that may agree in more than `at_most` fails, whatever became of the others: the upper
    end counts. (2) An attack whose last copy was not measured leaves it open, and so does a run
    that nothing was asked of. (3) Else pass.
    """
    points = [point for one in found for point in one.curve]
    measured = [point.agreement for point in points if point.agreement is not None]
    if at_most is not None and any(one.high > at_most for one in measured):
        return Verdict.FAIL
    problems = [problem for one in found for problem in one.final.problems]
    return worst_of(problems if at_most is not None else [*problems, NO_BAR])


def _copy(
    attack: ExtractionAttack, seen: Transcript, target: Target, seed: int
) -> StolenModel | None:
    usable = seen.usable
    if not len(usable):
        return None
    return attack.copy(usable, target.domain, draws(seed, 1, len(seen)))
