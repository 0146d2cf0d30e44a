"""What a target says to the samples as they are, and whether that can be attacked at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.metrics.agreement import agreement
from keepstone.lab.problem import Problem, insufficient, invalid
from keepstone.lab.suites.question import MIN_SAMPLES
from keepstone.lab.targets.port import UNANSWERED, Answers, Target

# More of the rows than this may not go unanswered, or change from one asking to the next.
MAX_UNANSWERED = 0.02
MAX_UNSTABLE = 0.01
# Scores of an honest model may be fitted apart from its labels, as those of an SVC are.
MAX_CONTRADICTED = 0.05
_ASKINGS = 2


@dataclass(frozen=True, slots=True)
class Clean:
    """Which of `n` samples were answered, and which rightly, every time that they were asked."""

    answered: Array
    correct: Array
    queries: int
    problems: tuple[Problem, ...]


def look_at_clean(target: Target, x: Array, y: Array) -> Clean:
    """Ask every sample twice, and say what is wrong with the answers.

    `y` are the right classes by their places. Raises what the target raises.
    """
    asked = [target.predict(x) for _ in range(_ASKINGS)]
    labels = asked[0].labels
    answered = np.logical_and.reduce([answers.labels != UNANSWERED for answers in asked])
    correct = np.logical_and.reduce([answers.labels == y for answers in asked])
    problems = [
        *_unanswered(asked),
        *_unstable(asked),
        *_scores(asked[0]),
        *_labels(labels, y),
    ]
    # One row asked a hundred times is one sample.
    count = len(np.unique(x[answered], axis=0))
    if count < MIN_SAMPLES:
        problems.append(
            insufficient(
                "attack.too_few",
                f"{count} different samples are too few: at least {MIN_SAMPLES} make an interval of"
                " +-10 points.",
            )
        )
    return Clean(answered, correct, _ASKINGS * len(x), tuple(problems))


def _unanswered(asked: list[Answers]) -> list[Problem]:
    silent = float(np.mean([(answers.labels == UNANSWERED).mean() for answers in asked]))
    if silent <= MAX_UNANSWERED:
        return []
    return [insufficient("attack.unanswered", f"{silent:.0%} of the samples were not answered.")]


def _unstable(asked: list[Answers]) -> list[Problem]:
    first, second = (answers.labels for answers in asked)
    both = (first != UNANSWERED) & (second != UNANSWERED)
    changed = float((first != second)[both].mean()) if both.any() else 0.0
    if changed <= MAX_UNSTABLE:
        return []
    return [
        invalid(
            "attack.unstable",
            f"{changed:.0%} of the labels changed when the same was asked again: what is drawn"
            " anew for each question hides what an attacker finds by asking often.",
        )
    ]


def _scores(answers: Answers) -> list[Problem]:
    if answers.scores is None:
        return []
    answered = answers.labels != UNANSWERED
    scores = answers.scores[answered]
    if not np.isfinite(scores).all():
        return [invalid("attack.not_finite", "The target serves scores that are not finite.")]
    if len(scores) > 1 and (np.ptp(scores, axis=0) == 0).all():
        return [invalid("attack.constant", "The target serves the same scores for everything.")]
    labels = answers.labels[answered]
    best = scores.max(axis=1)
    contradicted = (
        float((scores[np.arange(len(labels)), labels] < best).mean()) if len(labels) else 0
    )
    if contradicted > MAX_CONTRADICTED:
        return [
            invalid(
                "attack.lying_scores",
                f"{contradicted:.0%} of the labels are not those of the highest score: attacks"
                " by score would climb the wrong hill.",
            )
        ]
    return []


def _labels(labels: Array, y: Array) -> list[Problem]:
    """Whether the labels of the samples are those that the target speaks of.

    It has to be shown: samples too few to tell the target's answers from chance show nothing, be
    it right or wrong. By chance both say the commonest class often, which alone is no knowledge.
    """
    answered = labels != UNANSWERED
    if not answered.any():
        return []
    if len(np.unique(y)) < 2:
        return [
            insufficient(
                "attack.one_class",
                "All samples are of one class: a target that always says it would be robust.",
            )
        ]
    if len(np.unique(labels[answered])) == 1:
        return [invalid("attack.constant", "The target serves one label for everything.")]
    found = agreement(labels[answered], y[answered])
    if found.above():
        return []
    return [
        invalid(
            "attack.labels_mismatch",
            f"The labels are right for {found.value:.0%} of the samples, and would be for"
            f" {found.chance:.0%} if they had nothing to do with them: they are not the target's,"
            " the columns are in another order, or it has learnt nothing.",
        )
    ]
