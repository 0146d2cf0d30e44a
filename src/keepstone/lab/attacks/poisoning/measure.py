"""A poisoning drill: what a training function makes of a spoiled data set, over several seeds.

For each seed the set is poisoned and two models are trained with that same seed, one on the clean
set and one on the spoiled one. Both are asked for rows that neither was trained on: as they are,
and as the attacker would have them served.

The verdict reads the unfavourable end, at the worst seed: intervals of several seeds are not
pooled, for all ask about the same rows. It speaks of this attack at this rate and of no other.

Cost: two trainings a seed (and round), and two or three predictions for each held-out row. Blind
spots: a training function that does other things than the owner's; an attacker who knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.poisoning.port import (
    Aim,
    Poisoned,
    PoisoningAttack,
    TrainingSet,
    check_labels,
    poison,
)
from keepstone.lab.attacks.port import Source
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, insufficient
from keepstone.lab.targets.port import UNANSWERED, Target
from keepstone.lab.training import Train, data_digest

# Of fewer rows an interval is so wide that it says nothing (12 points to either side at best).
MIN_ROWS = 30
# A pass needs as many: one draw of the poison may be a weak one.
MIN_SEEDS = 3
_BATCH = 4096
_PROBES = 32
# Each of the two shares that a drop is made of, so that both hold at 95 %.
_EACH = 0.975


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is allowed: `success` of the attack, and `drop` of the clean accuracy, both
    as shares. None does not decide. Raises InputError `attack.bad_limit`.
    """

    success: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        for limit in (self.success, self.drop):
            if limit is not None and not 0 <= limit <= 1:
                raise InputError("attack.bad_limit", f"A limit of {limit} is no share.")


@dataclass(frozen=True, slots=True)
class Drop:
    """By how much the accuracy fell on the same `n` rows: `lost` less `gained`, as a share.

    The interval holds at 95 % at least: it is that of both shares, each at its worst.
    """

    lost: int
    gained: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return (self.lost - self.gained) / self.n if self.n else 0.0


def drop_of(lost: int, gained: int, n: int) -> Drop:
    """The drop where `lost` of `n` rows were right before only, and `gained` after only.

    With n = 0 nothing is known: -1 to 1.
    """
    down, up = share(lost, n, _EACH), share(gained, n, _EACH)
    value = (lost - gained) / n if n else 0.0
    # Where all was lost, the rounding of the ends must not leave it outside.
    low, high = min(down.low - up.high, value), max(down.high - up.low, value)
    return Drop(lost, gained, n, low, high)


@dataclass(frozen=True, slots=True)
class Trial:
    """One seed, and one round of training: what the models say that were trained until then.

    `rows` were trained on, `poisoned` of them spoiled. `before` and `after` are the clean
    accuracies; `success` is the share of rows of interest that the poisoned model serves as the
    attacker wants, `natural` what the clean model does of that by itself (None without a target).
    """

    seed: int
    round: int
    rows: int
    poisoned: int
    before: Share
    after: Share
    drop: Drop
    success: Share | None
    natural: Share | None
    data: Digest
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Drill:
    """What became of the training under `attack`, whose parameters are all in `parameters`."""

    attack: str
    parameters: str
    source: Source
    trials: tuple[Trial, ...]
    limits: Limits
    verdict: Verdict
    problems: tuple[Problem, ...]
    trainings: int
    queries: int
    data: Digest
    held_out: Digest

    @property
    def worst(self) -> Share | None:
        """The success of the trial in which it may be the greatest; None without a target."""
        found = [one.success for one in self.trials if one.success is not None]
        return max(found, key=lambda one: one.high) if found else None

    @property
    def worst_drop(self) -> Drop:
        return max((one.drop for one in self.trials), key=lambda one: one.high)

    def to_dict(self) -> dict[str, Any]:
        return {
            "attack": self.attack,
            "parameters": self.parameters,
            "paper": self.source.paper,
            "atlas": self.source.atlas,
            "verdict": self.verdict.value,
            "limits": {"success": self.limits.success, "drop": self.limits.drop},
            "trials": [_as_dict(one) for one in self.trials],
            "problems": [one.to_dict() for one in self.problems],
            "trainings": self.trainings,
            "queries": self.queries,
            "data": str(self.data),
            "held_out": str(self.held_out),
        }


