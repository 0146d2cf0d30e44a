"""Work on parts of a run, done somewhere else: what is sent there, and what comes back.

Promise: a part is done by a worker that opened the same model, or its refusal ends the run; a part
whose worker died, or did not answer in time, is lost, is told as lost, and is done by nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from keepstone import __version__
from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.refused import Refused
from keepstone.lab.suites.clean import MAX_UNSTABLE
from keepstone.lab.suites.observer import Nobody
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.standing import Job, Keeper, Standing, Went, attack_standing
from keepstone.lab.targets.port import Capability, Target

# Opens the model, wherever it is called.
Opens = Callable[[], AbstractContextManager[Target]]
# How long one part may take.
PATIENCE_S = 6 * 3600.0
W = TypeVar("W", bound=Hashable)
_PROBES = 64
# How far scores may differ that two machines compute, and on what share of the rows still more.
_ALIKE = 2e-3
_MAX_APART = 0.02
_DEPTH = 8.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a target has to be the same wherever it is opened."""

    version: str
    domain: Digest
    classes: int
    capabilities: frozenset[Capability]

    @classmethod
    def of(cls, target: Target) -> Seen:
        return cls(__version__, target.domain.digest, target.classes, target.capabilities)


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What a target says to some rows from all over its domain."""

    rows: Array
    labels: Array
    scores: Array | None

    @classmethod
    def of(cls, target: Target) -> Served:
        rows = target.domain.draw(_PROBES)
        found = target.predict(rows)
        return cls(rows, found.labels, found.scores)

    def is_of(self, target: Target) -> bool:
        """Whether `target` says the same, as far as two machines compute the same."""
        found = target.predict(self.rows)
        if self.scores is None or found.scores is None:
            apart = self.labels != found.labels
        elif self.scores.shape != found.scores.shape:
            return False
        else:
            known, told = _above(self.scores), _above(found.scores)
            alike = np.isclose(told, known, _ALIKE, _ALIKE, equal_nan=True)
            apart = ~alike.all(axis=1)
        return float(apart.mean()) <= _MAX_APART


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What every worker is given once. All of it can be pickled."""

    opens: Opens
    expected: Seen
    served: Served
    jobs: tuple[Job, ...]
    question: Question


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Some of the samples of a run, and which of them are served rightly."""

    number: int
    x: Array
    y: Array
    clean: Array


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """What became of a shard's samples under each job; `places` are those in the shard."""

    went: tuple[Went, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing is known of this shard."""

    why: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The model was opened."""


Answer = Ready | Done | Lost | Refused


class Spread(Protocol):
    """Somewhere where shards are attacked."""

    def run(self, work: Work, shards: Sequence[Shard]) -> Iterator[tuple[int, Done | Lost]]:
        """Each shard's number with what became of it, as they end.

        Raises what a worker refused with: `attack.other_file`, `attack.other_worker`, and what
        its target raised.
        """
        ...


def attack_shard(work: Work, target: Target, shard: Shard) -> Done:
    """What a worker does. Raises InputError `attack.other_worker`."""
    # Scores may be alike where no sample lies: what counts is what was seen where the run began.
    right = target.predict(shard.x).labels == shard.y
    if float((right != shard.clean).mean()) > MAX_UNSTABLE:
        raise _other_worker()
    standing = Standing.of(shard.x, shard.y, shard.clean)
    keeper = Keeper(None, target.domain.digest, work.question, shard.number)
    return Done(tuple(attack_standing(target, standing, work.jobs, keeper, Nobody())))


def require_same(work: Work, target: Target) -> None:
    """Raises InputError `attack.other_worker`."""
    if Seen.of(target) != work.expected or not work.served.is_of(target):
        raise _other_worker()


def _other_worker() -> InputError:
    return InputError(
        "attack.other_worker",
        "A worker has another version of Keepstone, or opened the model as another target.",
        "Install the same version, with the same extras, wherever it runs; and the same code"
        " behind --architecture.",
    )


def _above(scores: Array) -> Array:
    """Scores, those far below the highest cut off: of small chances only rounding is told."""
    least = scores.max(axis=1, keepdims=True) - _DEPTH
    return np.asarray(np.maximum(scores, least))


class Crew(Protocol[W]):
    """Workers of one kind; each has one shard at a time, and none before it said `Ready`."""

    def hire(self, work: Work) -> W: ...

    def give(self, worker: W, shard: Shard) -> None:
        """Never raises: whoever is gone is heard of as lost."""
        ...

    def hear(self, workers: Sequence[W], seconds: float) -> Sequence[tuple[W, Answer]]:
        """Whoever answered, or died, within so many seconds."""
        ...

    def dismiss(self, worker: W) -> None:
        """End it, whatever it is doing."""
        ...


def drive(
    crew: Crew[W], work: Work, shards: Sequence[Shard], count: int, patience_s: float
) -> Iterator[tuple[int, Done | Lost]]:
    """Give the shards in turn to at most `count` workers, and wait `patience_s` for each answer.

    Whoever is lost is replaced, if it had been ready: one that cannot even open the model never
    will.
    """
    waiting = list(reversed(shards))
    busy: dict[W, tuple[Shard | None, float]] = {}

    def begin(worker: W, shard: Shard | None) -> None:
        if shard is not None:
            crew.give(worker, shard)
        busy[worker] = (shard, time.monotonic() + patience_s)

    try:
        for _ in range(min(count, len(shards))):
            begin(crew.hire(work), None)
        while busy:
            for worker, answer in _heard(crew, busy, patience_s):
                shard, _ = busy.pop(worker)
                if isinstance(answer, Ready | Done) and waiting:
                    begin(worker, waiting.pop())
                else:
                    crew.dismiss(worker)
                if isinstance(answer, Refused):
                    raise answer.error()
                if isinstance(answer, Ready) or shard is None:
                    continue
                if isinstance(answer, Lost) and waiting:
                    begin(crew.hire(work), None)
                yield shard.number, answer
        for shard in reversed(waiting):
            yield shard.number, Lost("no worker opened the model")
    finally:
        for worker in busy:
            crew.dismiss(worker)


def _heard(
    crew: Crew[W], busy: Mapping[W, tuple[Shard | None, float]], patience_s: float
) -> list[tuple[W, Answer]]:
    """Those that answered; else those that have been waited for long enough."""
    pause = min(until for _, until in busy.values()) - time.monotonic()
    heard = list(crew.hear(list(busy), max(0.0, pause)))
    if heard:
        return heard
    late = Lost(f"no answer within {patience_s:g} s")
    return [(worker, late) for worker, (_, until) in busy.items() if until <= time.monotonic()]
