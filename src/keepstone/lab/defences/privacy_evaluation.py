"""A proven epsilon beside what attacks measure: no number is told before the model was attacked.

Promise: the private model is asked which rows it was trained on, as the undefended one is, for the
same rows. What an attack achieves needs some epsilon at least (`lower`, at a confidence of 99 %);
a proof of less is contradicted, and nothing of it counts (`defence.epsilon_contradicted`): then the
training was not the one that was accounted for.

(1) A rule is chosen by the non-members alone, as the one that accuses k of them. (2) By Clopper
and Pearson its true-positive rate is bounded from below, its false-positive rate from above.
(3) Of a model that is private by epsilon and delta it holds that tpr <= e^epsilon fpr + delta, and
the same of those who are not accused.

Source: Kairouz et al. 2015, arXiv 1311.0776, for (3); Jagielski et al. 2020, arXiv 2006.07709, for
auditing by attacks. Cost: a question for each row, and the shadow models' trainings. Blind spots:
the rows of one training are not independent, so the confidence is that of rows that were; one
training shows little, and an attack that finds nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log
from typing import Any

from keepstone.contract.validate import Array
from keepstone.lab.attacks.privacy.loss_threshold import LossThreshold
from keepstone.lab.attacks.privacy.membership import (
    Membership,
    MembershipAttack,
    audit_membership,
)
from keepstone.lab.attacks.privacy.rmia import Rmia
from keepstone.lab.attacks.privacy.shadows import Shadows
from keepstone.lab.defences.certificate import told
from keepstone.lab.defences.dp_sgd import Private
from keepstone.lab.metrics.clopper_pearson import at_least
from keepstone.lab.metrics.roc import Roc, TprAt, enough_nonmembers
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, insufficient, invalid, worst_of
from keepstone.lab.targets.port import Target

# The false-positive rate that is told, and those that epsilon is bounded at.
FPR = 0.01
_RATES = (FPR, 0.1, 0.5)
CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Beside:
    """The same attack on both models, and the epsilon that it needs of the private one."""

    undefended: Membership
    private: Membership
    lower: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "attack": self.private.attack,
            "shadows": self.private.shadows,
            "undefended": told_at(self.undefended).to_dict(),
            "private": told_at(self.private).to_dict(),
            "epsilon_at_least": self.lower,
        }


@dataclass(frozen=True, slots=True)
class PrivacyEvaluation:
    """`pass`: proved, and attacks do not contradict it. The accuracies are on the non-members."""

    private: Private
    accuracy: Share
    accuracy_undefended: Share
    attacks: tuple[Beside, ...]
    problems: tuple[Problem, ...]

    @property
    def lower(self) -> float:
        return max(one.lower for one in self.attacks)

    @property
    def verdict(self) -> Verdict:
        return worst_of(self.problems)

    def to_dict(self) -> dict[str, Any]:
        return self.private.to_dict() | {
            "verdict": self.verdict.value,
            "problems": [one.to_dict() for one in self.problems],
            "clean_accuracy": {
                **told(self.accuracy),
                "undefended": told(self.accuracy_undefended),
            },
            "membership": [one.to_dict() for one in self.attacks],
            "epsilon_at_least": self.lower,
            "confidence": CONFIDENCE,
        }


def told_at(found: Membership) -> TprAt:
    return next(one for one in found.tpr_at if one.fpr == FPR)


def attacked(
    private: Private,
    undefended: Target,
    x: Array,
    y: Array,
    members: Array,
    shadows: Shadows | None = None,
    *,
    at_most: float | None = None,
) -> PrivacyEvaluation:
    """Attack both models with rows `x` (n, d) of classes `y` (n,), of which `members` (n,) were
    trained on, each once. `shadows` saw the same rows. `at_most` is the epsilon that is enough.

    Raises as `audit_membership`.
    """
    tried: list[tuple[MembershipAttack, Shadows | None]] = [(LossThreshold(), None)]
    if shadows is not None:
        tried.append((Rmia(), shadows))
    proven = private.epsilon
    # Each attack may be the one that errs.
    error = (1 - CONFIDENCE) / len(tried)
    found = []
    for attack, seen in tried:
        bare, hidden = (
            audit_membership(attack, one, x, y, members, seen)
            for one in (undefended, private.target)
        )
        curve = hidden.roc
        lower = 0.0 if curve is None else epsilon_at_least(curve, proven.delta, error)
        found.append(Beside(bare, hidden, lower))
    return PrivacyEvaluation(
        private,
        _accuracy(private.target, x[~members], y[~members]),
        _accuracy(undefended, x[~members], y[~members]),
        tuple(found),
        (*private.problems, *_enough(proven.epsilon, at_most), *_judged(found, proven.epsilon)),
    )


def epsilon_at_least(roc: Roc, delta: float, error: float) -> float:
    """What an attack with this curve needs, but for a chance of `error`; 0 where it shows none."""
    # Two bounds for each of the rules.
    part = error / (2 * len(_RATES))
    n, m = roc.n_nonmembers, roc.n_members
    found = 0.0
    for rate in _RATES:
        # (1) All that score above the next non-member.
        accused = floor(rate * n + 1e-9)
        rule = int((roc.false <= accused).sum()) - 1
        hits = int(roc.true[rule])
        # (2)
        tpr, tnr = at_least(hits, m, part), at_least(n - accused, n, part)
        # (3)
        for right, wrong in ((tpr, 1 - tnr), (tnr, 1 - tpr)):
            if right > delta and wrong > 0:
                found = max(found, log((right - delta) / wrong))
    return found


def _enough(epsilon: float, at_most: float | None) -> list[Problem]:
    if at_most is None or epsilon <= at_most:
        return []
    text = f"The epsilon is {epsilon:.3f}, and at most {at_most:g} is asked: it hides too little."
    return [Problem("defence.epsilon_too_large", Verdict.FAIL, text)]


def _judged(found: Sequence[Beside], epsilon: float) -> list[Problem]:
    problems = []
    worst = max(found, key=lambda one: one.lower)
    if worst.lower > epsilon:
        problems.append(
            invalid(
                "defence.epsilon_contradicted",
                f"{worst.private.attack} tells so many members that epsilon is {worst.lower:.3f}"
                f" or more, and {epsilon:.3f} was proved: the training was not the one that was"
                " accounted for.",
            )
        )
    if all(one.private.roc is None for one in found):
        problems.append(
            insufficient(
                "defence.not_attacked",
                "No attack could measure anything: the model says the same of every row, or"
                " answers nothing that can be compared, or the labels are of another coding.",
            )
        )
    elif told_at(found[0].private).n_nonmembers < enough_nonmembers(FPR):
        problems.append(
            insufficient(
                "defence.too_few",
                f"So few held-out rows say nothing of a false-positive rate of {FPR:.0%}: at least"
                f" {enough_nonmembers(FPR)} do.",
            )
        )
    return problems


def _accuracy(target: Target, x: Array, y: Array) -> Share:
    return share(int((target.predict(x).labels == y).sum()), len(x))
