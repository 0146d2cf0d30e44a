"""Training that leaves out what fits worst: iterative trimmed loss, and what it is worth.

Promise: a model is trained, the rows of the highest loss are left out, and it is trained again on
the others, until the same rows stay. The loss of a row is that of a model which was not trained on
it (`folds`), for one that was may know it by heart.

It certifies nothing. `drill` says what is left of it: labels are flipped at random, as an owner
would try, and by two who know the defence: flips that a clean model finds likeliest, and flips from
one class to another, which agree with each other. What counts is the worst of them.

Source: Shen and Sanghavi 2019, arXiv 1810.11874 (iterative trimmed loss minimisation); the loss out
of folds is this repository's. Cost: (`folds` + 1) trainings a round. Blind spots: poison of low
loss, a backdoor's above all; honest rows that are rare are trimmed first; `trim` has to be about
the share that is poisoned, which nobody tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import checked, told, too_few
from keepstone.lab.defences.evaluate import more
from keepstone.lab.losses import cross_entropy
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, invalid, worst_of
from keepstone.lab.targets.port import Target
from keepstone.lab.training import Train

SCHEMA = "keepstone.defence/v1"


@dataclass(frozen=True, slots=True, eq=False)
class Trimmed:
    """The model, which of the `n` rows it was trained on, and after how many rounds."""

    target: Target
    kept: Array
    rounds: int


@dataclass(frozen=True, slots=True)
class TrimmedLoss:
    """`trim` is the share of rows that is left out; `folds` 1 measures the loss on rows that the
    model was trained on, as the paper does."""

    trim: float = 0.1
    rounds: int = 5
    folds: int = 5
    name: ClassVar[str] = "trimmed-loss"
    source: ClassVar[str] = "Shen and Sanghavi 2019, arXiv 1810.11874"

    def __post_init__(self) -> None:
        if not 0 < self.trim < 1 or self.rounds < 1 or self.folds < 1:
            raise InputError(
                "defence.bad_parameters",
                "A share above 0 and below 1 is trimmed, in a round and of a fold at least.",
            )

    def fit(self, train: Train, x: Array, y: Array, seed: int = 0) -> Trimmed:
        """Train on rows `x` (n, d) of classes `y` (n,), by their places.

        Deterministic by `seed`, as far as `train` is. Raises InputError `defence.unfit` for a
        model that tells no scores, and what `train` raises.
        """
        rows, labels = np.asarray(x), np.asarray(y, np.int64)
        least = 2 * self.folds
        most = round((1 - self.trim) * len(rows))
        if most < least or len(labels) != len(rows):
            raise InputError(
                "defence.bad_data",
                f"{most} rows would be left, and it takes {least}, with one label for each.",
            )
        rng = np.random.default_rng(seed)
        kept = np.arange(len(rows))
        done, settled = 0, False
        while done < self.rounds and not settled:
            done += 1
            losses = self._losses(train, rows, labels, kept, seed, rng)
            chosen = np.sort(np.argsort(losses, kind="stable")[:most])
            settled = np.array_equal(chosen, kept)
            kept = chosen
        inside = np.zeros(len(rows), bool)
        inside[kept] = True
        return Trimmed(train(rows[kept], labels[kept], seed), inside, done)

    def _losses(
        self,
        train: Train,
        x: Array,
        y: Array,
        kept: Array,
        seed: int,
        rng: np.random.Generator,
    ) -> Array:
        """Of each row by a model that was trained on kept rows of other folds."""
        if self.folds == 1:
            return _losses_of(train(x[kept], y[kept], seed), x, y)
        fold = rng.permutation(len(x)) % self.folds
        found = np.zeros(len(x))
        for one in range(self.folds):
            learnt, held = kept[fold[kept] != one], fold == one
            found[held] = _losses_of(train(x[learnt], y[learnt], seed), x[held], y[held])
        return found


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Accuracies on the same tested rows after one way to poison the training: of the model that
    was trained on all of it, and of the trimmed one; and how many of the poisons were left out."""

    poison: str
    adaptive: bool
    undefended: Share
    defended: Share
    poisons: int
    caught: int
    gained: int
    lost: int

    @property
    def gains(self) -> bool:
        return more(self.gained, self.lost)

    def to_dict(self) -> dict[str, Any]:
        return {
            "poison": self.poison,
            "adaptive": self.adaptive,
            **told(self.defended),
            "undefended": told(self.undefended),
            "poisons": self.poisons,
            "caught": self.caught,
            "gained": self.gained,
            "lost": self.lost,
            "gains": self.gains,
        }


@dataclass(frozen=True, slots=True)
class Drill:
    """`pass`: it gains whoever poisons; `fail`: it does not; `invalid`: it gains only where the
    poisoner does not know of it; `insufficient`: too few samples."""

    defence: TrimmedLoss
    verdict: Verdict
    problems: tuple[Problem, ...]
    clean: Share
    clean_undefended: Share
    poisoned: tuple[Poisoned, ...]
    # What the data as it is was trimmed to.
    trimmed: Trimmed

    @property
    def worst(self) -> Poisoned:
        """The poison that leaves the trimmed model least."""
        return min(self.poisoned, key=lambda one: one.defended.value)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(one.code for one in self.problems)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "defence": self.defence.name,
            "source": self.defence.source,
            "parameters": asdict(self.defence),
            "verdict": self.verdict.value,
            "problems": [one.to_dict() for one in self.problems],
            "clean_accuracy": {**told(self.clean), "undefended": told(self.clean_undefended)},
            "poisoned_accuracy": told(self.worst.defended),
            "poisons": [one.to_dict() for one in self.poisoned],
        }


