"""What was measured of a model under attack, held against what a policy asks.

Pure. What decides is the unfavourable end of an interval, never the number in its middle, and
never the threshold that whoever measured it had in mind.
"""

from __future__ import annotations

from keepstone.core.digest import Digest
from keepstone.evidence.predicates import Poisoning, Predicate, Privacy, Robustness
from keepstone.policy.document import Bar, PoisoningBar, PrivacyBar, RobustnessBar

Tested = Robustness | Privacy | Poisoning


def matter(predicate: Predicate) -> str:
    """What a later statement of a key replaces an earlier one on: robustness under one norm says
    nothing about another."""
    return predicate.norm if isinstance(predicate, Robustness) else ""


def falls_short(bar: Bar | None, predicate: Tested) -> str | None:
    """What the statement lacks of the bar, as the rest of a sentence; None where it reaches it."""
    if isinstance(bar, RobustnessBar) and isinstance(predicate, Robustness):
        return _not_robust(bar, predicate)
    if isinstance(bar, PrivacyBar) and isinstance(predicate, Privacy):
        return _not_private(bar, predicate)
    if isinstance(bar, PoisoningBar) and isinstance(predicate, Poisoning):
        return _not_withstood(bar, predicate)
    return "is of another kind than what is asked"


def speaks_against(bar: Bar | None, predicate: Tested) -> bool:
    """Whether it proves that the bar is not reached, which no weaker attack of others undoes.

    An invalid test of robustness measured nothing. An invalid certificate against poison was seen
    to break, or its training not to repeat itself: whatever it counts then means nothing.
    """
    if isinstance(bar, RobustnessBar) and isinstance(predicate, Robustness):
        return (
            predicate.verdict != "invalid"
            and predicate.norm == bar.norm
            and any(
                one.eps <= bar.eps and one.robust.high < bar.at_least for one in predicate.within
            )
        )
    if isinstance(bar, PrivacyBar) and isinstance(predicate, Privacy):
        found = predicate.at(bar.fpr)
        return found is not None and found.told.low > bar.at_most
    if isinstance(bar, PoisoningBar) and isinstance(predicate, Poisoning):
        return predicate.verdict == "invalid" or bool(_too_little(bar, predicate))
    return False


def outweighs(bar: Bar | None, later: Tested, failure: Tested) -> bool:
    """Whether what a key said later takes back what it proved before.

    It has to have measured the same at least as well: a word that decides nothing, a smaller
    perturbation, a smaller suite, fewer shadow models or fewer rows take nothing back, nor does
    a certificate of another training.
    """
    if isinstance(later, Robustness) and isinstance(failure, Robustness):
        assert isinstance(bar, RobustnessBar)
        proven = [
            one.eps
            for one in failure.within
            if one.eps <= bar.eps and one.robust.high < bar.at_least
        ]
        return (
            later.measured
            and later.constraints == failure.constraints
            and later.norm == failure.norm
            and all(later.at(eps) is not None for eps in proven)
            and _rank(later) >= _rank(failure)
        )
    if isinstance(later, Privacy) and isinstance(failure, Privacy):
        assert isinstance(bar, PrivacyBar)
        found = later.at(bar.fpr)
        return (
            found is not None and found.sufficient and used_shadows(later) >= used_shadows(failure)
        )
    if isinstance(later, Poisoning) and isinstance(failure, Poisoning):
        assert isinstance(bar, PoisoningBar)
        return (
            later.measured
            and _training(later) == _training(failure)
            and later.samples >= failure.samples
            and later.attacked >= failure.attacked
            and all(later.at(poisons) is not None for poisons in _too_little(bar, failure))
        )
    return False


def _rank(predicate: Robustness) -> int:
    """How much was tried; a suite of a name that is not known is as good as the best."""
    suites = ("quick", "standard", "full")
    return suites.index(predicate.suite) if predicate.suite in suites else len(suites)


def used_shadows(predicate: Privacy) -> int:
    """The shadow models that the attack rests on: a threshold on the loss uses none."""
    return 0 if predicate.attack == "loss-threshold" else predicate.shadows


def _training(predicate: Poisoning) -> tuple[str, int, Digest]:
    """What its certificates are of."""
    return predicate.defence, predicate.partitions, predicate.data


def _too_little(bar: PoisoningBar, predicate: Poisoning) -> list[int]:
    """The numbers of poisons, no more than are asked, at which too little is certified for sure."""
    return [
        one.poisons
        for one in predicate.within
        if one.poisons <= bar.poisons and one.certified.high < bar.at_least
    ]


def _not_robust(bar: RobustnessBar, predicate: Robustness) -> str | None:
    if not predicate.measured:
        return f"says {predicate.verdict if predicate.sufficient else 'insufficient'}"
    if predicate.constraints not in (None, bar.constraints):
        return "held attackers to constraints that the policy does not name"
    if predicate.norm != bar.norm:
        return f"is about the norm {predicate.norm}, not {bar.norm}"
    found = predicate.at(bar.eps)
    if found is None:
        most = predicate.within[-1].eps
        return f"looked at perturbations up to {most:g} only, not {bar.eps:g}"
    if found.robust.low < bar.at_least:
        return (
            f"vouches for a robust accuracy of {found.robust.low:.3f} at eps {found.eps:g} (it"
            f" measured {found.robust.value:.3f}), and {bar.at_least:g} is asked"
        )
    return None


def _not_private(bar: PrivacyBar, predicate: Privacy) -> str | None:
    found = predicate.at(bar.fpr)
    if found is None:
        return f"did not look at a false-positive rate of {bar.fpr:g}"
    if not found.sufficient:
        return (
            f"had too few rows to speak of a false-positive rate of {bar.fpr:g}, or labels, members"
            " or shadow models that are not the model's"
        )
    if used_shadows(predicate) < bar.shadows:
        return f"rests on {used_shadows(predicate)} shadow models, and {bar.shadows} are asked"
    if found.told.high > bar.at_most:
        return (
            f"cannot exclude that {found.told.high:.3f} of the members are told (it measured"
            f" {found.told.value:.3f}), and at most {bar.at_most:g} is asked"
        )
    return None


def _not_withstood(bar: PoisoningBar, predicate: Poisoning) -> str | None:
    if not predicate.measured:
        return f"says {predicate.verdict if predicate.sufficient else 'insufficient'}"
    if bar.data not in (None, predicate.data):
        return "is about training on other data than the policy names"
    if predicate.attacked < bar.attacked:
        return f"was attacked through {predicate.attacked} rows, and {bar.attacked} are asked"
    found = predicate.at(bar.poisons)
    if found is None:
        return f"certifies up to {predicate.within[-1].poisons} poisons only, not {bar.poisons}"
    if found.certified.low < bar.at_least:
        return (
            f"vouches for a certified accuracy of {found.certified.low:.3f} at {found.poisons}"
            f" poisons (it counted {found.certified.value:.3f}), and {bar.at_least:g} is asked"
        )
    return None
