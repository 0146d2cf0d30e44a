"""Guess one feature of a person from all the others, the label and what the model says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.attacks.port import Source
from keepstone.lab.attacks.privacy.observation import certainty, observe
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, insufficient
from keepstone.lab.targets.port import Target
from keepstone.lab.training import data_digest

_CONFIDENCE = 0.95
# What a label that is wrong weighs against how common a value is: a wrong one never wins.
_WRONG = -1e6


@dataclass(frozen=True, slots=True)
class AttributeInference:
    """Promise: every value that the feature may have is put into the row; the one that makes the
    right label likeliest is guessed, weighed by how common it is.

    Of a target that serves labels only, the most common value is guessed among those that get
    the right label; among all, where none does.

    Cost: one query for each row and value. Blind spots: what is guessed well may be what anybody
    could impute without the model (Jayaraman and Evans 2022): audit rows that were trained on
    and rows that were not, and read the difference. One feature at a time, of few values.
    """

    name: ClassVar[str] = "attribute-inference"
    source: ClassVar[Source] = Source(
        "Fredrikson et al. 2014: Privacy in Pharmacogenetics; Mehnaz et al. 2022: Are Your"
        " Sensitive Attributes Private?",
        "AML.T0024.001",
    )

    def scores(self, seen: Array, labels_only: bool, prior: Array) -> Array:
        """A score for each row and value (n, v); `seen` (n, v) are log-odds of the right label."""
        if labels_only:
            return np.where(seen > 0, 0.0, _WRONG) + np.log(prior)
        most = certainty(seen)
        return np.asarray(-np.logaddexp(0, -seen.clip(-most, most)) + np.log(prior))


@dataclass(frozen=True, slots=True)
class AttributeLeak:
    """How often the feature was guessed, and how often it is the most common value (`majority`).

    `advantage` is the difference, `low` and `high` bound it. `classes` is how many values were
    tried, `rows` the digest of the rows and their labels.
    """

    attack: str
    source: Source
    signal: str
    feature: int
    classes: int
    guessed: Share
    majority: Share
    advantage: float
    low: float
    high: float
    limit: float | None
    verdict: Verdict
    problems: tuple[Problem, ...]
    queries: int
    rows: Digest


def audit_attribute(
    target: Target,
    x: Array,
    y: Array,
    feature: int,
    values: Array | None = None,
    *,
    limit: float | None = None,
    attack: AttributeInference | None = None,
) -> AttributeLeak:
    """Guess `feature` of each row of `x` (n, d), of classes `y` (n,), among `values` (v,).

    Without `values`, those that occur. How common each is, the attacker is taken to know. `limit`
    is the advantage over the majority that is allowed; without one the verdict is `insufficient`.

    Raises InputError `attack.bad_feature`, `attack.bad_labels`, `attack.outside_domain`;
    OperationalError `target.*`.
    """
    chosen = attack or AttributeInference()
    truth, tried, prior = _required(target, x, y, feature, values)
    rows = np.repeat(x, len(tried), axis=0)
    rows[:, feature] = np.tile(tried, len(x))
    if not target.domain.holds(rows).all():
        raise InputError(
            "attack.outside_domain",
            "Some rows lie outside the range that the target takes, or do with a value put in.",
            "Give only values that the target takes.",
        )
    seen = observe(target, rows, np.repeat(y, len(tried)))
    problems = _problems(seen.log_odds)
    odds = np.nan_to_num(seen.log_odds, nan=0.0, posinf=1e308, neginf=-1e308)
    scores = chosen.scores(odds.reshape(len(x), -1), seen.labels_only, prior)
    hit = scores.argmax(axis=1) == truth
    common = truth == prior.argmax()
    gained, lost = int((hit & ~common).sum()), int((common & ~hit).sum())
    low, high = _difference(gained, lost, len(x))
    if problems:
        hit, low, high = np.zeros(len(x), bool), -1.0, 1.0
    advantage = float(hit.mean() - common.mean())
    return AttributeLeak(
        attack=chosen.name,
        source=chosen.source,
        signal="labels" if seen.labels_only else "scores",
        feature=feature,
        classes=len(tried),
        guessed=Share(0, 0, 0.0, 1.0) if problems else share(int(hit.sum()), len(x)),
        majority=share(int(common.sum()), len(x)),
        advantage=0.0 if problems else advantage,
        low=low,
        high=high,
        limit=limit,
        verdict=_judge(0.0 if problems else advantage, low, high, limit),
        problems=problems,
        queries=seen.queries,
        rows=data_digest(x, y),
    )


def _required(
    target: Target, x: Array, y: Array, feature: int, values: Array | None
) -> tuple[Array, Array, Array]:
    """The place of each row's value among those that are tried, these, and how common each is."""
    if x.ndim != 2 or not len(x) or not 0 <= feature < x.shape[1]:
        raise InputError("attack.bad_feature", f"The rows have no feature {feature}.")
    tried = np.unique(x[:, feature] if values is None else np.asarray(values, x.dtype))
    place = np.searchsorted(tried, x[:, feature]).clip(0, len(tried) - 1)
    if len(tried) < 2 or (tried[place] != x[:, feature]).any():
        raise InputError(
            "attack.bad_feature",
            "There are fewer than two values to tell apart, or rows have others than are tried.",
            "Give all values that the feature may have (bin those of a number first).",
        )
    if len(y) != len(x) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= target.classes:
        raise InputError(
            "attack.bad_labels", "The labels are not one class of the target for each row."
        )
    counts = np.bincount(place, minlength=len(tried)) + 1
    return place, tried, counts / counts.sum()


def _difference(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Bounds of the advantage: both shares hold at once with the confidence (Bonferroni)."""
    inner = 1 - (1 - _CONFIDENCE) / 2
    up, down = share(gained, n, inner), share(lost, n, inner)
    return up.low - down.high, up.high - down.low


def _problems(seen: Array) -> tuple[Problem, ...]:
    silent = int(np.isnan(seen).sum())
    if not silent:
        return ()
    text = f"{silent} of {len(seen)} queries got no label, or scores that are no numbers."
    return (insufficient("attack.no_answers", text),)


def _judge(advantage: float, low: float, high: float, limit: float | None) -> Verdict:
    """Fail where the lower bound is above the limit, pass where the upper one is within it.

    In between: fail if what was measured is above it, else too few rows to tell.
    """
    if limit is None:
        return Verdict.INSUFFICIENT
    if high <= limit:
        return Verdict.PASS
    return Verdict.FAIL if low > limit or advantage > limit else Verdict.INSUFFICIENT
