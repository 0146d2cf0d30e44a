"""Run a suite: the worst case over attacks, sample by sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.lab.attacks.port import run_attack
from keepstone.lab.draws import draws
from keepstone.lab.meter import Goal, Meter, Tally, reach
from keepstone.lab.metrics.wilson import share
from keepstone.lab.problem import Problem, insufficient
from keepstone.lab.suites.clean import MAX_UNANSWERED, Clean, look_at_clean
from keepstone.lab.suites.masking import Masking, look_for_masking
from keepstone.lab.suites.memory import Memory
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.result import AtEps, Ran, SuiteResult, Worst
from keepstone.lab.suites.verdict import decide
from keepstone.lab.targets.port import Capability, Target

# Whoever has the gradient or the trees needs no second attack beside it.
_STRONG = frozenset({Capability.GRADIENT, Capability.TREES})
_FEWEST = 2

# Of a target, samples that it serves rightly, which of them attacks by gradient left, and what
# was asked.
LooksForMasking = Callable[[Target, Array, Array, Array | None, Question], Masking]


class Observer(Protocol):
    """Told how far a run is; the default tells nobody."""

    def begins(self, attack: str, eps: float | None, standing: int) -> None: ...

    def ended(self, ran: Ran) -> None: ...


class Nobody:
    def begins(self, attack: str, eps: float | None, standing: int) -> None:
        """Nothing."""

    def ended(self, ran: Ran) -> None:
        """Nothing."""


@dataclass
class _Standing:
    """The nearest success on each sample so far, over every attack."""

    x: Array
    y: Array
    clean: Array
    rows: Array
    distance: Array
    attack: Array
    # The nearest success of an attack by gradient alone.
    by_gradient: Array

    @classmethod
    def of(cls, x: Array, y: Array, clean: Array) -> _Standing:
        nothing = np.full(len(x), -1, np.int64)
        never = np.full(len(x), np.inf)
        return cls(x, y, clean, x.copy(), never, nothing, never.copy())

    def at(self, eps: float) -> Array:
        """The samples still to be attacked: those served rightly and not broken within eps."""
        return np.flatnonzero(self.clean & (self.distance > reach(eps)))

    def take(self, places: Array, tally: Tally, attack: int, needs: Capability) -> None:
        nearer = tally.distance < self.distance[places]
        at = places[nearer]
        self.rows[at] = tally.rows[nearer]
        self.distance[at] = tally.distance[nearer]
        self.attack[at] = attack
        if needs is Capability.GRADIENT:
            nearest = np.minimum(self.by_gradient[places], tally.distance)
            self.by_gradient[places] = nearest


def run_suite(
    target: Target,
    x: Array,
    y: Array,
    suite: Suite,
    question: Question,
    *,
    masking: LooksForMasking = look_for_masking,
    names: Sequence[str] = (),
    memory: Memory | None = None,
    observer: Observer | None = None,
) -> SuiteResult:
    """Attack `target` on samples `x` (n, d) of classes `y` (n,), given by their places.

    (1) The samples are asked as they are; those without an answer are left out. (2) Each attack
    goes for those that no other has broken yet, at each epsilon from the smallest. (3) Signs of
    masking are looked for. (4) What was found is asked once more, for the label that is told.
    (5) The verdict.

    `memory` keeps what is done, so that a run that was cut off goes on. Raises what the target
    raises.
    """
    watch = observer or Nobody()
    x = target.domain.fit(x, x)
    # (1)
    clean = look_at_clean(target, x, y)
    missed = []
    if not clean.answered.all():
        missed.append(f"{int((~clean.answered).sum())} samples were not answered, and left out")
    x, y, right = (given[clean.answered] for given in (x, y, clean.correct))
    standing = _Standing.of(x, y, right)
    # (2)
    ran: list[Ran] = []
    weak: list[str] = []
    for step in suite.steps(target.capabilities):
        why = step.lacks(target, question.norm)
        if why is not None:
            missed.append(f"{step.attack.name}: {why}")
            continue
        if (question.budget or step.least) < step.least:
            weak.append(f"{step.attack.name} below {step.least}")
        for eps in (None,) if step.attack.minimizes else question.epsilons:
            ran.append(_attack(target, standing, step, question, eps, len(ran), memory, watch))
    # (3)
    left = _left_by_gradient(standing, ran, question)
    seen = masking(target, x[right], y[right], None if left is None else left[right], question)
    missed += seen.missed
    # (4)
    worst = _worst(target, standing)
    # (5)
    robust = tuple(_robust(standing, eps) for eps in question.epsilons)
    problems = (*clean.problems, *_gaps(ran, weak), *seen.problems)
    verdict, reasons = decide(robust, question.at_least, problems, seen.signs)
    return SuiteResult(
        suite=suite.name,
        question=question,
        verdict=verdict,
        reasons=reasons,
        clean=share(int(right.sum()), len(x)),
        robust=robust,
        attacks=tuple(ran),
        masking=seen.signs,
        not_evaluated=tuple(missed),
        problems=problems,
        queries=_queries(clean, ran, worst) + seen.queries,
        worst=worst,
        domain=target.domain,
        names=tuple(names) or tuple(map(str, range(target.classes))),
    )


def _attack(
    target: Target,
    standing: _Standing,
    step: Step,
    question: Question,
    eps: float | None,
    number: int,
    memory: Memory | None,
    watch: Observer,
) -> Ran:
    # Who seeks the smallest perturbation may still bring one within the smallest epsilon.
    places = standing.at(question.epsilons[0] if eps is None else eps)
    budget = step.budget if question.budget is None else min(step.budget, question.budget)
    goal = Goal(question.norm, eps, budget)
    key = ""
    if memory is not None:
        # What tells it from every other: itself, what it may ask of what, and which samples it is
        # for, with what the target made of all of them.
        asked = (number, repr(step.attack), eps, budget, question.norm.name, question.seed)
        samples = _digest(places, standing.x, standing.y, standing.clean)
        key = " ".join(map(str, (*asked, target.domain.digest, samples)))
    known = None if memory is None else memory.recall(key, len(places))
    if known is None:
        watch.begins(step.attack.name, eps, len(places))
        meter = Meter(target, standing.x[places], standing.y[places], goal)
        began = time.process_time()
        if len(places):
            run_attack(step.attack, meter, draws(question.seed, number))
        tally, spent = meter.tally(), time.process_time() - began
        if memory is not None:
            memory.keep(key, tally, spent)
    else:
        tally, spent = known
    standing.take(places, tally, number, step.attack.needs)
    found = _ran(step, eps, question.epsilons[-1], budget, tally, spent)
    watch.ended(found)
    return found


def _ran(
    step: Step, eps: float | None, largest: float, budget: int, tally: Tally, spent: float
) -> Ran:
    broken = tally.within(largest if eps is None else eps)
    # Of one that seeks the smallest, `first` is that of any success, however far.
    first = np.sort(tally.first[broken & (tally.first > 0)]) if eps is not None else np.zeros(0)
    attack = step.attack
    return Ran(
        name=attack.name,
        parameters=repr(attack),
        paper=attack.source.paper,
        atlas=attack.source.atlas,
        eps=eps,
        attacked=len(broken),
        broken=int(broken.sum()),
        strong=attack.needs in _STRONG,
        queries=int(tally.queries.sum()),
        queries_max=int(tally.queries.max(initial=0)),
        gradients=int(tally.gradients.sum()),
        unanswered=int(tally.unanswered.sum()),
        budget=budget,
        cpu_s=spent,
        first=tuple(first.tolist()),
    )


def _left_by_gradient(standing: _Standing, ran: Sequence[Ran], question: Question) -> Array | None:
    """Which samples attacks by gradient left unbroken at the largest epsilon; None: none ran."""
    if not any(one.gradients for one in ran):
        return None
    return np.asarray(standing.by_gradient > reach(question.epsilons[-1]))


def _robust(standing: _Standing, eps: float) -> AtEps:
    return AtEps(eps, share(len(standing.at(eps)), len(standing.x)))


def _worst(target: Target, standing: _Standing) -> Worst:
    """Ask what was found once more: what was served for it is what is shown."""
    label = standing.y.copy()
    found = np.flatnonzero(np.isfinite(standing.distance))
    if found.size:
        label[found] = target.predict(standing.rows[found]).labels
    return Worst(
        standing.x,
        standing.y,
        standing.clean,
        standing.rows,
        standing.distance,
        standing.attack,
        label,
    )


def _gaps(ran: Sequence[Ran], weak: Sequence[str]) -> list[Problem]:
    """What an attack could not do that would have to be done for a pass."""
    if not ran:
        return [insufficient("attack.none_ran", "No attack of the suite could be run.")]
    found = []
    if len({one.name for one in ran}) < _FEWEST and not any(one.strong for one in ran):
        found.append(
            insufficient(
                "attack.too_few_attacks",
                f"Only {ran[0].name} could be run under this norm, which finds too little alone.",
            )
        )
    if weak:
        found.append(
            insufficient(
                "attack.weak",
                f"The budget was too small for what stands to be robust: {', '.join(weak)}.",
            )
        )
    silent = [one.name for one in ran if one.unanswered > MAX_UNANSWERED * one.queries]
    if silent:
        found.append(
            insufficient(
                "attack.unanswered",
                f"The questions of {', '.join(dict.fromkeys(silent))} were not answered: a target"
                " that is throttled is not known to be robust.",
            )
        )
    return found


def _digest(*arrays: Array) -> str:
    return str(Digest.of(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)))


def _queries(clean: Clean, ran: Sequence[Ran], worst: Worst) -> int:
    spent = sum(one.queries for one in ran)
    return clean.queries + spent + int(np.isfinite(worst.distance).sum())
