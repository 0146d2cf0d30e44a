"""Run a suite: the worst case over attacks, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.meter import reach
from keepstone.lab.metrics.wilson import share
from keepstone.lab.problem import Problem, insufficient, invalid
from keepstone.lab.suites.clean import MAX_UNANSWERED, MAX_UNSTABLE, Clean, look_at_clean
from keepstone.lab.suites.masking import Masking, look_for_masking
from keepstone.lab.suites.memory import Memory
from keepstone.lab.suites.observer import Nobody, Observer
from keepstone.lab.suites.plan import Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.result import AtEps, Ran, SuiteResult, Worst
from keepstone.lab.suites.shards import Shards, attack_shards
from keepstone.lab.suites.standing import Keeper, Plan, Standing, as_ran, attack_standing
from keepstone.lab.suites.verdict import decide
from keepstone.lab.targets.port import Capability, Explains, Target

_FEWEST = 2

# Of a target, samples that it serves rightly, which of them attacks by gradient left, and what
# was asked.
LooksForMasking = Callable[[Target, Array, Array, Array | None, Question], Masking]


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
    shards: Shards | None = None,
) -> SuiteResult:
    """Attack `target` on samples `x` (n, d) of classes `y` (n,), given by their places.

    (1) The samples are asked as they are; those without an answer are left out. (2) Each attack
    goes for those that no other has broken yet, at each epsilon from the smallest. (3) Signs of
    masking are looked for. (4) What was found is asked once more, for the label that is told.
    (5) The verdict.

    `memory` keeps what is done, so that a run that was cut off goes on. With `shards` (2) is done
    elsewhere, part by part; other draws are made than without, and the same by however many.
    Raises what the target raises, here or there; as `attack_shards`.
    """
    watch = observer or Nobody()
    x = target.domain.fit(x, x)
    # (1)
    clean = look_at_clean(target, x, y)
    missed = []
    if not clean.answered.all():
        missed.append(f"{int((~clean.answered).sum())} samples were not answered, and left out")
    x, y, right = (given[clean.answered] for given in (x, y, clean.correct))
    standing = Standing.of(x, y, right)
    # (2)
    plan = Plan.of(suite, target, question)
    missed += plan.missed
    keeper = Keeper(memory, target.domain.digest, question)
    last = question.epsilons[-1]
    attacked = np.ones(len(x), bool)
    more: tuple[Problem, ...] = ()
    if shards is None:
        went = attack_standing(target, standing, plan.jobs, keeper, watch)
    else:
        merged = attack_shards(shards, target, standing, plan, keeper, watch)
        went, attacked, more = list(merged.went), merged.attacked, merged.problems
    ran = [as_ran(job, one, last) for job, one in zip(plan.jobs, went, strict=True)]
    # (3)
    left = _left_by_gradient(standing, ran, plan, question)
    if left is not None:
        # What no attack went for, none left standing.
        left &= attacked
    seen = masking(target, x[right], y[right], None if left is None else left[right], question)
    missed += seen.missed
    # (4)
    worst = _worst(target, standing, attacked)
    # (5)
    robust = tuple(_robust(standing, eps, attacked) for eps in question.epsilons)
    if shards is not None:
        more += _not_found(worst)
    more += _from_outside(target)
    problems = (*clean.problems, *_gaps(ran, plan.weak), *more, *seen.problems)
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
        shards=None if shards is None else shards.samples,
        names=tuple(names) or tuple(map(str, range(target.classes))),
    )


def _left_by_gradient(
    standing: Standing, ran: Sequence[Ran], plan: Plan, question: Question
) -> Array | None:
    """Which samples attacks by gradient left unbroken at the largest epsilon.

    None: none ran, or one ran with too small a budget. What that left any search breaks, of a model
    that masks nothing; the signs then go by an attack of their own.
    """
    starved = any(
        job.step.attack.needs is Capability.GRADIENT and job.budget < job.step.least
        for job in plan.jobs
    )
    if starved or not any(one.gradients for one in ran):
        return None
    return np.asarray(standing.by_gradient > reach(question.epsilons[-1]))


def _robust(standing: Standing, eps: float, attacked: Array) -> AtEps:
    """Whoever was not attacked may stand or not: broken in the value, standing in the upper end."""
    left, count = standing.at(eps), len(standing.x)
    most = share(len(left), count)
    return AtEps(eps, replace(share(int(attacked[left].sum()), count), high=most.high))


def _worst(target: Target, standing: Standing, attacked: Array) -> Worst:
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
        attacked,
    )


def _from_outside(target: Target) -> tuple[Problem, ...]:
    """One node that does nothing is enough to take the gradient out of a file."""
    able = target.capabilities & {Capability.GRADIENT, Capability.TREES}
    if able or not isinstance(target, Explains) or not target.hides_gradient:
        return ()
    return (
        insufficient(
            "attack.from_outside",
            f"{target.without_gradient} So it was attacked from outside alone, and who has the"
            " file may do more.",
        ),
    )


def _not_found(worst: Worst) -> tuple[Problem, ...]:
    """What workers say that they found, and the target serves rightly where the run began."""
    found = np.isfinite(worst.distance)
    wrong = int((found & (worst.label == worst.y)).sum())
    # What lies on a boundary may fall to either side of it on another machine.
    if wrong <= MAX_UNSTABLE * int(found.sum()):
        return ()
    return (
        invalid(
            "attack.other_worker",
            f"{wrong} of {int(found.sum())} rows that workers found are served rightly here: they"
            " attacked another model.",
        ),
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


def _queries(clean: Clean, ran: Sequence[Ran], worst: Worst) -> int:
    spent = sum(one.queries for one in ran)
    return clean.queries + spent + int(np.isfinite(worst.distance).sum())
