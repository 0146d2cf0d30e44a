"""The attacks of a suite on some of its samples: who is attacked by what, and what came of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.lab.attacks.port import run_attack
from keepstone.lab.draws import draws
from keepstone.lab.meter import Goal, Meter, Tally, reach
from keepstone.lab.suites.memory import Memory
from keepstone.lab.suites.observer import Observer
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.result import Ran
from keepstone.lab.targets.port import Capability, Target

# Whoever has the gradient or the trees needs no second attack beside it.
_STRONG = frozenset({Capability.GRADIENT, Capability.TREES})


@dataclass(frozen=True, slots=True)
class Job:
    """One attack at one epsilon (None: it seeks the smallest), the `number`-th of its run."""

    number: int
    step: Step
    eps: float | None
    budget: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs in their order; what cannot be run and why; what has too small a budget."""

    jobs: tuple[Job, ...]
    missed: tuple[str, ...]
    weak: tuple[str, ...]

    @classmethod
    def of(cls, suite: Suite, target: Target, question: Question) -> Plan:
        jobs: list[Job] = []
        missed: list[str] = []
        weak: list[str] = []
        for step in suite.steps(target.capabilities):
            why = step.lacks(target, question.norm)
            if why is not None:
                missed.append(f"{step.attack.name}: {why}")
                continue
            if (question.budget or step.least) < step.least:
                weak.append(f"{step.attack.name} below {step.least}")
            budget = step.budget if question.budget is None else min(step.budget, question.budget)
            for eps in (None,) if step.attack.minimizes else question.epsilons:
                jobs.append(Job(len(jobs), step, eps, budget))
        return cls(tuple(jobs), tuple(missed), tuple(weak))


@dataclass(frozen=True, slots=True, eq=False)
class Went:
    """What became of the samples at `places` under one job, in CPU seconds `spent`."""

    places: Array
    tally: Tally
    spent: float


@dataclass
class Standing:
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
    def of(cls, x: Array, y: Array, clean: Array) -> Standing:
        nothing = np.full(len(x), -1, np.int64)
        never = np.full(len(x), np.inf)
        return cls(x, y, clean, x.copy(), never, nothing, never.copy())

    def at(self, eps: float) -> Array:
        """The samples still to be attacked: those served rightly and not broken within eps."""
        return np.flatnonzero(self.clean & (self.distance > reach(eps)))

    def wanted(self, job: Job, question: Question) -> Array:
        """The samples that a job is for."""
        # Who seeks the smallest perturbation may still bring one within the smallest epsilon.
        return self.at(question.epsilons[0] if job.eps is None else job.eps)

    def take(self, job: Job, went: Went) -> None:
        places, tally = went.places, went.tally
        nearer = tally.distance < self.distance[places]
        at = places[nearer]
        self.rows[at] = tally.rows[nearer]
        self.distance[at] = tally.distance[nearer]
        self.attack[at] = job.number
        if job.step.attack.needs is Capability.GRADIENT:
            nearest = np.minimum(self.by_gradient[places], tally.distance)
            self.by_gradient[places] = nearest


@dataclass(frozen=True, slots=True)
class Keeper:
    """What of a run is kept, if anything: each job by what it was and which samples it was for.

    `shard` is the place of the samples among the parts of a run; None where it has none.
    """

    memory: Memory | None
    domain: Digest
    question: Question
    shard: int | None = None

    def recall(self, job: Job, places: Array, standing: Standing) -> Went | None:
        if self.memory is None:
            return None
        known = self.memory.recall(self._key(job, places, standing), len(places))
        return None if known is None else Went(places, *known)

    def keep(self, job: Job, went: Went, standing: Standing) -> None:
        """To be told before `standing` takes it."""
        if self.memory is not None:
            key = self._key(job, went.places, standing)
            self.memory.keep(key, went.tally, went.spent)

    def _key(self, job: Job, places: Array, standing: Standing) -> str:
        # What tells it from every other: itself, what it may ask of what, and which samples it is
        # for, with what the target made of all of them.
        norm, seed = self.question.norm.name, self.question.seed
        asked = (job.number, repr(job.step.attack), job.eps, job.budget, norm, seed)
        samples = _digest(places, standing.x, standing.y, standing.clean)
        part = () if self.shard is None else (f"shard {self.shard}",)
        return " ".join(map(str, (*asked, self.domain, samples, *part)))


def attack_standing(
    target: Target,
    standing: Standing,
    jobs: Sequence[Job],
    keeper: Keeper,
    observer: Observer,
) -> list[Went]:
    """Each job in turn, for what still stands.

    Each attack draws from a generator of its own, so that its draws do not hang on what others
    did. Raises what the target raises.
    """
    question, found = keeper.question, []
    for job in jobs:
        places = standing.wanted(job, question)
        went = keeper.recall(job, places, standing)
        if went is None:
            observer.begins(job.step.attack.name, job.eps, len(places))
            went = _attack(target, standing, job, places, question, keeper.shard)
            keeper.keep(job, went, standing)
        standing.take(job, went)
        found.append(went)
        observer.ended(as_ran(job, went, question.epsilons[-1]))
    return found


def _attack(
    target: Target,
    standing: Standing,
    job: Job,
    places: Array,
    question: Question,
    shard: int | None,
) -> Went:
    goal = Goal(question.norm, job.eps, job.budget)
    meter = Meter(target, standing.x[places], standing.y[places], goal)
    began = time.process_time()
    if len(places):
        part = () if shard is None else (shard,)
        run_attack(job.step.attack, meter, draws(question.seed, job.number, *part))
    return Went(places, meter.tally(), time.process_time() - began)


def joined(parts: Sequence[Went]) -> Went:
    """One job on several disjoint sets of samples, as if it had been for all of them."""
    order = np.argsort(np.concatenate([one.places for one in parts]), kind="stable")
    arrays = {
        field.name: np.concatenate([getattr(one.tally, field.name) for one in parts])[order]
        for field in fields(Tally)
    }
    places = np.concatenate([one.places for one in parts])[order]
    return Went(places, Tally(**arrays), sum(one.spent for one in parts))


def as_ran(job: Job, went: Went, largest: float) -> Ran:
    """A job as it is told."""
    tally, eps, attack = went.tally, job.eps, job.step.attack
    broken = tally.within(largest if eps is None else eps)
    # Of one that seeks the smallest, `first` is that of any success, however far.
    first = np.sort(tally.first[broken & (tally.first > 0)]) if eps is not None else np.zeros(0)
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
        budget=job.budget,
        cpu_s=went.spent,
        first=tuple(first.tolist()),
    )


def _digest(*arrays: Array) -> str:
    return str(Digest.of(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)))
