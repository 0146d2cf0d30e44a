"""One verdict out of the numbers and of what stands against them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from keepstone.lab.masking.port import Sign, Weight
from keepstone.lab.problem import Problem, Verdict
from keepstone.lab.suites.result import AtEps


def decide(
    robust: Sequence[AtEps], at_least: float, problems: Sequence[Problem], signs: Sequence[Sign]
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and why.

    (1) Numbers that mean nothing, or a masked gradient, make it invalid.
    (2) What was broken was broken, however few samples there were: an upper end below what is
        enough fails.
    (3) Too few samples or answers are insufficient.
    (4) Every lower end has to be enough.
    """
    # (1)
    wrong = [one.message for one in problems if one.effect is Verdict.INVALID]
    wrong += [
        f"{one.name}: {one.message}" for one in signs if one.seen and one.weight is Weight.PROVES
    ]
    if wrong:
        return Verdict.INVALID, tuple(wrong)
    # (2)
    short = [one for one in robust if one.robust.high < at_least]
    if short:
        return Verdict.FAIL, tuple(
            f"at eps {one.eps:g} the robust accuracy is at most {one.robust.high:.3f}, below"
            f" {at_least:g}"
            for one in short
        )
    # (3)
    few = [one.message for one in problems if one.effect is Verdict.INSUFFICIENT]
    if few or not robust:
        return Verdict.INSUFFICIENT, tuple(few or ["no robust accuracy was measured"])
    # (4)
    low = [one for one in robust if one.robust.low < at_least]
    if low:
        return Verdict.FAIL, tuple(
            f"at eps {one.eps:g} the robust accuracy may be {one.robust.low:.3f}, below"
            f" {at_least:g}"
            for one in low
        )
    return Verdict.PASS, (
        f"the robust accuracy is at least {min(one.robust.low for one in robust):.3f} at every"
        " epsilon",
    )
