"""Poison what a training function is given, and say what it makes of that.

What is poisoned can be written down, so that whoever looks for poison has some to find.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.files import storage_error, storage_errors, write_atomic
from keepstone.lab.attacks.poisoning.badnets import BadNets
from keepstone.lab.attacks.poisoning.clean_label import CleanLabel
from keepstone.lab.attacks.poisoning.feedback import Feedback
from keepstone.lab.attacks.poisoning.label_flip import LabelFlip
from keepstone.lab.attacks.poisoning.measure import Drill, Limits, drill, shown
from keepstone.lab.attacks.poisoning.port import Poisoned, PoisoningAttack, TrainingSet, poison
from keepstone.lab.problem import Problem, Verdict, insufficient, worst, worst_of
from keepstone.lab.targets.port import Target
from keepstone.lab.training import data_digest
from keepstone.workspace.lab.training import Training

SCHEMA = "keepstone.poisoning/v1"
WAYS = ("badnets", "clean-label", "label-flip", "feedback")


@dataclass(frozen=True, slots=True)
class Poisoning:
    """Which poison, for what, how much of it, and how much of a success is borne.

    `target` and `victim` are classes by their places; None is the most frequent one, and the most
    frequent other one. `side`, `level`, `shape` and `features` are the trigger's.
    """

    ways: tuple[str, ...]
    share: float
    limits: Limits
    target: int | None = None
    victim: int | None = None
    side: int = 3
    level: float = 1.0
    shape: tuple[int, ...] = ()
    features: tuple[tuple[int, float], ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(
                "attack.bad_rate",
                f"A share of {self.share:g} is nothing of the rows, or leaves none as they were.",
                "Poison a share between 0 and 1.",
            )
        if self.target is not None and self.target == self.victim:
            raise InputError("attack.bad_parameter", "The victim is of the target's class already.")


@dataclass(frozen=True, slots=True, eq=False)
class Drills:
    """What became of each way to poison. `trainings` were made in all: those on clean rows serve
    every drill. `ways` tells the drills apart; `names` are the classes'."""

    ways: tuple[str, ...]
    drills: tuple[Drill, ...]
    problems: tuple[Problem, ...]
    share: float
    target: int
    victim: int
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    trainings: int

    @property
    def verdict(self) -> Verdict:
        return gravest([one.verdict for one in self.drills], self.problems)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "share": self.share,
            "target_class": self.names[self.target],
            "victim_class": self.names[self.victim],
            "seeds": list(self.seeds),
            "trainings": self.trainings,
            "drills": [
                {"way": way} | _told(one) for way, one in zip(self.ways, self.drills, strict=True)
            ],
            "problems": [one.to_dict() for one in self.problems],
        }


def gravest(verdicts: Sequence[Verdict], problems: Sequence[Problem] = ()) -> Verdict:
    """One verdict of several: a failure that was shown stands, whatever else is not known."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return worst([*verdicts, worst_of(problems)])


def run_drills(
    training: Training,
    asked: Poisoning,
    begins: Callable[[str], None] = lambda attack: None,
    ended: Callable[[Drill], None] = lambda found: None,
) -> Drills:
    """Poison in each way with each seed, train, and ask for the held-out rows.

    Raises InputError `attack.bad_rate`, `attack.bad_parameter`, `attack.bad_trigger`,
    `attack.bad_data`, `attack.train_failed`, and as `drill` does.
    """
    clean = TrainingSet.of(training.x, training.y, len(training.classes), training.domain)
    target, victim = _classes_of(training, asked)
    attacks = list(_attacks(asked, target, victim))
    # Before anything is trained: what cannot be poisoned so, is refused.
    for attack in attacks:
        poison(attack, clean, asked.seeds[0])
    train = _OnceOnClean(training, clean.digest)
    problems = []
    seed = asked.seeds[0]
    if not training.repeats(seed, train(clean.x, clean.y, seed)):
        text = "The same rows and seed trained another model: what the poison did is not known."
        problems.append(insufficient("attack.not_deterministic", text))
    found = []
    for attack in attacks:
        begins(name_of(attack))
        limits = asked.limits
        if isinstance(attack, LabelFlip) and attack.target is None:
            limits = Limits(None, asked.limits.drop)
        found.append(drill(attack, clean, training.tested, train, asked.seeds, limits))
        ended(found[-1])
    return Drills(
        tuple(map(name_of, attacks)),
        tuple(found),
        tuple(problems),
        asked.share,
        target,
        victim,
        training.classes.names,
        asked.seeds,
        training.train.trained,
    )


def require_empty(folder: Path) -> None:
    """Before anything is trained.

    Raises InputError `file.exists`, `file.not_plain`; OperationalError `file.unwritable`.
    """
    with storage_errors(folder):
        # A link to a folder is one: nothing is written in its place.
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        if not there.is_dir():
            raise InputError(
                "file.not_plain", f"{there} is not a folder.", "Choose another folder."
            )
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if folder.exists() and any(folder.iterdir()):
        raise InputError("file.exists", f"{folder} is not empty.", "Choose another folder.")


def write_sets(training: Training, asked: Poisoning, folder: Path) -> list[dict[str, Any]]:
    """Write each poisoned set into `folder`, with the labels as the file had them, and which rows
    are `poisoned`.

    Raises OperationalError `file.unwritable`, `disk.full`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    written = []
    for name, made in _sets(training, asked):
        path = folder / f"{name}-{made.seed}.npz"
        file = io.BytesIO()
        np.savez_compressed(
            file,
            x=made.x,
            y=training.labels[made.y],
            poisoned=made.poisoned,
            arrives=made.arrives,
        )
        data = file.getvalue()
        write_atomic(path, data, mode=0o644)
        written.append(
            {
                "file": str(path),
                "digest": str(Digest.of(data)),
                "attack": name,
                "seed": made.seed,
                "rows": len(made.x),
                "poisoned": made.count,
                "data": str(made.after),
            }
        )
    return written


