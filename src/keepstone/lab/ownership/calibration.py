"""What a model that is said to be independent tells of the null rate, if it tells anything.

A model that cannot answer as the owner's does shows no crossing, whoever made it. Measured on it,
the null rate would be next to nothing, and honest models would be accused.
"""

from __future__ import annotations

from collections.abc import Sequence

from keepstone.errors import InputError
from keepstone.lab.ownership.crossings import Answer, Crossing

# At least so many of the crossings have to be such that the model could show them.
_ABLE = 0.5


def matches_of(
    model: str, crossings: Sequence[Crossing], given: Sequence[Sequence[Answer]]
) -> tuple[int, int]:
    """How many crossings `model` shows, of those that it could show at all.

    `given` are its answers to the rows of each. It could show a crossing if it gives both of its
    labels somewhere; for numbers, if it gives three different ones.

    Raises InputError `fingerprint.no_answer`, `fingerprint.other_answers`.
    """
    answers = [answer for each in given for answer in each]
    if any(answer is None for answer in answers):
        raise InputError(
            "fingerprint.no_answer",
            f"{model} does not answer every question, so nothing is measured on it.",
            "Leave it out of --independent.",
        )
    shown = [one.matches(each) for one, each in zip(crossings, given, strict=True)]
    if any(one is None for one in shown):
        owner, other = ("labels", "numbers") if crossings[0].answers else ("numbers", "labels")
        raise _other(model, f"answers {other}, and the owner's model {owner}")
    known = set(answers)
    if crossings[0].answers:
        able = [known.issuperset(one.answers) for one in crossings]
    else:
        able = [len(known) >= len(crossings[0].rows)] * len(crossings)
    if sum(able) < _ABLE * len(crossings):
        raise _other(
            model, f"has the answers to {sum(able)} of {len(crossings)} crossings, and no more"
        )
    return sum(one is True for one in shown), sum(able)


def _other(model: str, how: str) -> InputError:
    return InputError(
        "fingerprint.other_answers",
        f"{model} {how}: it cannot match, so nothing is measured on it.",
        "Name its output that answers as the owner's does (--independent-output), or leave it out.",
    )
