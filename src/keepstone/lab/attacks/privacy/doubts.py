"""What keeps an audit's numbers from vouching for a model: wrong labels, sides, or shadow models.

An audit counts members, and believes whoever says which rows those are, what their labels are, and
what code trained the model. Where one of these is wrong next to nobody is told, and the model
looks private. So each is held against what the target itself shows.

What the attack did find it found: a doubt leaves the lower end of a rate, and opens the upper one.
Only labels of another coding void both, for they make non-members look like strangers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.privacy.observation import Observation
from keepstone.lab.attacks.privacy.shadows import Shadows
from keepstone.lab.metrics.agreement import Agreement, agreement, mean_recall
from keepstone.lab.metrics.roc import Roc, TprAt, roc_of
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, insufficient

# A model that learnt nothing, or by heart alone, is right by chance of what it never saw: only
# what is rarer than this says that the labels mean something else.
_SURE = 0.99
# Members and others of an honest audit, drawn alike, of a model that tells nothing.
_SURE_OF_SIDES = 0.999
# Shadow models are trained on about as many rows as the target was, or on fewer, and know less:
# this part of what it knows beyond guessing is enough, and half of what tells its members. Where
# noise hides each row (DP-SGD) half the rows may leave half of it; shuffled labels leave nothing.
_KNOWN = 1 / 3
_TOLD = 1 / 2
# Members of another month than the others differ as much.
_DRIFT = 0.05


def other_labels(seen: Observation, y: Array, members: Array) -> tuple[Problem, ...]:
    """Whether the labels of either side are less often the target's than chance would have it."""
    for side, chosen in (("members", members), ("others", ~members)):
        found = agreement(seen.labels[chosen], y[chosen])
        if found.below(_SURE):
            return (_mismatch(side, found, "fewer than by chance: they are of another coding"),)
    return ()


def doubts(
    seen: Observation, y: Array, members: Array, roc: Roc, shadows: Shadows | None
) -> tuple[Problem, ...]:
    """What speaks against vouching; `roc` is that of the attack's own scores."""
    found = [*_learnt(seen, y, members), *_sides(roc)]
    if shadows is not None:
        found += _unlike(seen, y, members, shadows)
    return tuple(found)


def doubted(one: TprAt) -> TprAt:
    """The rate where something speaks against vouching: as many as were told, if not all."""
    return replace(one, high=1.0, sufficient=False)


def _learnt(seen: Observation, y: Array, members: Array) -> list[Problem]:
    """Whether the target knows its own members at all."""
    found = agreement(seen.labels[members], y[members])
    # A model that says one class of all may still be surer of some.
    if not found.spread or found.above():
        return []
    why = "no more than by chance: they are not the target's, or it has learnt nothing"
    return [_mismatch("members", found, why)]


def _mismatch(side: str, found: Agreement, why: str) -> Problem:
    return insufficient(
        "attack.labels_mismatch",
        f"The labels of the {side} are the target's for {found.value:.0%}, {why}"
        f" ({found.chance:.0%}).",
    )


def _sides(roc: Roc) -> list[Problem]:
    if _of_pairs(roc.auc, roc.n_members, roc.n_nonmembers, _SURE_OF_SIDES).high >= 0.5:
        return []
    return [
        insufficient(
            "attack.members_fit_worse",
            f"The others look more like members than the members do (AUC {roc.auc:.3f}): the two"
            " are swapped, or not drawn alike.",
        )
    ]


def _unlike(seen: Observation, y: Array, members: Array, shadows: Shadows) -> list[Problem]:
    """Whether the shadow models know and tell too little to be made as the target was.

    (1) How often they are right of rows with which they were trained, and of others, beside the
    target; as the mean over the classes, for who always says the commonest knows nothing. (2) How
    well their surety tells the rows that they were trained on, beside the target's.
    """
    # (1)
    for side, chosen, inside in (
        ("members", members, shadows.inside),
        ("others", ~members, ~shadows.inside),
    ):
        right = (shadows.right & inside).sum(axis=0) / inside.sum(axis=0)
        target = mean_recall((seen.labels == y)[chosen], y[chosen])
        made = mean_recall(right, y)
        if made.high - made.guessed < _KNOWN * (target.low - target.guessed):
            return [
                _no_likeness(
                    f"they are right of {made.value:.0%} of such rows as the {side} are, the"
                    f" target of {target.value:.0%} (mean over the classes; by guessing"
                    f" {made.guessed:.0%})"
                )
            ]
    # (2)
    told = _told(_auc(seen.log_odds, members), members)
    each = [_auc(*one) for one in zip(shadows.log_odds, shadows.inside, strict=True)]
    theirs = _told(float(np.mean(each)), shadows.inside[0])
    if told.low > 0.5 + _DRIFT and theirs.high - 0.5 < _TOLD * (told.low - 0.5):
        return [
            _no_likeness(
                f"the target's surety alone tells members with an AUC of {told.value:.3f}, theirs"
                f" the rows that they were trained on with {theirs.value:.3f}"
            )
        ]
    return []


def _auc(odds: Array, inside: Array) -> float:
    return roc_of(odds[inside], odds[~inside]).auc


def _told(auc: float, inside: Array) -> Share:
    return _of_pairs(auc, int(inside.sum()), int((~inside).sum()))


def _of_pairs(auc: float, first: int, second: int, confidence: float = 0.95) -> Share:
    """The interval of an AUC: it varies no more than a share of so many as the smaller side has."""
    n = min(first, second)
    return share(round(auc * n), n, confidence)


def _no_likeness(why: str) -> Problem:
    return insufficient(
        "attack.unlike_shadows",
        f"The shadow models are not like the target: {why}. What they do not show is not told.",
    )
