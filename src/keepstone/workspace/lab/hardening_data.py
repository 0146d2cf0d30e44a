"""Defend what a model is trained on, and attack that before a number of it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keepstone.errors import InputError
from keepstone.lab.defences.certificate import Certificates, told
from keepstone.lab.defences.partition import Aggregate, Partition
from keepstone.lab.defences.partition_attack import Reattack, reattack
from keepstone.lab.defences.trimmed import Drill, Trimmed, TrimmedLoss, drill
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, invalid, worst_of
from keepstone.workspace.lab.hardening_files import require_format
from keepstone.workspace.lab.training import Training


@dataclass(frozen=True, slots=True)
class Bar:
    """The certified accuracy that is enough at so many poisons."""

    poisons: int
    least: float

    def __post_init__(self) -> None:
        if self.poisons < 0 or not 0 < self.least <= 1:
            raise InputError(
                "defence.bad_size", "Enough is a share above 0, at a number of poisons from 0 on."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Partitioned:
    """The vote, what is certified of it, and what an attack that knows of it changed."""

    aggregate: Aggregate
    certificates: Certificates
    attack: Reattack
    undefended: Share
    sizes: tuple[int, ...]
    trainings: int

    @property
    def verdict(self) -> Verdict:
        return worst_of(self.certificates.problems)

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.certificates.to_dict(self.sizes),
            "verdict": self.verdict.value,
            "undefended": told(self.undefended),
            "reattacked": {
                "certificates": sum(one.certified for one in self.attack.found),
                "broken": sum(one.broken for one in self.attack.found),
                "trainings": self.attack.trainings,
                "attacks": [one.to_dict() for one in self.attack.found],
            },
            "trainings": self.trainings,
        }


def partition(
    training: Training,
    made: Partition,
    bars: tuple[Bar, ...] = (),
    most: int | None = None,
    attacked: int = 20,
    *,
    written: bool = False,
    begins: Callable[[str], None] = lambda step: None,
    ended: Callable[[str], None] = lambda detail: None,
) -> Partitioned:
    """Train, certify the held-out rows, and attack `attacked` of them before anything is told.

    The accuracy is told for up to `most` poisons; None is as many as anything withstands. Raises
    InputError `attack.train_failed`, and as `Partition.fit` does; `defence.unwritable` for what
    is to be `written` as one estimator and cannot be.
    """
    begins("train")
    bare = training.train(training.x, training.y, made.seed).predict(training.tested[0]).labels
    data = training.x, training.y
    aggregate = made.fit(training.train, *data, training.domain, len(training.classes))
    certificates = aggregate.certify(*training.tested)
    if written:
        # Before anything is attacked: what cannot be written, is refused.
        require_format(aggregate, training)
    ended(f"{made.k} partitions of {min(aggregate.sizes)} to {max(aggregate.sizes)} rows")
    begins("attack")
    found = reattack(
        made,
        aggregate,
        training.train,
        data,
        training.tested,
        certificates,
        _attacked_sizes(certificates),
        attacked,
        made.seed,
    )
    ended(f"{found.trainings} trainings")
    problems = (*certificates.problems, *found.problems, *_below(certificates, bars))
    top = int(certificates.radii.max())
    return Partitioned(
        aggregate,
        replace(certificates, problems=tuple(dict.fromkeys(problems))),
        found,
        share(int((bare == training.tested[1]).sum()), len(bare)),
        tuple(range((top if most is None else most) + 1)),
        training.train.trained,
    )


def _attacked_sizes(certificates: Certificates) -> tuple[int, ...]:
    """One poison, as many as the middle prediction withstands, and as many as the last one does."""
    right = certificates.radii[certificates.labels == certificates.y]
    middle = int(np.median(right)) if len(right) else 0
    return tuple(sorted({1, max(1, middle), max(1, int(certificates.radii.max()))}))


def _below(certificates: Certificates, bars: tuple[Bar, ...]) -> list[Problem]:
    found = []
    for bar in bars:
        low = certificates.accuracy_at(bar.poisons).low
        if low < bar.least:
            text = (
                f"At {bar.poisons} poisons the certified accuracy may be {low:.3f}, below"
                f" {bar.least:g}."
            )
            found.append(Problem("defence.below", Verdict.FAIL, text))
    return found


# Trimmed loss


@dataclass(frozen=True, slots=True, eq=False)
class Trimming:
    """What the training is worth without the rows that fit worst, whoever poisons them."""

    drill: Drill
    problems: tuple[Problem, ...]
    trainings: int

    @property
    def verdict(self) -> Verdict:
        return worst_of(self.problems)

    @property
    def trimmed(self) -> Trimmed:
        return self.drill.trimmed

    def to_dict(self) -> dict[str, Any]:
        kept = self.trimmed.kept
        return {
            **self.drill.to_dict(),
            "verdict": self.verdict.value,
            "problems": [one.to_dict() for one in self.problems],
            "kept": int(kept.sum()),
            "left_out": int((~kept).sum()),
            "rounds": self.trimmed.rounds,
            "trainings": self.trainings,
        }


def trim(
    training: Training, defence: TrimmedLoss, poisoned: float, seed: int, *, written: bool = False
) -> Trimming:
    """Flip a share of labels as several would who know of the trimming, and train on the rest.

    Raises InputError `attack.train_failed`, `defence.unfit`, and as `drill` does;
    `defence.unwritable` for what is to be `written` and cannot be.
    """
    first = training.train(training.x, training.y, seed)
    if written:
        # Before anything is drilled: what cannot be written, is refused.
        require_format(first, training)
    problems = []
    if not training.repeats(seed, first):
        text = "The same rows and seed trained another model: what the trimming did is not known."
        problems.append(invalid("defence.not_deterministic", text))
    found = drill(defence, training.train, training.x, training.y, training.tested, poisoned, seed)
    return Trimming(found, (*problems, *found.problems), training.train.trained)
