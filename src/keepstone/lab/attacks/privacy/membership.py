"""A membership audit: which of these rows was the model trained on, and how surely is that told?

The auditor knows the answer and so can count. The rows that were trained on and those that were
not have to be drawn alike: an attack that tells two populations apart finds no member, and its
number says nothing of the model.

The verdict reads the unfavourable end: `pass` means that the true-positive rate is below the limit
as far as the upper bound of its interval, at every rate that has a limit. It takes an attack with
shadow models that are like the target: what the crudest attack does not find, another may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.attacks.port import Source
from keepstone.lab.attacks.privacy.doubts import doubted, doubts, other_labels
from keepstone.lab.attacks.privacy.observation import Observation, observe
from keepstone.lab.attacks.privacy.shadows import Shadows
from keepstone.lab.metrics.roc import Roc, TprAt, roc_of, tpr_at, unknown_at
from keepstone.lab.metrics.wilson import share
from keepstone.lab.problem import Problem, Verdict, insufficient
from keepstone.lab.targets.port import Target
from keepstone.lab.training import data_digest

FPRS = (0.01, 0.001)
# Rows that are asked a second time, and how far the log-odds of one that is steady may move: a
# batch of another size rounds otherwise.
_PROBES = 32
_STEADY = 1e-3


class MembershipAttack(Protocol):
    """A frozen dataclass of its parameters, whose repr states each of them."""

    name: ClassVar[str]
    source: ClassVar[Source]
    # How many shadow models it needs at least; 0 where it needs none.
    needs: ClassVar[int]

    def scores(
        self, seen: Array, labels_only: bool, shadows: Shadows | None, x: Array, y: Array
    ) -> Array:
        """A score (n,) for each row, greater where it is likelier a member.

        `seen` (n,) are the log-odds that the target gave of the rows `x` (n, d), of classes `y`
        (n,); `shadows` saw the same rows.
        """
        ...


@dataclass(frozen=True, slots=True)
class Membership:
    """What an audit found.

    `attack` states every parameter; `signal` is what the target showed ("scores", "labels").
    `limits` are the true-positive rates that were allowed, by false-positive rate. `roc` is None
    where a problem left nothing to measure. `rows` is the digest of the rows and their labels,
    `members` that of which of them are members.
    """

    attack: str
    parameters: str
    source: Source
    signal: str
    shadows: int
    seed: int | None
    tpr_at: tuple[TprAt, ...]
    auc: float | None
    roc: Roc | None
    limits: tuple[tuple[float, float], ...]
    verdict: Verdict
    problems: tuple[Problem, ...]
    queries: int
    rows: Digest
    members: Digest

    def to_dict(self) -> dict[str, Any]:
        """JSON of the schema `keepstone.membership/v1`."""
        return {
            "schema": "keepstone.membership/v1",
            "verdict": self.verdict.value,
            "attack": self.attack,
            "tpr_at": [one.to_dict() for one in self.tpr_at],
            "limits": [{"fpr": fpr, "at_most": limit} for fpr, limit in self.limits],
            "auc": self.auc,
            "roc": [] if self.roc is None else self.roc.corners(),
            "histogram": None if self.roc is None else self.roc.histogram(),
            "signal": self.signal,
            "shadows": self.shadows,
            "seed": self.seed,
            "queries": self.queries,
            "problems": [one.to_dict() for one in self.problems],
            "parameters": self.parameters,
            "paper": self.source.paper,
            "atlas": self.source.atlas,
            "rows": str(self.rows),
            "members": str(self.members),
        }


def audit_membership(
    attack: MembershipAttack,
    target: Target,
    x: Array,
    y: Array,
    members: Array,
    shadows: Shadows | None = None,
    *,
    limits: Mapping[float, float] | None = None,
    fprs: Sequence[float] = FPRS,
) -> Membership:
    """Ask `target` once for each row `x` (n, d), and count how many of `members` (n,) are told.

    A few rows are asked twice: an answer that changes hides what an attacker gets who asks again.

    `y` (n,) are the rows' classes by their places. `limits` says which true-positive rate is
    allowed at which false-positive rate; a rate without one does not decide. Without any the
    verdict is `insufficient`: there is nothing to pass. So it is where nothing but the crudest
    attack, which needs no shadow models, would pass the model, and where labels, members or shadow
    models are not the target's; a `fail` that was seen all the same stands.

    Raises InputError `attack.bad_members`, `attack.bad_labels`, `attack.outside_domain`,
    `attack.bad_shadows`; OperationalError `target.*`.
    """
    known = _required(target, x, y, members)
    _require_shadows(attack, shadows, x, y)
    seen = observe(target, x, y, labels_only=shadows is not None and shadows.labels_only)
    if shadows is not None and seen.labels_only != shadows.labels_only:
        raise InputError(
            "attack.bad_shadows",
            "The target serves labels only, and the shadow models were seen by their scores.",
            "Make them with labels_only.",
        )
    wanted = dict.fromkeys([*fprs, *(limits or {})])
    probes = np.unique(np.linspace(0, len(x) - 1, _PROBES).astype(int))
    again = observe(target, x[probes], y[probes], labels_only=seen.labels_only)
    problems = _silent_or_unsteady(seen, again, probes) or other_labels(seen, y, known)
    roc = None
    if not problems:
        scores = attack.scores(seen.log_odds, seen.labels_only, shadows, x, y)
        problems = _worthless(scores)
        roc = None if problems else roc_of(scores[known], scores[~known])
    counts = int(known.sum()), int((~known).sum())
    found = tuple(unknown_at(fpr, *counts) if roc is None else tpr_at(roc, fpr) for fpr in wanted)
    if roc is not None and (against := doubts(seen, y, known, roc, shadows)):
        problems, found = against, tuple(doubted(one) for one in found)
    verdict = judge(found, limits or {})
    if verdict is Verdict.PASS and not attack.needs:
        verdict, problems = Verdict.INSUFFICIENT, (_crudest(attack),)
    return Membership(
        attack=attack.name,
        parameters=repr(attack),
        source=attack.source,
        signal="labels" if seen.labels_only else "scores",
        shadows=0 if shadows is None else shadows.count,
        seed=None if shadows is None else shadows.seed,
        tpr_at=found,
        auc=None if roc is None else roc.auc,
        roc=roc,
        limits=tuple((limits or {}).items()),
        verdict=verdict,
        problems=problems,
        queries=seen.queries + again.queries,
        rows=data_digest(x, y),
        members=Digest.of(known.tobytes()),
    )


def judge(found: Sequence[TprAt], limits: Mapping[float, float]) -> Verdict:
    """The verdict over the rates that have a limit; the worst of them counts.

    (1) Even the lower bound is above the limit: fail, however few the rows. (2) Too few
    non-members, or so few rows that an attack that guesses would not pass: insufficient.
    (3) The upper bound is within the limit: pass. (4) Else fail.
    """
    by_rate = {one.fpr: one for one in found}
    verdicts = [_judge(by_rate[fpr], limit) for fpr, limit in limits.items()]
    for verdict in (Verdict.FAIL, Verdict.INSUFFICIENT):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS if verdicts else Verdict.INSUFFICIENT


def _judge(one: TprAt, limit: float) -> Verdict:
    if one.low > limit:
        return Verdict.FAIL
    if not one.sufficient:
        return Verdict.INSUFFICIENT
    if one.high <= limit:
        return Verdict.PASS
    return Verdict.INSUFFICIENT if _of_a_guess(one) > limit else Verdict.FAIL


def _of_a_guess(one: TprAt) -> float:
    """The upper bound that a guess among so many members would most likely get, at least."""
    return share(round(one.fpr * one.n_members), one.n_members).high


def _required(target: Target, x: Array, y: Array, members: Array) -> Array:
    known = np.asarray(members)
    if known.dtype != np.bool_ or known.shape != (len(x),) or known.all() or not known.any():
        raise InputError(
            "attack.bad_members",
            "Which rows are members is not told by one truth value for each, of both kinds.",
        )
    if len(y) != len(x) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= target.classes:
        raise InputError(
            "attack.bad_labels", "The labels are not one class of the target for each row."
        )
    # A row that is moved into the domain is no longer the one that was trained on.
    if not target.domain.holds(x).all():
        raise InputError(
            "attack.outside_domain",
            "Some rows lie outside the range that the target takes.",
            "Audit rows as the model was trained on them, or widen the range.",
        )
    return known


def _require_shadows(attack: MembershipAttack, shadows: Shadows | None, x: Array, y: Array) -> None:
    if attack.needs > (0 if shadows is None else shadows.count):
        raise InputError(
            "attack.bad_shadows",
            f"The attack {attack.name} needs {attack.needs} shadow models or more.",
            "Make them with a training function.",
        )
    if shadows is not None and shadows.data != data_digest(x, y):
        raise InputError(
            "attack.bad_shadows",
            "The shadow models saw other rows than those that are audited.",
        )


def _silent_or_unsteady(
    seen: Observation, again: Observation, probes: Array
) -> tuple[Problem, ...]:
    silent = int(np.isnan(seen.log_odds).sum())
    if silent:
        text = f"{silent} of {len(seen.log_odds)} rows got no label, or scores that are no numbers."
        return (insufficient("attack.no_answers", text),)
    steady = np.isclose(again.log_odds, seen.log_odds[probes], rtol=_STEADY, atol=_STEADY)
    if not steady.all():
        text = f"{int((~steady).sum())} of {len(probes)} rows got another answer when asked again."
        return (insufficient("attack.unsteady", text),)
    return ()


def _crudest(attack: MembershipAttack) -> Problem:
    return insufficient(
        "attack.crudest_alone",
        f"Nothing but {attack.name} was tried, which finds next to no member where many are"
        " exposed: that it told few vouches for nothing. Attack with shadow models.",
    )


def _worthless(scores: Array) -> tuple[Problem, ...]:
    if np.isnan(scores).any():
        return (insufficient("attack.no_scores", "The attack's own scores are no numbers."),)
    if (scores == scores[0]).all():
        text = "The target says the same of every row; another attack may see more."
        return (insufficient("attack.constant_scores", text),)
    return ()
