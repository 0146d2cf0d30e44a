"""What keeps a measurement from counting, with a stable code; and the verdict that it leads to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """`invalid`: the numbers mean nothing. `insufficient`: there are too few of them."""

    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    INSUFFICIENT = "insufficient"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Problem:
    """`effect` is the verdict that it leads to: insufficient or invalid; of a defence also fail."""

    code: str
    effect: Verdict
    message: str

    def to_dict(self) -> dict[str, Any]:
        return {"code": self.code, "effect": self.effect.value, "message": self.message}


def invalid(code: str, message: str) -> Problem:
    return Problem(code, Verdict.INVALID, message)


def insufficient(code: str, message: str) -> Problem:
    return Problem(code, Verdict.INSUFFICIENT, message)


def worst_of(problems: Iterable[Problem]) -> Verdict:
    """`pass` without problems; else the gravest of their effects."""
    return worst(one.effect for one in problems)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest: numbers that mean nothing say no more of a failure than of a pass."""
    found = set(verdicts)
    order = (Verdict.INVALID, Verdict.INSUFFICIENT, Verdict.FAIL)
    return next((one for one in order if one in found), Verdict.PASS)