def drill(
    attack: PoisoningAttack,
    clean: TrainingSet,
    held_out: tuple[Array, Array],
    train: Train,
    seeds: Sequence[int],
    limits: Limits,
    *,
    progress: Callable[[int], None] = lambda trained: None,
) -> Drill:
    """Poison `clean` with each of `seeds`, train, and ask for the rows and classes `held_out`.

    A rate of 0 is the control: what the trigger does to a model that was never poisoned.

    Raises InputError `attack.bad_data`, `attack.bad_labels`, `attack.bad_seed`,
    `attack.bad_training`, `attack.outside_domain`, and what the attack or `train` raise; a model
    that cannot be asked (OperationalError) is a problem.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError("attack.bad_seed", "A drill takes seeds that differ, one at least.")
    x, y = _held_out(clean, held_out)
    room = _Room(clean, train, x, y, progress)
    trials = []
    for seed in seeds:
        made = poison(attack, clean, seed)
        trials += [room.trial(made, number) for number in made.rounds]
    problems = list(dict.fromkeys(one for trial in trials for one in trial.problems))
    problems += _too_small(trials, limits, seeds)
    return Drill(
        attack.name,
        repr(attack),
        attack.source,
        tuple(trials),
        limits,
        judge(trials, limits, problems),
        tuple(problems),
        room.trained,
        room.queries,
        clean.digest,
        data_digest(x, y),
    )


def judge(trials: Sequence[Trial], limits: Limits, problems: Sequence[Problem]) -> Verdict:
    """The verdict; the worst trial counts.

    (1) Even a lower bound is above its limit: fail, however few the rows or the seeds. (2) A
    problem, or no limit at all: insufficient. (3) Every upper bound is within its limit: pass.
    (4) So few rows that a model that is never fooled would not pass: insufficient. (5) Else fail.
    """
    bounds = [bound for trial in trials for bound in _bounds(trial, limits)]
    # (1)
    if any(low > limit for low, _, _, limit in bounds):
        return Verdict.FAIL
    # (2)
    if problems or not bounds:
        return Verdict.INSUFFICIENT
    # (3)
    above = [(best, limit) for _, high, best, limit in bounds if high > limit]
    if not above:
        return Verdict.PASS
    # (4), (5)
    few = all(best > limit for best, limit in above)
    return Verdict.INSUFFICIENT if few else Verdict.FAIL


def _bounds(trial: Trial, limits: Limits) -> list[tuple[float, float, float, float]]:
    """Low, high, the high end of the best that so many rows could show, and the limit."""
    found = []
    if limits.success is not None and trial.success is not None:
        one = trial.success
        found.append((one.low, one.high, share(0, one.n).high, limits.success))
    if limits.drop is not None:
        fall = trial.drop
        found.append((fall.low, fall.high, drop_of(0, 0, fall.n).high, limits.drop))
    return found


class _Room:
    """Where the trials of one drill happen; counts what is trained and asked."""

    def __init__(
        self, clean: TrainingSet, train: Train, x: Array, y: Array, progress: Callable[[int], None]
    ) -> None:
        self._clean, self._train, self._progress = clean, train, progress
        self._x, self._y = x, y
        self.trained = self.queries = 0

    def trial(self, made: Poisoned, number: int) -> Trial:
        there = made.arrives <= number
        wanted = made.aim.of_interest(self._y)
        rows = self._x[wanted]
        if made.aim.trigger is not None:
            rows = made.aim.trigger.stamp(rows, self._clean.domain)
        clean = self._look(self._clean.x[there], self._clean.y[there], made.seed, rows)
        spoiled = self._look(made.x[there], made.y[there], made.seed, rows)
        problems = [*clean.unusable, *clean.problems(self._y), *spoiled.unusable]
        known = not problems
        return Trial(
            made.seed,
            number,
            int(there.sum()),
            int(made.poisoned[there].sum()),
            *self._accuracies(clean, spoiled, known),
            _success(made.aim, spoiled, known),
            _success(made.aim, clean, known),
            made.after,
            tuple(dict.fromkeys([*problems, *spoiled.constant(self._y)])),
        )

    def _accuracies(self, clean: _Seen, spoiled: _Seen, known: bool) -> tuple[Share, Share, Drop]:
        if not known:
            return share(0, 0), share(0, 0), drop_of(0, 0, 0)
        right, still = clean.labels == self._y, spoiled.labels == self._y
        count = len(self._y)
        return (
            share(int(right.sum()), count),
            share(int(still.sum()), count),
            drop_of(int((right & ~still).sum()), int((still & ~right).sum()), count),
        )

    def _look(self, x: Array, y: Array, seed: int, rows: Array) -> _Seen:
        """Train a model, and ask it for the held-out rows, some of them again, and `rows`."""
        silent = np.full(len(self._y), UNANSWERED), np.full(len(rows), UNANSWERED)
        try:
            model = self._train(x, y, seed)
            self.trained += 1
            self._progress(self.trained)
            if model.classes != self._clean.classes:
                raise InputError(
                    "attack.bad_training",
                    f"The training function made a model of {model.classes} classes; there are"
                    f" {self._clean.classes}.",
                    "Name all the classes to the target: some may be missing from its rows.",
                )
            labels, finite = self._ask(model, self._x)
            again, _ = self._ask(model, self._x[:_PROBES])
            served, also = self._ask(model, rows)
        except OperationalError as error:
            return _Seen(*silent, (insufficient(error.code, error.cause),))
        return _Seen(labels, served, _unusable(labels, served, again, finite and also))

    def _ask(self, model: Target, rows: Array) -> tuple[Array, bool]:
        """The labels of `rows`, and whether all scores that were served are numbers."""
        self.queries += len(rows)
        parts = [
            model.predict(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)
        ]
        scores = [one.scores for one in parts if one.scores is not None]
        # Certainty is served as infinite.
        numbers = not any(np.isnan(one).any() for one in scores)
        labels = [one.labels for one in parts]
        return np.concatenate(labels) if labels else np.zeros(0, np.int64), numbers


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one model said of the held-out rows (`labels`) and of the rows of interest."""

    labels: Array
    served: Array
    unusable: tuple[Problem, ...]

    def constant(self, y: Array) -> tuple[Problem, ...]:
        if self.unusable or len(np.unique(y)) < 2 or len(np.unique(self.labels)) > 1:
            return ()
        return (insufficient("attack.constant", "A model says one class for every row."),)

    def problems(self, y: Array) -> tuple[Problem, ...]:
        """Of a model that was trained on clean rows: that it has learned nothing."""
        if self.unusable or len(np.unique(y)) < 2:
            return ()
        if found := self.constant(y):
            return found
        right = share(int((self.labels == y).sum()), len(y))
        # What labels that have nothing to do with the rows, but are as common, would agree by.
        counts = [np.bincount(one, minlength=int(y.max()) + 1) for one in (self.labels, y)]
        chance = float(counts[0][: len(counts[1])] @ counts[1]) / len(y) ** 2
        if right.low > chance:
            return ()
        text = (
            f"The model that was trained on clean rows is right for {right.value:.0%}; by chance"
            f" it would be for {chance:.0%}."
        )
        return (insufficient("attack.labels_mismatch", text),)


