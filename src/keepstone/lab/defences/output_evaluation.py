"""What telling less is worth to its owner: against copies, and against whoever seeks members.

Promise: the model is copied as it is and as it is hardened, by every attack; what counts is the
best copy of either, for a thief takes the attack that the defence forgot, and the hardened one may
be asked four times as often, for a few more queries are no price. They are compared on the same
held-out rows. Of members it is the worse of what the hardened model tells and of what its labels
alone tell, which no hardening changes.

A defence that changes neither is said to change nothing (`defence.no_gain`). Fewer members by the
loss alone are no gain yet: what labels tell only shadow models show (`defence.labels_untold`).

Source: Tramer et al. 2016, and Orekondy et al. 2019 (knockoff) for copies; Yeom et al. 2018 for
what labels tell of members. Cost: each extraction attack twice, `tries` times. Blind spots: one
budget; a copy by attacks that are not here; membership by shadow models (`attack membership`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keepstone.contract.validate import Array
from keepstone.lab.attacks.extraction.fidelity import HeldOut
from keepstone.lab.attacks.extraction.port import ExtractionAttack
from keepstone.lab.attacks.extraction.run import extract
from keepstone.lab.attacks.privacy.loss_threshold import LossThreshold
from keepstone.lab.attacks.privacy.membership import Membership, audit_membership
from keepstone.lab.defences.certificate import told
from keepstone.lab.defences.evaluate import more
from keepstone.lab.defences.output_hardening import Hardened, LabelsOnly
from keepstone.lab.defences.privacy_evaluation import told_at
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, insufficient
from keepstone.lab.targets.port import Target

# How many times as many queries a thief may spend on the hardened model.
PATIENCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """The best copy by one attack: how many of the held-out rows it agrees on (n,), None where
    nothing could be measured."""

    attack: str
    queries: int
    agrees: Array | None
    problems: tuple[Problem, ...] = ()

    @property
    def agreement(self) -> Share | None:
        if self.agrees is None:
            return None
        return share(int(self.agrees.sum()), len(self.agrees))

    def to_dict(self) -> dict[str, Any]:
        found = self.agreement
        return {
            "attack": self.attack,
            "queries": self.queries,
            "agreement": None if found is None else told(found),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Copied:
    """Copies by each attack: of the model as it is, and as it is hardened, in the same order."""

    budget: int
    undefended: tuple[Copy, ...]
    defended: tuple[Copy, ...]
    problems: tuple[Problem, ...]

    @property
    def best(self) -> tuple[Copy | None, Copy | None]:
        """Of the undefended model and of the hardened one."""
        return _best(self.undefended), _best(self.defended)

    @property
    def changes(self) -> tuple[int, int]:
        """On so many held-out rows only the best copy of the undefended model agrees, and on so
        many only that of the hardened one."""
        without, left = (None if one is None else one.agrees for one in self.best)
        if without is None or left is None:
            return 0, 0
        return int((without & ~left).sum()), int((left & ~without).sum())

    @property
    def gains(self) -> bool:
        return more(*self.changes)

    def to_dict(self) -> dict[str, Any]:
        kept, won = self.changes
        shown = [None if one is None else one.to_dict() for one in self.best]
        return {
            "budget": self.budget,
            "best": {"undefended": shown[0], "defended": shown[1]},
            "gained": kept,
            "lost": won,
            "gains": self.gains,
            "undefended": [one.to_dict() for one in self.undefended],
            "defended": [one.to_dict() for one in self.defended],
        }


def _best(copies: Sequence[Copy]) -> Copy | None:
    measured = [one for one in copies if one.agreement is not None]
    return max(measured, key=_value, default=None)


def _value(copy: Copy) -> float:
    return -1.0 if copy.agreement is None else copy.agreement.value


def copied(
    hardened: Hardened,
    attacks: Sequence[ExtractionAttack],
    held_out: HeldOut,
    budget: int,
    *,
    tries: int = 2,
    seed: int = 0,
) -> Copied:
    """Copy both models with `budget` queries, `tries` times by each attack, the best of which
    counts; the hardened one with up to `PATIENCE` times as many.

    `held_out` was asked of the undefended model. Raises InputError `attack.bad_budget`,
    OperationalError of the target.
    """

    def copies(target: Target, budgets: Sequence[int]) -> tuple[Copy, ...]:
        return tuple(
            max(
                (
                    _copy(target, one, held_out, most, seed + n)
                    for most in budgets
                    for n in range(tries)
                ),
                key=_value,
            )
            for one in attacks
        )

    patient = (budget, PATIENCE * budget)
    both = copies(hardened.undefended, patient[:1]), copies(hardened, patient)
    problems = [
        insufficient("defence.not_copied", f"No copy could be measured: {_why(copies)}")
        for copies in both
        if _best(copies) is None
    ]
    return Copied(budget, both[0], both[1], tuple(problems[:1]))


def _why(copies: Sequence[Copy]) -> str:
    told = [problem.message for one in copies for problem in one.problems]
    return told[0] if told else "no attack was run."


def _copy(
    target: Target, attack: ExtractionAttack, held_out: HeldOut, budget: int, seed: int
) -> Copy:
    found = extract(target, attack, held_out, [budget], seed)
    if found.final.agreement is None or found.stolen is None:
        return Copy(found.name, found.asked, None, found.final.problems)
    labels = found.stolen.predict(held_out.rows).labels
    return Copy(found.name, found.asked, (labels == held_out.served)[held_out.answered])


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Audits of the same rows: of the undefended model, of the hardened one as it answers, and of
    its labels alone."""

    undefended: Membership
    defended: Membership
    labels: Membership

    @property
    def left(self) -> Membership:
        """What the hardened model gives away: the worse of its two."""
        return max(self.defended, self.labels, key=lambda one: told_at(one).value)

    @property
    def gains(self) -> bool:
        """Where the intervals do not meet; what was not measured lies anywhere from 0 to 1."""
        highest = max(told_at(one).high for one in (self.defended, self.labels))
        return highest < told_at(self.undefended).low

    def to_dict(self) -> dict[str, Any]:
        audits = {
            "undefended": self.undefended,
            "defended": self.defended,
            "labels": self.labels,
        }
        shown = {name: told_at(one).to_dict() for name, one in audits.items()}
        return {"gains": self.gains, **shown}


