"""What an attack of another library is given to ask, and how it is run and stopped.

Promise: a target is asked no more than the budget for a sample, whatever the library counts or
was set to: what would take a sample beyond it raises `BudgetSpent` through the library, and
nothing of it is asked. What the library says of success counts for nothing; the meter judges what
was served.

A library asks about batches and does not tell which sample a row is a try at. So attacks run on
one sample at a time, where there is one answer only; or on all of them, as long as every batch has
exactly one row for each in their order, which is the user's to say and is held to.

Blind spots: a model of its own that an attack brings along is not metered, and a library that
catches our exception goes on without answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.attacks.evasion.bounds import into
from keepstone.lab.meter import BudgetSpent, Goal, Meter
from keepstone.lab.targets.port import UNANSWERED, Capability

# Kept back for each sample, to ask what the attack gives back: many never ask that themselves.
_KEPT = 1
# What these libraries compute in.
WORK = np.dtype(np.float32)


class Stopped(BudgetSpent):
    """Nothing more is asked for these samples: all are broken, or one's budget is spent."""


class Metered:
    """A target as a function of batches `(n, *shape)`, by what the attack `needs` of it.

    Every row is asked of `meter`, as a try at one of the samples of `places`.
    """

    def __init__(self, meter: Meter, places: Array, needs: Capability) -> None:
        self._meter = meter
        self._needs = needs
        self._stopped = False
        self.places = places

    @property
    def stopped(self) -> bool:
        """Whether the attack was stopped from here, whatever the library made of it."""
        return self._stopped

    @property
    def goal(self) -> Goal:
        return self._meter.goal

    @property
    def classes(self) -> int:
        return self._meter.classes

    @property
    def shape(self) -> tuple[int, ...]:
        return self._meter.domain.shape

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value of any feature: the meter keeps each one's own."""
        domain = self._meter.domain
        return float(domain.low.min()), float(domain.high.max())

    @property
    def inputs(self) -> Array:
        """The samples, as a batch."""
        return self._meter.x[self.places].astype(WORK).reshape(-1, *self.shape)

    @property
    def labels(self) -> Array:
        """The labels that are right for them."""
        return self._meter.y[self.places]

    def outputs(self, batch: Array) -> Array:
        """Scores `(n, k)`; of a target that is asked for its labels alone, 1 for the served one.

        Raises BudgetSpent; InputError `attack.unmapped`.
        """
        rows, places = self._rows(batch)
        found = self._meter.ask(places, rows)
        if self._needs is Capability.LABEL or found.scores is None:
            served = np.where(found.labels == UNANSWERED, self._meter.y[places], found.labels)
            return np.eye(self.classes, dtype=WORK)[served]
        return self._answered(found.scores, places)

    def linearize(self, batch: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Scores `(n, k)`, and the gradient by the batch of a weighted sum of them, once.

        Raises the same, and InputError `attack.unable`.
        """
        rows, places = self._rows(batch)
        found = self._meter.linearize(places, rows)

        def pull(weights: Array) -> Array:
            gradient = found.vjp(np.asarray(weights, found.scores.dtype))
            return gradient.astype(WORK).reshape(np.shape(batch))

        return self._answered(found.scores, places), pull

    def try_out(self, given: object) -> None:
        """Ask what the attack gave back, cut to epsilon, for the samples that are not broken."""
        rows = np.asarray(given)
        width = self._meter.domain.width
        if rows.dtype.kind not in "fiu" or rows.size != len(self.places) * width:
            raise OperationalError(
                "attack.outside_failed",
                "The attack did not give back one row for each sample.",
                "Look at what the function that runs it returns.",
            )
        rows = rows.reshape(-1, width).astype(self._meter.x.dtype)
        stands = np.isin(self.places, self._meter.standing(_KEPT))
        kept = np.flatnonzero(stands & np.isfinite(rows).all(axis=1))
        places, rows = self.places[kept], rows[kept]
        if self.goal.eps is not None:
            rows = into(self._meter, places, rows)
        if len(places):
            self._meter.ask(places, rows)

    def _rows(self, batch: Array) -> tuple[Array, Array]:
        """Flat rows, and the place of each, if all of them may be asked."""
        rows = np.asarray(batch)
        rows = rows.reshape(len(rows), -1).astype(self._meter.x.dtype)
        if rows.shape[1] != self._meter.domain.width:
            raise InputError(
                "attack.unmapped",
                f"The attack asks about rows of {rows.shape[1]} numbers; the target takes"
                f" {self._meter.domain.width}.",
            )
        if len(self.places) == 1:
            places = np.repeat(self.places, len(rows))
        elif len(rows) == len(self.places):
            places = self.places
        else:
            raise InputError(
                "attack.unmapped",
                f"The attack asks about {len(rows)} rows where {len(self.places)} samples stand:"
                " which row is a try at which sample cannot be told.",
                "Run it on one sample at a time: leave `together` out.",
            )
        wanted = np.bincount(places, minlength=len(self._meter.x))
        spent = np.any(wanted > np.maximum(self._meter.left - _KEPT, 0))
        # Once stopped, always stopped: a library that caught it is not let on.
        self._stopped |= bool(spent or not np.isin(self.places, self._meter.standing(0)).any())
        if self._stopped:
            raise Stopped
        return rows, places

    def _answered(self, scores: Array, places: Array) -> Array:
        """The scores as these libraries take them: a row without an answer is no success."""
        silent = np.asarray(~np.isfinite(scores).all(axis=1))
        right = np.eye(self.classes)[self._meter.y[places]]
        return np.where(silent[:, None], right, scores).astype(WORK)


# Runs a library's attack on what it may ask, and gives back one row for each sample, or None.
Outside = Callable[[Metered], object]


def run_outside(
    attack: Outside,
    library: str,
    meter: Meter,
    rng: np.random.Generator,
    needs: Capability,
    *,
    together: bool,
) -> None:
    """Run `attack` on the samples that stand, and let the meter judge what it asked and gave.

    Raises OperationalError `attack.outside_failed` for what fails inside the library, and what
    the target and the library's adapter raise.
    """
    standing = meter.standing(_KEPT + 1)
    each = [standing[at : at + 1] for at in range(len(standing))]
    for places in [standing] if together and len(standing) else each:
        asked = Metered(meter, places, needs)
        with _drawn_from(rng):
            found = _run(attack, library, asked)
        if found is not None:
            asked.try_out(found)


def _run(attack: Outside, library: str, asked: Metered) -> object:
    try:
        return attack(asked)
    except BudgetSpent:
        return None
    except KeepstoneError:
        raise
    # Another library may raise anything. What it crashed on is not robust: it was not attacked.
    except Exception as error:
        if asked.stopped:
            return None
        raise OperationalError(
            "attack.outside_failed",
            f"{library}'s attack failed: {type(error).__name__}: {str(error)[:200]}",
            "Look at what it asks of the target, and at the versions in bench/peers/adapters.txt.",
        ) from error


@contextmanager
def _drawn_from(rng: np.random.Generator) -> Iterator[None]:
    """These libraries draw from generators of the whole process: set here, and put back."""
    before, before_numpy = random.getstate(), np.random.get_state()
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


def not_installed(library: str, pins: str) -> OperationalError:
    """The error for a library that is in no extra: its own requirements would change ours."""
    return OperationalError(
        "runtime.missing",
        f"{library} is not installed, which this adapter needs.",
        f"pip install --no-deps {pins}",
    )