def drill(
    defence: TrimmedLoss,
    train: Train,
    x: Array,
    y: Array,
    tested: tuple[Array, Array],
    poisoned: float = 0.1,
    seed: int = 0,
) -> Drill:
    """Train on `x` (n, d), `y` (n,) with a share of `poisoned` labels flipped, and ask for the
    rows and classes that are `tested`, which nobody flips.

    Raises InputError `defence.bad_data`, `defence.bad_parameters`, and what `train` raises.
    """
    if not 0 < poisoned < 0.5:
        raise InputError("defence.bad_parameters", "Above none and below half of it is poisoned.")
    bare = train(x, y, seed)
    x, y = checked(x, y, bare.domain.width, bare.classes)
    rows, labels = checked(*tested, bare.domain.width, bare.classes)
    guess = _scores_of(bare, x)
    count = max(1, round(poisoned * len(x)))
    flips = (
        ("random-flips", False, _random(y, bare.classes, count, np.random.default_rng(seed))),
        ("likely-flips", True, _likely(guess, y, count)),
        ("one-class-flips", True, _one_class(guess, y, count)),
    )
    found = tuple(_poisoned(defence, train, (x, y), (rows, labels), flip, seed) for flip in flips)
    problems = (*too_few(len(rows)), *_judged(found))
    clean = defence.fit(train, x, y, seed)
    return Drill(
        defence,
        worst_of(problems),
        problems,
        _accuracy(clean.target.predict(rows).labels == labels),
        _accuracy(bare.predict(rows).labels == labels),
        found,
        clean,
    )


def _poisoned(
    defence: TrimmedLoss,
    train: Train,
    learnt: tuple[Array, Array],
    tested: tuple[Array, Array],
    flip: tuple[str, bool, Array],
    seed: int,
) -> Poisoned:
    (x, y), (rows, labels), (name, adaptive, bad) = learnt, tested, flip
    trimmed = defence.fit(train, x, bad, seed)
    without = train(x, bad, seed).predict(rows).labels == labels
    with_it = trimmed.target.predict(rows).labels == labels
    flipped = bad != y
    return Poisoned(
        name,
        adaptive,
        _accuracy(without),
        _accuracy(with_it),
        int(flipped.sum()),
        int((flipped & ~trimmed.kept).sum()),
        int((with_it & ~without).sum()),
        int((without & ~with_it).sum()),
    )


def _judged(found: Sequence[Poisoned]) -> tuple[Problem, ...]:
    """A gain has to be there against those who know the defence."""
    known = [one for one in found if one.adaptive]
    if any(one.gains for one in known) and not any(more(one.lost, one.gained) for one in known):
        return ()
    worst = min(known, key=lambda one: one.gained - one.lost)
    left = (
        f"against {worst.poison} the accuracy is {worst.defended.value:.3f} with the defence and"
        f" {worst.undefended.value:.3f} without it"
    )
    plain = [one for one in found if not one.adaptive and one.gains]
    if plain:
        return (
            invalid(
                "defence.masks",
                f"The defence gains against {plain[0].poison} alone: {left}.",
            ),
        )
    return (Problem("defence.no_gain", Verdict.FAIL, f"{left[0].upper()}{left[1:]}."),)


def _random(y: Array, classes: int, count: int, rng: np.random.Generator) -> Array:
    found = y.copy()
    at = rng.permutation(len(y))[:count]
    found[at] = (y[at] + rng.integers(1, classes, len(at))) % classes
    return found


def _likely(scores: Array, y: Array, count: int) -> Array:
    """The flips that cost a clean model least, so that trimming finds them last."""
    other = _others(scores, y)
    wrong = other.argmax(axis=1)
    at = np.argsort(-other.max(axis=1), kind="stable")[:count]
    found = y.copy()
    found[at] = wrong[at]
    return found


def _one_class(scores: Array, y: Array, count: int) -> Array:
    """The class that is easiest to mistake, turned into the one that it is mistaken for."""
    other = np.where(np.isfinite(scores), _others(scores, y), -np.inf)
    means = [
        other[y == one].max(axis=1).mean() if (y == one).any() else -np.inf
        for one in range(scores.shape[1])
    ]
    turned = int(np.argmax(means))
    mine = np.flatnonzero(y == turned)
    wanted = int(np.bincount(other[mine].argmax(axis=1)).argmax())
    at = mine[np.argsort(-other[mine, wanted], kind="stable")][:count]
    found = y.copy()
    found[at] = wanted
    return found


def _others(scores: Array, y: Array) -> Array:
    """How much likelier each wrong class is than the right one; minus infinity for that one."""
    rows = np.arange(len(y))
    found = scores - scores[rows, y][:, None]
    found[rows, y] = -np.inf
    return np.asarray(found)


def _losses_of(target: Target, x: Array, y: Array) -> Array:
    """Infinite for a class that the model never saw, and for a row that it does not answer."""
    scores = _scores_of(target, x)
    losses = cross_entropy(scores, y)[0]
    return np.where(np.isnan(losses), np.inf, losses)


def _scores_of(target: Target, x: Array) -> Array:
    scores = target.predict(target.domain.fit(x, x)).scores
    if scores is None:
        raise InputError(
            "defence.unfit",
            "The trained model tells no scores, so no row's loss is known.",
            "Train one with `predict_proba` or `decision_function`.",
        )
    return scores


def _accuracy(right: Array) -> Share:
    return share(int(right.sum()), len(right))
