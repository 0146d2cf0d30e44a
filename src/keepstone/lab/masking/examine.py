"""Look for every sign of gradient masking on a target, and say what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keepstone.contract.validate import Array
from keepstone.lab.masking.listed import SIGNS
from keepstone.lab.masking.port import Check, NotEvaluated, Sign, Weight
from keepstone.lab.masking.subject import CLEAN_COST, Subject, unusable
from keepstone.lab.norms import Norm
from keepstone.lab.targets.port import Target


class Verdict(StrEnum):
    MASKED = "masked"
    HONEST = "honest"
    NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True, slots=True)
class Examination:
    """`queries` is the most that one sample was asked, and `cost` what that could be at most;
    `asked` is what all samples were asked together."""

    verdict: Verdict
    signs: tuple[Sign, ...]
    queries: int
    cost: int
    asked: int

    @property
    def seen(self) -> tuple[str, ...]:
        """The names of the signs that are there, those that only hint among them."""
        return tuple(sign.name for sign in self.signs if sign.seen)

    def to_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "signs": [sign.to_dict() for sign in self.signs],
            "queries": self.queries,
            "cost": self.cost,
        }


def cost_of(checks: Sequence[Check]) -> int:
    """The most queries for each sample that these checks take together."""
    measures = {measure for check in checks for measure in check.measures}
    return CLEAN_COST + sum(measure.cost for measure in measures)


def examine(
    target: Target,
    x: Array,
    y: Array,
    norm: Norm,
    eps: float,
    *,
    seed: int = 0,
    standing: Array | None = None,
    checks: Sequence[Check] = SIGNS,
) -> Examination:
    """Read `checks` on `target`, within `eps` of the rows `x` (n, d) with the labels `y` (n,).

    `standing` (n,) says which samples a full attack by gradient left unbroken within `eps`, where
    one ran: what a poor one left, any search breaks. Deterministic by `seed`, as far as the
    target is. Raises InputError `masking.bad_samples`, `attack.bad_eps`; OperationalError of the
    target.
    """
    subject = Subject(target, x, y, norm, eps, seed=seed, standing=standing)
    reason = unusable(subject)
    signs = tuple(_read(check, subject, reason) for check in checks)
    return Examination(verdict_of(signs), signs, subject.queries, cost_of(checks), subject.asked)


def verdict_of(signs: Sequence[Sign]) -> Verdict:
    """(1) A sign that proves masking is seen: masked. (2) Any of those that prove it was not
    evaluated, or there is none: not evaluated. (3) Else honest, as far as these signs go."""
    proofs = [sign for sign in signs if sign.weight is Weight.PROVES]
    if any(sign.seen for sign in proofs):
        return Verdict.MASKED
    if not proofs or any(sign.seen is None for sign in proofs):
        return Verdict.NOT_EVALUATED
    return Verdict.HONEST


def _read(check: Check, subject: Subject, reason: str | None) -> Sign:
    try:
        if reason is not None:
            raise NotEvaluated(reason)
        found = check.read(subject)
    except NotEvaluated as missing:
        return Sign(check.name, None, None, check.limit, str(missing), check.weight)
    return Sign(check.name, found.seen, found.value, check.limit, found.message, check.weight)
