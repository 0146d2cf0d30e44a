"""How alike a copy and its original are: measured on held-out rows, with an interval or not at all.

Agreement with the labels that were *served* is what a thief wants; accuracy, by the labels that are
right, is what the copy is worth. Where too few rows were answered there is no number: a copy that
agrees with little because its thief was throttled says nothing of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.extraction.queries import Transcript
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, insufficient, invalid
from keepstone.lab.targets.port import UNANSWERED, Target

# Fewer held-out rows leave more than 10 points either way.
FEWEST = 100
# The most answers that may be missing, or change when asked again.
MISSING = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Rows that no attack was given, with the labels served for them and the right ones, if known.

    `changed` is the share of the rows asked twice that were served another label then.
    """

    rows: Array
    served: Array
    right: Array | None
    changed: float
    classes: int

    @classmethod
    def ask(cls, target: Target, rows: Array, right: Array | None = None) -> HeldOut:
        """Ask for each row once, and for up to a hundred of them again: no attack's queries.

        Raises InputError `attack.bad_held_out`; OperationalError of the target.
        """
        if rows.ndim != 2 or rows.shape[1] != target.domain.width or not len(rows):
            raise InputError(
                "attack.bad_held_out",
                f"The held-out rows are not rows of {target.domain.width} numbers.",
            )
        if right is not None and right.shape != (len(rows),):
            raise InputError("attack.bad_held_out", "There is not one label for each held-out row.")
        fitted = target.domain.fit(rows, rows)
        served = target.predict(fitted).labels
        again = target.predict(fitted[:FEWEST]).labels
        both = (again != UNANSWERED) & (served[:FEWEST] != UNANSWERED)
        changed = float((again != served[:FEWEST])[both].mean()) if both.any() else 0.0
        return cls(fitted, np.asarray(served, np.int64), right, changed, target.classes)

    @classmethod
    def drawn(cls, target: Target, count: int, rng: np.random.Generator) -> HeldOut:
        """Rows drawn evenly from the domain: Tramèr et al.'s second measure."""
        low, high = target.domain.low, target.domain.high
        return cls.ask(target, rng.uniform(low, high, (count, len(low))))

    @property
    def answered(self) -> Array:
        return np.asarray(self.served != UNANSWERED)

    def problems(self) -> list[Problem]:
        """What makes any agreement on these rows worthless."""
        found = []
        answered = self.served[self.answered]
        silent = len(self.served) - len(answered)
        if silent > MISSING * len(self.served):
            found.append(_throttled(silent, len(self.served), "held-out rows"))
        if len(answered) < FEWEST:
            found.append(
                insufficient(
                    "attack.too_few",
                    f"{len(answered)} held-out rows were answered; {FEWEST} are needed.",
                )
            )
        if ((answered < 0) | (answered >= self.classes)).any():
            found.append(_broken("held-out rows"))
        if len(answered) and (answered == answered[0]).all():
            found.append(
                invalid(
                    "attack.constant_output",
                    "The model serves one label for every held-out row: any constant is a copy.",
                )
            )
        if self.changed > MISSING:
            found.append(
                insufficient(
                    "attack.changing_answers",
                    f"The model served another label for {self.changed:.0%} of the rows asked "
                    "again.",
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A copy after `queries`, which are `units` of (d + 1): so many make a linear model's copy.

    `agreement` and `accuracy` are None unless measured; `accuracy` also where the right labels
    are unknown. `constant` is the agreement that the best constant answer would have.
    """

    queries: int
    units: float
    unanswered: int
    agreement: Share | None
    accuracy: Share | None
    constant: float | None
    problems: tuple[Problem, ...] = ()

    @property
    def measured(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        return {
            "queries": self.queries,
            "units": self.units,
            "unanswered": self.unanswered,
            "measured": self.measured,
            "agreement": _shown(self.agreement),
            "accuracy": _shown(self.accuracy),
            "constant": self.constant,
            "problems": [one.to_dict() for one in self.problems],
        }


def measure(
    copy: Target | None,
    held_out: HeldOut,
    seen: Transcript,
    others: Sequence[Problem] = (),
) -> Fidelity:
    """How alike `copy`, made of `seen`, is to what served the held-out rows.

    `others` are problems from elsewhere. None is the copy that could not be made.
    """
    problems = [*others, *held_out.problems(), *_problems(seen)]
    if copy is None and not problems:
        problems.append(insufficient("attack.too_few", "The attack asked nothing."))
    units = len(seen) / (held_out.rows.shape[1] + 1)
    if problems or copy is None:
        return Fidelity(len(seen), units, seen.unanswered, None, None, None, tuple(problems))
    places = np.flatnonzero(held_out.answered)
    served, count = held_out.served[places], len(places)
    told = copy.predict(held_out.rows[places]).labels
    accuracy = None
    if held_out.right is not None:
        accuracy = share(int((told == held_out.right[places]).sum()), count)
    return Fidelity(
        len(seen),
        units,
        seen.unanswered,
        share(int((told == served).sum()), count),
        accuracy,
        float(np.bincount(served).max() / count),
    )


def _problems(seen: Transcript) -> list[Problem]:
    found = []
    if seen.unanswered > MISSING * len(seen):
        found.append(_throttled(seen.unanswered, len(seen), "queries"))
    if seen.broken:
        found.append(_broken("queries"))
    return found


def _throttled(silent: int, count: int, what: str) -> Problem:
    return insufficient(
        "attack.throttled",
        f"{silent} of {count} {what} were not answered: fewer answers make a worse copy, "
        "which says nothing of the model.",
    )


def _broken(what: str) -> Problem:
    return invalid(
        "attack.broken_outputs",
        f"The answers to some {what} are no label of the model, or not finite numbers.",
    )


def _shown(found: Share | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
