"""Whether the target's gradients can be believed, asked on some of the samples of a suite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.domain import Domain
from keepstone.lab.masking.examine import Verdict, examine
from keepstone.lab.masking.port import Sign
from keepstone.lab.norms import L2, LINF, Norm
from keepstone.lab.problem import Problem, insufficient
from keepstone.lab.suites.question import DEFAULT_EPS, Question
from keepstone.lab.targets.port import Capability, Target

# They show a sign that is there; more cost more and say the same.
SAMPLES = 100
_SEARCHED = (LINF, L2)


@dataclass(frozen=True, slots=True)
class Masking:
    """The signs that were read, what of it stands against a result, and what it cost."""

    signs: tuple[Sign, ...]
    problems: tuple[Problem, ...]
    missed: tuple[str, ...]
    queries: int


def look_for_masking(
    target: Target, x: Array, y: Array, standing: Array | None, question: Question
) -> Masking:
    """Examine the target on samples that it serves rightly.

    `standing` (n,) are those that attacks by gradient left unbroken at the largest epsilon, None
    where none ran. A target without gradients has none to mask, and no attack by gradient was
    run on it: that is told, and is no problem.
    """
    if Capability.GRADIENT not in target.capabilities:
        return Masking(
            (), (), ("masking: the target declares no gradient, so there is none to mask",), 0
        )
    if not len(x):
        return Masking((), (), ("masking: no sample is served rightly",), 0)
    chosen = np.random.default_rng(question.seed).permutation(len(x))[:SAMPLES]
    norm, eps = _searched(question, target.domain)
    found = examine(
        target,
        x[chosen],
        y[chosen],
        norm,
        eps,
        seed=question.seed,
        standing=None if standing is None or norm is not question.norm else standing[chosen],
    )
    missed = tuple(
        f"masking, {sign.name}: {sign.message}" for sign in found.signs if sign.seen is None
    )
    problems: tuple[Problem, ...] = ()
    if found.verdict is Verdict.NOT_EVALUATED:
        problems = (
            insufficient(
                "attack.masking_unknown",
                "Whether the gradients are masked could not be told, and attacks by gradient are"
                " worth nothing where they are.",
            ),
        )
    return Masking(found.signs, problems, missed, found.asked)


def _searched(question: Question, domain: Domain) -> tuple[Norm, float]:
    """A norm that the signs can be read under: masking is the model's, not the norm's."""
    if question.norm in _SEARCHED:
        return question.norm, question.epsilons[-1]
    return LINF, float((domain.high - domain.low).max()) * DEFAULT_EPS