def audited(hardened: Hardened, x: Array, y: Array, members: Array) -> Members:
    """Which of the rows `x` (n, d) of classes `y` (n,) are members, by the loss and by the label.

    Raises as `audit_membership`.
    """
    bare = hardened.undefended
    views = (bare, hardened, Hardened(bare, LabelsOnly()))
    found = [audit_membership(LossThreshold(), one, x, y, members) for one in views]
    return Members(*found)


def judged(copies: Copied, members: Members | None) -> tuple[Verdict, tuple[Problem, ...]]:
    """`pass`: it hinders copies; `fail`: it changes nothing."""
    if copies.problems:
        return Verdict.INSUFFICIENT, copies.problems
    if copies.gains:
        return Verdict.PASS, ()
    if members is not None and members.gains:
        return Verdict.INSUFFICIENT, (
            insufficient(
                "defence.labels_untold",
                "Fewer members are told by the loss, and what labels alone tell only shadow models"
                " show: keepstone attack membership.",
            ),
        )
    values = [0.0 if one is None else _value(one) for one in copies.best]
    text = (
        f"The best copy agrees on {values[1]:.3f} with the defence and on {values[0]:.3f} without"
    )
    if members is not None:
        rates = told_at(members.left).value, told_at(members.undefended).value
        text += f"; of the members {rates[0]:.3f} are told, and {rates[1]:.3f}"
    return Verdict.FAIL, (
        Problem("defence.no_gain", Verdict.FAIL, f"It changes nothing that counts. {text}."),
    )