def _unusable(labels: Array, served: Array, again: Array, numbers: bool) -> tuple[Problem, ...]:
    silent = int((labels == UNANSWERED).sum() + (served == UNANSWERED).sum())
    if silent or not numbers:
        text = "A model gave no label for some rows, or scores that are no numbers."
        return (insufficient("attack.no_answers", text),)
    if (again != labels[: len(again)]).any():
        text = "A model gave some rows another label when it was asked again."
        return (insufficient("attack.unsteady", text),)
    return ()


def _success(aim: Aim, seen: _Seen, known: bool) -> Share | None:
    if aim.target is None:
        return None
    if not known:
        return share(0, 0)
    return share(int((seen.served == aim.target).sum()), len(seen.served))


def _held_out(clean: TrainingSet, held_out: tuple[Array, Array]) -> tuple[Array, Array]:
    x, y = np.asarray(held_out[0]), np.asarray(held_out[1])
    if x.ndim != 2 or x.shape[1] != clean.domain.width or not len(x):
        raise InputError(
            "attack.bad_data", f"The held-out rows are none of {clean.domain.width} numbers."
        )
    check_labels(x, y, clean.classes)
    if not clean.domain.holds(x).all():
        raise InputError(
            "attack.outside_domain", "Some held-out rows lie outside the range of the model."
        )
    return x.astype(clean.domain.work_dtype), y.astype(np.int64)


def _too_small(trials: Sequence[Trial], limits: Limits, seeds: Sequence[int]) -> list[Problem]:
    problems = []
    if len(seeds) < MIN_SEEDS:
        text = f"{len(seeds)} seeds are too few: the poison of {MIN_SEEDS} at least is to be seen."
        problems.append(insufficient("attack.too_few_seeds", text))
    if limits.success is not None and any(one.success is None for one in trials):
        text = "The attack has no target, so that there is no success to be limited."
        problems.append(insufficient("attack.no_target", text))
    # Rows that could not be asked have a problem of their own.
    asked = [one for one in trials if not one.problems]
    counts = [one.drop.n for one in asked]
    counts += [one.success.n for one in asked if one.success is not None]
    fewest = min(counts, default=MIN_ROWS)
    if fewest < MIN_ROWS:
        text = f"{fewest} rows are too few: an interval takes {MIN_ROWS} at least."
        problems.append(insufficient("attack.too_few", text))
    return problems


def _as_dict(trial: Trial) -> dict[str, Any]:
    return {
        "seed": trial.seed,
        "round": trial.round,
        "rows": trial.rows,
        "poisoned": trial.poisoned,
        "accuracy_before": shown(trial.before),
        "accuracy_after": shown(trial.after),
        "drop": shown(trial.drop),
        "success": shown(trial.success),
        "natural": shown(trial.natural),
        "data": str(trial.data),
    }


def shown(found: Share | Drop | None) -> dict[str, float | int] | None:
    """For JSON; None without a number."""
    if found is None:
        return None
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