def _sets(training: Training, asked: Poisoning) -> Iterator[tuple[str, Poisoned]]:
    clean = TrainingSet.of(training.x, training.y, len(training.classes), training.domain)
    for attack in _attacks(asked, *_classes_of(training, asked)):
        for seed in asked.seeds:
            yield name_of(attack), poison(attack, clean, seed)


def name_of(attack: PoisoningAttack) -> str:
    """What tells apart the drills of one attack."""
    if isinstance(attack, LabelFlip):
        return (
            attack.name
            + ("-guided" if attack.guided else "")
            + ("" if attack.target is not None else "-any")
        )
    return attack.name


def _attacks(asked: Poisoning, target: int, victim: int) -> Iterator[PoisoningAttack]:
    trigger = (asked.side, asked.level, asked.shape, asked.features)
    for way in asked.ways:
        if way == "badnets":
            yield BadNets(target, asked.share, *trigger)
        elif way == "clean-label":
            side, level, shape, features = trigger
            yield CleanLabel(
                target, asked.share, side=side, level=level, shape=shape, features=features
            )
        elif way == "feedback":
            yield Feedback(victim, target, asked.share)
        else:
            # Who is sure of a row, and who draws one: which does more, the model decides.
            yield LabelFlip(asked.share, asked.victim, target)
            yield LabelFlip(asked.share, asked.victim, target, guided=True)
            if asked.limits.drop is not None:
                yield LabelFlip(asked.share, guided=True)


def _classes_of(training: Training, asked: Poisoning) -> tuple[int, int]:
    """The attacker's class, and the victim's."""
    often = np.argsort(-np.bincount(training.y, minlength=len(training.classes)), kind="stable")
    for given in (asked.target, asked.victim):
        if given is not None and not 0 <= given < len(often):
            raise InputError("attack.bad_parameter", f"There is no class {given}.")
    target, victim = asked.target, asked.victim
    if target is None:
        target = next(int(one) for one in often if one != victim)
    if victim is None:
        victim = next(int(one) for one in often if one != target)
    return target, victim


class _OnceOnClean:
    """Trains on the clean rows once for each seed, however many drills compare with that."""

    def __init__(self, training: Training, clean: Digest) -> None:
        self._train, self._clean = training.train, clean
        self._kept: dict[int, Target] = {}

    def __call__(self, x: Array, y: Array, seed: int) -> Target:
        if len(y) and data_digest(x, y) != self._clean:
            return self._train(x, y, seed)
        if seed not in self._kept:
            self._kept[seed] = self._train(x, y, seed)
        return self._kept[seed]


def _told(found: Drill) -> dict[str, Any]:
    """With what the attacker got at most: those are the figures that the verdict reads."""
    accuracy = {
        "clean": min(one.before.value for one in found.trials),
        "poisoned": min(one.after.value for one in found.trials),
        "drop": shown(found.worst_drop),
    }
    return {**found.to_dict(), "success": shown(found.worst), "accuracy": accuracy}
