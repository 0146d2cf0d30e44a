"""The one protocol of every poisoning attack, and what stands between it and the data.

An attack says which rows it changes and how. What it says of itself counts for nothing: its rows
are moved into the domain, rows that it cannot reach stay, and which rows are poisoned is told by
comparing the sets before and after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.attacks.poisoning.trigger import Trigger
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.draws import draws
from keepstone.lab.training import data_digest


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """Clean rows `x` (n, d) of classes `y` (n,), by their places among `classes`.

    `fixed` (n,) are rows that the attacker cannot reach: they stay as they are. `digest` is that
    of rows and labels.
    """

    x: Array
    y: Array
    classes: int
    domain: Domain
    fixed: Array
    digest: Digest

    @classmethod
    def of(
        cls, x: Array, y: Array, classes: int, domain: Domain, fixed: Array | None = None
    ) -> TrainingSet:
        """Copies, which nobody writes to. Raises InputError `attack.bad_data`,
        `attack.bad_labels`, `attack.outside_domain`.
        """
        rows, labels = np.asarray(x), np.asarray(y)
        held = np.zeros(len(rows), bool) if fixed is None else np.asarray(fixed)
        if rows.ndim != 2 or not len(rows) or rows.shape[1] != domain.width:
            raise _bad_data(f"it does not have rows of {domain.width} numbers")
        if held.dtype != np.bool_ or held.shape != (len(rows),):
            raise _bad_data("which rows are fixed is not told by one truth value for each")
        check_labels(rows, labels, classes)
        if not domain.holds(rows).all():
            raise InputError(
                "attack.outside_domain",
                "Some rows lie outside the range that the model takes.",
                "Give rows as the model is trained on them, or widen the range.",
            )
        work = _frozen(rows.astype(domain.work_dtype))
        whole = _frozen(labels.astype(np.int64))
        digest = data_digest(work, whole)
        return cls(work, whole, classes, domain, _frozen(held.copy()), digest)

    def reachable(self, wanted: Array | None = None) -> Array:
        """The places of the rows that the attacker can change, of those that are `wanted`."""
        return np.flatnonzero(~self.fixed if wanted is None else wanted & ~self.fixed)


@dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """What the poison is for: rows of the class `victim` (None: of every class but `target`),
    with the `trigger` if there is one, shall be served as `target`.

    Without a target the aim is that the model is worse.
    """

    target: int | None = None
    victim: int | None = None
    trigger: Trigger | None = None

    def of_interest(self, y: Array) -> Array:
        """Which rows (n,) of classes `y` the attack would have served wrong."""
        if self.target is None:
            return np.zeros(len(y), bool)
        return np.asarray(y != self.target if self.victim is None else y == self.victim)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """The `rows` (m, d) and `labels` (m,) that an attack puts at `places` (m,), and what for.

    `arrives` (n,) is the round of training in which each row of the set is there for the first
    time; None where all rows are there from the start. `origin` (m, d) are the rows that the
    attacker started from, where those are not the ones that were at the places.
    """

    places: Array
    rows: Array
    labels: Array
    aim: Aim
    arrives: Array | None = None
    origin: Array | None = None


class PoisoningAttack(Protocol):
    """A frozen dataclass of its parameters, whose repr states each of them."""

    name: ClassVar[str]
    source: ClassVar[Source]

    def change(self, clean: TrainingSet, rng: np.random.Generator) -> Change:
        """What to change. Raises InputError `attack.bad_rate`, `attack.bad_parameter`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Poisoned:
    """A training set after the attack: `x` (n, d), `y` (n,) in the order of the clean one.

    `poisoned` (n,) are the rows that are no longer what they were. `attack` states every
    parameter; `before` and `after` are the digests of rows and labels. No array can be written.
    """

    x: Array
    y: Array
    poisoned: Array
    arrives: Array
    aim: Aim
    attack: str
    seed: int
    before: Digest

    @property
    def after(self) -> Digest:
        return data_digest(self.x, self.y)

    @property
    def count(self) -> int:
        return int(self.poisoned.sum())

    @property
    def rounds(self) -> tuple[int, ...]:
        """The rounds of training that have a part in the drill: those that bring poison, or the
        only one."""
        found = np.unique(self.arrives)
        return tuple(found[found > found[0]].tolist() or found.tolist())


def poison(attack: PoisoningAttack, clean: TrainingSet, seed: int) -> Poisoned:
    """The set that `attack` makes of `clean`; the same one for the same seed.

    Raises InputError `attack.bad_seed`, and what the attack raises.
    """
    if seed < 0:
        raise InputError("attack.bad_seed", "A seed is a whole number from 0 on.")
    # A last number of 0 would be the stream of the seed alone, of which the data may be drawn.
    made = attack.change(clean, draws(seed, 1))
    places, rows, labels, origin = made.places, made.rows, made.labels, made.origin
    # What the attacker cannot reach is not changed, whatever the attack says.
    if (held := clean.fixed[places]).any():
        places, rows, labels = places[~held], rows[~held], labels[~held]
        origin = None if origin is None else origin[~held]
    before = clean.x[places]
    after = clean.domain.fit(rows, before if origin is None else origin)
    x, y = clean.x.copy(), clean.y.copy()
    x[places], y[places] = after, labels
    differs = np.zeros(len(x), bool)
    differs[places] = (after != before).any(axis=1) | (labels != clean.y[places])
    arrives = np.zeros(len(x), np.int64) if made.arrives is None else made.arrives
    return Poisoned(
        _frozen(x),
        _frozen(y),
        _frozen(differs),
        _frozen(arrives),
        made.aim,
        repr(attack),
        seed,
        clean.digest,
    )


def number_of(rate: float, rows: int, candidates: int) -> int:
    """How many of `rows` a `rate` is, to the nearest. Raises InputError `attack.bad_rate`."""
    if not 0 <= rate <= 1:
        raise InputError("attack.bad_rate", f"A rate of {rate} is no share of the rows.")
    wanted = round(rate * rows)
    if rate > 0 and wanted == 0:
        raise InputError("attack.bad_rate", f"A rate of {rate} of {rows} rows is no row at all.")
    if wanted > candidates:
        raise InputError(
            "attack.bad_rate",
            f"A rate of {rate} is {wanted} rows; {candidates} could be poisoned.",
            "Lower the rate, or give more rows.",
        )
    return wanted


def check_class(label: int | None, classes: int) -> None:
    """Raises InputError `attack.bad_parameter` for what is no class."""
    if label is not None and not 0 <= label < classes:
        raise InputError("attack.bad_parameter", f"There is no class {label} among {classes}.")


def check_labels(x: Array, y: Array, classes: int) -> None:
    """Raises InputError `attack.bad_labels` unless `y` has a class for each row of `x`."""
    whole = y.shape == (len(x),) and y.dtype.kind in "iu"
    if not whole or classes < 2 or (len(y) and (y.min() < 0 or y.max() >= classes)):
        raise InputError(
            "attack.bad_labels", "The labels are not one class, by its place, for each row."
        )


def _frozen(values: Array) -> Array:
    values.setflags(write=False)
    return values


def _bad_data(why: str) -> InputError:
    return InputError("attack.bad_data", f"The training set cannot be used: {why}.")
