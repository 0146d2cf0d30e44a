"""A run in parts that are attacked apart from each other, and put together again exactly.

How the samples are cut hangs on their number alone, never on who does the work: each part draws
by the run's seed and its own place, so that one worker and many find the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.meter import Tally
from keepstone.lab.problem import Problem, insufficient
from keepstone.lab.suites.observer import Observer
from keepstone.lab.suites.spread import Done, Opens, Seen, Served, Shard, Spread, Work
from keepstone.lab.suites.standing import Keeper, Plan, Standing, Went, joined
from keepstone.lab.targets.port import Target

# So few that a night's run is spread well; so many that attacks are asked of batches worth their
# while, and that those which learn from their samples have some to learn from.
SAMPLES = 256


@dataclass(frozen=True, slots=True)
class Shards:
    """Who attacks the parts of a run, how each opens the model, and how large a part is at
    most."""

    spread: Spread
    opens: Opens
    samples: int = SAMPLES


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Every job as it went on all parts together; `attacked` (n,) are the samples of parts that
    were not lost."""

    went: tuple[Went, ...]
    attacked: Array
    count: int
    problems: tuple[Problem, ...]


def attack_shards(
    shards: Shards,
    target: Target,
    standing: Standing,
    plan: Plan,
    keeper: Keeper,
    observer: Observer,
) -> Merged:
    """The jobs of `plan` on all samples, part by part; `standing` takes what was found.

    What is kept of a part is not attacked again, if all of it is kept. Raises InputError
    `attack.other_file`, `attack.other_worker`; what a worker's target raises.
    """
    places = cut(len(standing.x), shards.samples)
    done: dict[int, tuple[Went, ...]] = {}
    for number, part in enumerate(places):
        known = _recalled(standing, part, plan, replace(keeper, shard=number))
        if known is not None:
            done[number] = known
            observer.shard_ended(number, len(places), None)
    asked = [
        Shard(number, standing.x[part], standing.y[part], standing.clean[part])
        for number, part in enumerate(places)
        if number not in done
    ]
    work = Work(shards.opens, Seen.of(target), Served.of(target), plan.jobs, keeper.question)
    lost: dict[int, str] = {}
    for number, answer in shards.spread.run(work, asked) if asked else ():
        if isinstance(answer, Done):
            done[number] = answer.went
            alone = _part(standing, places[number])
            _check_and_keep(alone, answer.went, plan, replace(keeper, shard=number))
        else:
            lost[number] = answer.why
        observer.shard_ended(number, len(places), lost.get(number))
    return _merged(standing, places, plan, done, lost)


def cut(count: int, size: int) -> list[Array]:
    """The places of `count` samples in parts of at most `size`, in order and as even as can be:
    attacks that learn from their samples would have nothing of one that is left over."""
    return np.array_split(np.arange(count), -(-count // size)) if count else []


def _merged(
    standing: Standing,
    places: Sequence[Array],
    plan: Plan,
    done: dict[int, tuple[Went, ...]],
    lost: dict[int, str],
) -> Merged:
    attacked = np.zeros(len(standing.x), bool)
    for number in done:
        attacked[places[number]] = True
    went = []
    for job in plan.jobs:
        parts = [
            replace(done[number][job.number], places=part[done[number][job.number].places])
            for number, part in enumerate(places)
            if number in done
        ]
        whole = joined(parts) if parts else _nothing(standing)
        standing.take(job, whole)
        went.append(whole)
    return Merged(tuple(went), attacked, len(places), _problems(places, lost))


def _problems(places: Sequence[Array], lost: dict[int, str]) -> tuple[Problem, ...]:
    if not lost:
        return ()
    samples = sum(len(places[number]) for number in lost)
    return (
        insufficient(
            "attack.shard_lost",
            f"{len(lost)} of {len(places)} parts of the run, {samples} samples, were not attacked:"
            f" {', '.join(sorted(set(lost.values())))}.",
        ),
    )


def _part(standing: Standing, part: Array) -> Standing:
    return Standing.of(standing.x[part], standing.y[part], standing.clean[part])


def _recalled(
    standing: Standing, part: Array, plan: Plan, keeper: Keeper
) -> tuple[Went, ...] | None:
    """All that was kept of a part; None where any of it is missing."""
    alone, found = _part(standing, part), []
    if keeper.memory is None:
        return None
    for job in plan.jobs:
        went = keeper.recall(job, alone.wanted(job, keeper.question), alone)
        if went is None:
            return None
        alone.take(job, went)
        found.append(went)
    return tuple(found)


def _check_and_keep(alone: Standing, went: Sequence[Went], plan: Plan, keeper: Keeper) -> None:
    """Raises InputError `attack.other_worker` for what is not about this part's samples."""
    if len(went) != len(plan.jobs):
        raise _others()
    for job, one in zip(plan.jobs, went, strict=True):
        wanted = alone.wanted(job, keeper.question)
        shape = (len(wanted), alone.x.shape[1])
        if not np.array_equal(one.places, wanted) or one.tally.rows.shape != shape:
            raise _others()
        keeper.keep(job, one, alone)
        alone.take(job, one)


def _others() -> InputError:
    return InputError(
        "attack.other_worker",
        "A worker answered for other samples than it was given.",
        "Install the same version, with the same extras, wherever it runs.",
    )


def _nothing(standing: Standing) -> Went:
    none = np.zeros(0, np.int64)
    rows, distance = standing.x[:0], np.zeros(0)
    return Went(none, Tally(rows, distance, none, none, none, none), 0.0)
