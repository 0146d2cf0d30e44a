"""Secret places where a model's answer changes, found by asking it and nothing else.

Two rows of different answers are joined by a line, and the place on it where the answer changes
is found by bisection. The fingerprint keeps a row a little before that place and one a little
behind it. A stolen model changes its answer between the two as well; an independent one changes
it somewhere else. For numbers the change is that the answer passes the one to a third row, which
holds for any increasing rescaling of the answers too.

Label-only bisection is from HopSkipJump (Chen et al. 2020); that models share boundaries with
what was copied from them and not with independent ones is IPGuard's observation (Cao et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.ownership.secret import Secret
from keepstone.lab.ownership.space import Space

Answer = str | float | None
# One answer to each row: a label, a number, or None where there is none.
Ask = Callable[[Array], Sequence[Answer]]

_STEPS = 18
# Lines that are tried for each crossing that is wanted, and rows for each line.
_LINES = 3
_ROWS = 2


class Kind(StrEnum):
    LABEL = "label"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Crossing:
    """Rows around one change, in order. `answers` are the two labels, or empty for numbers.

    For numbers there are three rows: a little below the middle one's answer, the middle one, and
    a little above it.
    """

    rows: Array
    answers: tuple[str, ...] = ()

    def matches(self, given: Sequence[Answer]) -> bool | None:
        """Whether these answers to its rows show the same change.

        None where one is missing or of the other kind: a number is no label that differs, and
        the suspect chooses what it answers.
        """
        if self.answers:
            texts = tuple(answer for answer in given if isinstance(answer, str))
            return texts == self.answers if len(texts) == len(given) else None
        numbers = [answer for answer in given if isinstance(answer, float)]
        if len(numbers) != len(given):
            return None
        below, middle, above = numbers
        return below < middle < above


def kind_of(answers: Sequence[Answer]) -> Kind:
    """Labels or numbers. Raises OperationalError `fingerprint.unanswered`."""
    if any(answer is None for answer in answers) or not answers:
        raise OperationalError(
            "fingerprint.unanswered",
            "The model does not answer every input, so no fingerprint of it can be made.",
            "Check that it answers finite numbers or labels over its declared range.",
        )
    return Kind.LABEL if all(isinstance(answer, str) for answer in answers) else Kind.NUMBER


def find_crossings(
    ask: Ask, space: Space, secret: Secret, count: int, margin: float
) -> tuple[Crossing, ...]:
    """`count` crossings of the model behind `ask`, `margin` of their line to either side.

    Raises InputError `fingerprint.flat_model` where it changes its answer too seldom,
    OperationalError `fingerprint.unanswered`.
    """
    rows = space.draw(secret, _ROWS * _LINES * count)
    answers = _asked(ask, rows)
    lines = _lines(answers, secret, _LINES * count)
    if len(lines) < count:
        raise _flat(len(lines), count)
    search = _labels if kind_of(answers) is Kind.LABEL else _numbers
    found = search(ask, space, rows, answers, lines, margin)
    if len(found) < count:
        raise _flat(len(found), count)
    return tuple(found[:count])


def _asked(ask: Ask, rows: Array) -> list[Answer]:
    answers = list(ask(rows))
    kind_of(answers)
    return answers


def _lines(answers: Sequence[Answer], secret: Secret, count: int) -> Array:
    """Pairs of rows with different answers, each row in few of them."""
    pairs: list[tuple[int, int]] = []
    for turn in range(16):
        order = secret.order("pairs", turn, len(answers))
        for one, other in zip(order[0::2], order[1::2], strict=False):
            if answers[one] != answers[other]:
                pairs.append((int(one), int(other)))
            if len(pairs) == count:
                return np.array(pairs)
    return np.array(pairs).reshape(-1, 2)


def _bisect(before: Callable[[Array], Array], count: int) -> tuple[Array, Array]:
    """For each line the last place known to be before the change, and the first behind it."""
    low, high = np.zeros(count), np.ones(count)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        still = before(middle)
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    return low, high


def _labels(
    ask: Ask, space: Space, rows: Array, answers: Sequence[Answer], lines: Array, margin: float
) -> list[Crossing]:
    start, end = rows[lines[:, 0]], rows[lines[:, 1]]
    labels = np.array([answers[line] for line in lines[:, 0]])

    def at(place: Array) -> Array:
        return space.fit(start + place[:, None] * (end - start))

    low, high = _bisect(lambda place: np.array(_asked(ask, at(place))) == labels, len(lines))
    behind = np.array(_asked(ask, at(high)))
    near, far = at(np.maximum(low - margin, 0)), at(np.minimum(high + margin, 1))
    given = _asked(ask, near), _asked(ask, far)
    return [
        Crossing(np.stack([near[n], far[n]]), (str(labels[n]), str(behind[n])))
        for n in range(len(lines))
        if given[0][n] == labels[n] and given[1][n] == behind[n] and labels[n] != behind[n]
    ]


def _numbers(
    ask: Ask, space: Space, rows: Array, answers: Sequence[Answer], lines: Array, margin: float
) -> list[Crossing]:
    values = np.array([float(answer) for answer in answers if answer is not None])
    # From the lower answer to the higher one, past the answer to a row that is on neither end.
    first, second = lines[:, 0], lines[:, 1]
    swap = values[first] > values[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    middle = np.array(
        [_between(values, one, other) for one, other in zip(first, second, strict=True)]
    )
    kept = middle >= 0
    first, second, middle = first[kept], second[kept], middle[kept]
    start, end, wanted = rows[first], rows[second], values[middle]

    def at(place: Array) -> Array:
        return space.fit(start + place[:, None] * (end - start))

    def asked(place: Array) -> Array:
        return np.array([float(one) for one in _asked(ask, at(place)) if one is not None])

    low, high = _bisect(lambda place: asked(place) < wanted, len(wanted))
    before, behind = np.maximum(low - margin, 0), np.minimum(high + margin, 1)
    holds = (asked(before) < wanted) & (asked(behind) > wanted)
    near, far = at(before), at(behind)
    return [
        Crossing(np.stack([near[n], rows[middle[n]], far[n]]))
        for n in range(len(wanted))
        if holds[n]
    ]


def _between(values: Array, low: int, high: int) -> int:
    """A row whose answer lies in the middle half between two others, or -1."""
    reach = (values[high] - values[low]) / 4
    inside = (values > values[low] + reach) & (values < values[high] - reach)
    found = np.nonzero(inside)[0]
    return int(found[(low + high) % len(found)]) if len(found) else -1


def _flat(found: int, count: int) -> InputError:
    return InputError(
        "fingerprint.flat_model",
        f"Only {found} places were found where the model changes its answer, of {count}.",
        "Ask for fewer (--count), or declare a range in which its answers differ.",
    )
