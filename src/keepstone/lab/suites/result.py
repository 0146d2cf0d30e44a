"""What a suite found: plain values, and the JSON that they are told as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keepstone.contract.validate import Array
from keepstone.lab.domain import Domain
from keepstone.lab.masking.port import Sign
from keepstone.lab.metrics.wilson import Share
from keepstone.lab.problem import Problem, Verdict
from keepstone.lab.suites.question import Question

SCHEMA = "keepstone.attack/v1"
_CURVE_POINTS = 64


@dataclass(frozen=True, slots=True)
class Ran:
    """One attack as it went: on so many samples, how many it broke, what that cost.

    `eps` is None for one that sought the smallest perturbation: it broke those for which that is
    within the largest epsilon. `first` has for each broken sample the queries up to its first
    success, ascending; empty for one that sought the smallest. `strong` where it saw the target's
    gradient or trees.
    """

    name: str
    parameters: str
    paper: str
    atlas: str
    eps: float | None
    strong: bool
    attacked: int
    broken: int
    queries: int
    queries_max: int
    gradients: int
    unanswered: int
    budget: int
    cpu_s: float
    first: tuple[int, ...]

    @property
    def queries_mean(self) -> float:
        return self.queries / self.attacked if self.attacked else 0.0

    def to_dict(self) -> dict[str, Any]:
        rate = self.broken / self.attacked if self.attacked else 0.0
        return {
            "name": self.name,
            "success_rate": rate,
            "queries_mean": self.queries_mean,
            "queries_max": self.queries_max,
            "budget": self.budget,
            "cpu_s": self.cpu_s,
            "eps": self.eps,
            "attacked": self.attacked,
            "broken": self.broken,
            "gradients": self.gradients,
            "unanswered": self.unanswered,
            "parameters": self.parameters,
            "paper": self.paper,
            "atlas": self.atlas,
            "curve": self.curve(),
        }

    def curve(self) -> list[list[float]]:
        """The share of the attacked samples that were broken within so many queries each."""
        if not self.first:
            return []
        step = max(1, len(self.first) // _CURVE_POINTS)
        places = [*range(step - 1, len(self.first), step), len(self.first) - 1]
        return [[self.first[at], (at + 1) / self.attacked] for at in dict.fromkeys(places)]


@dataclass(frozen=True, slots=True)
class AtEps:
    eps: float
    robust: Share

    def to_dict(self, norm: str) -> dict[str, Any]:
        return {
            "norm": norm,
            "eps": self.eps,
            "value": self.robust.value,
            "low": self.robust.low,
            "high": self.robust.high,
            "n": self.robust.n,
        }


@dataclass(frozen=True, slots=True)
class Worst:
    """For each of the `n` samples the nearest row that was served another label, and by whom.

    `attack` is the place of it among those that ran, -1 where nothing was found; `label` is what
    was served for the row. `attacked` says for which any attack was run.
    """

    x: Array
    y: Array
    clean: Array
    rows: Array
    distance: Array
    attack: Array
    label: Array
    attacked: Array


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Everything that a suite found. `names` are the labels of the target's classes.

    `shards` is how many samples at most were attacked apart from the others, None for all together.
    """

    suite: str
    question: Question
    verdict: Verdict
    reasons: tuple[str, ...]
    clean: Share
    robust: tuple[AtEps, ...]
    attacks: tuple[Ran, ...]
    masking: tuple[Sign, ...]
    not_evaluated: tuple[str, ...]
    problems: tuple[Problem, ...]
    queries: int
    worst: Worst
    domain: Domain
    names: tuple[str, ...]
    shards: int | None = None

    @property
    def sufficient(self) -> bool:
        """Whether enough was asked for its numbers to vouch for anything."""
        return not any(one.effect is Verdict.INSUFFICIENT for one in self.problems)

    def to_dict(self) -> dict[str, Any]:
        norm = self.question.norm.name
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "clean_accuracy": self.clean.value,
            "robust_accuracy": [one.to_dict(norm) for one in self.robust],
            "attacks": [one.to_dict() for one in self.attacks],
            "masking": [one.to_dict() for one in self.masking],
            "not_evaluated": list(self.not_evaluated),
            "reasons": list(self.reasons),
            "problems": [one.to_dict() for one in self.problems],
            "clean": {
                "low": self.clean.low,
                "high": self.clean.high,
                "n": self.clean.n,
            },
            "distortion": self.distortion(),
            "queries": self.queries,
            "suite": self.suite,
            "shards": self.shards,
            "question": self.question.to_dict(),
            "sufficient": self.sufficient,
            "domain": str(self.domain.digest),
            "range": [float(self.domain.low.min()), float(self.domain.high.max())],
            "constraints": self.constraints,
        }

    @property
    def constraints(self) -> str | None:
        """The digest of what an attacker was held to, None where that is the domain alone."""
        held = self.domain.constraints
        return None if held is None else str(held.digest)

    def distortion(self) -> list[list[float]]:
        """The robust accuracy against every perturbation up to so large, worst over attacks."""
        n = len(self.worst.y)
        found = sorted(float(one) for one in self.worst.distance if one < float("inf"))
        # Of those that nobody attacked nothing is known to stand.
        right = int((self.worst.clean & self.worst.attacked).sum())
        step = max(1, len(found) // _CURVE_POINTS)
        places = dict.fromkeys([*range(0, len(found), step), len(found) - 1]) if found else []
        return [[found[at], (right - at - 1) / n] for at in places]
