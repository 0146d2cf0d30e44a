"""From matches to a verdict: a test against the chance that the model is an independent one.

The null hypothesis is that each crossing matches with at most the null rate. That rate is an
upper bound over models that are known to be independent, where the owner had some. Else it is an
assumption, above all that was measured on independent models (`bench/fingerprint.py`): for labels
one in four, the chance to guess both where there are only two; for numbers, whose order
independent models agree on more often, one in two. It is recorded with the
commitments, before there is a suspect. A match says that the answers are too alike for
an independent model; who took what from whom, it does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, exp, lgamma, log, log1p, sqrt
from typing import Any

from keepstone.errors import InputError
from keepstone.lab.ownership.crossings import Kind

# One wrong accusation in ten thousand, as far as the null rate holds.
ALPHA = 1e-4
ASSUMED_RATE = {Kind.LABEL: 0.25, Kind.NUMBER: 0.5}
# A copy that was meddled with is reckoned to show so many of the crossings.
COPY_RATE = 0.8
# How surely such a copy is found, where finding none means anything.
POWER = 0.95
_MISSING = 0.1
# One-sided 99 %.
_Z = 2.326
_WEAK = 0.65


class Outcome(StrEnum):
    MATCH = "match"
    NO_MATCH = "no match"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Null:
    """How often an independent model shows a crossing, at most; and how that is known.

    `models` is how many independent models it was measured on; 0 where it is assumed.
    """

    rate: float
    models: int

    @property
    def how(self) -> str:
        return f"measured on {self.models} independent models" if self.models else "assumed"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`p_value` is the chance of so many matches or more under the null; `power` is the chance
    to find a copy that shows four of five crossings, among so many answers."""

    outcome: Outcome
    asked: int
    answered: int
    matches: int
    needed: int
    p_value: float
    power: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome.value,
            "matches": self.matches,
            "answered": self.answered,
            "asked": self.asked,
            "needed": self.needed,
            "p_value": f"{self.p_value:.3g}",
            "power": f"{self.power:.4f}",
        }


def calibrate(rates: Sequence[tuple[int, int]], kind: Kind) -> Null:
    """The null from `(matches, answered)` of each independent model, or the assumed one.

    The highest upper bound (Wilson, one-sided 99 %) of any of them: models differ from each
    other by more than the crossings do. Raises InputError `fingerprint.weak` where they match
    so often that a copy could not be told from them.
    """
    if not rates:
        return Null(ASSUMED_RATE[kind], 0)
    rate = max(wilson(matches, answered, _Z)[1] for matches, answered in rates)
    if rate > _WEAK:
        raise InputError(
            "fingerprint.weak",
            f"A model that is said to be independent matches {rate:.0%} of the crossings.",
            "Is it? Else the models are too alike to be told apart by their answers.",
        )
    return Null(rate, len(rates))


def judge(found: Sequence[bool | None], null: Null) -> Judgement:
    """The verdict over each crossing's match (None: not answered).

    (1) More than a tenth is unanswered: insufficient, whoever chose which.
    (2) So many matches are too many for an independent model: match.
    (3) A copy would have been found: no match. (4) Else insufficient.
    """
    answered = sum(one is not None for one in found)
    matches = sum(one is True for one in found)
    p_value = at_least(matches, answered, null.rate)
    needed = threshold(answered, null.rate)
    power = power_of(answered, null)
    if answered < (1 - _MISSING) * len(found) or not answered:
        outcome = Outcome.INSUFFICIENT
    elif p_value <= ALPHA:
        outcome = Outcome.MATCH
    else:
        outcome = Outcome.NO_MATCH if power >= POWER else Outcome.INSUFFICIENT
    return Judgement(outcome, len(found), answered, matches, needed, p_value, power)


def require_enough(count: int, null: Null) -> None:
    """Return if `count` crossings can be a match. Raises InputError `fingerprint.too_few`."""
    if threshold(count, null.rate) > count:
        enough = ceil(log(ALPHA) / log(null.rate))
        raise InputError(
            "fingerprint.too_few",
            f"Even a copy that shows all of {count} crossings would be no match: where an"
            f" independent model shows up to {null.rate:.0%} of them, it takes {enough}.",
            "Take more (--count).",
        )


def power_of(count: int, null: Null) -> float:
    """The chance to find a copy by `count` answers; below POWER there is no `no match`."""
    return at_least(threshold(count, null.rate), count, COPY_RATE)


def threshold(count: int, rate: float) -> int:
    """The fewest matches of `count` that are a match; `count + 1` where none is enough."""
    return next((k for k in range(count + 1) if at_least(k, count, rate) <= ALPHA), count + 1)


def at_least(matches: int, count: int, rate: float) -> float:
    """The chance of `matches` or more among `count`, each with the chance `rate` (binomial)."""
    if matches <= 0:
        return 1.0
    if matches > count or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    return min(1.0, sum(_exactly(k, count, rate) for k in range(matches, count + 1)))


def _exactly(k: int, count: int, rate: float) -> float:
    ways = lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1)
    return exp(ways + k * log(rate) + (count - k) * log1p(-rate))


def wilson(matches: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a rate (Wilson 1927); 0 to 1 where nothing was counted."""
    if not count:
        return 0.0, 1.0
    rate, spread = matches / count, z * z / count
    middle = (rate + spread / 2) / (1 + spread)
    reach = z * sqrt(rate * (1 - rate) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)
